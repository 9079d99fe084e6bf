"""Check is done; this is split and judge: one process's outcomes to steps and verdicts, side by side and bounded."""

import asyncio
from collections.abc import Sequence

from stepcredit.adapters.trl.settings import StepCredit
from stepcredit.core.errors import JudgeError
from stepcredit.core.protocols import Judge
from stepcredit.core.records import Judgement, Outcome, Steps
from stepcredit.judges.verdicts import unknown


async def judge_all(credit: StepCredit, outcomes: Sequence[Outcome]) -> list[Judgement | Steps]:
    """Steps of each rollout, judged if the rule reads verdicts.

    At most `credit.judging` rollouts wait for the judge at a time. A judge that fails, or takes longer than
    `credit.timeout_s`, leaves its rollout's steps unknown, with the reason.

    Raises:
        BudgetError: if the judge's limit on calls or cost is reached.
    """
    cuts = [credit.splitter.split(outcome) for outcome in outcomes]
    judge = credit.asked
    if judge is None:
        return list(cuts)
    places = asyncio.Semaphore(credit.judging)

    async def one(steps: Steps) -> Judgement:
        async with places:
            return await _judged(judge, steps, credit.timeout_s)

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
