"""PRIME: outcome credit plus the sum to go of an implicit process reward, the log-ratio of an outcome model."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import Std, leave_one_out, spread, sum_by_step, to_go
from stepcredit.credit.choices import check_choice, check_number
from stepcredit.credit.tp_grpo import accuracy_of_group
from stepcredit.credit.vineppo import finished, written

Baseline = Literal["released", "leave_one_out", "none"]
"""What is taken off each token's reward: the released code's, its leave-one-out part alone, or nothing."""

ProcessScale = Literal["batch_max", "none"]
"""What token rewards are divided by: the largest |sum to go| of the batch, or nothing."""

_EPSILON = 1e-6
"""Added to the largest |sum to go|, as the released code does."""


@final
@dataclass(frozen=True)
class PrimeSettings:
    """Settings of PRIME; the defaults are the released code's and the published hyperparameters.

    Args:
        process_weight: of the implicit reward's stream, added to the outcome's; 1 is the paper, 0 is `leave_one_out`.
        baseline: of the token rewards.
        process_scale: of the token rewards, before the baseline.
        accuracy_low: groups with a smaller share of right rollouts get advantage 0 and count in no whitening.
        accuracy_high: the same above; 0 and 1 let all groups in.
        whiten: True standardises the advantages over all tokens of the groups that are in.
        std: standard deviation of the whitening, as in `algebra.whiten`.
        epsilon: added to it.
    """

    process_weight: float = 1.0
    baseline: Baseline = "released"
    process_scale: ProcessScale = "batch_max"
    accuracy_low: float = 0.2
    accuracy_high: float = 0.8
    whiten: bool = True
    std: Std = "population"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in (("baseline", Baseline), ("process_scale", ProcessScale), ("std", Std)):
            check_choice(name, getattr(self, name), allowed)
        for name in ("process_weight", "epsilon"):
            check_number(name, getattr(self, name))
        if not 0.0 <= self.accuracy_low <= self.accuracy_high <= 1.0:
            got = f"{self.accuracy_low} and {self.accuracy_high}"
            raise UsageError(f"accuracy_low and accuracy_high must rise within [0, 1], got {got}")


def prime(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    token_scores: Float[np.ndarray, " T"],
    *,
    settings: PrimeSettings,
    trained: Float[np.ndarray, " T"] | None = None,
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token: leave-one-out outcome, plus the token rewards still to come over their baseline.

    A = whiten( loo(R) + w * to_go(q - base) )          R = (r + 1) / 2: 1 right, 0 wrong, as in the code

    q[t] = log phi(y_t) - log phi_ref(y_t) of a model phi that was trained on outcomes alone (`losses.prm`), first
    divided by the batch's largest |to_go(q)|. With n known rollouts in the group and m_k the mean of q over the tokens
    of rollout k, rollout i has the released baseline

        q[t] - base[t] = q[t] * n / (n - 1) - sum of all m_k / (n - 1)
                       = q[t] - mean of m_k over k != i  +  (q[t] - m_i) / (n - 1)

    whose first part is `leave_one_out`; the rest adds up to 0 over the rollout.

    Args:
        layout: the batch, in any unit; steps are not read.
        rewards: [N] +1 right, -1 wrong, NaN unscorable.
        token_scores: [T] q in nats; NaN and infinite ones are unknown; not read with process weight 0.
        settings: the dials.
        trained: [T] 1 for tokens that the policy wrote; the others hold no reward, count in no statistic and get 0.
            `None` counts all. Like the token scores not read with process weight 0.

    Returns:
        [T] advantages. 0 in groups outside the accuracy bounds, which no whitening saw; NaN for rollouts with an
        unknown outcome or token (no group's statistic saw those) and in groups with fewer than two known rollouts.

    Raises:
        CreditError: if a column's length does not fit the layout.

    Source: Cui et al. 2025, arXiv:2502.01456; credit.md 2.3. Differs: unknown values; the whole-answer form is left
    out; the accuracy bounds are applied here, where the released code drops the prompts.

    >>> layout = Layout(np.array([0, 0, 1]), np.array([0, 1]), np.zeros(2))
    >>> plain = PrimeSettings(baseline="none", process_scale="none", whiten=False)
    >>> prime(layout, np.array([1.0, -1.0]), np.array([0.5, 0.25, -1.0]), settings=plain)
    array([ 1.75,  1.25, -2.  ], dtype=float32)
    """
    for name, column, want in (("token_scores", token_scores, layout.tokens), ("rewards", rewards, layout.rollouts)):
        if len(column) != want:
            raise CreditError(f"{name}: got {len(column)} entries, the layout has {want}")
    counted = written(trained if settings.process_weight else None, layout.tokens)
    q = np.where(counted, token_scores, 0.0).astype(np.float64) if settings.process_weight else np.zeros(layout.tokens)
    lost = layout.holders(~np.isfinite(q))
    known = np.where(lost, np.nan, rewards)
    inside = accuracy_within(layout, known, low=settings.accuracy_low, high=settings.accuracy_high)
    advantages = spread(leave_one_out((known + 1.0) / 2.0, layout), layout, site="rollout")
    counted &= spread(inside, layout, site="rollout") | np.isnan(advantages)
    if settings.process_weight:
        within = inside & ~np.isnan(known)
        process = _process(layout, q, counted, within=within, settings=settings)
        advantages = advantages + settings.process_weight * process
    return finished(advantages, counted, white=settings.whiten, std=settings.std, epsilon=settings.epsilon)


def outcome_part(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    *,
    settings: PrimeSettings,
) -> Float32[np.ndarray, " T"]:
    """What `prime` gives without process rewards: whitened leave-one-out advantages.

    Args:
        layout: the batch.
        rewards: [N] outcome rewards, NaN where unscorable.
        settings: the dials of `prime`.

    Returns:
        [T] outcome advantages.

    Source: credit.md 2.3. Differs: none.

    >>> layout = Layout(np.array([0, 1]), np.array([0, 1]), np.zeros(2))
    >>> outcome_part(layout, np.array([1.0, -1.0]), settings=PrimeSettings(whiten=False))
    array([ 1., -1.], dtype=float32)
    """
    alone = replace(settings, process_weight=0.0)
    return prime(layout, rewards, np.zeros(layout.tokens), settings=alone)


def accuracy_within(
    layout: Layout, rewards: Float[np.ndarray, " N"], *, low: float, high: float
) -> Bool[np.ndarray, " N"]:
    """True for rollouts of groups whose share of right rollouts lies within the bounds: PRIME's filter of prompts.

    The implicit reward model is updated on the same rollouts as the policy; `core.layout.select` takes the mask.

    Args:
        layout: says which rollouts form a group.
        rewards: [N] above 0 right, below 0 wrong, NaN unscorable (left out of the share).
        low: smallest share, 0.2 in the paper.
        high: largest share, 0.8 in the paper.

    Returns:
        [N] mask; False in groups without a scorable rollout.

    Source: Cui et al. 2025, arXiv:2502.01456; credit.md 2.3. Differs: none.

    >>> layout = Layout(np.arange(4), np.arange(4), np.array([0, 0, 1, 1]))
    >>> accuracy_within(layout, np.array([1.0, -1.0, 1.0, 1.0]), low=0.2, high=0.8)
    array([ True,  True, False, False])
    """
    share = accuracy_of_group(layout, rewards)
    slack = 1e-9  # a share of exactly 1 / 5 must not fall to rounding
    return ((share >= low - slack) & (share <= high + slack))[layout.group_of_rollout]


def over_baseline(
    layout: Layout,
    token_scores: Float[np.ndarray, " T"],
    counted: Bool[np.ndarray, " T"],
    *,
    baseline: Baseline,
    known: Bool[np.ndarray, " N"] | None = None,
) -> Float64[np.ndarray, " T"]:
    """Token rewards over the baseline that the other rollouts of the group give.

    Args:
        layout: the batch.
        token_scores: [T] rewards; entries that do not count are not read.
        counted: [T] True for tokens that count in their rollout's mean.
        baseline: see `prime`.
        known: [N] True for rollouts that take part; `None` for all. One of which no token counts has the mean 0.

    Returns:
        [T] rewards less baseline: 0 where a token does not count, NaN outside `known` and where fewer than two rollouts
        of the group take part.

    Source: credit.md 2.3. Differs: none.

    >>> layout = Layout(np.array([0, 0, 1]), np.array([0, 1]), np.zeros(2))
    >>> over_baseline(layout, np.array([3.0, 1.0, 1.0]), np.ones(3, np.bool_), baseline="released")
    array([ 3., -1., -1.])
    """
    group, by_token = layout.group_of_rollout, partial(spread, layout=layout, site="rollout")
    q = np.where(counted, token_scores, 0.0).astype(np.float64)
    sizes, sums = (
        np.bincount(layout.rollout_of_step, weights=sum_by_step(column, layout), minlength=layout.rollouts)
        for column in (counted, q)
    )
    part = np.ones(layout.rollouts, np.bool_) if known is None else known
    means = sums / np.maximum(sizes, 1)
    count = np.bincount(group, weights=part, minlength=layout.groups)
    total = np.bincount(group, weights=np.where(part, means, 0.0), minlength=layout.groups)
    others = np.maximum(count - 1, 1)[group]
    if baseline == "released":
        over = q * by_token(1.0 + 1.0 / others) - by_token(total[group] / others)
    elif baseline == "leave_one_out":
        over = q - by_token((total[group] - means) / others)
    else:
        over = q
    over[by_token(~part | (count < 2)[group])] = np.nan
    over[~counted] = 0.0
    return over


def _process(
    layout: Layout,
    q: Float64[np.ndarray, " T"],
    counted: Bool[np.ndarray, " T"],
    *,
    within: Bool[np.ndarray, " N"],
    settings: PrimeSettings,
) -> Float64[np.ndarray, " T"]:
    """[T] the implicit reward's stream: scaled, less the baseline, summed to the end."""
    if settings.process_scale == "batch_max":
        sums = np.abs(to_go(q, layout)[spread(within, layout, site="rollout") & counted])
        q = q / (sums.max(initial=0.0) + _EPSILON)
    return to_go(over_baseline(layout, q, counted, baseline=settings.baseline, known=within), layout)
