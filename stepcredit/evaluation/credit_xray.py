"""Credit rules on the same rollouts: how sure they pay, with which sign, and how well they follow the true values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from stepcredit.core.errors import UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.vineppo import node_starts
from stepcredit.evaluation.resampling import row_bootstrap

FLAT = 1e-9
"""A column whose standard deviation is below this share of its largest entry does not vary."""


@final
@dataclass(frozen=True)
class Bounded:
    """A figure with its 95% interval.

    Args:
        value: the figure, `None` where it cannot be had.
        low: lower bound, `None` without an interval.
        high: upper bound.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@final
@dataclass(frozen=True)
class SignAgreement:
    """Whether a rule pays right steps and charges wrong ones.

    Args:
        share: share of the counted steps whose credit has the sign of the truth.
        right: the same among truly right steps: credit above 0.
        wrong: the same among truly wrong steps: credit below 0.
        steps: steps counted: truth and credit are known, and the credit is not 0.
        silent: steps of known truth and known credit that get exactly 0.
    """

    share: Bounded
    right: float | None
    wrong: float | None
    steps: int
    silent: int


@final
@dataclass(frozen=True)
class Following:
    """How a rule's step credit follows the Monte-Carlo gains; one point a step.

    Args:
        spearman: rank correlation over all steps, ties at their mean rank.
        pearson: correlation over all steps.
        inside: Pearson's within solutions: of what is left of both when each solution's mean is taken off. `None` for
            a rule that pays all steps of a solution alike.
        steps: steps whose credit and gain are known.
    """

    spearman: Bounded
    pearson: float | None
    inside: Bounded
    steps: int


@final
@dataclass(frozen=True)
class RuleXray:
    """One rule on the batch.

    Args:
        name: of the rule.
        paid: share of the rollouts whose every token has a known advantage; one without tokens has none.
        tokens: tokens with a known advantage; the next three figures are over these, `None` where there are none.
        mean: mean advantage.
        std: standard deviation, population.
        variance: its square.
        signs: against the truth of steps, `None` where no step's truth is known.
        following: against Monte-Carlo gains, `None` where no gain is known.
        correlation: Pearson's with each rule, over the tokens that both pay; `None` where one does not vary.
    """

    name: str
    paid: float
    tokens: int
    mean: float | None
    std: float | None
    variance: float | None
    signs: SignAgreement | None
    following: Following | None
    correlation: dict[str, float | None] = field(default_factory=dict[str, float | None])


def credit_xray(
    layout: Layout,
    advantages: Mapping[str, Float32[np.ndarray, " T"]],
    *,
    truth: Float[np.ndarray, " S"] | None = None,
    gains: Float[np.ndarray, " S"] | None = None,
    seed: int = 0,
    resamples: int = 300,
) -> tuple[RuleXray, ...]:
    """All figures of some rules on one batch of rollouts.

    Intervals are bootstraps over groups: rollouts of one problem are compared with one another, so they stay together.

    Args:
        layout: the batch, in the steps that truth and gains are of.
        advantages: [T] by rule, NaN where unknown; the rules may have been paid in other units.
        truth: [S] 1 right, 0 wrong, NaN unknown; `None` knows none.
        gains: [S] Monte-Carlo gain of each step (`value_gains`), NaN unknown; `None` knows none.
        seed: of the bootstrap.
        resamples: draws of each interval; 0 makes none.

    Returns:
        One a rule, in the order given.

    Raises:
        UsageError: if a column's length does not fit the layout.

    Source: credit.md 3 (variance, sign agreement, correlation with VinePPO's differences). Differs: by step, in groups.
    """
    columns = {name: np.asarray(column, np.float64) for name, column in advantages.items()}
    for what, column, want in (
        *((f"advantages of {name}", column, layout.tokens) for name, column in columns.items()),
        ("truth", truth, layout.steps),
        ("gains", gains, layout.steps),
    ):
        if column is not None and column.shape != (want,):
            raise UsageError(f"{what}: wanted [{want}], got {list(column.shape)}")
    draws = _Draws(layout, seed, resamples)
    return tuple(_rule(name, columns, truth, gains, draws) for name in columns)


def step_credit(layout: Layout, advantages: Float[np.ndarray, " T"]) -> Float32[np.ndarray, " S"]:
    """[S] mean advantage of each step's tokens, NaN for a step with an unknown one.

    In float32, so that steps of equal tokens are equal whatever their length.

    Args:
        layout: the batch.
        advantages: [T] in any unit.

    Source: own. Differs: none.

    >>> layout = Layout(np.array([0, 0, 1]), np.zeros(2), np.zeros(1))
    >>> step_credit(layout, np.array([1.0, 2.0, -1.0])).tolist()
    [1.5, -1.0]
    """
    sums = np.bincount(layout.step_of_token, weights=advantages, minlength=layout.steps)
    return (sums / layout.tokens_of_step).astype(np.float32)


def value_gains(
    layout: Layout, rewards: Float[np.ndarray, " N"], values: Float[np.ndarray, " nodes"]
) -> Float64[np.ndarray, " S"]:
    """[S] what each step changed: value after it less value before it; after the last stands the outcome.

    Args:
        layout: the batch, in the steps at whose ends the values were taken.
        rewards: [N] outcome rewards, NaN where unscorable.
        values: [S + N] node values in the unit of the rewards, for each rollout one before each step, then one for its
            end, which is not read. NaN where unknown.

    Raises:
        UsageError: if a column's length does not fit the layout.

    Source: Kazemnejad et al. 2024, arXiv:2410.01679; credit.md 2.1. Differs: none.

    >>> layout = Layout(np.arange(2), np.zeros(2), np.zeros(1))
    >>> value_gains(layout, np.array([1.0]), np.array([0.25, -0.5, np.nan])).tolist()
    [-0.75, 1.5]
    """
    if len(values) != layout.steps + layout.rollouts or len(rewards) != layout.rollouts:
        want = f"{layout.steps + layout.rollouts} values and {layout.rollouts} rewards"
        raise UsageError(f"wanted {want}, got {len(values)} and {len(rewards)}")
    node = np.array(values, np.float64)
    node[node_starts(layout)[1:] - 1] = rewards
    place = np.arange(layout.steps) + layout.rollout_of_step
    return np.round(node[place + 1] - node[place], 9)  # equal gains are equal, whatever they were taken from


def pearson(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> float | None:
    """Correlation over the entries that both know; `None` with fewer than 2, or where one does not vary.

    Source: Pearson 1895. Differs: none.

    >>> pearson(np.array([1.0, 2.0, 3.0, np.nan]), np.array([2.0, 4.0, 6.0, 1.0]))
    1.0
    """
    both = ~(np.isnan(one) | np.isnan(other))
    left, right = _centred(one[both]), _centred(other[both])
    if left is None or right is None:
        return None
    return float(np.clip(left @ right / np.sqrt((left @ left) * (right @ right)), -1.0, 1.0))


def spearman(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> float | None:
    """Rank correlation over the entries that both know, ties at their mean rank; `None` as `pearson`.

    Source: Spearman 1904. Differs: none.

    >>> spearman(np.array([1.0, 2.0, 100.0]), np.array([0.1, 0.2, 0.3]))
    1.0
    """
    both = ~(np.isnan(one) | np.isnan(other))
    return pearson(_ranks(one[both]), _ranks(other[both]))


def inside_solutions(
    layout: Layout, one: Float[np.ndarray, " S"], other: Float[np.ndarray, " S"]
) -> tuple[Float64[np.ndarray, " S"], Float64[np.ndarray, " S"]]:
    """Both columns less their solution's mean over the steps that both know; NaN on the other steps.

    Args:
        layout: the batch.
        one: [S] a number a step.
        other: [S] the same.

    Source: own. Differs: none.

    >>> layout = Layout(np.arange(3), np.array([0, 0, 1]), np.zeros(2))
    >>> [column.tolist() for column in inside_solutions(layout, np.array([1.0, 3.0, 5.0]), np.array([0.0, 1.0, 2.0]))]
    [[-1.0, 1.0, 0.0], [-0.5, 0.5, 0.0]]
    """
    both = ~(np.isnan(one) | np.isnan(other))
    counts = np.bincount(layout.rollout_of_step[both], minlength=layout.rollouts)
    found: list[Float64[np.ndarray, " S"]] = []
    for column in (one, other):
        sums = np.bincount(layout.rollout_of_step[both], weights=column[both], minlength=layout.rollouts)
        means = sums / np.maximum(counts, 1)
        found.append(np.where(both, column - means[layout.rollout_of_step], np.nan))
    return found[0], found[1]


@final
@dataclass(frozen=True)
class _Draws:
    """Bootstraps over the groups of a batch."""

    layout: Layout
    seed: int
    resamples: int

    def bounded(self, statistic: Callable[[Int64[np.ndarray, " m"]], float | None]) -> Bounded:
        """A statistic of step numbers, with its interval; without one for fewer than 2 groups."""
        every = np.arange(self.layout.steps)
        value = statistic(every)
        if value is None or self.layout.groups < 2 or not self.resamples:
            return Bounded(value)
        order = np.argsort(self.layout.group_of_step, kind="stable")
        sizes = np.bincount(self.layout.group_of_step, minlength=self.layout.groups)
        members = np.split(order, np.cumsum(sizes)[:-1])

        def of(groups: Int64[np.ndarray, " n"]) -> float:
            found = statistic(np.concatenate([members[group] for group in groups.tolist()]))
            return np.nan if found is None else found

        interval = row_bootstrap(
            self.layout.groups, of, seed=self.seed, purpose="credit x-ray", resamples=self.resamples
        )
        if np.isnan(interval.low) or np.isnan(interval.high):
            return Bounded(value)
        return Bounded(value, interval.low, interval.high)


def _rule(
    name: str,
    columns: Mapping[str, Float64[np.ndarray, " T"]],
    truth: Float[np.ndarray, " S"] | None,
    gains: Float[np.ndarray, " S"] | None,
    draws: _Draws,
) -> RuleXray:
    layout, own = draws.layout, columns[name]
    known, credit = own[~np.isnan(own)], step_credit(layout, own).astype(np.float64)
    lost = np.bincount(layout.rollout_of_token, weights=np.isnan(own), minlength=layout.rollouts)
    paid = (lost == 0) & (layout.tokens_of_rollout > 0)
    some = len(known) > 0
    return RuleXray(
        name,
        paid=float(paid.sum()) / max(layout.rollouts, 1),
        tokens=len(known),
        mean=float(known.mean()) if some else None,
        std=float(known.std()) if some else None,
        variance=float(known.var()) if some else None,
        signs=None if truth is None or np.isnan(truth).all() else _signs(credit, truth, draws),
        following=None if gains is None or np.isnan(gains).all() else _following(credit, gains, draws),
        correlation={other: pearson(own, column) for other, column in columns.items()},
    )


def _signs(credit: Float64[np.ndarray, " S"], truth: Float[np.ndarray, " S"], draws: _Draws) -> SignAgreement:
    known = ~(np.isnan(credit) | np.isnan(truth))
    counted = known & (credit != 0.0)
    agrees = (credit > 0.0) == (truth == 1.0)

    def share(of: Int64[np.ndarray, " m"]) -> float | None:
        return _share(agrees[of], counted[of])

    return SignAgreement(
        draws.bounded(share),
        _share(agrees, counted & (truth == 1.0)),
        _share(agrees, counted & (truth == 0.0)),
        int(counted.sum()),
        int((known & (credit == 0.0)).sum()),
    )


def _following(credit: Float64[np.ndarray, " S"], gains: Float[np.ndarray, " S"], draws: _Draws) -> Following:
    own, gained = inside_solutions(draws.layout, credit, np.asarray(gains, np.float64))
    if np.nanmax(np.abs(own), initial=0.0) < FLAT * np.nanmax(np.abs(credit), initial=0.0):
        own = np.where(np.isnan(own), np.nan, 0.0)  # what rounding leaves of a rule that pays all steps alike
    return Following(
        draws.bounded(lambda of: spearman(credit[of], gains[of])),
        pearson(credit, gains),
        draws.bounded(lambda of: pearson(own[of], gained[of])),
        int((~(np.isnan(credit) | np.isnan(gains))).sum()),
    )


def _share(agrees: Bool[np.ndarray, " m"], counted: Bool[np.ndarray, " m"]) -> float | None:
    return float(agrees[counted].mean()) if counted.any() else None


def _centred(column: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"] | None:
    """The column less its mean, `None` if nothing varies."""
    if len(column) < 2:
        return None
    rest = np.asarray(column, np.float64) - np.mean(column, dtype=np.float64)
    return None if rest.std() <= FLAT * np.abs(column).max() else rest


def _ranks(column: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """[n] ranks from 1, equal entries at the mean of theirs."""
    _, place, counts = np.unique(column, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2.0)[place]
