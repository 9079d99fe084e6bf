"""Reads the final answer out of a solution text."""

import re
from dataclasses import dataclass
from typing import Literal, final

Form = Literal["boxed", "marked", "stated", "letter", "formula", "number"]

_THINK_CLOSED = ("</think>", "<|end_of_thought|>", "<|begin_of_solution|>")
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_MARKED = re.compile(r"^(?:####|A:)[ \t]*(\S.*)$", re.MULTILINE)
_STATED = re.compile(
    r"\banswer(?:\*\*|\s|,|\bto (?:the|this) (?:problem|question)\b|\btherefore\b)*"
    r"(?:\bis\b|\bare\b|:|=)(?:\*\*|[\s:])*(?=\S)"
    r"|^[#* \t]*(?:final[ \t]+)?answer[*: \t]*\n\s*(?=\S)",
    re.IGNORECASE | re.MULTILINE,
)
_FORMULA = re.compile(r"\\\[(.+?)\\\]|\\\((.+?)\\\)|\$\$(.+?)\$\$|(?<!\\)\$([^$\n]+?)(?<!\\)\$", re.DOTALL)
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?|-?\.\d+")
_LETTER = re.compile(
    r"\(([A-J])\)|\b(?i:option|choice|answer|solution)(?:\s+is)?[\s_:\\]*\(?([A-HJ](?:/[A-J])*)(?![A-Za-z])"
    r"|^[ \t]*\(?([A-J])\)?[.:)]?[ \t]*$",
    re.MULTILINE,
)
_ENDS = re.compile(r"\n|(?<=[^\s.])\.(?=\s|$)")


@final
@dataclass(frozen=True)
class Answer:
    """The final answer as written.

    Args:
        text: the answer itself, without box, mark or sentence around it.
        form: how it was found: `boxed`; `marked` (`#### 26`, `A: 26`); `stated` (`the answer is ...`); `letter`
            (a choice in parentheses); and two guesses, `formula` (the text ends with it) and `number` (the last one).
    """

    text: str
    form: Form

    @property
    def explicit(self) -> bool:
        """False for the two guesses, which a text that was cut off cannot be held to."""
        return self.form not in ("formula", "number")


def read_answer(text: str, *, letters: bool = False) -> Answer | None:
    r"""The final answer of a solution, `None` if there is none to read.

    Looks in the answer block (what follows the think block, if that was closed) for a box, mark, statement or letter,
    in this order; the last one of a kind counts. Failing these, its last formula or number (not for letters); failing
    these, the think block.

    Args:
        text: the whole completion.
        letters: the reference is a choice letter, so a bare `(B)` is an answer.

    >>> read_answer(r"So it is \boxed{\frac{1}{2}}.")
    Answer(text='\\frac{1}{2}', form='boxed')
    >>> read_answer("3 + 4 = 7\nA: 26"), read_answer("Thus the final answer is **12 cm**.")
    (Answer(text='26', form='marked'), Answer(text='12 cm', form='stated'))
    >>> read_answer("no idea") is None
    True
    """
    block = answer_block(text)
    found = _explicit(block, letters=letters) or (None if letters else _guess(block))
    return found or (_explicit(text, letters=letters) if block is not text else None)


def answer_block(text: str) -> str:
    """What follows the think block; the whole text if no think block was closed.

    >>> answer_block("hm</think> 7")
    ' 7'
    """
    cut = max(text.rfind(mark) + len(mark) if mark in text else 0 for mark in _THINK_CLOSED)
    return text[cut:] if cut else text


def boxes(text: str) -> list[str]:
    r"""Contents of all boxes, in order; braces may nest, a box that is not closed is left out.

    >>> boxes(r"\boxed{a_{1}} and \boxed 7, \boxed{open")
    ['a_{1}', '7']
    """
    found: list[str] = []
    for match in _BOX.finditer(text):
        rest = text[match.end() :]
        if not rest.startswith("{"):
            word = re.match(r"[^\s$\\.,]+", rest)
            found += [word.group()] if word else []
            continue
        end = _closing(rest)
        if end is not None:
            found.append(rest[1:end].strip())
    return [content for content in found if content]


def _closing(text: str) -> int | None:
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0 and match.group() == "}":
            return match.start()
    return None


def _explicit(text: str, *, letters: bool) -> Answer | None:
    boxed = boxes(text)
    if boxed:
        return Answer(boxed[-1], "boxed")
    if marked := _MARKED.findall(text):
        return Answer(marked[-1].strip(), "marked")
    stated = [text[match.end() :] for match in _STATED.finditer(text)]
    for rest in reversed(stated):
        if phrase := _phrase(rest):
            return Answer(phrase, "stated")
    if letters and (found := _LETTER.findall(text)):
        return Answer(next(filter(None, found[-1])), "letter")
    return None


def _phrase(rest: str) -> str:
    """What a statement says: the formula it opens with, else its last bold words, its last formula, or all of it."""
    if opening := _FORMULA.match(rest):
        return _content(opening)
    end = _ENDS.search(rest)
    sentence = rest[: end.start() if end else None].strip()
    if bold := _BOLD.findall(sentence):
        return bold[-1].strip().rstrip(".:")
    if formulas := list(_FORMULA.finditer(sentence)):
        return _content(formulas[-1])
    return sentence.strip("*").rstrip(".:* ")


def _content(formula: re.Match[str]) -> str:
    return next(filter(None, formula.groups())).strip().rstrip(".")


def _guess(text: str) -> Answer | None:
    lines = [line for line in text.split("\n") if line.strip()]
    formulas = list(_FORMULA.finditer(text))
    if formulas and lines and text.rstrip(" .\n*").endswith(formulas[-1].group()):
        return Answer(_content(formulas[-1]).rsplit("=", 1)[-1].strip(), "formula")
    numbers = _NUMBER.findall(text)
    return Answer(numbers[-1], "number") if numbers else None
