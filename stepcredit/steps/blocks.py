"""Think block and answer block of a completion, in the formats that reasoning models write."""

import re
from dataclasses import dataclass
from typing import final

from stepcredit.core.errors import UsageError
from stepcredit.steps.final_answer import final_answer

_SPECIAL = r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>]{1,40}｜>|<eos>|</s>"
_TAIL = 80
_INK = re.compile(r"\S")
_LINE_ENDS = re.compile(r"[^\S\n]*\n(?:[^\S\n]*\n)*")


@final
@dataclass(frozen=True)
class Blocks:
    """Character ranges of the two blocks; markers lie outside the ranges, `border` parts the whole text.

    Args:
        form: name of the format: `r1`, `s1`, `skyt1`, `world` or `none`.
        think: range of the think block's text, without markers and outer white space.
        answer: range of the answer block's text, `None` if there is no answer block.
        border: where the answer block begins: its opening marker included, line ends behind the think block's closing
            marker not; `len(text)` if there is none.
    """

    form: str
    think: tuple[int, int]
    answer: tuple[int, int] | None
    border: int

    @property
    def closed(self) -> bool:
        """True if the think block was closed and an answer block with text follows."""
        return self.answer is not None


@final
@dataclass(frozen=True)
class _Markers:
    """Markers of one format; `closing` ends the think block; a format is recognised by one of its `signs`.

    Args:
        signs: texts of which one occurs; where there is none, `opening` at the start of the text.
    """

    signs: tuple[str, ...]
    opening: re.Pattern[str]
    closing: re.Pattern[str]
    answer: re.Pattern[str]
    end: re.Pattern[str]


def _markers(signs: tuple[str, ...], opening: str, closing: str, answer: str, end: str) -> _Markers:
    texts = (opening, closing, rf"\s*(?:{answer})?\s*", rf"(?:{end}|{_SPECIAL})\Z")
    return _Markers(signs, *(re.compile(text, re.MULTILINE) for text in texts))


_FORMS: dict[str, _Markers] = {
    "skyt1": _markers(
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        r"<\|begin_of_thought\|>",
        r"<\|end_of_thought\|>",
        r"<\|begin_of_solution\|>",
        r"<\|end_of_solution\|>",
    ),
    "world": _markers(
        ("</think> answer ;", "</think> answer <eos>"), r"<think>", r"</think>", r"answer(?=\s|\Z)", r"<eos>"
    ),
    "s1": _markers(
        (),
        r"(?:<\|im_start\|>)?think[ \t]*$",
        r"^(?=(?:<\|im_start\|>)?answer[ \t]*$)",
        r"(?:<\|im_start\|>)?answer(?=\s|\Z)",
        r"<\|im_end\|>",
    ),
    "r1": _markers(("<think>", "</think>"), r"<think>", r"</think>", r"<answer>", r"</answer>"),
}
"""Formats by name, in the order in which they are looked for."""

FORMS = ("auto", *_FORMS, "none")
"""Names that `find_blocks` takes."""


def find_blocks(text: str, *, form: str = "auto", cut: bool = False) -> Blocks:
    """Find think and answer block.

    `r1` is the format of R1, QwQ and Qwen3 (`<think>` .. `</think>` ..; the opening tag may be missing, as in recorded
    texts); `s1` a line `think`, then a line `answer`; `skyt1` `<|begin_of_thought|>` .. `<|end_of_thought|>`,
    `<|begin_of_solution|>` ..; `world` the embedded tasks' `.. </think> answer ; ..`. Of several closing markers the
    last one with text behind it counts, as in the models' chat templates. If the think block is opened again behind
    it, the block is unclosed. Text with no marker at all is `none`: a short chain of thought, whose answer block is
    its ending if that states the final answer (`final_answer`).

    Args:
        text: the completion.
        form: a name to skip recognition: a text that must be `r1` but was cut before `</think>` is then unclosed.
        cut: the completion ended at the token limit; a `none` text then has no answer block.

    Raises:
        UsageError: if `form` is not a known name.

    Source: tp_grpo.md 1.1, 1.4. Differs: the formats and the rule for `none` are ours.

    >>> text = "Hmm, 3.</think>It is 3."
    >>> blocks = find_blocks(text)
    >>> blocks.form, blocks.closed, text[slice(*blocks.think)], text[blocks.border:]
    ('r1', True, 'Hmm, 3.', 'It is 3.')
    """
    check_form(form)
    name = form
    if form == "auto":
        name = next((key for key, markers in _FORMS.items() if _is(text, markers)), "none")
    if name == "none":
        return _unmarked(text, cut)
    return _marked(text, name, _FORMS[name])


def check_form(form: str) -> None:
    """Refuse a name that `find_blocks` does not take.

    Raises:
        UsageError: naming the known ones.
    """
    if form not in FORMS:
        raise UsageError(f"unknown block format {form!r}; known: {', '.join(FORMS)}")


def _is(text: str, markers: _Markers) -> bool:
    if markers.signs:
        return any(sign in text for sign in markers.signs)
    return markers.opening.match(text, _skip(text, 0)) is not None


def _marked(text: str, form: str, markers: _Markers) -> Blocks:
    opening = markers.opening.match(text, _skip(text, 0))
    first = _skip(text, opening.end() if opening else 0)
    closing, answer = _closing(text, markers)
    end = _trim(text, markers) if closing is None else len(text[: closing.start()].rstrip())
    think = (first, max(first, end))
    if closing is None or answer is None:
        return Blocks(form, think, None, len(text))
    lines = _LINE_ENDS.match(text, closing.end())
    return Blocks(form, think, answer, lines.end() if lines else closing.end())


def _closing(text: str, markers: _Markers) -> tuple[re.Match[str] | None, tuple[int, int] | None]:
    """The marker that ends the think block, and the range of the answer behind it; either can be missing."""
    found = list(markers.closing.finditer(text))
    openings = [match.end() for match in markers.opening.finditer(text)] if markers.signs else []
    end = _trim(text, markers)
    for index in range(len(found) - 1, -1, -1):
        match = found[index]
        last = index == len(found) - 1
        if not last and sum(opening <= match.start() for opening in openings) > index + 1:
            break  # still inside an outer block
        lead = markers.answer.match(text, match.end())
        start = lead.end() if lead else match.end()
        if start < end:
            reopened = bool(openings) and openings[-1] > match.end()
            return (None, None) if reopened else (match, (start, end))
    return (found[-1] if found else None), None


def _unmarked(text: str, cut: bool) -> Blocks:  # noqa: FBT001 -- private
    first, end = _skip(text, 0), len(text.rstrip())
    start = None if cut else final_answer(text)
    if start is None:
        return Blocks("none", (min(first, end), end), None, len(text))
    think_end = len(text[:start].rstrip())
    return Blocks("none", (min(first, think_end), think_end), (_skip(text, start), end), start)


def _skip(text: str, start: int) -> int:
    match = _INK.search(text, start)
    return match.start() if match else len(text)


def _trim(text: str, markers: _Markers) -> int:
    """End of the text without trailing white space and end markers."""
    end = len(text.rstrip())
    while match := markers.end.search(text, max(0, end - _TAIL), end):
        end = len(text[: match.start()].rstrip())
    return end
