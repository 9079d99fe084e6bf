"""RLOO: every token of a rollout gets its reward over the mean of the group's other rollouts."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Float32

from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import leave_one_out, spread


@final
@dataclass(frozen=True)
class RlooSettings:
    """RLOO has nothing to set: no standard deviation, no epsilon."""


def rloo(layout: Layout, rewards: Float[np.ndarray, " N"], *, settings: RlooSettings) -> Float32[np.ndarray, " T"]:  # noqa: ARG001 -- a rule's form
    """Advantage of every token: its rollout's reward over the mean reward of the group's other rollouts.

    A[t] = r - mean(r of the others) = (r - mean(r of the group)) * G / (G - 1)

    The baseline does not hold the rollout's own reward, so that it adds no bias; easy and hard groups keep the size of
    their differences, which standardising takes from them.

    Args:
        layout: the batch, in any unit; steps are not read.
        rewards: [N] outcome rewards, NaN where unscorable (left out of G and the mean).
        settings: none.

    Returns:
        [T] advantages in the unit of the rewards. 0 (but for rounding) in groups whose rewards do not differ; NaN for
        unscorable rollouts, and in groups with fewer than two scorable ones.

    Raises:
        CreditError: if `rewards` has not one entry a rollout.

    Source: Ahmadian et al. 2024, arXiv:2402.14740 (RLOO). Differs: none.

    >>> layout = Layout(np.array([0, 0, 1, 2]), np.array([0, 1, 2]), np.zeros(3))
    >>> rloo(layout, np.array([1.0, -1.0, -1.0]), settings=RlooSettings())
    array([ 2.,  2., -1., -1.], dtype=float32)
    """
    return spread(leave_one_out(rewards, layout).astype(np.float32), layout, site="rollout")
