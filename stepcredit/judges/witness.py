"""Witnesses: what the solutions of one problem say of each other's steps. No model, no reference answer, no step truth.

A step that can be read as a claim says a value of a subject ("14 / 15 is 4"). The solutions of a group often speak of
the same subjects, so each is a witness for the others: what the right ones hold to is borne out, what they contradict
is refuted, and where none of them speaks, what most solutions took back is refuted by their own word.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import numpy as np
from jaxtyping import Float64

from stepcredit.core.errors import JudgeError, UsageError
from stepcredit.core.records import Steps

BORNE_OUT, REFUTED = 1.0, -1.0

Remarks = Literal["none", "false", "all"]
"""Which remarks are testified of: none; only those that the right solutions contradict; all that they speak of."""


Confirmed = Literal["no", "grounded", "all"]
"""What the writers' own checks bear out where no right solution speaks: nothing; claims that start from what was given
or found; all, an exhibit: it pays steps that begin at the wrong place (docs/own_rule.md)."""


@final
@dataclass(frozen=True)
class Claim:
    """What a step says: the value of a subject. Subjects of one problem are the same if their text is.

    Args:
        subject: what it speaks of, as in `14 / 15`.
        value: what it says of it.
        grounded: False if it starts from something that neither the problem nor an earlier step gave.
    """

    subject: str
    value: str
    grounded: bool = field(default=True, compare=False)


@final
@dataclass(frozen=True)
class Remark:
    """A step that speaks of an earlier one: confirms its claim, or denies it."""

    about: int
    denies: bool


ReadClaims = Callable[[str, Sequence[str]], Sequence[Claim | Remark | None]]
"""Reads a problem's text and those of a solution's think steps: for each a claim, a remark, or `None` for neither."""


@final
@dataclass(frozen=True)
class WitnessSettings:
    """Whose word counts.

    Args:
        own_word: True lets the wrong solutions speak where no right one does: what more of them took back than let
            stand is refuted.
        confirmed: see `Confirmed`. What they bear out is a value that they confirmed more often than any other, and
            more often than it was taken back.
        remarks: see `Remarks`.
    """

    own_word: bool = True
    confirmed: Confirmed = "grounded"
    remarks: Remarks = "all"

    def __post_init__(self) -> None:
        if self.remarks not in ("none", "false", "all"):
            raise UsageError(f"remarks must be none, false or all, got {self.remarks!r}")
        if self.confirmed not in ("no", "grounded", "all"):
            raise UsageError(f"confirmed must be no, grounded or all, got {self.confirmed!r}")
        if self.confirmed != "no" and not self.own_word:
            raise UsageError("without own_word nothing can be confirmed: set confirmed to no, or switch own_word on")


@final
@dataclass(frozen=True)
class _Solution:
    """One solution, read: what it says step by step, what it says last of each subject, and its last remarks."""

    steps: Steps
    said: tuple[Claim | Remark | None, ...]
    last: dict[str, str] = field(default_factory=dict[str, str])
    denied: dict[Claim, bool] = field(default_factory=dict[Claim, bool])

    def holds(self, claim: Claim) -> bool:
        """True if it says nothing else of the subject later, and did not deny it."""
        return self.last.get(claim.subject) == claim.value and not self.denied.get(claim, False)


def witnessed(cut: Sequence[Steps], read: ReadClaims, *, settings: WitnessSettings) -> list[Float64[np.ndarray, " K"]]:
    """What the group says of each step: 1 borne out, -1 refuted, NaN where nobody testifies.

    A solution holds to the value that it says last of a subject. Of each subject of a problem:

    1. The value that most right solutions hold to is borne out, all others are refuted, in every solution of the group.
       A tie says nothing.
    2. Where no right solution speaks (`own_word`): a value is refuted if more solutions took it back (said another one
       later, or denied it) than hold to it; `confirmed` may bear out the value that most of them hold to and confirmed.

    A remark is borne out or refuted by rule 1 alone, never by the writer's own word.

    Args:
        cut: any number of cut rollouts; those of one group are compared, in any order.
        read: reads claims and remarks.
        settings: whose word counts.

    Returns:
        One column for each cut rollout, in order: [K] 1, -1 or NaN. Steps of the answer block are NaN.

    Raises:
        JudgeError: if `read` gives not one entry a step, or a remark about a step that is not before it.

    Source: own. Differs: n/a.
    """
    groups: defaultdict[str, list[int]] = defaultdict(list)
    solutions = [_read(steps, read) for steps in cut]
    for index, steps in enumerate(cut):
        groups[steps.rollout.group].append(index)
    columns: list[Float64[np.ndarray, " K"]] = [np.full(len(steps), np.nan) for steps in cut]
    for members in groups.values():
        heard = _Heard([solutions[index] for index in members], settings)
        for index in members:
            for k, said in enumerate(solutions[index].said):
                columns[index][k] = heard.of(solutions[index], said)
    return columns


@final
class _Heard:
    """What the solutions of one group say of its subjects."""

    def __init__(self, solutions: Sequence[_Solution], settings: WitnessSettings) -> None:
        self._settings = settings
        right = [solution for solution in solutions if solution.steps.outcome.status == "right"]
        spoken: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for solution in right:
            for subject, value in solution.last.items():
                spoken[subject][value] += 1
        self._spoken = {subject: _most(votes) for subject, votes in spoken.items()}
        self._held: Counter[Claim] = Counter()
        self._taken_back: Counter[Claim] = Counter()
        confirmed: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for solution in solutions if settings.own_word else ():
            claims = [said for said in solution.said if isinstance(said, Claim)]
            heard = {claim for claim in claims if claim.grounded or settings.confirmed == "all"}
            for claim in set(claims):
                held = solution.holds(claim)
                (self._held if held else self._taken_back)[claim] += 1
                if held and claim in solution.denied and claim in heard:
                    confirmed[claim.subject][claim.value] += 1
        self._confirmed = {subject: _most(votes) for subject, votes in confirmed.items()}
        self._confirmations = confirmed

    def of(self, solution: _Solution, said: Claim | Remark | None) -> float:
        """What they say of one step of one of them."""
        if said is None:
            return np.nan
        if isinstance(said, Remark):
            return self._of_remark(solution.said[said.about], said)
        if said.subject in self._spoken:
            value = self._spoken[said.subject]
            return np.nan if value is None else (BORNE_OUT if said.value == value else REFUTED)
        if self._taken_back[said] > self._held[said]:
            return REFUTED
        may = self._settings.confirmed == "all" or (self._settings.confirmed == "grounded" and said.grounded)
        if (
            may
            and self._confirmed.get(said.subject) == said.value
            and self._confirmations[said.subject][said.value] > self._taken_back[said]
        ):
            return BORNE_OUT
        return np.nan

    def _of_remark(self, claim: Claim | Remark | None, remark: Remark) -> float:
        value = self._spoken.get(claim.subject) if isinstance(claim, Claim) else None
        if value is None or self._settings.remarks == "none" or not isinstance(claim, Claim):
            return np.nan
        if remark.denies != (claim.value == value):
            return BORNE_OUT if self._settings.remarks == "all" else np.nan
        return REFUTED


def _read(steps: Steps, read: ReadClaims) -> _Solution:
    think = [text for text, inside in zip(steps.texts, steps.in_answer.tolist(), strict=True) if not inside]
    said = tuple(read(steps.rollout.problem.text, think))
    if len(said) != len(think):
        raise JudgeError(f"the reader gave {len(said)} entries for {len(think)} steps", item=steps.rollout.id)
    solution = _Solution(steps, said)
    for k, entry in enumerate(said):
        if isinstance(entry, Claim):
            solution.last[entry.subject] = entry.value
            solution.denied.pop(entry, None)
        elif isinstance(entry, Remark):
            if not 0 <= entry.about < k:
                raise JudgeError(f"a remark at step {k} is about step {entry.about}", item=steps.rollout.id)
            about = said[entry.about]
            if isinstance(about, Claim):
                solution.denied[about] = entry.denies
    return solution


def _most(votes: Counter[str]) -> str | None:
    """The value with most votes, `None` on a tie."""
    first, *rest = votes.most_common(2)
    return None if rest and rest[0][1] == first[1] else first[0]
