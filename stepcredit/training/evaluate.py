"""Stage 2 of a round: check, split, judge; every outcome and judgement is kept at once."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.errors import JudgeError
from stepcredit.core.groups import GroupCollector
from stepcredit.core.protocols import Judge
from stepcredit.core.records import Group, Judgement, Outcome, Rollout, Steps, Verdict
from stepcredit.steps import apply_ranges
from stepcredit.store.codec import decode, encode
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.monitor_facts import askable, unknown_reason
from stepcredit.training.parts import Parts, Proposer, RoundSettings

STAGE, PROPOSALS = "judgement", "proposal"
"""Stages of the ledger: verdicts by cut rollout and judge, and the ranges that were proposed of finer steps."""


@final
@dataclass(frozen=True)
class Evaluated:
    """A round after stage 2.

    Args:
        groups: complete groups in order.
        judgements: one a rollout, in the order of the groups; all-unknown for outcome-only rules.
        reasons: how often each reason for an unknown judgement of a scorable rollout occurred.
        judged: False if there was no judge to ask.
    """

    groups: tuple[Group, ...]
    judgements: tuple[Judgement, ...]
    reasons: Counter[str]
    judged: bool = True

    @property
    def outcomes(self) -> list[Outcome]:
        """All outcomes, in order."""
        return [outcome for group in self.groups for outcome in group.outcomes]

    @property
    def parse_rate(self) -> float | None:
        """Share of the judgements that could be read among those that a judge could be asked for; `None` without any.

        The same share as the monitors' (`monitor_facts.askable`), whatever their number.
        """
        asked = [judgement for judgement in self.judgements if askable(judgement)] if self.judged else []
        return sum(judgement.known for judgement in asked) / len(asked) if asked else None


async def evaluate_round(
    parts: Parts, settings: RoundSettings, folder: RunFolder, *, rollouts: Sequence[Rollout]
) -> Evaluated:
    """Outcomes, steps and verdicts of one round's rollouts; verdicts already recorded are reused.

    Source: tp_grpo.md 1.8 stage 2. Differs: none.
    """
    collector = GroupCollector(settings.group_size)
    outcomes = await asyncio.gather(*(parts.checker.check(rollout) for rollout in rollouts))
    complete = [group for outcome in outcomes if (group := collector.add(outcome)) is not None]
    cut = [parts.splitter.split(outcome) for group in complete for outcome in group.outcomes]
    if parts.proposer is not None:
        proposer = parts.proposer
        cut = await asyncio.gather(*(proposed(proposer, folder, steps) for steps in cut))
    if parts.judge is None:
        silent = Verdict(reason="no judge: the rule reads outcomes only")
        judgements = [Judgement(steps, (silent,) * len(steps), "none") for steps in cut]
        return Evaluated(tuple(complete), tuple(judgements), Counter(), judged=False)
    judge = parts.judge
    judgements = await asyncio.gather(*(judge_one(judge, folder, steps) for steps in cut))
    folder.ledger.flush()
    asked = [judgement for judgement in judgements if judgement.steps.outcome.status != "unscorable"]
    reasons = Counter(reason for judgement in asked if (reason := unknown_reason(judgement)))
    return Evaluated(tuple(complete), tuple(judgements), reasons)


async def judge_one(judge: Judge, folder: RunFolder, steps: Steps, *, stage: str = STAGE) -> Judgement:
    """The judgement of one cut rollout, from the ledger if it is there; unknown throughout where the judge failed.

    Args:
        judge: who is asked.
        folder: where judgements are kept.
        steps: the cut rollout.
        stage: under which name they are kept.
    """
    key = f"{steps.rollout.id}/{steps.unit}/{judge.fingerprint}"
    payload = folder.ledger.get(stage, key)
    if payload is not None:
        return decode(payload, resolve=lambda _kind, _name: steps)
    try:
        verdicts = await judge.judge(steps)
    except JudgeError as error:
        return Judgement(steps, (Verdict(reason=f"judge failed: {error}"),) * len(steps), judge.fingerprint)
    judgement = Judgement(steps, verdicts, judge.fingerprint)
    folder.ledger.put(stage, key, encode(judgement, nested=False))
    return judgement


async def proposed(proposer: Proposer, folder: RunFolder, steps: Steps) -> Steps:
    """The steps that are proposed, from the ledger if they are there; where nothing can be read, the finer ones.

    Args:
        proposer: who is asked.
        folder: where ranges are kept.
        steps: the finer steps.

    Returns:
        Steps of unit `proposed`, in either case: a batch has one unit.

    Raises:
        StepsError: if the ranges are not a tiling.

    Source: tp_grpo.md 1.2; credit.md 3.4 (judge-proposed). Differs: none.
    """
    key = f"{steps.rollout.id}/{steps.unit}/{proposer.fingerprint}"
    payload = folder.ledger.get(PROPOSALS, key)
    if payload is None:
        try:
            payload = {"ranges": await proposer.propose(steps)}
            folder.ledger.put(PROPOSALS, key, payload)
        except JudgeError:
            payload = {"ranges": None}
    ranges = payload["ranges"]
    if ranges is None:
        return apply_ranges(steps, [(k, k + 1) for k in range(len(steps))])
    return apply_ranges(steps, [(int(first), int(last)) for first, last in ranges])
