"""The clipped loss's settings as papers publish them; no torch, so that recipes can read them."""

from dataclasses import dataclass
from typing import Literal, final

Reduction = Literal["token", "grpo", "dr_grpo"]
"""How per-token losses become one number; see `losses.policy.token_weights`."""

Penalty = Literal["none", "k1", "k2", "k3"]
"""Which estimate of the KL divergence from the reference is added to the loss; see `losses.kl`."""


Loss = Literal["clipped", "gspo", "gspo_token", "cispo"]
"""Which importance ratio the loss weighs advantages with, and how it is capped; see `losses.ratios`."""


@final
@dataclass(frozen=True)
class Preset:
    """Settings of the policy loss under one paper's name.

    Args:
        eps_low: the ratio is capped at 1 - eps_low where the advantage is negative (`cispo`: everywhere; 1 for none).
        eps_high: the ratio is capped at 1 + eps_high where the advantage is positive (`cispo`: everywhere).
        reduction: how tokens are averaged.
        kl: the penalty's estimator.
        beta: weight of the penalty, in reward units a nat.
        source: paper, and what it leaves open.
        loss: the ratio.
    """

    eps_low: float
    eps_high: float
    reduction: Reduction
    kl: Penalty
    beta: float
    source: str
    loss: Loss = "clipped"
