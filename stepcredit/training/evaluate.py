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
from stepcredit.store.codec import decode, encode
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.parts import Parts, RoundSettings

STAGE = "judgement"


@final
@dataclass(frozen=True)
class Evaluated:
    """A round after stage 2.

    Args:
        groups: complete groups in order.
        judgements: one a rollout, in the order of the groups; all-unknown for outcome-only rules.
        reasons: how often each reason for an unknown judgement of a scorable rollout occurred.
    """

    groups: tuple[Group, ...]
    judgements: tuple[Judgement, ...]
    reasons: Counter[str]

    @property
    def outcomes(self) -> list[Outcome]:
        """All outcomes, in order."""
        return [outcome for group in self.groups for outcome in group.outcomes]

    @property
    def parse_rate(self) -> float:
        """Share of scorable rollouts with a known judgement; 1 if there are none to judge."""
        asked = [j for j in self.judgements if j.steps.outcome.status != "unscorable"]
        return sum(j.known for j in asked) / len(asked) if asked else 1.0


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
    if parts.judge is None:
        silent = Verdict(reason="no judge: the rule reads outcomes only")
        judgements = [Judgement(steps, (silent,) * len(steps), "none") for steps in cut]
        return Evaluated(tuple(complete), tuple(judgements), Counter())
    judge = parts.judge
    judgements = await asyncio.gather(*(judge_one(judge, folder, steps) for steps in cut))
    folder.ledger.flush()
    asked = [judgement for judgement in judgements if judgement.steps.outcome.status != "unscorable"]
    reasons = Counter(reason for judgement in asked if (reason := unknown_reason(judgement)))
    return Evaluated(tuple(complete), tuple(judgements), reasons)


def unknown_reason(judgement: Judgement) -> str:
    """Reason of the first unknown verdict, empty if all are known."""
    return next((v.reason for v in judgement.verdicts if not v.known), "")


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
