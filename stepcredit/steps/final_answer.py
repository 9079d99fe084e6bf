"""Where a short chain of thought states its final answer: the answer block of completions without markers."""

import re

from stepcredit.steps.sentences import formulas, sentence_starts

_STATED = re.compile(
    r"\\(?:boxed|fbox)\s*\{(?!\s*\})|\bfinal\s+answer\b|^[ \t>*#]*A:|^[ \t>*#]*answer:|^####",
    re.IGNORECASE | re.MULTILINE,
)
_SAID = re.compile(
    r"\banswer\b[^.\n]{0,80}?(?:\bis\b|\bare\b|\bbe\b|=|:)"
    r"|\b(?:is|that[’']s)\s+(?:indeed\s+)?(?:the|my|our)\s+(?:final\s+|correct\s+)?answer\b"
    r"|答案(?:是|为|：)",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(r"[>*#\s]*(?:therefore|thus|hence|so|consequently|in conclusion)\b", re.IGNORECASE)
_HEADING = re.compile(r"[>*#\s]*(?:the\s+)?(?:final\s+)?answer[:*#.\s]*\Z", re.IGNORECASE)
_CONFIRMS = re.compile(r"[^.\n]{0,40}\bthat(?:[’']s| is)[^.\n\d]{0,30}\banswer\b[^\d]{0,40}\Z", re.IGNORECASE)
_DISPLAY = re.compile(r"\s*(?:\\\[|\\\(|\$|\\boxed)")
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n(?:[^\S\n]*\n)*")
_LINE = re.compile(r"\n")

TRAIL = 400
"""Characters that may follow the paragraph with the final answer; more means that the text went on thinking."""

LONGEST = 600
"""An answer block is not longer than this if it can be cut shorter, at a line or a sentence."""


def final_answer(text: str) -> int | None:
    r"""Start of the ending that states the final answer.

    The last paragraph with a filled `\boxed{}`, `Final Answer`, `A:`, `Answer:` or `####`, and what follows it. In a
    text that ends like a sentence also one that says `the answer is` or the like, or, failing all these, a last
    paragraph that opens with `Therefore`, `Thus`, `So` ... Where the paragraph is the whole text, or longer than
    `LONGEST`, its line or else its sentence. A paragraph before that announces it (a heading `Final Answer`, a colon
    before a formula) or that it only confirms (`I think that's the answer.`) belongs to the ending.

    Args:
        text: a completion without think markers.

    Returns:
        Character at which the ending starts, 0 if all the text is the ending, `None` if it states no answer.

    Source: own. Differs: none.

    >>> final_answer("Two and two.\nA: 4"), final_answer("Let me think"), final_answer("The answer is 4.")
    (13, None, 0)
    """
    end = len(text.rstrip())
    starts = _starts(_PARAGRAPH, text, end)
    at = _last_mark(text, end, starts)
    if at is None:
        return None
    paragraph = max(start for start in starts if start <= at)
    best = paragraph
    if paragraph == 0 or end - paragraph > LONGEST:
        best = _narrower(text, at, paragraph, end=end)
    return _with_lead(text, best, starts) if best == paragraph else best


def _narrower(text: str, at: int, paragraph: int, *, end: int) -> int:
    """Start of the line or sentence that holds character `at` of a paragraph which is all the text, or too long."""
    outer = (paragraph + first for first, last in formulas(text[paragraph:end]) if first <= at - paragraph < last)
    at = next(outer, at)
    line = max(start for start in _starts(_LINE, text, end) if start <= at)
    if line > 0 and end - line <= LONGEST:
        return line
    sentences = [line + start for start in sentence_starts(text[line:end])]
    return max((start for start in sentences if start <= at), default=max(line, paragraph))


def _last_mark(text: str, end: int, starts: list[int]) -> int | None:
    finished = text[end - 1 : end] in tuple(".!?)]}$*。！？") if end else False
    patterns = (_STATED, _SAID) if finished else (_STATED,)
    first = max((start for start in starts if start <= end - TRAIL), default=0)  # marks before it are too far away
    marks = [match.start() for pattern in patterns for match in pattern.finditer(text, first, end)]
    if marks:
        after = next((start for start in starts if start > max(marks)), end)
        if end - after <= TRAIL:
            return max(marks)
    return starts[-1] if finished and _CONCLUSION.match(text, starts[-1]) else None


def _with_lead(text: str, start: int, starts: list[int]) -> int:
    """Start of the paragraph before, if it announces the one at `start` or holds what that one only confirms."""
    earlier = [s for s in starts if s < start]
    if not earlier:
        return start
    before = text[earlier[-1] : start].strip()
    announced = _HEADING.match(before) or (before.endswith(":") and _DISPLAY.match(text, start))
    return earlier[-1] if (announced or _CONFIRMS.match(text, start)) and len(before) <= LONGEST else start


def _starts(separator: re.Pattern[str], text: str, end: int) -> list[int]:
    return [0, *(match.end() for match in separator.finditer(text, 0, end))]
