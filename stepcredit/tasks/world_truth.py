"""What is true of a completion of an embedded world, and what only its structure says.

Structure (which step was taken back, what the answer block restates) is all that the intrinsic judge may learn from.
Truth is for measuring, and for the arms that are named after it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import final

from stepcredit.core.records import Problem
from stepcredit.tasks.world_text import OK, Solution, Unit, apply, parse, read_prompt


@final
@dataclass(frozen=True)
class Structure:
    """Structural labels of a completion; none of them says whether anything is right.

    Args:
        solution: the units.
        retracted: [U] think steps that a reflection took back and a redo replaced (in a right solution: incorrect).
        adopted: [U] units whose claim an answer line restates (in a wrong solution: matched); answer lines are.
    """

    solution: Solution
    retracted: tuple[bool, ...]
    adopted: tuple[bool, ...]


@final
@dataclass(frozen=True)
class Demonstration:
    """A demonstrator's solution; the text ends with `<eos>`."""

    problem: Problem
    text: str

    @cached_property
    def structure(self) -> Structure:
        """The structural labels."""
        return structure(self.text)


def structure(text: str) -> Structure:
    """Structural labels of a completion.

    A think unit is adopted if the answer line for its step restates its claim (of a check: the value checked; of a
    `wait,`: the value taken back). In the chain world the block is one line, so only units of the last step can be.

    >>> labels = structure("; Step1 14 /15 4 ; check 4 *15 9 no-wait ; Step1 14 /15 10 </think> answer ; Step1 10")
    >>> labels.retracted, labels.adopted
    ((True, False, False, False), (False, False, True, True))
    """
    solution = parse(text)
    taken = {retraction.step for retraction in solution.retractions}
    answers = solution.answers
    return Structure(
        solution,
        tuple(i in taken for i in range(len(solution.units))),
        tuple(
            i >= solution.thinks or (unit.number > 0 and answers.get(unit.number) == unit.claim)
            for i, unit in enumerate(solution.units)
        ),
    )


def truth(text: str) -> tuple[bool | None, ...]:
    """[U] whether each unit is right on its own terms.

    A step: its value follows from the operand it claims. A check: its product is right, and its verdict follows from
    the product (`ok` if it gives back the operand of the step before). An answer line: it restates the last value that
    the think block gave for its step. `None`: unreadable units, waits, checks with no step before, lines of steps not
    written.

    Source: embedded_world.md 8.1. Differs: none.

    >>> truth("; Step1 14 /15 4 ; check 4 *15 9 no-wait ; Step1 14 /15 10 </think> answer ; Step1 4")
    (False, True, True, False)
    """
    return truth_of(parse(text))


def truth_of(solution: Solution) -> tuple[bool | None, ...]:
    """`truth` of a completion that was read already."""
    last = solution.last
    before = (None, *solution.units)
    return tuple(_unit_truth(unit, previous, last) for unit, previous in zip(solution.units, before, strict=False))


def copied(problem: Problem, text: str) -> tuple[bool | None, ...]:
    """[U] whether each unit copies what it should: the other way to be wrong, beside `truth`.

    A step: the operator is the prompt's, and the operand is the last value of the step before (or the start). A check:
    it checks the value and the factor of the step before. `None` for all else.

    >>> chain = Problem("p", "Q 14 ; Step1 /15 ; Step2 *2 ?", "7")
    >>> copied(chain, "; Step1 14 /15 12 ; Step2 11 *2 5")
    (True, False)
    """
    start, operators = read_prompt(problem.text)
    current = {0: start}
    flags: list[bool | None] = []
    previous: Unit | None = None
    for unit in parse(text).units:
        flag: bool | None = None
        if unit.kind == "step":
            known = 1 <= unit.number <= len(operators) and operators[unit.number - 1] == unit.operator
            flag = known and current.get(unit.number - 1) == unit.operand
            current[unit.number] = unit.value
        elif unit.kind == "check" and previous is not None and previous.kind == "step":
            flag = unit.operand == previous.value and unit.operator[1:] == previous.operator[1:]
        flags.append(flag)
        previous = unit
    return tuple(flags)


def true_values(problem: Problem) -> tuple[int, ...]:
    """[L] true value after each step.

    >>> true_values(Problem("p", "Q 14 ; Step1 /15 ; Step2 *10 ?", "1"))
    (10, 15)
    """
    value, operators = read_prompt(problem.text)
    values: list[int] = []
    for operator in operators:
        value = apply(operator, value)
        values.append(value)
    return tuple(values)


def _unit_truth(unit: Unit, previous: Unit | None, last: dict[int, Unit]) -> bool | None:
    if unit.kind == "step":
        return unit.follows
    if unit.kind == "check":
        if previous is None or previous.kind != "step":
            return None
        return unit.follows and (unit.verdict == OK) == (unit.value == previous.operand)
    if unit.kind == "answer":
        step = last.get(unit.number)
        return None if step is None else step.value == unit.value
    return None
