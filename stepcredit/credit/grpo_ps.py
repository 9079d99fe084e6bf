"""GRPO with process supervision: pooled step scores, summed from each step to the end."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Float, Float32

from stepcredit.core.layout import Layout
from stepcredit.credit.additive import Signal
from stepcredit.credit.algebra import Std, pooled, spread, to_go
from stepcredit.credit.choices import check_choice, check_number

OnUnknownScore = Literal["drop", "neutral"]
"""What a step without a score does: its rollout gets no credit, or the step adds 0, the pool's mean."""


@final
@dataclass(frozen=True)
class GrpoPsSettings:
    """How step scores are compared inside a group.

    Args:
        std: `population`, `sample`, or `none`.
        epsilon: added to the standard deviation.
        on_unknown: what is done about a rollout with unscored steps.
    """

    std: Std = "population"
    epsilon: float = 0.0
    on_unknown: OnUnknownScore = "drop"

    def __post_init__(self) -> None:
        check_choice("std", self.std, Std)
        check_choice("on_unknown", self.on_unknown, OnUnknownScore)
        check_number("epsilon", self.epsilon)


def grpo_ps(layout: Layout, scores: Float[np.ndarray, " S"], *, settings: GrpoPsSettings) -> Float32[np.ndarray, " T"]:
    """Advantage of every token: the sum of its own and all later steps' standardised scores.

    A[t] = sum of (score - mean) / (std + epsilon) over the steps that end at or after t; mean and std are pooled over
    all steps of the group.

    A sum of scores is not additive: cutting a step in two changes it, and good rollouts are paid for having more steps
    (credit.md 3.2). The rule is here as it was published; it is the negative control of the other step rules.

    Args:
        layout: the batch, in the unit of the scores.
        scores: [S] step scores, NaN where unknown.
        settings: how scores are compared.

    Returns:
        [T] advantages; NaN for all tokens of a rollout that is dropped, and in groups with fewer than two known scores.

    Raises:
        CreditError: if `scores` has not one entry a step.

    Source: Shao et al. 2024, arXiv:2402.03300, process supervision; credit.md 2.13. Differs: unknown scores.

    >>> layout = Layout(np.arange(4), np.array([0, 0, 1, 1]), np.zeros(2))
    >>> grpo_ps(layout, np.array([1.0, 1.0, 0.0, 0.0]), settings=GrpoPsSettings())
    array([ 2.,  1., -2., -1.], dtype=float32)
    """
    standardised = pooled(scores, layout, std=settings.std, epsilon=settings.epsilon)
    unknown = np.isnan(scores)
    if settings.on_unknown == "neutral":
        compared = np.bincount(layout.group_of_step, weights=~unknown, minlength=layout.groups) >= 2
        standardised = np.where(unknown & compared[layout.group_of_step], 0.0, standardised)
    else:
        dropped = layout.holders(unknown)
        standardised = np.where(dropped[layout.rollout_of_step], np.nan, standardised)
    signal = Signal(standardised, "standardised scores", additive=False)
    return spread(to_go(signal, layout, site="step", summed_by="grpo_ps").astype(np.float32), layout)
