"""The algebra that every credit rule is written in; serves the arrow Judgement -> Credit.

Numbers live on an outcome [N], a node [S + N] (before each step, and the end), a step [S] or a token [T] of a Layout.
Everything here is float64 inside and out; rules return float32. NaN is unknown: it is left out of statistics, and it
stays NaN in the place that it had. No loop runs over tokens, steps or rollouts.
"""

import math
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int32, Shaped

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.credit.additive import Signal, summable

Std = Literal["population", "sample", "none"]
"""What a centred number is divided by: std over n, std over n - 1, or nothing."""

Site = Literal["token", "step", "rollout"]
"""Where a column lives, and so how long it is: T, S or N."""

FLAT = 1e-6
"""A standard deviation below this counts as no spread at all: standardised values are 0 (tp_grpo.md 1.6)."""

CACHED = 32_768
"""Entries that sums to go are taken over at a time: all passes find them in the processor's cache."""


def standardise(
    rewards: Float[np.ndarray, " N"], layout: Layout, *, std: Std = "population", epsilon: float = 0.0
) -> Float64[np.ndarray, " N"]:
    """Rewards of each group with its mean taken off, divided by its standard deviation.

    Args:
        rewards: [N] one reward a rollout, any scale; NaN (unscorable) is left out of the group's statistics.
        layout: says which rollouts form a group.
        std: `population` divides squares by n, `sample` by n - 1, `none` only centres (Dr. GRPO).
        epsilon: added to the standard deviation.

    Returns:
        [N] standardised rewards. 0 where the group has no spread (std < 1e-6); NaN for unscorable rollouts and in
        groups with fewer than two scorable ones, which have nothing to be compared with.

    Source: Shao et al. 2024, arXiv:2402.03300 (GRPO); Liu et al. 2025, arXiv:2503.20783 (`none`); tp_grpo.md 1.6.
    Differs: a group of one is unknown, not 0.

    >>> layout = Layout(np.arange(3), np.arange(3), np.zeros(3))
    >>> standardise(np.array([1.0, -1.0, np.nan]), layout)
    array([ 1., -1., nan])
    """
    _check_length(rewards, layout.rollouts, "rewards")
    return _standardised(rewards, layout.group_of_rollout, layout.groups, std=std, epsilon=epsilon)


def leave_one_out(rewards: Float[np.ndarray, " N"], layout: Layout) -> Float64[np.ndarray, " N"]:
    """Reward of each rollout over the mean of its group's other scorable rollouts.

    Args:
        rewards: [N] one reward a rollout; NaN (unscorable) is left out.
        layout: says which rollouts form a group.

    Returns:
        [N] advantages in the unit of `rewards`, of sum 0 in a group; NaN for unscorable rollouts and where fewer than
        two are scorable.

    Source: Ahmadian et al. 2024, arXiv:2402.14740. Differs: none.

    >>> leave_one_out(np.array([1.0, 0.0, 0.0]), Layout(np.arange(3), np.arange(3), np.zeros(3)))
    array([ 1. , -0.5, -0.5])
    """
    _check_length(rewards, layout.rollouts, "rewards")
    centred, count = _centred(rewards, layout.group_of_rollout, layout.groups)
    return centred * (count / np.maximum(count - 1, 1))[layout.group_of_rollout]


def pooled(
    scores: Float[np.ndarray, " S"], layout: Layout, *, std: Std = "population", epsilon: float = 0.0
) -> Float64[np.ndarray, " S"]:
    """Step scores standardised over all steps of all rollouts of the group.

    Args:
        scores: [S] one score a step; NaN (unknown) is left out.
        layout: says which steps belong to a group.
        std: as in `standardise`.
        epsilon: added to the standard deviation.

    Returns:
        [S] standardised scores; 0 without spread, NaN where unknown or alone.

    Source: Shao et al. 2024, arXiv:2402.03300, process supervision. Differs: none.

    >>> layout = Layout(np.arange(4), np.array([0, 0, 1, 1]), np.zeros(2))
    >>> pooled(np.array([1.0, 0.0, 0.0, 1.0]), layout)
    array([ 1., -1., -1.,  1.])
    """
    _check_length(scores, layout.steps, "scores")
    return _standardised(scores, layout.group_of_step, layout.groups, std=std, epsilon=epsilon)


def whiten(
    values: Float[np.ndarray, " n"],
    *,
    weights: Shaped[np.ndarray, " n"] | None = None,
    std: Std = "population",
    epsilon: float = 0.0,
) -> Float64[np.ndarray, " n"]:
    """Values of the whole batch with mean 0 and standard deviation 1, over what is known and counts.

    Args:
        values: [n] any column; NaN (unknown) is left out and stays NaN.
        weights: [n] how often each value counts: a mask, or the tokens of each step; values that do not count become 0.
            `None` counts each once.
        std: as in `standardise`.
        epsilon: added to the standard deviation.

    Returns:
        [n] whitened values; 0 if they have no spread, NaN if fewer than two are known.

    Source: credit.md 2.1 to 2.3 (VinePPO, PURE and PRIME whiten last). Differs: none.

    >>> whiten(np.array([3.0, 1.0, 7.0]), weights=np.array([True, True, False]))
    array([ 1., -1.,  0.])
    """
    counts = np.ones(len(values), np.bool_) if weights is None else weights != 0
    _check_length(counts, len(values), "weights")
    once = weights is None or weights.dtype == np.bool_

    def total(column: np.ndarray) -> float:
        return float((column if once else column * weights).sum())

    known = counts & ~np.isnan(values)
    if (size := np.count_nonzero(known) if once else total(known)) < 2:
        return np.where(counts, np.nan, 0.0)
    white = np.where(known, values, 0.0).astype(np.float64, copy=False)
    white -= total(white) / size
    white[~known] = 0.0
    deviation = math.sqrt(total(np.square(white)) / (size - (std == "sample")))
    white /= math.inf if deviation < FLAT else 1.0 if std == "none" else deviation + epsilon
    white[counts & ~known] = np.nan
    return white


def spread(values: Shaped[np.ndarray, " n"], layout: Layout, *, site: Site = "step") -> Shaped[np.ndarray, " T"]:
    """Give every token the value of its step, or of its rollout.

    Args:
        values: [S] or [N] values; the dtype is kept.
        layout: where the tokens are.
        site: what `values` has one entry of: `step` or `rollout`.

    Returns:
        [T] one value a token.

    Raises:
        CreditError: if the length does not fit the site.

    Source: credit.md 3.4. Differs: none.

    >>> spread(np.array([0.5, -1.0]), Layout(np.array([0, 0, 1]), np.array([0, 0]), np.zeros(1)))
    array([ 0.5,  0.5, -1. ])
    """
    if site == "token":
        raise CreditError(f"only steps and rollouts spread to tokens, got {site!r}")
    _check_length(values, layout.steps if site == "step" else layout.rollouts, f"values a {site}")
    return values.take(layout.token_steps) if site == "step" else np.repeat(values, layout.tokens_of_rollout)


def sum_by_step(
    values: Shaped[np.ndarray, " T"], layout: Layout, *, mask: Bool[np.ndarray, " T"] | None = None
) -> Float64[np.ndarray, " S"]:
    """Sum of each step's tokens.

    Args:
        values: [T] an additive signal, such as a log-ratio; a NaN makes its own step NaN and no other.
        layout: where the tokens are.
        mask: [T] True for tokens that count; the others add nothing, whatever they hold. `None` counts all.

    Returns:
        [S] sums; 0 for a step of which no token counts.

    Source: credit.md 3.2. Differs: none.

    >>> sum_by_step(np.array([1.0, 2.0, 4.0]), Layout(np.array([0, 0, 1]), np.array([0, 0]), np.zeros(1)))
    array([3., 4.])
    """
    _check_length(values, layout.tokens, "values")
    counted = values if mask is None else _counted(values, mask)
    return np.add.reduceat(counted, layout.step_token_starts[:-1], dtype=np.float64)


def to_go(
    values: Float[np.ndarray, " n"] | Signal,
    layout: Layout,
    *,
    site: Site = "token",
    decay: float = 1.0,
    mask: Bool[np.ndarray, " n"] | None = None,
    summed_by: str = "",
) -> Float64[np.ndarray, " n"]:
    """What is still to come in the rollout, the own entry included.

    out[j] = sum of decay**(i - j) * values[i] for i >= j in the same rollout

    Sums are taken in a balanced tree inside each rollout (log2 of the longest rollout passes over the column), so that
    rounding grows with the logarithm of its length, and neither a large value nor a NaN of one rollout reaches another.

    Args:
        values: [T] or [S] an additive signal; a NaN makes the earlier entries of its own rollout NaN.
        layout: where rollouts begin and end.
        site: what `values` has one entry of: `token` or `step`.
        decay: weight of the next entry, in [0, 1].
        mask: True for entries that count; the others add nothing, whatever they hold. `None` counts all.
        summed_by: name of the rule that sums a `Signal` which is not additive all the same.

    Returns:
        [T] or [S] sums to go.

    Raises:
        CreditError: for a decay outside [0, 1], a length that does not fit, or a Signal that is not additive.

    Source: credit.md, Notation and 3.2. Differs: none.

    >>> layout = Layout(np.arange(4), np.array([0, 0, 0, 1]), np.zeros(2))
    >>> to_go(np.array([1.0, 2.0, 4.0, 8.0]), layout, site="step")
    array([7., 6., 4., 8.])
    """
    if not 0.0 <= decay <= 1.0:
        raise CreditError(f"decay must be in [0, 1], got {decay}")
    if site == "rollout":
        raise CreditError(f"a sum to go runs over tokens or steps, got {site!r}")
    left = layout.steps_left if site == "step" else layout.tokens_left
    starts = layout.step_starts if site == "step" else layout.token_starts
    column = summable(values, summed_by=summed_by)
    _check_length(column, len(left), f"values a {site}")
    total = _counted(column, mask)
    cuts = np.unique(starts[np.searchsorted(starts, np.append(np.arange(0, len(left), CACHED), len(left)))])
    for first, last in pairwise(cuts.tolist()):  # whole rollouts
        _sum_to_go(total[first:last], left[first:last], decay)
    return total


def gae(
    rewards: Float[np.ndarray, " S"],
    values: Float[np.ndarray, " nodes"],
    layout: Layout,
    *,
    gamma: float = 1.0,
    lam: float = 1.0,
) -> Float64[np.ndarray, " S"]:
    """Generalised advantage of each step, from step rewards and node values.

    delta[j] = rewards[j] + gamma * V[after j] - V[before j];  A[j] = delta[j] + gamma * lam * A[j + 1]

    Args:
        rewards: [S] reward of each step.
        values: [S + N] node values: for each rollout one before each step, then one for its end. Put the outcome on
            the end node, or on the last step's reward with an end value of 0; never both.
        layout: where the steps are.
        gamma: discount of the next node.
        lam: 0 gives the difference of neighbouring values, 1 the sum to go less the value.

    Returns:
        [S] advantages; an unknown reward or value makes the steps before it unknown, within its rollout.

    Source: Schulman et al. 2015, arXiv:1506.02438; credit.md 3.1. Differs: none.

    >>> layout = Layout(np.arange(2), np.zeros(2), np.zeros(1))
    >>> gae(np.zeros(2), np.array([0.5, 0.25, 1.0]), layout, lam=0.0)
    array([-0.25,  0.75])
    """
    _check_length(rewards, layout.steps, "rewards")
    _check_length(values, layout.steps + layout.rollouts, "node values")
    before = np.arange(layout.steps) + layout.rollout_of_step
    node = np.asarray(values, np.float64)
    delta = rewards + gamma * node[before + 1] - node[before]
    return to_go(delta, layout, site="step", decay=gamma * lam)


def softmin(scores: Float[np.ndarray, " S"], layout: Layout, *, temperature: float = 0.1) -> Float64[np.ndarray, " S"]:
    """Step scores reweighted so that their sum leans towards the rollout's worst step.

    w = softmax(-scores / temperature) within the rollout;  out = w * scores

    Args:
        scores: [S] one score a step, higher is better.
        layout: where the steps are.
        temperature: towards 0 the worst step keeps its score (equals share it), others get 0; `inf` gives score / K.

    Returns:
        [S] reweighted scores; a rollout with an unknown step is unknown altogether, since any step may be its worst.

    Raises:
        CreditError: unless `temperature` > 0.

    Source: Cheng et al. 2025, arXiv:2504.15275 (PURE). Differs: none.

    >>> softmin(np.array([0.5, -0.5]), Layout(np.arange(2), np.zeros(2), np.zeros(1)), temperature=1e-3)
    array([ 0. , -0.5])
    """
    if not temperature > 0.0:
        raise CreditError(f"temperature must be above 0, got {temperature}")
    _check_length(scores, layout.steps, "scores")
    if not layout.steps:
        return np.zeros(0)
    owner = layout.rollout_of_step
    worst = np.full(layout.rollouts, np.nan)
    used = layout.steps_of_rollout > 0
    worst[used] = np.minimum.reduceat(scores, layout.step_starts[:-1][used])
    weights = np.exp((worst[owner] - scores) / temperature)
    shares = weights / np.bincount(owner, weights=weights, minlength=layout.rollouts)[owner]
    return shares * scores


def log_mean_exp(
    values: Float[np.ndarray, " n"], owner: Int[np.ndarray, " n"], *, count: int, eta: float
) -> Float64[np.ndarray, " m"]:
    """Soft maximum of the values of each owner: (1 / eta) * log(mean(exp(eta * values))).

    Args:
        values: [n] rewards of completions; NaN (unscorable) is left out.
        owner: [n] index of the prefix that each completion continues, in any order.
        count: number of prefixes.
        eta: 0 gives the mean (soft label), `inf` the maximum (hard label: any right).

    Returns:
        [count] labels in the unit of `values`; NaN for a prefix without a known value.

    Raises:
        CreditError: if eta < 0, or an owner is outside 0..count - 1.

    Source: Zhang et al. 2024, arXiv:2412.11006 (ER-PRM). Differs: the limits 0 and infinity are allowed.

    >>> log_mean_exp(np.array([1.0, 0.0, 0.0, 0.0]), np.array([0, 0, 1, 1]), count=2, eta=1.0).round(4)
    array([0.6201, 0.    ])
    """
    if not eta >= 0.0:
        raise CreditError(f"eta must be 0 or more, got {eta}")
    _check_length(owner, len(values), "owner")
    if len(owner) and not (owner.min() >= 0 and owner.max() < count):
        raise CreditError(f"owners must lie in 0..{count - 1}, got {owner.min()}..{owner.max()}")
    known = ~np.isnan(values)
    values, owner = np.asarray(values, np.float64)[known], owner[known]
    size = np.bincount(owner, minlength=count)
    best = np.full(count, -np.inf)
    np.maximum.at(best, owner, values)
    best[size == 0] = np.nan
    if np.isinf(eta):
        return best
    below = values - best[owner]
    sums = np.bincount(owner, weights=below if eta == 0.0 else np.expm1(eta * below), minlength=count)
    mean = sums / np.maximum(size, 1)
    return best + (mean if eta == 0.0 else np.log1p(mean) / eta)


def _standardised(
    values: Float[np.ndarray, " n"], owner: Int[np.ndarray, " n"], size: int, *, std: Std, epsilon: float
) -> Float64[np.ndarray, " n"]:
    """[n] values standardised within each of `size` owners; the two-pass form, so that large means do no harm."""
    centred, count = _centred(values, owner, size)
    squares = np.bincount(owner, weights=np.where(np.isnan(centred), 0.0, centred**2), minlength=size)
    deviation = np.sqrt(squares / np.maximum(count - (std == "sample"), 1))
    divisor = np.where(deviation < FLAT, np.inf, 1.0 if std == "none" else deviation + epsilon)
    return centred / divisor[owner] + 0.0  # 0 without spread, and not -0


def _centred(
    values: Float[np.ndarray, " n"], owner: Int[np.ndarray, " n"], size: int
) -> tuple[Float64[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """[n] values less the mean of what is known of their owner, NaN where unknown or alone; [size] known values."""
    known = ~np.isnan(values)
    count = np.bincount(owner[known], minlength=size)
    total = np.bincount(owner, weights=np.where(known, values, 0.0), minlength=size)
    mean = np.where(count < 2, np.nan, total) / np.maximum(count, 1)
    return values - mean[owner], count


def _sum_to_go(total: Float64[np.ndarray, " n"], left: Int32[np.ndarray, " n"], decay: float) -> None:
    """`to_go` in place, from what is left of each entry's rollout."""
    longest = int(left.max(initial=0))
    shift, weight = 1, decay
    while shift < longest and weight > 0.0:
        later = np.where(left[:-shift] > shift, total[shift:], 0.0)
        total[:-shift] += later if weight == 1.0 else weight * later
        shift, weight = 2 * shift, weight * weight


def _counted(values: Float[np.ndarray, " n"], mask: Bool[np.ndarray, " n"] | None) -> Float64[np.ndarray, " n"]:
    """[n] float64 copy of the values, 0 where the mask is False."""
    if mask is None:
        return np.array(values, np.float64)
    _check_length(mask, len(values), "mask")
    return np.where(mask, values, 0.0).astype(np.float64)


def _check_length(column: np.ndarray, want: int, name: str) -> None:
    if len(column) != want:
        raise CreditError(f"{name}: got {len(column)} entries, the layout has {want}")
