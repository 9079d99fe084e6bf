"""The second reading: a sampled share of a round is judged again, to see what verdict noise does to credit (F6)."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from random import Random
from typing import final

import numpy as np

from stepcredit.core.protocols import Scale
from stepcredit.core.records import Credit, Group, Judgement, Label, Verdict
from stepcredit.core.seeds import derive
from stepcredit.judges.agreement import changed_share, kappa
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.evaluate import Evaluated, judge_one
from stepcredit.training.monitor_facts import MIN_COUNT
from stepcredit.training.parts import PaidRound, Parts, RoundSettings

STAGE = "rejudgement"

BoundCredit = Callable[[Sequence[Group], Sequence[Judgement]], PaidRound]
"""The credit rule of one round."""


@final
@dataclass(frozen=True)
class SecondReading:
    """What a second reading showed; unknown where there was none or too little of it.

    Args:
        agreement: Cohen's kappa over the think steps that both readings know.
        changed: share of the re-judged rollouts' tokens whose advantage differs.
    """

    agreement: float | None = None
    changed: float | None = None


async def rejudge_round(
    parts: Parts,
    settings: RoundSettings,
    folder: RunFolder,
    *,
    evaluated: Evaluated,
    credit: BoundCredit | None,
    round_index: int,
) -> SecondReading:
    """Judge a share of a round's scorable rollouts again, past the verdict cache, and compare.

    The second verdicts are recorded under a stage of their own, and change no credit. Step labels depend on the text
    alone, so this measures the judge's noise; it does not make old rollouts fresh.

    Args:
        parts: `evidence.rejudge` is the judge of the second reading; without it nothing is asked.
        settings: the share, and the seed of the choice.
        folder: where the second verdicts are kept.
        evaluated: the round as it was judged.
        credit: the round's rule; `None` where its process weight is 0: verdicts change no credit then, and `changed` is
            unknown.
        round_index: the round.

    Source: tp_grpo.md 6, F6. Differs: a rollout's own groups are credited again, not the whole round.
    """
    asked = [j for j in evaluated.judgements if j.steps.outcome.status != "unscorable"]
    if parts.judge is None or parts.evidence.rejudge is None or not settings.monitors.rejudge_share or not asked:
        return SecondReading()
    draws = Random(derive(settings.seed, "rejudge", round_index))
    chosen = draws.sample(asked, ceil(settings.monitors.rejudge_share * len(asked)))
    judge = parts.evidence.rejudge(round_index)
    again = await asyncio.gather(*(judge_one(judge, folder, j.steps, stage=STAGE) for j in chosen))
    folder.ledger.flush()
    second = {judgement.steps.rollout.id: judgement for judgement in again}
    scale = parts.judge.scale
    first_labels = [label for judgement in chosen for label in _labels(judgement, scale)]
    second_labels = [label for judgement in again for label in _labels(judgement, scale)]
    both = sum(a is not None and b is not None for a, b in zip(first_labels, second_labels, strict=True))
    changed = None if credit is None else _changed(credit, evaluated, second)
    return SecondReading(kappa(first_labels, second_labels) if both >= MIN_COUNT else None, changed)


def _changed(credit: BoundCredit, evaluated: Evaluated, second: dict[str, Judgement]) -> float:
    """Credit the groups of the chosen rollouts under both readings; both times alone, so that all else is equal."""
    groups = [g for g in evaluated.groups if any(o.rollout.id in second for o in g.outcomes)]
    names = {group.id for group in groups}
    first = [j for j in evaluated.judgements if j.steps.rollout.group in names]
    fresh = [second.get(j.steps.rollout.id, j) for j in first]
    return changed_share(*(_tokens(credit(groups, read).credits, second) for read in (first, fresh)))


def _tokens(credited: Sequence[Credit], chosen: dict[str, Judgement]) -> np.ndarray:
    parts = [credit.advantages for credit in credited if credit.steps.rollout.id in chosen]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _labels(judgement: Judgement, scale: Scale) -> list[Label | None]:
    """Labels of the think steps; a scored step is right or wrong by the middle of its scale."""
    inside = judgement.steps.in_answer.tolist()
    return [_label(v, scale) for v, answer in zip(judgement.verdicts, inside, strict=True) if not answer]


def _label(verdict: Verdict, scale: Scale) -> Label | None:
    if verdict.label is not None or verdict.score is None:
        return verdict.label
    middle = 0.5 if scale in (Scale.PROBABILITY, Scale.BINARY) else 0.0
    return Label.CORRECT if verdict.score > middle else Label.INCORRECT
