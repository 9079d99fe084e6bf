"""Split and judge: checked rollouts to steps and verdicts, side by side and bounded (Outcome -> Judgement)."""

import asyncio
from collections.abc import Sequence

from stepcredit.core.errors import JudgeError, UsageError
from stepcredit.core.protocols import Judge, Splitter
from stepcredit.core.records import Judgement, Outcome, Steps
from stepcredit.judges.verdicts import unknown


async def judge_all(
    outcomes: Sequence[Outcome], splitter: Splitter, judge: Judge | None, *, judging: int, timeout_s: float | None
) -> list[Judgement | Steps]:
    """Steps of each rollout, judged if there is a judge.

    A judge that fails, or takes too long, leaves its rollout's steps unknown, with the reason.

    Args:
        outcomes: checked rollouts.
        splitter: cuts them.
        judge: who is asked, or `None`.
        judging: rollouts that wait for the judge at the same time.
        timeout_s: seconds after which one rollout's judging is given up, `None` for no limit.

    Returns:
        One judgement a rollout in their order, or its steps where there is no judge.

    Raises:
        UsageError: if nobody may wait for the judge.
        BudgetError: if the judge's limit on calls or cost is reached.
    """
    if judging < 1:
        raise UsageError(f"judging must be at least 1 rollout that waits for the judge, got {judging}")
    cuts = [splitter.split(outcome) for outcome in outcomes]
    if judge is None:
        return list(cuts)
    places = asyncio.Semaphore(judging)

    async def one(steps: Steps) -> Judgement:
        async with places:
            return await _judged(judge, steps, timeout_s)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(steps)) for steps in cuts]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]


async def _judged(judge: Judge, steps: Steps, timeout_s: float | None) -> Judgement:
    if not len(steps):
        return Judgement(steps, (), judge.fingerprint)
    try:
        async with asyncio.timeout(timeout_s):
            verdicts = await judge.judge(steps)
    except JudgeError as error:
        verdicts = unknown(len(steps), f"judge failed: {error}")
    except TimeoutError:
        verdicts = unknown(len(steps), f"judge failed: no answer within {timeout_s:g} s")
    return Judgement(steps, verdicts, judge.fingerprint)
