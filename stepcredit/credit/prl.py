"""PRL: the standardised outcome less the log-ratio to the reference still to come; FRPO where a step is a token."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Shaped

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.additive import Signal
from stepcredit.credit.algebra import Std, spread, standardise, sum_by_step, to_go
from stepcredit.credit.choices import check_choice, check_number
from stepcredit.credit.vineppo import written

OwnStep = Literal["all", "last", "none"]
"""What a step's own log-ratio adds: all of it (Eq. 3.1), that of its last token (released code), nothing (Thm 3.3)."""

Order = Literal["advantage_first", "process_first", "process_grouped"]
"""Standardise the outcome, then add the process; add them and stop; add them and standardise (credit.md 1.7, 2)."""

Baseline = Literal["none", "leave_one_out"]
"""What is taken off the process at each position: nothing, or the mean of the group's other rollouts there."""

ZeroSpread = Literal["keep", "drop"]
"""What groups without spread of outcome get: the process alone, or no advantage at all (0, as DAPO's filter)."""


@final
@dataclass(frozen=True)
class PrlSettings:
    """Settings of PRL; the defaults are the released code's, but for `own_step`.

    Args:
        eta: nats of log-ratio to go that weigh as much as one unit of the standardised outcome; published values lie in
            100 to 300, 100 is FRPO's beta of 0.01; `inf` leaves the outcome alone, as `outcome_part` has it.
        own_step: see `OwnStep`; only `all` is unbiased for the KL cost (credit.md 1.8).
        order: see `Order`; only `advantage_first` pays tokens with a group baseline.
        baseline: see `Baseline`; the second lowers the variance and not the mean, and is neither version's.
        zero_spread: see `ZeroSpread`.
        std: standard deviation of the outcome: `sample` in PRL's code, `population` in FRPO's paper.
        epsilon: added to it.
        process_weight: scales the log-ratio; 0 leaves the outcome alone, and the bonus where there is one.
        bonus_weight: scales the bonus, standardised in its group, whatever the process weight; 0 reads none.
    """

    eta: float = 200.0
    own_step: OwnStep = "all"
    order: Order = "advantage_first"
    baseline: Baseline = "none"
    zero_spread: ZeroSpread = "keep"
    std: Std = "sample"
    epsilon: float = 1e-6
    process_weight: float = 1.0
    bonus_weight: float = 0.0

    def __post_init__(self) -> None:
        choices = {"own_step": OwnStep, "order": Order, "baseline": Baseline, "zero_spread": ZeroSpread, "std": Std}
        for name, allowed in choices.items():
            check_choice(name, getattr(self, name), allowed)
        for name in ("epsilon", "process_weight", "bonus_weight"):
            check_number(name, getattr(self, name))
        if not self.eta > 0.0:
            raise UsageError(f"eta must be above 0 (inf is GRPO), got {self.eta}")
        if self.order == "process_first" and self.own_step != "all":
            raise UsageError(
                f"order 'process_first' pays tokens, not steps: own_step must be 'all', got {self.own_step!r}"
            )
        if self.order != "advantage_first" and self.zero_spread != "keep":
            raise UsageError(
                f"zero_spread {self.zero_spread!r} looks at the standardised outcome: take order 'advantage_first', "
                f"not {self.order!r}"
            )
        if self.order == "process_grouped" and self.baseline != "none":
            raise UsageError("order 'process_grouped' gives every token of a rollout the same: it takes no baseline")

    @property
    def beta(self) -> float:
        """Weight of a nat of log-ratio to go; 0 if the process part is off."""
        return self.process_weight / self.eta


def prl(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    log_ratio: Float[np.ndarray, " T"],
    *,
    settings: PrlSettings,
    bonus: Float[np.ndarray, " N"] | None = None,
    trained: Shaped[np.ndarray, " T"] | None = None,
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token: its rollout's standardised reward, less the KL cost of what its step still leads to.

    With kappa the log-ratio, K[j] its sum over step j, e the step's last token, beta = process_weight / eta, and sums
    over later steps of the same rollout,

        A[t] = z(r) - beta * (own + sum of K[i] for i > j)      own = K[j], kappa[e], or 0

    R = (r + 1) / 2 is 1 for right, 0 for wrong, as in the code; under std `none` z is R less its mean. `process_first`
    is R - beta * (sum of kappa from t on), token by token, without any baseline. `process_grouped` takes
    R - beta * (own + later) on average over the rollout's steps, and standardises that in the group: one number a
    rollout. The bonus is standardised on its own, then added.

    A token of a Layout of single tokens gets FRPO's advantage. Where the reference is the first policy, the first
    update is GRPO's, since all log-ratios are 0.

    Args:
        layout: the batch in PRL's steps: 256 tokens, lines, single tokens.
        rewards: [N] +1 right, -1 wrong, NaN unscorable.
        log_ratio: [T] log pi_old - log pi_ref in nats. An unknown or infinite one (the reference gives the token no
            probability) makes unknown (NaN) what sums it, within its rollout: the earlier steps, and of its own what
            `own_step` counts; the tokens up to it under `process_first`; all of it under `process_grouped`.
        settings: the dials.
        bonus: [N] exploration bonus; a rollout without a known one gets no advantage.
        trained: [T] 1 for tokens that the policy wrote; the others get 0, and their log-ratios count 0, whatever they
            hold. `None` counts all. Not read with process weight 0.

    Returns:
        [T] advantages; NaN for unscorable rollouts, unknown log-ratios, and groups with fewer than two scorable ones
        (but under `process_first`, which has no baseline).

    Raises:
        CreditError: if a column does not fit the layout, or `bonus_weight` asks for a bonus and none is given.

    Source: Process Reward Learning (PRL; later version FRPO), arXiv:2601.10201; credit.md 1.3 and 1.8. Differs:
    own_step `all` by default; baseline, bonus, zero_spread and process_weight are ours; a group of one is unknown.

    >>> layout = Layout(np.array([0, 0, 1, 2]), np.array([0, 0, 1]), np.zeros(2))
    >>> kappa, settings = np.array([1.0, 2.0, 4.0, 0.0]), PrlSettings(eta=10.0, std="population", epsilon=0.0)
    >>> prl(layout, np.array([1.0, -1.0]), kappa, settings=settings)
    array([ 0.3,  0.3,  0.6, -1. ], dtype=float32)
    """
    _check(layout, rewards, log_ratio, settings=settings, bonus=bonus)
    counts = written(trained if settings.process_weight else None, layout.tokens)
    charged, grouped = settings.beta != 0.0, settings.order == "process_grouped"
    mean_cost = np.zeros(layout.rollouts)
    if charged and grouped:
        cost = settings.beta * to_come(layout, log_ratio, own_step=settings.own_step, mask=counts)
        mean_cost = _mean_of_steps(layout, cost)
    level = _outcome(layout, rewards, settings, cost=mean_cost)
    flat = ~_moved(layout, level) if settings.zero_spread == "drop" else np.zeros(layout.rollouts, np.bool_)
    if settings.bonus_weight and bonus is not None:
        level = level + settings.bonus_weight * standardise(bonus, layout, std=settings.std, epsilon=settings.epsilon)
    level = np.where(flat, 0.0 * level, level)
    paid = spread(level, layout, site="rollout")
    if charged and not grouped:
        paid = paid - _cost(layout, log_ratio, flat=flat, counts=counts, settings=settings)
    paid[~counts] = 0.0
    return paid.astype(np.float32)


def outcome_part(
    layout: Layout, rewards: Float[np.ndarray, " N"], *, settings: PrlSettings
) -> Float32[np.ndarray, " T"]:
    """What `prl` gives without log-ratios and bonus: z(r), under `process_grouped` z(R), under `process_first` R.

    z(r) is `grpo` with the same standard deviation; under std `none` it is R less its mean, half of that.

    Args:
        layout: the batch.
        rewards: [N] +1 right, -1 wrong, NaN unscorable.
        settings: `order`, `std` and `epsilon` are read.

    Returns:
        [T] outcome advantages.

    Source: credit.md 1.3. Differs: none.

    >>> layout = Layout(np.array([0, 1]), np.array([0, 1]), np.zeros(2))
    >>> outcome_part(layout, np.array([1.0, -1.0]), settings=PrlSettings(std="population", epsilon=0.0))
    array([ 1., -1.], dtype=float32)
    """
    return spread(_outcome(layout, rewards, settings).astype(np.float32), layout, site="rollout")


def is_additive(settings: PrlSettings) -> bool:
    """True if cutting a step in two leaves its first token's credit: the whole own step counts, no mean of steps."""
    return settings.beta == 0.0 or (settings.own_step == "all" and settings.order != "process_grouped")


def to_come(
    layout: Layout,
    log_ratio: Float[np.ndarray, " T"],
    *,
    own_step: OwnStep = "all",
    mask: Bool[np.ndarray, " T"] | None = None,
) -> Float64[np.ndarray, " S"]:
    """Log-ratio of the steps after each one, and of its own as `own_step` says.

    Args:
        layout: the batch in steps.
        log_ratio: [T] in nats; infinite counts as unknown.
        own_step: see `OwnStep`; `last` is the last token of the step, read from the Layout and not from values.
        mask: [T] True for tokens that count; the others add 0.

    Returns:
        [S] nats; NaN where an unknown log-ratio is part of the sum.

    Source: PRL, arXiv:2601.10201; credit.md 1.3 and 1.7. Differs: an explicit step index in place of the code's
    next-non-zero fill and mask sums.

    >>> layout = Layout(np.array([0, 0, 1]), np.array([0, 0]), np.zeros(1))
    >>> [to_come(layout, np.array([1.0, 2.0, 4.0]), own_step=own).tolist() for own in ("all", "last", "none")]
    [[7.0, 4.0], [6.0, 4.0], [4.0, 0.0]]
    """
    kappa = _finite(log_ratio, mask)
    inclusive = to_go(Signal(sum_by_step(kappa, layout), "log_ratio", additive=True), layout, site="step")
    if own_step == "all":
        return inclusive
    later = np.where(layout.steps_left == 1, 0.0, np.append(inclusive[1:], 0.0))
    return later if own_step == "none" else later + kappa[layout.step_token_starts[1:] - 1]


def _cost(
    layout: Layout,
    log_ratio: Float[np.ndarray, " T"],
    *,
    flat: Bool[np.ndarray, " N"],
    counts: Bool[np.ndarray, " T"],
    settings: PrlSettings,
) -> Float64[np.ndarray, " T"]:
    """[T] the KL cost of each token, less its baseline; none in flat groups."""
    if settings.order == "process_first":
        kappa = to_go(Signal(_finite(log_ratio, counts), "log_ratio", additive=True), layout)
        return _less_baseline(layout, settings.beta * kappa, settings)
    cost = settings.beta * to_come(layout, log_ratio, own_step=settings.own_step, mask=counts)
    cost[flat[layout.rollout_of_step]] = 0.0
    return _less_baseline(layout, spread(cost, layout), settings)


def _outcome(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    settings: PrlSettings,
    *,
    cost: Float64[np.ndarray, " N"] | float = 0.0,
) -> Float64[np.ndarray, " N"]:
    right = (np.asarray(rewards, np.float64) + 1.0) / 2.0 - cost
    if settings.order == "process_first":
        return right
    if settings.order == "advantage_first" and settings.std != "none":
        right = rewards  # the same but for epsilon, and bit for bit GRPO's
    return standardise(right, layout, std=settings.std, epsilon=settings.epsilon)


def _finite(log_ratio: Float[np.ndarray, " T"], mask: Bool[np.ndarray, " T"] | None) -> Float64[np.ndarray, " T"]:
    """[T] the log-ratio, NaN where it is infinite and 0 where it does not count."""
    kappa = np.array(log_ratio, np.float64)
    kappa[np.isinf(kappa)] = np.nan
    if mask is not None:
        kappa[~mask] = 0.0
    return kappa


def _less_baseline(layout: Layout, cost: Float64[np.ndarray, " T"], settings: PrlSettings) -> Float64[np.ndarray, " T"]:
    """[T] cost less the mean of the group's other rollouts at the same position; one that has ended costs 0 there."""
    if settings.baseline == "none":
        return cost
    unknown = layout.holders(np.isnan(cost))
    known = np.where(spread(unknown, layout, site="rollout"), 0.0, cost)
    total = np.bincount(layout.place_of_token, weights=known)
    members = np.bincount(layout.group_of_rollout, weights=~unknown, minlength=layout.groups)
    others = np.maximum(members[layout.group_of_rollout] - ~unknown, 1.0)
    return cost - (total[layout.place_of_token] - known) / spread(others, layout, site="rollout")


def _mean_of_steps(layout: Layout, cost: Float64[np.ndarray, " S"]) -> Float64[np.ndarray, " N"]:
    """[N] mean over the rollout's steps, 0 for one without any."""
    total = np.bincount(layout.rollout_of_step, weights=cost, minlength=layout.rollouts)
    return total / np.maximum(layout.steps_of_rollout, 1)


def _moved(layout: Layout, outcome: Float64[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """[N] True for rollouts of groups in which any outcome stands out."""
    found = np.bincount(layout.group_of_rollout, weights=np.abs(outcome) > 0.0, minlength=layout.groups)
    return found[layout.group_of_rollout] > 0


def _check(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    log_ratio: Float[np.ndarray, " T"],
    *,
    settings: PrlSettings,
    bonus: Float[np.ndarray, " N"] | None,
) -> None:
    """Refuse columns that the rule would misread."""
    for name, column, want in (("rewards", rewards, layout.rollouts), ("log_ratio", log_ratio, layout.tokens)):
        if len(column) != want:
            raise CreditError(f"{name}: got {len(column)} entries, the layout has {want}")
    if settings.bonus_weight and bonus is None:
        raise CreditError("bonus_weight is not 0, and no bonus was given; give Need.BONUS, or set bonus_weight to 0")
