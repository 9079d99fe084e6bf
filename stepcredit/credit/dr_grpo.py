"""Dr. GRPO: every token of a rollout gets its reward over the group's mean, not divided by the group's spread."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Float32

from stepcredit.core.layout import Layout
from stepcredit.credit.grpo import GrpoSettings, grpo


@final
@dataclass(frozen=True)
class DrGrpoSettings:
    """Dr. GRPO has nothing to set here; its other half, a sum over tokens in place of a mean, is a loss preset."""


def dr_grpo(layout: Layout, rewards: Float[np.ndarray, " N"], *, settings: DrGrpoSettings) -> Float32[np.ndarray, " T"]:  # noqa: ARG001 -- a rule's form
    """Advantage of every token: its rollout's reward over the group's mean.

    A[t] = r - mean(r of the group)

    Dividing by the standard deviation weighs very easy and very hard problems more; this rule does not.

    Args:
        layout: the batch, in any unit; steps are not read.
        rewards: [N] outcome rewards, NaN where unscorable.
        settings: none.

    Returns:
        [T] advantages in the unit of the rewards: `grpo` with `std = "none"`, bit for bit.

    Raises:
        CreditError: if `rewards` has not one entry a rollout.

    Source: Liu et al. 2025, arXiv:2503.20783 (Dr. GRPO). Differs: none.

    >>> layout = Layout(np.array([0, 0, 1, 2, 3]), np.arange(4), np.zeros(4))
    >>> dr_grpo(layout, np.array([1.0, -1.0, -1.0, -1.0]), settings=DrGrpoSettings())
    array([ 1.5,  1.5, -0.5, -0.5, -0.5], dtype=float32)
    """
    return grpo(layout, rewards, settings=GrpoSettings(std="none"))
