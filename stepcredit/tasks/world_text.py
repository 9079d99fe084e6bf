"""Grammar of the embedded worlds: completion text to units (steps, checks, waits, answer lines), and back.

One unit is what stands between two `;` words; the `;` opens it. The same grammar serves both worlds:

    think block   ; Step1 14 /15 4 ; check 4 *15 9 no-wait ; Step1 14 /15 10 ... ; wait, ...
    answer block  </think> answer ; Step1 10 ; Step2 15 ... <eos>
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

MODULUS = 17
THINK_END = "</think>"
EOS = "<eos>"
WAIT = "wait,"
NO_WAIT = "no-wait"
OK = "ok"

Kind = Literal["step", "check", "wait", "answer", "other"]

_SEGMENT = re.compile(r"(?:^\s*(?=[^\s;])|;)[^;]*")
_N = r"\d{1,999}"
"""A number; Python reads none of more than 4,300 digits, so what is so long is unreadable."""

_STEP = re.compile(rf"Step({_N}) ({_N}) ([+*/]{_N}) ({_N})")
_CHECK = re.compile(rf"check ({_N}) (\*{_N}) ({_N}) (no-wait|ok)")
_LINE = re.compile(rf"Step({_N}) ({_N})")
_BLOCK = re.compile(rf"(?:; Step{_N} {_N} )*; Step{_N} {_N}(?: <eos>)?")
_OPERATORS = frozenset(f"{sign}{k}" for sign in "+*/" for k in range(1, MODULUS))
_SEEN = 1 << 14
"""Different units kept read; policies write the same few thousand again and again."""

_INVERSE = {k: pow(k, -1, MODULUS) for k in range(1, MODULUS)}


@final
@dataclass(frozen=True)
class Unit:
    """One unit of a completion, as it was written; nothing here says whether it is right.

    Args:
        kind: `step`, `check`, `wait`, `answer` (a line of the answer block), or `other` (unreadable).
        start: index in the text of the `;` that opens it (0 for unreadable words before the first `;`).
        number: the step it is about, from 1; for a check the step written just before it; 0 if there is none.
        operand: value a step starts from; value that a check checks.
        operator: `/15`, `*4`, `+3`; empty where there is none.
        value: value a step claims, an answer line restates, a `wait,` takes back; product a check claims.
        verdict: `ok` or `no-wait` of a check, else empty.
    """

    kind: Kind
    start: int
    number: int = 0
    operand: int = 0
    operator: str = ""
    value: int = 0
    verdict: str = ""

    @property
    def claim(self) -> int:
        """The value for step `number` that the unit speaks of: a step's or line's value, a check's checked value."""
        return self.operand if self.kind == "check" else self.value

    @property
    def follows(self) -> bool:
        """True if the value (or product) that the unit claims follows from its own operand and operator.

        >>> Unit("step", 0, 1, 14, "/15", 10).follows
        True
        """
        return _follows(self.operator, self.operand, self.value)

    @property
    def words(self) -> str:
        """The unit as text, without the opening `;`.

        >>> Unit("check", 0, 1, 4, "*15", 9, "no-wait").words
        'check 4 *15 9 no-wait'
        """
        if self.kind == "step":
            return f"Step{self.number} {self.operand} {self.operator} {self.value}"
        if self.kind == "check":
            return f"check {self.operand} {self.operator} {self.value} {self.verdict}"
        if self.kind == "answer":
            return f"Step{self.number} {self.value}"
        return WAIT


@final
@dataclass(frozen=True)
class Retraction:
    """A step that was taken back: unit indices of the step, of the reflection after it, and of the redo."""

    step: int
    reflection: int
    redo: int


@final
@dataclass(frozen=True)
class Solution:
    """A completion read into units.

    Args:
        units: think units, then answer lines.
        thinks: number of think units; `units[thinks:]` is the answer block.
        closed: True if `</think>` was written.
    """

    units: tuple[Unit, ...]
    thinks: int
    closed: bool

    @property
    def last(self) -> dict[int, Unit]:
        """The last think step written for each step number."""
        return {unit.number: unit for unit in self.units[: self.thinks] if unit.kind == "step"}

    @property
    def answers(self) -> dict[int, int]:
        """Value of each answer line by step number; of a repeated line the last."""
        return {unit.number: unit.value for unit in self.units[self.thinks :] if unit.kind == "answer"}

    @property
    def retractions(self) -> tuple[Retraction, ...]:
        """Steps followed by `no-wait` or `wait,` and then by a redo of the same step, in order.

        This is structure, read off the grammar; it does not ask what is right.

        >>> text = "; Step1 14 /15 4 ; check 4 *15 9 no-wait ; Step1 14 /15 10"
        >>> parse(text).retractions
        (Retraction(step=0, reflection=1, redo=2),)
        """
        think = self.units[: self.thinks]
        return tuple(
            Retraction(i, i + 1, i + 2)
            for i, (step, reflection, redo) in enumerate(zip(think, think[1:], think[2:], strict=False))
            if step.kind == "step"
            and (reflection.verdict == NO_WAIT or reflection.kind == "wait")
            and redo.kind == "step"
            and redo.number == step.number
        )


def parse(text: str) -> Solution:
    """Read a completion into units; never raises, unreadable units are `other`.

    Args:
        text: completion text, `<eos>` at the end or not.

    >>> [unit.kind for unit in parse("; Step1 3 *2 6 ; hm </think> answer ; Step1 6 <eos>").units]
    ['step', 'other', 'answer']
    """
    body = text.removesuffix(EOS).rstrip()
    cut = body.find(THINK_END)
    if cut < 0:
        units = _think_units(body)
        return Solution(tuple(units), len(units), closed=False)
    units = _think_units(body[:cut])
    return Solution((*units, *_answer_units(body, cut)), len(units), closed=True)


def final_value(text: str, length: int) -> int | None:
    """Value of the last answer line, if the answer block is whole: lines Step1 .. Step`length` in order, no other word.

    >>> final_value("; Step1 3 *2 6 </think> answer ; Step1 6 <eos>", 1)
    6
    >>> final_value("; Step1 3 *2 6 </think> answer ; Step1 6 ; Step1 6", 1) is None
    True
    """
    lines = answer_lines(text)
    if lines is None or [number for number, _ in lines] != list(range(1, length + 1)):
        return None
    return lines[-1][1]


def answer_lines(text: str) -> list[tuple[int, int]] | None:
    """(step number, value) of each line of the answer block; `None` if there is no readable block at the end.

    >>> answer_lines("</think> answer ; Step1 12 ; Step2 3")
    [(1, 12), (2, 3)]
    """
    _, mark, block = text.partition(f"{THINK_END} answer ")
    if not mark or not _BLOCK.fullmatch(block):
        return None
    return [(int(number), int(value)) for number, value in _LINE.findall(block)]


def apply(operator: str, x: int) -> int:
    """`x` under `+k`, `*k` or `/k` in Z_17 (`/k` multiplies with the inverse of k).

    >>> apply("/15", 14), apply("*15", 10)
    (10, 14)
    """
    k = int(operator[1:])
    if operator[0] == "+":
        return (x + k) % MODULUS
    return x * (k if operator[0] == "*" else _INVERSE[k]) % MODULUS


def prompt_of(start: int, operators: tuple[str, ...]) -> str:
    """Prompt text of a chain.

    >>> prompt_of(14, ("/15", "*10"))
    'Q 14 ; Step1 /15 ; Step2 *10 ?'
    """
    return " ".join(["Q", str(start), *(f"; Step{i} {op}" for i, op in enumerate(operators, 1)), "?"])


def read_prompt(text: str) -> tuple[int, tuple[str, ...]]:
    """Start value and operators of a prompt.

    Raises:
        ValueError: if the text is not a prompt of an embedded world.

    >>> read_prompt('Q 14 ; Step1 /15 ; Step2 *10 ?')
    (14, ('/15', '*10'))
    """
    words = text.split()
    if len(words) < 6 or words[0] != "Q" or words[-1] != "?" or len(words) % 3:
        raise ValueError(f"not a prompt of an embedded world: {text[:60]!r}")
    return int(words[1]), tuple(words[4:-1:3])


def completion_of(units: tuple[Unit, ...], thinks: int) -> str:
    """Completion text of units, `<eos>` at the end; the opposite of `parse` but for `start`.

    >>> completion_of((Unit("step", 0, 1, 3, "*2", 6), Unit("answer", 0, 1, value=6)), 1)
    '; Step1 3 *2 6 </think> answer ; Step1 6 <eos>'
    """
    think = [f"; {unit.words}" for unit in units[:thinks]]
    return " ".join([*think, THINK_END, "answer", *(f"; {unit.words}" for unit in units[thinks:]), EOS])


def _think_units(text: str) -> list[Unit]:
    units: list[Unit] = []
    for segment in _SEGMENT.finditer(text):
        kind, number, operand, operator, value, verdict = _think_words(segment.group())
        before = units[-1] if units and units[-1].kind == "step" else None
        if before is not None and kind in ("check", "wait"):
            number, value = before.number, value if kind == "check" else before.value
        units.append(Unit(kind, segment.start(), number, operand, operator, value, verdict))
    return units


@lru_cache(_SEEN)
def _think_words(segment: str) -> tuple[Kind, int, int, str, int, str]:
    """Kind, number, operand, operator, value and verdict of a think unit that stands alone."""
    words = segment.lstrip(";").strip()
    if step := _STEP.fullmatch(words):
        return "step", int(step[1]), int(step[2]), step[3], int(step[4]), ""
    if check := _CHECK.fullmatch(words):
        return "check", 0, int(check[1]), check[2], int(check[3]), check[4]
    return ("wait" if words == WAIT else "other"), 0, 0, "", 0, ""


@lru_cache(_SEEN)
def _follows(operator: str, operand: int, value: int) -> bool:
    return operator in _OPERATORS and apply(operator, operand) == value


def _answer_units(text: str, cut: int) -> list[Unit]:
    first = cut + len(THINK_END)
    mark = text.find(" answer", first)
    first = mark + len(" answer") if mark == first else first
    units: list[Unit] = []
    for segment in _SEGMENT.finditer(text[first:]):
        line = _LINE.fullmatch(segment.group().lstrip(";").strip())
        start = first + segment.start()
        units.append(Unit("answer", start, int(line[1]), value=int(line[2])) if line else Unit("other", start))
    return units
