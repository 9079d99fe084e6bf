"""Where a short chain of thought states its final answer: the answer block of completions without markers."""

import re

from stepcredit.steps.sentences import sentence_starts

_MARK = re.compile(
    r"\\(?:boxed|fbox)\s*\{(?!\s*\})"
    r"|\banswer\b[^.\n]{0,80}?(?:\bis\b|\bare\b|\bbe\b|=|:)"
    r"|\bis\s+(?:indeed\s+)?(?:the|my|our)\s+(?:final\s+|correct\s+)?answer\b"
    r"|\bfinal\s+answer\b"
    r"|^[ \t>*#]*A:|^####",
    re.IGNORECASE | re.MULTILINE,
)
_CONCLUSION = re.compile(r"[>*#\s]*(?:therefore|thus|hence|so|consequently|in conclusion)\b", re.IGNORECASE)
_HEADING = re.compile(r"[>*#\s]*(?:the\s+)?(?:final\s+)?answer[:*#.\s]*\Z", re.IGNORECASE)
_DISPLAY = re.compile(r"\s*(?:\\\[|\\\(|\$|\\boxed)")
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n(?:[^\S\n]*\n)*")
_LINE = re.compile(r"\n")

TRAIL = 400
"""Characters that may follow the paragraph with the final answer; more means that the text went on thinking."""

LONGEST = 600
"""An answer block is not longer than this if it can be cut shorter, at a line or a sentence."""


def final_answer(text: str) -> int | None:
    r"""Start of the ending that states the final answer.

    The last paragraph with a filled `\boxed{}`, `answer is`, `Final Answer`, `A:` or `####`, and what follows it; if
    there is none, a last paragraph that opens with `Therefore`, `Thus`, `So` ... and ends like a sentence. Where the
    paragraph is the whole text, or longer than `LONGEST`, its line or else its sentence. A heading `Final Answer` and
    a line that introduces the formula with a colon belong to the ending.

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
    narrower = (
        (paragraph,),
        _starts(_LINE, text, end),
        [0, *sentence_starts(text[:end])],
    )
    choices = [max(start for start in level if start <= at) for level in narrower]
    fits = [start for start in choices if start > 0 and end - start <= LONGEST]
    best = fits[0] if fits else max(choices)
    return _with_lead(text, best, starts) if best == paragraph else best


def _last_mark(text: str, end: int, starts: list[int]) -> int | None:
    marks = [match.start() for match in _MARK.finditer(text, 0, end)]
    if not marks:
        last = starts[-1]
        finished = text[end - 1 : end] in tuple(".!?)]}$*")
        return last if end and finished and _CONCLUSION.match(text, last) else None
    after = next((start for start in starts if start > marks[-1]), end)
    return None if end - after > TRAIL else marks[-1]


def _with_lead(text: str, start: int, starts: list[int]) -> int:
    """Start of the paragraph before, if it announces the one at `start`."""
    earlier = [s for s in starts if s < start]
    if not earlier:
        return start
    before = text[earlier[-1] : start].strip()
    announced = _HEADING.match(before) or (before.endswith(":") and _DISPLAY.match(text, start))
    return earlier[-1] if announced and len(before) <= LONGEST else start


def _starts(separator: re.Pattern[str], text: str, end: int) -> list[int]:
    return [0, *(match.end() for match in separator.finditer(text, 0, end))]
