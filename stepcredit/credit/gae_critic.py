"""GAE with a critic: the outcome at the end, and node values of a model that is trained beside the policy."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Float32

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import Std, gae
from stepcredit.credit.choices import check_choice, check_number
from stepcredit.credit.vineppo import by_step, nodes_ending


@final
@dataclass(frozen=True)
class GaeCriticSettings:
    """How rewards and values become advantages.

    Args:
        gamma: discount of the next node, in [0, 1].
        lam: in [0, 1]; 0 trusts the critic alone (the difference of its values), 1 the outcome alone (less the value).
        whiten: True standardises the advantages over all known tokens of the batch.
        std: standard deviation of the whitening, as in `algebra.whiten`.
        epsilon: added to it.
    """

    gamma: float = 1.0
    lam: float = 0.95
    whiten: bool = True
    std: Std = "population"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        check_choice("std", self.std, Std)
        check_number("epsilon", self.epsilon)
        for name in ("gamma", "lam"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"{name} must be in [0, 1], got {getattr(self, name)}")


def gae_critic(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    values: Float[np.ndarray, " nodes"],
    *,
    settings: GaeCriticSettings,
    trained: Float[np.ndarray, " T"] | None = None,
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token: discounted changes of the critic's value from its step to the end.

    delta[j] = r[j] + gamma * V[after j] - V[before j];  A[j] = delta[j] + gamma * lam * A[j + 1]

    r is the outcome reward on the last step and 0 before it, and V[end] is 0. On a Layout whose steps are single tokens
    this is PPO's token-level advantage; on longer steps all tokens of a step get the same. Without whitening, lam = 1
    and gamma = 1 give r - V[before j], and with V = 0 the reward to go.

    Args:
        layout: the batch, in the steps before which the critic was read.
        rewards: [N] outcome rewards, NaN where unscorable: no token of such a rollout gets credit.
        values: [S + N] the critic's values in the unit of the rewards, for each rollout one before each step, then one
            for its end, which is not read. A rollout with an unknown (NaN) one gets no credit.
        settings: the dials.
        trained: [T] 1 for tokens that the policy wrote; the others count in no statistic and get 0. `None` counts all.

    Returns:
        [T] advantages, NaN where unknown.

    Raises:
        CreditError: if a column's length does not fit the layout.

    Source: Schulman et al. 2015, arXiv:1506.02438; credit.md 2.14 and 3.1. Differs: a critic may be read before each
    step instead of before each token; a rollout that was cut is paid like any other.

    >>> layout = Layout(np.arange(2), np.zeros(2), np.zeros(1))
    >>> values = np.array([0.5, 0.25, np.nan])
    >>> gae_critic(layout, np.array([1.0]), values, settings=GaeCriticSettings(lam=0.0, whiten=False))
    array([-0.25,  0.75], dtype=float32)
    """
    if len(rewards) != layout.rollouts:
        raise CreditError(f"rewards: got {len(rewards)} entries, the layout has {layout.rollouts}")
    paid, filled = np.zeros(layout.steps), layout.steps_of_rollout > 0
    paid[layout.step_starts[1:][filled] - 1] = rewards[filled]
    steps = gae(paid, nodes_ending(layout, values, 0.0), layout, gamma=settings.gamma, lam=settings.lam)
    return by_step(layout, steps, trained, white=settings.whiten, std=settings.std, epsilon=settings.epsilon)
