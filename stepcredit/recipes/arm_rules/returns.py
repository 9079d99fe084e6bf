"""What a critic is taught in an arm: the returns of the rule that reads its values, in that rule's own unit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from stepcredit.core.columns import rewards_of
from stepcredit.core.layout import Layout
from stepcredit.core.records import Judgement
from stepcredit.credit.rlsp import RlspSettings, mixed_reward, rlsp_bonus
from stepcredit.credit.scored.math_shepherd import MathShepherdSettings

OWN_RETURNS = ("math_shepherd", "rlsp")
"""Rules that pay something else than the outcome: values of the outcome are in another unit than their returns."""


def returns_of(
    settings: Any, judgements: Sequence[Judgement], *, exploration_scale: float
) -> list[Float64[np.ndarray, " nodes"]]:
    """For each rollout [K + 1] what is to come after each of its nodes, NaN where unknown.

    Math-Shepherd: the discounted sum of the scores still to come, 0 at the end. RLSP: the mixed reward, at every node.
    Any other rule: the outcome reward, at every node.

    Args:
        settings: of the rule, with the round's process weight.
        judgements: the round's.
        exploration_scale: of RLSP's bonus.

    Source: credit.md 2.14 and 2.6; own. Differs: n/a (neither says what its critic is regressed on).
    """
    if isinstance(settings, MathShepherdSettings):
        return [_discounted(judgement, settings) for judgement in judgements]
    cuts = [judgement.steps for judgement in judgements]
    rewards = rewards_of([steps.outcome for steps in cuts])
    if isinstance(settings, RlspSettings):
        layout = Layout(np.arange(len(cuts)), np.arange(len(cuts)), np.zeros(len(cuts), np.int32))
        rewards = mixed_reward(layout, rewards, rlsp_bonus(cuts, scale=exploration_scale), settings=settings)
    return [np.full(len(steps) + 1, reward) for steps, reward in zip(cuts, rewards.tolist(), strict=True)]


def _discounted(judgement: Judgement, settings: MathShepherdSettings) -> Float64[np.ndarray, " nodes"]:
    """[K + 1] gamma-discounted sums of the scores from each node on; NaN where a score is unknown and drops it."""
    neutral = 0.0 if settings.on_unknown == "neutral" else float("nan")
    scores = [neutral if verdict.score is None else verdict.score for verdict in judgement.verdicts]
    found, total = [0.0], 0.0
    for score in reversed(scores):
        total = score + settings.gamma * total
        found.append(total)
    return np.array(found[::-1], np.float64)
