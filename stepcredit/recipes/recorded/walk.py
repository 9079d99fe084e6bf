"""The walk of recorded solutions: tokenise, check, split, judge, each on its own; what was found is kept at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np

from stepcredit.core.errors import BudgetError, DrainedError, JudgeError, PartialError, StepcreditError
from stepcredit.core.protocols import Checker, Judge, Splitter
from stepcredit.core.rationales import Rationale, hearing
from stepcredit.core.records import Judgement, Outcome, Rollout, Steps, Verdict
from stepcredit.recipes.draining import Drain
from stepcredit.recipes.recorded.rationales import keep_rationales
from stepcredit.recipes.recorded.reading import Proposal, ReadingJudge, each
from stepcredit.recipes.recorded.rollouts import Grouping, RolloutMaker, cut
from stepcredit.report.progress import Task
from stepcredit.steps import Whole, apply_ranges
from stepcredit.store.codec import decode, encode
from stepcredit.store.ledger import Ledger
from stepcredit.tasks.jsonl import RecordedResponse

OUTCOMES, PROPOSALS, VERDICTS = "outcome", "proposal", "judgement"
"""Stages of the ledger."""

EMPTY = "empty response"
JUDGE_FAILED = "the judge failed"
CHECKER_BROKE = "the checker broke"
QUARANTINED = "quarantined"
IN_FLIGHT = 64
"""Solutions under way at once: enough to keep a server busy, few enough that the event loop comes round quickly."""

STOPPED = "stopped as asked, with everything saved"
_LOOK_S = 0.1
_REASON = 120

Propose = Callable[[Steps, bool], Awaitable[Proposal]]
"""Cuts steps anew before they are judged; told whether the line of the file has given them."""

Placed = tuple[int, RecordedResponse]
"""A response with its place in the file, from 0."""


class Watch(Protocol):
    """Knows which solutions are not to be tried, and hears which are under way."""

    def begin(self, slot: int, item: str) -> None:
        """A solution is begun by a worker."""
        ...

    def end(self, slot: int) -> None:
        """The worker's solution is done."""
        ...

    def reason(self, item: str) -> str:
        """Why a solution is left out, empty if it is not."""
        ...


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
        watch: leaves solutions out; `None` tries all.
        propose: cuts steps anew before they are judged; `None` leaves that to the judge, if it is one that does.
    """

    maker: RolloutMaker
    checker: Checker
    splitter: Splitter | None
    judge: Judge | None
    ledger: Ledger | None
    source: str
    watch: Watch | None = None
    propose: Propose | None = None

    @property
    def proposes(self) -> Propose | None:
        """Who cuts the steps before they are judged, `None` if nobody does."""
        if self.propose is None and isinstance(self.judge, ReadingJudge) and self.judge.decompose:
            return self.judge.propose
        return self.propose


@final
@dataclass(frozen=True)
class Walked:
    """How far one solution came.

    Args:
        steps: its steps; one piece where the walk stopped before the split.
        judgement: its verdicts, `None` where the walk stopped before.
        failed: why the judge itself failed, empty if it did not; such verdicts are not kept, and asked for again.
        resumed: True if all that was needed had been kept by an earlier walk.
        quarantined: why it was left out, empty if it was not.
        rationales: what the judge told; empty where a ledger keeps it, as a walk holds no texts.
    """

    steps: Steps
    judgement: Judgement | None = None
    failed: str = ""
    resumed: bool = False
    quarantined: str = ""
    rationales: tuple[Rationale, ...] = ()

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
        if self.quarantined:
            return QUARANTINED
        return self.judgement.verdicts[0].reason if self.judgement.verdicts else EMPTY


async def walk(
    parts: WalkParts, recorded: Sequence[RecordedResponse], *, grouping: Grouping, task: Task
) -> tuple[Walked, ...]:
    """Walk solutions that are all in memory.

    Args:
        parts: the parts.
        recorded: [N] responses.
        grouping: their groups.
        task: advanced by one a solution.

    Returns:
        [N] in the order of the responses, whatever order answers came in.

    Raises:
        StepcreditError: as `walk_each`.
    """
    found: dict[int, Walked] = {}

    def take(place: int, item: Walked) -> None:
        found[place] = item
        task.advance(unknown=bool(item.unknown_reason))

    await walk_each(parts, enumerate(recorded), grouping=grouping, take=take)
    return tuple(found[place] for place in range(len(recorded)))


async def walk_each(
    parts: WalkParts,
    items: Iterator[Placed],
    *,
    grouping: Grouping,
    take: Callable[[int, Walked], None],
    drain: Drain | None = None,
    in_flight: int = IN_FLIGHT,
) -> None:
    """Walk solutions as they come, a bounded number at once.

    Args:
        parts: the parts.
        items: responses with their places; taken from as workers come free.
        grouping: groups by place.
        take: gets each solution when it is done, in any order; a PartialError of it ends the walk softly.
        drain: once it is asked no solution is begun, and those under way have its grace to end.
        in_flight: solutions under way at once.

    Raises:
        UsageError: if a text cannot be tokenised, or the server refuses the request.
        BudgetError: if a limit on calls or cost is reached; requests that were under way have ended and were kept.
        DrainedError: if the drain was asked.
        PartialError: if `take` raised it.
        ChangedModelError: if another model answers than before.
        MachineError: if the server is gone, or processes cannot be started.
    """
    stop = drain or Drain()
    soft: list[StepcreditError] = []

    async def work(slot: int) -> None:
        while not (soft or stop.asked) and (placed := next(items, None)) is not None:
            place, item = placed
            try:
                take(place, await _one(parts, item, slot=slot, grouping=grouping, place=place))
            except (BudgetError, PartialError, DrainedError) as error:
                soft.append(error)

    await _until_done([asyncio.create_task(work(slot)) for slot in range(in_flight)], stop, parts.ledger)
    if soft and not stop.asked:
        raise soft[0]
    if stop.asked:
        raise DrainedError(STOPPED)


async def _until_done(tasks: Sequence["asyncio.Task[None]"], drain: Drain, ledger: Ledger | None) -> None:
    waiting = set(tasks)
    try:
        while waiting and not drain.late:
            done, waiting = await asyncio.wait(waiting, timeout=_LOOK_S, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if ledger is not None:
            ledger.flush()


async def _one(parts: WalkParts, item: RecordedResponse, *, slot: int, grouping: Grouping, place: int) -> Walked:
    group, sample = grouping.names[place], grouping.samples[place]
    if parts.watch is None:
        return await _tried(parts, parts.maker.make(item, group=group, sample=sample), item=item)
    reason = parts.watch.reason(item.id)
    if reason:
        return _left_out(parts, item, reason, group=group, sample=sample)
    parts.watch.begin(slot, item.id)
    found = await _tried(parts, parts.maker.make(item, group=group, sample=sample), item=item)
    parts.watch.end(slot)
    return found


def _left_out(parts: WalkParts, item: RecordedResponse, reason: str, *, group: str, sample: int) -> Walked:
    """A solution that nobody may touch: not even tokenised; its no steps are in the unit of the others."""
    none = np.zeros(0, np.int32)
    rollout = Rollout(item.id, item.problem, group, sample, "", none, none, none, policy=item.model, retokenised=True)
    steps = (parts.splitter or Whole()).split(Outcome(rollout, "unscorable", None, QUARANTINED))
    steps = steps if parts.proposes is None else apply_ranges(steps, ())
    return Walked(steps, Judgement(steps, (), QUARANTINED), quarantined=reason)


async def _tried(parts: WalkParts, rollout: Rollout, *, item: RecordedResponse) -> Walked:
    outcome, kept = await _checked(parts, rollout)
    ledger = None if outcome.reason.startswith(CHECKER_BROKE) else parts.ledger
    if parts.splitter is None:
        return Walked(Whole().split(outcome), resumed=kept)
    steps = cut(outcome, parts.splitter, steps=item.steps, place=f"{parts.source}:{item.line}")
    if parts.judge is None:
        return Walked(steps, resumed=kept)
    try:
        proposal = await _proposed(ledger, parts, steps, given=item.steps is not None)
    except JudgeError as error:
        return _failed(apply_ranges(steps, each(len(steps))), parts.judge, str(error))
    if proposal is None:
        return await _judged(ledger, parts.judge, steps)
    steps = apply_ranges(steps, proposal.ranges)
    return await _judged(ledger, parts.judge, steps, unread=proposal.unread, calls=proposal.calls)


async def _checked(parts: WalkParts, rollout: Rollout) -> tuple[Outcome, bool]:
    """The outcome, and whether it had been kept; that of a checker that broke is not kept, it is checked again."""
    key = outcome_key(rollout, parts.checker.fingerprint)
    payload = None if parts.ledger is None else parts.ledger.get(OUTCOMES, key)
    if payload is not None:
        return decode(payload, resolve=lambda _kind, _name: rollout), True
    try:
        outcome = await parts.checker.check(rollout)
    except StepcreditError:
        raise
    except Exception as error:  # noqa: BLE001 -- a solution that breaks the checker is counted and ends no other
        said = " ".join(f"{type(error).__name__}: {error}".split())[:_REASON]
        return Outcome(rollout, "unscorable", None, f"{CHECKER_BROKE}: {said}"), False
    if parts.ledger is not None:
        parts.ledger.put(OUTCOMES, key, encode(outcome, nested=False))
    return outcome, False


async def _proposed(ledger: Ledger | None, parts: WalkParts, steps: Steps, *, given: bool) -> Proposal | None:
    """How the judge cuts the steps; `None` if it does not."""
    if parts.proposes is None or parts.judge is None:
        return None
    key = verdict_key(steps, parts.judge.fingerprint)
    kept = None if ledger is None else ledger.get(PROPOSALS, key)
    if kept is not None:
        return _proposal_of(kept)
    try:
        proposal = await parts.proposes(steps, given)
    except StepcreditError:
        raise
    except Exception as error:
        raise JudgeError(f"the judge broke: {type(error).__name__}: {error}", item=steps.rollout.id) from error
    if ledger is not None:
        ledger.put(PROPOSALS, key, {"ranges": proposal.ranges, "unread": proposal.unread, "calls": proposal.calls})
    return proposal


def _proposal_of(kept: Mapping[str, Any]) -> Proposal:
    ranges = tuple((int(first), int(last)) for first, last in kept["ranges"])
    return Proposal(ranges, kept["unread"], tuple(kept["calls"]))


async def _judged(
    ledger: Ledger | None, judge: Judge, steps: Steps, *, unread: str = "", calls: tuple[str, ...] = ()
) -> Walked:
    """Verdicts, kept or asked for; all unknown where the steps could not be proposed (`unread`)."""
    key = verdict_key(steps, judge.fingerprint)
    payload = None if ledger is None else ledger.get(VERDICTS, key)
    if payload is not None:
        return Walked(steps, decode(payload, resolve=lambda _kind, _name: steps), resumed=True)
    try:
        blank = (Verdict(reason=unread, calls=calls),) * len(steps)
        with hearing() as said:
            verdicts = blank if unread or not len(steps) else await judge.judge(steps)
    except JudgeError as error:
        return _failed(steps, judge, str(error))
    except StepcreditError:
        raise
    except Exception as error:  # noqa: BLE001 -- a solution that breaks the judge is counted and ends no other
        return _failed(steps, judge, f"the judge broke: {type(error).__name__}: {error}")
    judgement = Judgement(steps, verdicts, judge.fingerprint)
    if ledger is None:
        return Walked(steps, judgement, rationales=tuple(said))
    with ledger.together():
        ledger.put(VERDICTS, key, encode(judgement, nested=False))
        keep_rationales(ledger, key, said)
    return Walked(steps, judgement)


def recall(parts: WalkParts, item: RecordedResponse, *, place: int, grouping: Grouping) -> Walked:
    """What earlier walks to the judge kept of a solution; all steps are unknown where nothing was kept."""
    judge = "" if parts.judge is None else parts.judge.fingerprint
    group, sample = grouping.names[place], grouping.samples[place]
    rollout = parts.maker.make(item, group=group, sample=sample)
    payload = (
        None if parts.ledger is None else parts.ledger.get(OUTCOMES, outcome_key(rollout, parts.checker.fingerprint))
    )
    if payload is None or parts.splitter is None or parts.judge is None:
        return _left_out(parts, item, "nothing was kept", group=group, sample=sample)
    outcome = decode(payload, resolve=lambda _kind, _name: rollout)
    steps = cut(outcome, parts.splitter, steps=item.steps, place=f"{parts.source}:{item.line}")
    if parts.proposes is not None:
        proposed = None if parts.ledger is None else parts.ledger.get(PROPOSALS, verdict_key(steps, judge))
        steps = apply_ranges(steps, each(len(steps)) if proposed is None else _proposal_of(proposed).ranges)
    kept = None if parts.ledger is None else parts.ledger.get(VERDICTS, verdict_key(steps, judge))
    if kept is None:
        return _failed(steps, parts.judge, "nothing was kept")
    return Walked(steps, decode(kept, resolve=lambda _kind, _name: steps), resumed=True)


def _failed(steps: Steps, judge: Judge, why: str) -> Walked:
    blank = Verdict(reason=JUDGE_FAILED)
    return Walked(steps, Judgement(steps, (blank,) * len(steps), judge.fingerprint), why)


def outcome_key(rollout: Rollout, checker: str) -> str:
    """Key of an outcome in the ledger."""
    return f"{rollout.id}/{checker}"


def verdict_key(steps: Steps, judge: str) -> str:
    """Key of a judgement in the ledger."""
    return f"{steps.rollout.id}/{steps.unit}/{judge}"
