"""Reads the embedded worlds' texts by their grammar: what was taken back, and what the answer block restates.

One unit a step, opened by `;`:

    Step1 14 /15 4           a step: number, value it starts from, operator, value it claims
    check 4 *15 9 no-wait    a check of the step before it, with verdict `ok` or `no-wait`
    wait,                    takes the step before it back
    Step1 12                 in the answer block: the value of a step restated

Source: embedded_world.md 8.2 (judge "rule"), tp_grpo.md 1.3-1.4. Differs: where a value is compared with the answer
block, a check stands with the value that it checks and a `wait,` with the value that it takes back.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

from stepcredit.judges.intrinsic.replies import Reflection, Trace

_STEP = re.compile(r"Step(\d+) (\d+) [+*/]\d+ (?:= )?(\d+)")
_CHECK = re.compile(r"check (\d+) [+*/]\d+ \d+ (no-wait|ok)")
_LINE = re.compile(r"Step(\d+) (\d+)(?= ;| <eos>|$)")
_MARKS = ("</think>", "<eos>")


@final
@dataclass(frozen=True)
class _Unit:
    """One unit: what it is, the step number it is about (0: none), and the value for that step it speaks of."""

    kind: Literal["step", "ok", "no", "other"]
    number: int = 0
    value: int = -1


_OTHER = _Unit("other")


@final
class WorldGrammar:
    """Grammar of the embedded worlds; a `no-wait` or `wait,` counts where the same step is redone right after it.

    >>> steps = ("; Step1 14 /15 4", "; check 4 *15 9 no-wait", "; Step1 14 /15 10", "; check 10 *15 14 ok")
    >>> WorldGrammar().reflections(steps)
    (Reflection(step=1, kind='error'), Reflection(step=3, kind='confirm'))
    >>> WorldGrammar().trace("", steps[:2])
    Trace(source=0, evidence='Step1 14 /15 4')
    >>> WorldGrammar().matched("", steps, answer=("answer", "; Step1 10 <eos>"))
    (False, False, True, True)
    """

    fingerprint = "world-1"

    def reflections(self, steps: Sequence[str]) -> tuple[Reflection, ...]:
        """`no-wait` and `wait,` that a redo follows are errors, `ok` confirms; a `no-wait` without redo is neither."""
        units = _units(steps)
        found: list[Reflection] = []
        for k, unit in enumerate(units):
            if unit.kind == "ok":
                found.append(Reflection(k, "confirm"))
            elif unit.kind == "no" and unit.number and k + 1 < len(units):
                redo = units[k + 1]
                if redo.kind == "step" and redo.number == unit.number:
                    found.append(Reflection(k, "error"))
        return tuple(found)

    def trace(self, problem: str, steps: Sequence[str]) -> Trace:
        """The step last written before the reflection."""
        del problem
        source = _last_step(_units(steps[:-1]))
        return Trace(None, "") if source is None else Trace(source, _words(steps[source]))

    def wrong(self, problem: str, steps: Sequence[str], *, source: int) -> tuple[bool, ...]:
        """The step that is redone is wrong; checks between it and the reflection are not."""
        del problem
        units = _units(steps[:-1])
        return tuple(k == source or units[k].kind == "step" for k in range(source, len(units)))

    def matched(self, problem: str, steps: Sequence[str], *, answer: Sequence[str]) -> tuple[bool, ...]:
        """Units whose value is the one that the answer block gives for their step; a repeated line's last counts."""
        del problem
        block = " ".join(" ".join(answer).split())
        lines = {int(number): int(value) for number, value in _LINE.findall(block)}
        return tuple(unit.number > 0 and lines.get(unit.number) == unit.value for unit in _units(steps))


def _units(steps: Sequence[str]) -> list[_Unit]:
    units: list[_Unit] = []
    last = _OTHER
    for text in steps:
        unit = _read(text)
        if unit.kind == "ok" or (unit.kind == "no" and unit.value >= 0):
            unit = _Unit(unit.kind, last.number, unit.value)
        elif unit.kind == "no":
            unit = _Unit("no", last.number, last.value)
        else:
            last = unit
        units.append(unit)
    return units


@lru_cache(1 << 14)
def _read(text: str) -> _Unit:
    """A unit that stands alone: a check with the value that it checks, a `wait,` with none."""
    words = _words(text)
    if step := _STEP.fullmatch(words):
        return _Unit("step", int(step[1]), int(step[3]))
    if check := _CHECK.fullmatch(words):
        return _Unit("ok" if check[2] == "ok" else "no", 0, int(check[1]))
    return _Unit("no") if words == "wait," else _OTHER


def _last_step(units: Sequence[_Unit]) -> int | None:
    return next((k for k in reversed(range(len(units))) if units[k].kind == "step"), None)


def _words(text: str) -> str:
    for mark in _MARKS:
        text = text.partition(mark)[0]
    return " ".join(text.split()).removeprefix(";").strip()
