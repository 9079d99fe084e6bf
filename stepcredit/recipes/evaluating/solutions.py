"""Labelled solutions on the path: rollouts of bytes, outcomes as recorded, steps exactly as labelled."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from stepcredit.core.digests import digest
from stepcredit.core.records import Outcome, OutcomeStatus, Problem, Rollout, Steps
from stepcredit.evaluation.judge_sets import LabelledSolution
from stepcredit.recipes.recorded.walk import Placed
from stepcredit.steps.partition import blocks_of
from stepcredit.tasks.jsonl import RecordedResponse

NO_OUTCOME = "the set does not record whether the final answer is right"
_GAP = "\n\n"


@final
@dataclass(frozen=True)
class GivenOutcome:
    """Gives the outcome that the set records; implements `Checker`.

    Args:
        solutions: by id.
    """

    solutions: Mapping[str, LabelledSolution]
    fingerprint = "given-outcome/1"

    async def check(self, rollout: Rollout) -> Outcome:
        """Right or wrong as recorded; unscorable where nothing is."""
        right = self.solutions[rollout.id].final_answer_right
        if right is None:
            return Outcome(rollout, "unscorable", None, NO_OUTCOME)
        status: OutcomeStatus = "right" if right else "wrong"
        return Outcome(rollout, status, None, "as the set records it")


@final
@dataclass(frozen=True)
class GivenSteps:
    """Cuts a solution at the steps that were labelled, one by one; implements `Splitter`.

    Args:
        solutions: by id.
    """

    solutions: Mapping[str, LabelledSolution]
    unit = "labelled step"

    def split(self, outcome: Outcome) -> Steps:
        """[K] steps; an empty one holds the line ends behind it, so that none vanishes; none without tokens."""
        rollout = outcome.rollout
        if not len(rollout.completion_ids):  # left out, in quarantine
            none = np.zeros(0, np.int32)
            return Steps(outcome, none, self.unit, none.astype(np.bool_), closed=False)
        starts = _starts(self.solutions[rollout.id].steps)
        blocks = blocks_of(rollout, "auto")
        closed, in_answer = False, np.zeros(len(starts), np.bool_)
        if blocks.answer is not None:
            border = int(np.searchsorted(rollout.char_starts, blocks.border, side="left"))
            first = max(int(np.searchsorted(starts, border, side="right")) - 1, 1)
            in_answer = np.arange(len(starts)) >= first
            closed = first < len(starts)
        return Steps(outcome, starts.astype(np.int32), self.unit, in_answer, closed, blocks.form)


def text_of(steps: Sequence[str]) -> str:
    r"""The solution's text: its steps, a blank line between them.

    >>> text_of(["a", "", "b"]), text_of(["a", ""])
    ('a\n\n\n\nb', 'a\n\n\n')
    """
    return _GAP.join(steps) + ("" if steps[-1] else "\n")


def placed(solutions: Sequence[LabelledSolution], source: str) -> Iterator[Placed]:
    """The solutions as the walk takes them, with their places from 0.

    Args:
        solutions: to be judged.
        source: name of the set.
    """
    for place, solution in enumerate(solutions):
        text = solution.asked
        problem = Problem(f"{source}/{digest(text)[:12]}", text, None, source)
        written = text_of(solution.steps)
        yield place, RecordedResponse(solution.id, problem, written, solution.generator, None, "stop", place + 1)


def _starts(steps: Sequence[str]) -> np.ndarray:
    """[K] byte at which each step starts."""
    sizes = [len((step + _GAP).encode()) for step in steps]
    return np.cumsum([0, *sizes[:-1]])
