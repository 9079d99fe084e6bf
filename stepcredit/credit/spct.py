"""SPCT's voted scores as credit: a judge's summed votes on whole solutions, standardised in the group."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Float32, Float64

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import Std, spread, standardise
from stepcredit.credit.choices import check_choice, check_number


@final
@dataclass(frozen=True)
class SpctSettings:
    """How the voted scores of a group are compared.

    Args:
        std: as in `grpo`.
        epsilon: added to it.
    """

    std: Std = "population"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        check_choice("std", self.std, Std)
        check_number("epsilon", self.epsilon)


def spct(
    layout: Layout, outcome_scores: Float[np.ndarray, " N"], *, settings: SpctSettings
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token: its rollout's voted score, standardised in the group.

    Sums and means of the votes give the same, as long as the same replies count for all rollouts of a group.

    Args:
        layout: the batch, in any unit; steps are not read.
        outcome_scores: [N] summed votes (`judges.outcome.spct.SpctJudge`, or `voted`), NaN unknown.
        settings: how they are compared.

    Returns:
        [T] advantages. 0 in groups without spread; NaN where unknown, and in groups of fewer than two known scores.

    Raises:
        CreditError: if there is not one score a rollout.

    Source: Liu et al. 2025, arXiv:2504.02495 (SPCT); credit.md 2.8 and 3.3. Differs: the paper trains no policy with
    its scores; standardising them is ours.

    >>> layout = Layout(np.array([0, 0, 1]), np.array([0, 1]), np.zeros(2))
    >>> spct(layout, np.array([13.0, 9.0]), settings=SpctSettings())
    array([ 1.,  1., -1.], dtype=float32)
    """
    standardised = standardise(outcome_scores, layout, std=settings.std, epsilon=settings.epsilon)
    return spread(standardised.astype(np.float32), layout, site="rollout")


def voted(
    votes: Float[np.ndarray, "k G"], *, trust: Float[np.ndarray, " k"] | None = None, kept: int | None = None
) -> Float64[np.ndarray, " G"]:
    """Sum of the replies' scores of one group's solutions, over the replies that count.

    S[i] = sum over replies j of S[i, j]; with a meta reward model's trust only the `kept` most trusted replies count.

    Args:
        votes: [k, G] score that reply j gives to solution i; a reply with a NaN could not be read and does not count.
        trust: [k] the meta reward model's rating of each reply, NaN where it gave none; `None` counts all.
        kept: replies that count with `trust`, of equal ones the first; `None` is half of k, at least 1.

    Returns:
        [G] sums; NaN if no reply counts.

    Raises:
        CreditError: if trust has not one entry a reply, or kept is not in 1..k.

    Source: Liu et al. 2025, arXiv:2504.02495; credit.md 2.8. Differs: none.

    >>> voted(np.array([[7.0, 3.0], [2.0, 9.0], [6.0, 6.0], [1.0, 8.0]]), trust=np.array([0.9, -1.0, 0.2, 0.1]))
    array([13.,  9.])
    """
    read = ~np.isnan(votes).any(axis=1)
    if trust is not None:
        if len(trust) != len(votes):
            raise CreditError(f"trust: got {len(trust)} entries for {len(votes)} replies")
        kept = max(1, len(votes) // 2) if kept is None else kept
        if not 1 <= kept <= max(1, len(votes)):
            raise CreditError(f"kept must lie in 1..{len(votes)} replies, got {kept}")
        rated = np.where(read, trust, np.nan)
        best = np.argsort(-rated, kind="stable")[:kept]  # NaN stands last
        read = np.isin(np.arange(len(votes)), best) & ~np.isnan(rated)
    elif kept is not None:
        raise CreditError("kept chooses among replies by their trust: give trust too")
    return votes[read].sum(axis=0, dtype=np.float64) if read.any() else np.full(votes.shape[1], np.nan)
