"""Think-RM's pairwise credit: a judge's preferences between the rollouts of a group, standardised."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import FLAT, spread
from stepcredit.credit.choices import check_choice, check_number

OnUndecided = Literal["leave_out", "tie"]
"""What a pair counts that the judge did not decide: nothing, or as a tie, as the released code has it."""


@final
@dataclass(frozen=True)
class ThinkRmSettings:
    """How preferences become advantages.

    Args:
        on_undecided: what an undecided pair counts.
        epsilon: added under the root, to the variance.
    """

    on_undecided: OnUndecided = "leave_out"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        check_choice("on_undecided", self.on_undecided, OnUndecided)
        check_number("epsilon", self.epsilon)


def think_rm(
    layout: Layout, preferences: Float[np.ndarray, " pairs"], *, settings: ThinkRmSettings
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token: how far its rollout is preferred over its group (`pair_standardise`).

    Args:
        layout: the batch, in any unit; steps are not read.
        preferences: [sum of G * G] each group's matrix, row after row; NaN where undecided.
        settings: what undecided pairs count.

    Returns:
        [T] advantages. 0 in groups whose rollouts are all tied; NaN for a rollout of which no pair is decided.

    Raises:
        CreditError: if the matrices do not fit the layout or are not antisymmetric.

    Source: Hong et al. 2025, arXiv:2505.16265 (Think-RM); credit.md 2.7. Differs: an undecided pair is left out.

    >>> layout = Layout(np.array([0, 0, 1]), np.array([0, 1]), np.zeros(2))
    >>> think_rm(layout, np.array([0.0, 2.0, -2.0, 0.0]), settings=ThinkRmSettings()).round(4)
    array([ 0.7071,  0.7071, -0.7071], dtype=float32)
    """
    found = pair_standardise(preferences, layout, on_undecided=settings.on_undecided, epsilon=settings.epsilon)
    return spread(found.astype(np.float32), layout, site="rollout")


def pair_standardise(
    preferences: Float[np.ndarray, " pairs"],
    layout: Layout,
    *,
    on_undecided: OnUndecided = "leave_out",
    epsilon: float = 0.0,
) -> Float64[np.ndarray, " N"]:
    """Mean preference of each rollout, over the root mean square of its group's.

    A[i] = (1 / G) sum_j d[i, j] / sqrt(sum_ij d[i, j]^2 / (2 G (G - 1)) + epsilon)

    With d[i, j] = R[i] - R[j] this is (R - mean) / std with the std over G - 1. With undecided pairs left out, the sum
    over j becomes (G - 1) times the mean over the decided ones, and the mean square is taken over those of the group.

    Args:
        preferences: [sum of G * G] each group's matrix, row after row: d[i, j] = -d[j, i], 0 on the diagonal, NaN
            undecided.
        layout: says which rollouts form a group.
        on_undecided: `tie` counts 0 for a pair that is not decided.
        epsilon: added to the variance.

    Returns:
        [N] advantages; 0 where nobody is preferred; NaN for a rollout without a decided pair.

    Raises:
        CreditError: if the matrices do not fit the layout or are not antisymmetric.

    Source: Hong et al. 2025, arXiv:2505.16265; credit.md 2.7. Differs: `leave_out`; the released code scores what
    cannot be read 0, which is `tie`.

    >>> layout = Layout(np.arange(3), np.arange(3), np.zeros(3))
    >>> pair_standardise((np.array([[4.0], [1.0], [1.0]]) - np.array([4.0, 1.0, 1.0])).ravel(), layout).round(4)
    array([ 1.1547, -0.5774, -0.5774])
    """
    row, _ = _checked(preferences, layout)
    size = layout.rollouts_of_group[layout.group_of_rollout]
    values = np.nan_to_num(preferences, nan=0.0) if on_undecided == "tie" else np.asarray(preferences, np.float64)
    decided = ~np.isnan(values)
    value = np.where(decided, values, 0.0).astype(np.float64)
    pairs = np.bincount(row, weights=decided, minlength=layout.rollouts) - 1.0  # the diagonal is no pair
    total = np.bincount(row, weights=value, minlength=layout.rollouts)
    mean = total / np.maximum(pairs, 1.0) * (size - 1) / np.maximum(size, 1)
    squares = np.bincount(layout.group_of_rollout[row], weights=value**2, minlength=layout.groups)
    count = np.bincount(layout.group_of_rollout, weights=pairs, minlength=layout.groups)
    variance = squares / np.maximum(2.0 * count, 1.0)
    flat = np.sqrt(variance) < FLAT
    found = mean / np.where(flat, 1.0, np.sqrt(variance + epsilon))[layout.group_of_rollout]
    return np.where(pairs < 1.0, np.nan, np.where(flat[layout.group_of_rollout], 0.0, found))


def _checked(
    preferences: Float[np.ndarray, " pairs"], layout: Layout
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """[pairs] rollout of each entry's row and of its column; refuses matrices that are none of preferences."""
    size = layout.rollouts_of_group[layout.group_of_rollout]
    want = int(size.sum())
    if len(preferences) != want:
        raise CreditError(f"preferences: got {len(preferences)} entries, the groups' matrices have {want}")
    group_start = (np.cumsum(layout.rollouts_of_group) - layout.rollouts_of_group)[layout.group_of_rollout]
    row_start = np.cumsum(size) - size
    row = np.repeat(np.arange(layout.rollouts), size)
    column = np.arange(want) - row_start[row] + group_start[row]
    mirrored = -preferences[row_start[column] + row - group_start[row]]
    same = (preferences == mirrored) | (np.isnan(preferences) & np.isnan(mirrored) & (row != column))
    if not same.all():
        place = int(np.flatnonzero(~same)[0])
        i, j = int(row[place] - group_start[row[place]]), int(column[place] - group_start[row[place]])
        group = int(layout.group_of_rollout[row[place]])
        told = f"d[{i}, {j}] = {preferences[place]} and d[{j}, {i}] = {-mirrored[place]}"
        raise CreditError(f"preferences of group {group} are not antisymmetric with 0 on the diagonal: {told}")
    return row, column
