"""Outcome judges on the path: the score of a whole solution as the verdict on its only step."""

import asyncio
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import final
from weakref import WeakValueDictionary

from stepcredit.core.errors import JudgeError
from stepcredit.core.judge_parts import OutcomeJudge
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Group, Rollout, Steps, Verdict
from stepcredit.judges.outcome.think_rm import Comparison, ThinkRMPairJudge

ALONE = "no other solution of this problem to compare it with"
"""Reason where a pairwise judge has nothing to compare."""


@final
class PairRater:
    """Implements `core.judge_parts.OutcomeJudge` by pairs: the mean preference over the group's other solutions.

    score[i] = mean of d[i, j] over the j whose comparison with i could be read

    Args:
        judge: compares every two solutions.

    Source: Think-RM, arXiv:2505.16265, credit.md 2.7 (its advantage is the same sum of d[i, j], over a spread of the
    group). Differs: the mean is over comparisons that could be read; without one the score is unknown, not 0.
    """

    def __init__(self, judge: ThinkRMPairJudge) -> None:
        self._judge = judge

    @property
    def fingerprint(self) -> str:
        """That of the judge: a mean adds nothing."""
        return self._judge.fingerprint

    async def rate(self, group: Group) -> tuple[Verdict, ...]:
        """[N] means; the reason says of how many comparisons.

        Raises:
            JudgeError: if the judge failed; carries the group id.
            BudgetError: if a limit on calls or cost is reached.
        """
        return preferred(await self._judge.examine(group), len(group.outcomes))


def preferred(comparisons: Sequence[Comparison], count: int) -> tuple[Verdict, ...]:
    """[count] mean preference of each solution over the others.

    Args:
        comparisons: one a pair.
        count: N, number of solutions.

    >>> pairs = [Comparison(0, 1, 3.0), Comparison(0, 2, 1.0), Comparison(1, 2, None, "cut")]
    >>> [(v.score, v.reason) for v in preferred(pairs, 3)]
    [(2.0, 'mean of 2 of 2 comparisons'), (-3.0, 'mean of 1 of 2 comparisons'), (-1.0, 'mean of 1 of 2 comparisons')]
    >>> preferred([], 1)[0].reason
    'no other solution of this problem to compare it with'
    """
    found: list[Verdict] = []
    for index in range(count):
        mine = [each for each in comparisons if index in (each.first, each.second)]
        calls = tuple(call for each in mine for call in each.calls if call)
        signs = [(each.preference, each.first == index) for each in mine]
        values = [value if is_first else 0.0 - value for value, is_first in signs if value is not None]
        if values:
            reason = f"mean of {len(values)} of {len(mine)} comparisons"
            found.append(Verdict(fmean(values), reason=reason, calls=calls))
        else:
            found.append(Verdict(reason=mine[0].reason if mine else ALONE, calls=calls))
    return tuple(found)


@final
class WholeJudge:
    """Implements `core.protocols.Judge` for solutions that are one step, by an outcome judge.

    A group is rated once, when the first of its solutions is judged; the others wait for that. What was found is held
    for as long as the judge lives: a score of each solution. A group on which the outcome judge failed is not tried
    again.

    Args:
        judge: scores the solutions of a group.
        group_of: the group of a rollout, itself among it, the same at each call.
        scale: what the scores mean.
    """

    def __init__(
        self, judge: OutcomeJudge, group_of: Callable[[Rollout], Group], *, scale: Scale = Scale.RATING
    ) -> None:
        self._judge, self._group_of, self._scale = judge, group_of, scale
        self._found: dict[str, dict[str, Verdict] | JudgeError] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def fingerprint(self) -> str:
        """That of the outcome judge."""
        return self._judge.fingerprint

    @property
    def scale(self) -> Scale:
        """As given."""
        return self._scale

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """The score of the solution, as the verdict on its only step.

        Raises:
            JudgeError: if the outcome judge failed, there are several steps, or the rollout is not in its group.
            BudgetError: if a limit on calls or cost is reached.
        """
        if len(steps) > 1:
            raise JudgeError(f"an outcome judge scores whole solutions, got {len(steps)} steps", item=steps.rollout.id)
        if not len(steps):
            return ()
        group = self._group_of(steps.rollout)
        lock = self._locks.setdefault(group.id, asyncio.Lock())
        async with lock:
            if group.id not in self._found:
                self._found[group.id] = await self._rated(group)
        found = self._found[group.id]
        if isinstance(found, JudgeError):
            raise JudgeError(str(found), item=steps.rollout.id) from found
        if steps.rollout.id not in found:
            raise JudgeError(f"the solution is not in its group {group.id}", item=steps.rollout.id)
        return (found[steps.rollout.id],)

    async def _rated(self, group: Group) -> dict[str, Verdict] | JudgeError:
        try:
            verdicts = await self._judge.rate(group)
        except JudgeError as error:
            return error
        return {each.rollout.id: verdict for each, verdict in zip(group.outcomes, verdicts, strict=True)}
