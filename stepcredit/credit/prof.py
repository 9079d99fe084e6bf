"""PROF: a process judge chooses which rollouts are trained on, by how well their steps agree with their outcome."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float, Float64, Num

from stepcredit.core.columns import rewards_of
from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.core.records import Credit, Judgement
from stepcredit.credit.choices import check_number
from stepcredit.credit.keep import INCONSISTENT, UNKNOWN, Kept


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
    layout: Layout, rewards: Num[np.ndarray, " N"], scores: Float[np.ndarray, " S"], *, settings: ProfSettings
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
    layout: Layout, rewards: Num[np.ndarray, " N"], scores: Float[np.ndarray, " S"], *, settings: ProfSettings
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


def drop_inconsistent(
    credited: Sequence[Credit], judgements: Sequence[Judgement], *, settings: ProfSettings
) -> tuple[Credit, ...]:
    """Apply the filter to a credited batch: the judge says who is trained on, never what a token is paid.

    It works behind any rule, an outcome-only one included, and is taken over the rollouts that `assign` kept. Steps of
    the answer block are left out: their verdict is the outcome.

    Args:
        credited: what `assign` gave, in its order: members of a group side by side.
        judgements: in any order, with scores; of the kept rollouts that have none, none stays.
        settings: how many stay.

    Returns:
        The same credits; `kept` is False with a note on those that the filter drops.

    Raises:
        CreditError: if a rollout was judged twice, or no judgement of a kept rollout has a single score.

    Source: Ye et al. 2025, arXiv:2509.03403. Differs: as `keep_consistent`.
    """
    given: dict[str, Judgement] = {}
    for judgement in judgements:
        name = judgement.steps.rollout.id
        if name in given:
            raise CreditError("the rollout was judged twice", item=name)
        given[name] = judgement
    kept = [credit for credit in credited if credit.kept]
    found = [given.get(credit.steps.rollout.id) for credit in kept]
    parts = [[np.nan] if one is None else _of_thinking(one) for one in found]
    scores = np.array([score for part in parts for score in part], np.float64)
    if kept and np.isnan(scores).all():
        raise CreditError(
            "the consistency filter reads step scores, and no kept rollout has one; take a judge that scores"
        )
    order: dict[str, int] = {}
    groups = [order.setdefault(credit.steps.rollout.group, len(order)) for credit in kept]
    owner = np.repeat(np.arange(len(kept)), [len(part) for part in parts])
    layout = Layout(np.arange(len(owner)), owner, np.array(groups, np.int32))
    rewards = rewards_of([credit.steps.outcome for credit in kept])
    reasons = iter(keep_consistent(layout, rewards, scores, settings=settings).reasons)
    told = [next(reasons) if credit.kept else "" for credit in credited]
    return tuple(
        replace(credit, kept=False, note=reason) if reason else credit
        for credit, reason in zip(credited, told, strict=True)
    )


def _of_thinking(judgement: Judgement) -> list[float]:
    """Scores of the steps outside the answer block, NaN where unknown; one NaN if there is no such step."""
    pairs = zip(judgement.verdicts, judgement.steps.in_answer.tolist(), strict=True)
    found = [np.nan if verdict.score is None else verdict.score for verdict, inside in pairs if not inside]
    return found or [np.nan]
