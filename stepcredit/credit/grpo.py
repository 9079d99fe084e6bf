"""GRPO with outcome supervision: every token of a rollout gets the rollout's standardised reward."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Float32

from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import Std, spread, standardise
from stepcredit.credit.choices import check_choice, check_number


@final
@dataclass(frozen=True)
class GrpoSettings:
    """How rewards are compared inside a group.

    Args:
        std: `population`, `sample` (what TRL and verl use), or `none` (Dr. GRPO).
        epsilon: added to the standard deviation (TRL 1e-4, verl 1e-6).
    """

    std: Std = "population"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        check_choice("std", self.std, Std)
        check_number("epsilon", self.epsilon)


def grpo(layout: Layout, rewards: Float[np.ndarray, " N"], *, settings: GrpoSettings) -> Float32[np.ndarray, " T"]:
    """Advantage of every token: its rollout's reward, standardised in the group.

    A[t] = (r - mean(r of the group)) / (std(r of the group) + epsilon)

    Args:
        layout: the batch, in any unit; steps are not read.
        rewards: [N] outcome rewards, NaN where unscorable.
        settings: how rewards are compared.

    Returns:
        [T] advantages. 0 in groups whose rewards do not differ; NaN for unscorable rollouts, and in groups with fewer
        than two scorable ones.

    Raises:
        CreditError: if `rewards` has not one entry a rollout.

    Source: Shao et al. 2024, arXiv:2402.03300; `std="none"`: Liu et al. 2025, arXiv:2503.20783 (Dr. GRPO).
    Differs: none.

    >>> layout = Layout(np.array([0, 0, 1]), np.array([0, 1]), np.zeros(2))
    >>> grpo(layout, np.array([1.0, -1.0]), settings=GrpoSettings())
    array([ 1.,  1., -1.], dtype=float32)
    """
    standardised = standardise(rewards, layout, std=settings.std, epsilon=settings.epsilon)
    return spread(standardised.astype(np.float32), layout, site="rollout")
