"""Keep rules: which rollouts are trained on, decided after the statistics were taken on full groups."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float, Float64

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.choices import check_choice, check_number

Keep = Literal["nonzero_process", "nonzero_advantage", "all"]
"""Keep rollouts with a process reward, with any advantage at all, or all that have a known advantage."""

UNKNOWN = "unknown"
ZERO_PROCESS = "zero process"
ZERO_ADVANTAGE = "zero advantage"
INCONSISTENT = "inconsistent process"


@final
@dataclass(frozen=True)
class Kept:
    """What a keep rule says of a batch.

    Args:
        mask: [N] True for rollouts to train on.
        reasons: [N] why not: `unknown`, `zero process`, `zero advantage`, `inconsistent process`; empty for those that
            are kept.
    """

    mask: Bool[np.ndarray, " N"]
    reasons: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of rollouts left out, by reason."""
        names, counts = np.unique(np.array([reason for reason in self.reasons if reason], np.str_), return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))


def keep_rollouts(
    layout: Layout, advantages: Float[np.ndarray, " T"], outcome: Float[np.ndarray, " T"], *, keep: Keep
) -> Kept:
    """Apply a keep rule.

    A rollout with an unknown (NaN) advantage is never kept. `nonzero_process` is the paper's own filter: it drops clean
    right solutions as well. Where a rule pays no process reward in the first place it would keep nothing; ask for
    `nonzero_advantage` then, as `assign` does.

    Args:
        layout: the batch.
        advantages: [T] a rule's output.
        outcome: [T] its outcome part; what is left is the process part.
        keep: the rule.

    Returns:
        Mask and reasons.

    Raises:
        CreditError: if a column has not one entry a token.
        UsageError: for an unknown rule, naming the nearest.

    Source: tp_grpo.md 1.8. Differs: none.

    >>> layout = Layout(np.array([0, 1]), np.array([0, 1]), np.zeros(2))
    >>> keep_rollouts(layout, np.array([0.5, 0.0]), np.array([0.5, 0.0]), keep="nonzero_advantage").counts
    {'zero advantage': 1}
    """
    check_choice("keep", keep, Keep)
    for name, column in (("advantages", advantages), ("outcome", outcome)):
        if len(column) != layout.tokens:
            raise CreditError(f"{name}: got {len(column)} entries, the layout has {layout.tokens} tokens")
    unknown = _any_token(layout, np.isnan(advantages))
    process = _any_token(layout, advantages != outcome)
    nonzero = _any_token(layout, advantages != 0.0)
    code = np.zeros(layout.rollouts, np.int8)
    if keep == "nonzero_process":
        code[~process] = 2
    if keep != "all":
        code[~nonzero] = 3
    code[unknown] = 1
    names = np.array(["", UNKNOWN, ZERO_PROCESS, ZERO_ADVANTAGE])
    return Kept(code == 0, tuple(names[code].tolist()))


@final
@dataclass(frozen=True)
class ProfSettings:
    """How the process consistency filter chooses.

    Args:
        share: share of a group's rollouts that is kept, rounded up.
        penalty: taken off the mean score of a rollout in one step, or in `long_steps` or more: what a judge cannot
            read step by step should not pass for well reasoned.
        long_steps: from how many steps on; `None` for no limit.

    Raises:
        UsageError: for values outside their range.
    """

    share: float = 0.5
    penalty: float = 0.0
    long_steps: int | None = None

    def __post_init__(self) -> None:
        check_number("penalty", self.penalty)
        if not 0.0 < self.share <= 1.0:
            raise UsageError(f"share must be in (0, 1], got {self.share}")
        if self.long_steps is not None and self.long_steps < 2:
            raise UsageError(f"long_steps must be at least 2, got {self.long_steps}")


def keep_consistent(
    layout: Layout, rewards: Float[np.ndarray, " N"], scores: Float[np.ndarray, " S"], *, settings: ProfSettings
) -> Kept:
    """Keep the rollouts whose steps agree best with their outcome, as many right ones as wrong ones where there are.

    In each group right and wrong rollouts are ranked apart by `consistency`. Of n rollouts m = ceil(share n) stay,
    m / 2 of each side, the odd one of the larger side; where a side has fewer, all of it, and the rest from the other.

    Args:
        layout: the batch, in the unit that was judged.
        rewards: [N] +1 right, -1 wrong, NaN unscorable.
        scores: [S] step scores, NaN unknown.
        settings: how many stay.

    Returns:
        Mask and reasons: `unknown` without outcome or without a single known score, which count in no n.

    Raises:
        CreditError: for columns that do not fit the layout, or a reward that is not +1, -1 or NaN.

    Source: Ye et al. 2025, arXiv:2509.03403 (PROF); credit.md 2.16, from the abstract alone. Differs: share, rounding
    and the odd one are ours; advantages are those of the full group, this filters afterwards.

    >>> layout = Layout(np.arange(4), np.arange(4), np.zeros(4))
    >>> rewards, scores = np.array([1.0, 1.0, 1.0, -1.0]), np.array([0.2, 0.9, 0.5, 0.4])
    >>> keep_consistent(layout, rewards, scores, settings=ProfSettings()).mask
    array([False,  True, False,  True])
    """
    agreement = consistency(layout, rewards, scores, settings=settings)
    known = ~np.isnan(agreement)
    right = known & (rewards > 0.0)
    owner, groups = layout.group_of_rollout, layout.groups
    of_right = np.bincount(owner, weights=right, minlength=groups).astype(np.int64)
    of_wrong = np.bincount(owner, weights=known & ~right, minlength=groups).astype(np.int64)
    stay = np.ceil(settings.share * (of_right + of_wrong) - 1e-9).astype(np.int64)
    stay_right = np.clip((stay + (of_right > of_wrong)) // 2, stay - of_wrong, of_right)
    side = 2 * owner + np.where(right, 1, 0)
    order = np.lexsort((-np.where(known, agreement, -np.inf), ~known, side))
    first = np.searchsorted(side[order], np.arange(2 * groups))
    rank = np.empty(layout.rollouts, np.int64)
    rank[order] = np.arange(layout.rollouts) - first[side[order]]
    mask = known & (rank < np.where(right, stay_right[owner], (stay - stay_right)[owner]))
    names = np.array([UNKNOWN, INCONSISTENT, ""])
    return Kept(mask, tuple(names[np.where(mask, 2, np.where(known, 1, 0))].tolist()))


def consistency(
    layout: Layout, rewards: Float[np.ndarray, " N"], scores: Float[np.ndarray, " S"], *, settings: ProfSettings
) -> Float64[np.ndarray, " N"]:
    """How well the steps' scores agree with the outcome: their mean, less the penalty, times the reward.

    Args:
        layout: the batch.
        rewards: [N] +1 right, -1 wrong, NaN unscorable.
        scores: [S] step scores, NaN unknown: left out of the mean.
        settings: `penalty` and `long_steps` are read.

    Returns:
        [N] agreement: high for right rollouts of good steps and wrong ones of bad steps; NaN where unknown.

    Raises:
        CreditError: as `keep_consistent`.

    Source: Ye et al. 2025, arXiv:2509.03403; the penalty from a review of it. Differs: unknown scores are left out.

    >>> layout = Layout(np.arange(3), np.array([0, 0, 1]), np.zeros(2))
    >>> consistency(layout, np.array([1.0, -1.0]), np.array([0.5, 1.0, 0.25]), settings=ProfSettings())
    array([ 0.75, -0.25])
    """
    for name, column, want in (("rewards", rewards, layout.rollouts), ("scores", scores, layout.steps)):
        if len(column) != want:
            raise CreditError(f"{name}: got {len(column)} entries, the layout has {want}")
    strange = ~np.isnan(rewards) & (np.abs(rewards) != 1.0)
    if strange.any():
        raise CreditError(f"the filter reads rewards +1 (right), -1 (wrong) and NaN, got {rewards[strange][0]}")
    owner, known = layout.rollout_of_step, ~np.isnan(scores)
    count = np.bincount(owner, weights=known, minlength=layout.rollouts)
    total = np.bincount(owner, weights=np.where(known, scores, 0.0), minlength=layout.rollouts)
    steps = layout.steps_of_rollout
    odd = (steps == 1) | (False if settings.long_steps is None else steps >= settings.long_steps)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return (mean - settings.penalty * odd) * rewards


def _any_token(layout: Layout, found: Bool[np.ndarray, " T"]) -> Bool[np.ndarray, " N"]:
    """[N] True for rollouts of which any token was found."""
    out = np.zeros(layout.rollouts, np.bool_)
    filled = layout.tokens_of_rollout > 0
    if filled.any():
        out[filled] = np.logical_or.reduceat(found, layout.token_starts[:-1][filled])
    return out
