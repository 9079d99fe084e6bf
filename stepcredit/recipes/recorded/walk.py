"""The walk of recorded solutions: tokenise, check, split, judge, each on its own; what was found is kept at once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.errors import JudgeError
from stepcredit.core.protocols import Checker, Judge, Splitter
from stepcredit.core.records import Judgement, Outcome, Rollout, Steps, Verdict
from stepcredit.recipes.recorded.rollouts import Grouping, RolloutMaker, cut
from stepcredit.report.progress import Task
from stepcredit.steps import Whole
from stepcredit.store.codec import decode, encode
from stepcredit.store.ledger import Ledger
from stepcredit.tasks.jsonl import RecordedResponse

OUTCOMES, VERDICTS = "outcome", "judgement"
"""Stages of the ledger."""

EMPTY = "empty response"
IN_FLIGHT = 64
"""Solutions under way at once: enough to keep a server busy, few enough that the event loop comes round quickly."""


@final
@dataclass(frozen=True)
class WalkParts:
    """What the walk is made of.

    Args:
        maker: response to rollout.
        checker: rollout to outcome.
        splitter: outcome to steps; `None` stops after the check.
        judge: steps to verdicts; `None` stops after the split.
        ledger: where outcomes and verdicts are kept; `None` keeps nothing.
        source: file of the responses, for messages.
    """

    maker: RolloutMaker
    checker: Checker
    splitter: Splitter | None
    judge: Judge | None
    ledger: Ledger | None
    source: str


@final
@dataclass(frozen=True)
class Walked:
    """How far one solution came.

    Args:
        steps: its steps; one piece where the walk stopped before the split.
        judgement: its verdicts, `None` where the walk stopped before.
        failed: why the judge itself failed, empty if it did not; such verdicts are not kept, and asked for again.
        resumed: True if all that was needed had been kept by an earlier walk.
    """

    steps: Steps
    judgement: Judgement | None = None
    failed: str = ""
    resumed: bool = False

    @property
    def outcome(self) -> Outcome:
        """The outcome."""
        return self.steps.outcome

    @property
    def rollout(self) -> Rollout:
        """The rollout."""
        return self.steps.rollout

    @property
    def judged(self) -> bool:
        """True if the judge could say anything of a step."""
        return self.judgement is not None and any(verdict.known for verdict in self.judgement.verdicts)

    @property
    def unknown_reason(self) -> str:
        """Why the judge could say nothing, empty if it could or was not asked."""
        if self.judgement is None or self.judged:
            return ""
        return self.judgement.verdicts[0].reason if self.judgement.verdicts else EMPTY


async def walk(
    parts: WalkParts, recorded: Sequence[RecordedResponse], *, grouping: Grouping, task: Task
) -> tuple[Walked, ...]:
    """Walk all solutions.

    Args:
        parts: the parts.
        recorded: [N] responses.
        grouping: their groups.
        task: advanced by one a solution.

    Returns:
        [N] in the order of the responses, whatever order answers came in.

    Raises:
        UsageError: if a text cannot be tokenised, or the server refuses the request.
        BudgetError: if a limit on calls or cost is reached.
        MachineError: if the server is gone, or processes cannot be started.
    """
    found: dict[int, Walked] = {}
    waiting = iter(enumerate(recorded))

    async def work() -> None:
        for place, item in waiting:
            rollout = parts.maker.make(item, group=grouping.names[place], sample=grouping.samples[place])
            found[place] = await _one(parts, rollout, item=item)
            task.advance(unknown=bool(found[place].unknown_reason))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(IN_FLIGHT, len(recorded))):
                group.create_task(work())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    finally:
        if parts.ledger is not None:
            parts.ledger.flush()
    return tuple(found[place] for place in range(len(recorded)))


async def _one(parts: WalkParts, rollout: Rollout, *, item: RecordedResponse) -> Walked:
    outcome, kept = await _checked(parts, rollout)
    if parts.splitter is None:
        return Walked(Whole().split(outcome), resumed=kept)
    steps = cut(outcome, parts.splitter, steps=item.steps, place=f"{parts.source}:{item.line}")
    if parts.judge is None:
        return Walked(steps, resumed=kept)
    return await _judged(parts.ledger, parts.judge, steps)


async def _checked(parts: WalkParts, rollout: Rollout) -> tuple[Outcome, bool]:
    key = f"{rollout.id}/{parts.checker.fingerprint}"
    payload = None if parts.ledger is None else parts.ledger.get(OUTCOMES, key)
    if payload is not None:
        return decode(payload, resolve=lambda _kind, _name: rollout), True
    outcome = await parts.checker.check(rollout)
    if parts.ledger is not None:
        parts.ledger.put(OUTCOMES, key, encode(outcome, nested=False))
    return outcome, False


async def _judged(ledger: Ledger | None, judge: Judge, steps: Steps) -> Walked:
    key = f"{steps.rollout.id}/{steps.unit}/{judge.fingerprint}"
    payload = None if ledger is None else ledger.get(VERDICTS, key)
    if payload is not None:
        return Walked(steps, decode(payload, resolve=lambda _kind, _name: steps), resumed=True)
    try:
        verdicts = await judge.judge(steps) if len(steps) else ()
    except JudgeError as error:
        blank = Verdict(reason="the judge failed")
        return Walked(steps, Judgement(steps, (blank,) * len(steps), judge.fingerprint), str(error))
    judgement = Judgement(steps, verdicts, judge.fingerprint)
    if ledger is not None:
        ledger.put(VERDICTS, key, encode(judgement, nested=False))
    return Walked(steps, judgement)
