"""Math-Shepherd's reinforcement learning: each step is paid its score; the return, or GAE with a critic."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.additive import Signal
from stepcredit.credit.algebra import gae, spread, to_go
from stepcredit.credit.choices import check_choice

OnUnknown = Literal["drop", "neutral"]
"""What a step without a score does: its rollout gets no credit, or the step earns 0."""


@final
@dataclass(frozen=True)
class MathShepherdSettings:
    """How step scores become a return.

    Args:
        critic: take the critic's values off (`Need.VALUES`), as the paper's PPO does; without one the values are 0.
        gamma: discount of the next step, in [0, 1].
        lam: GAE's lambda, in [0, 1]; without a critic 1 is the return.
        on_unknown: see `OnUnknown`.
    """

    critic: bool = False
    gamma: float = 1.0
    lam: float = 1.0
    on_unknown: OnUnknown = "drop"

    def __post_init__(self) -> None:
        check_choice("on_unknown", self.on_unknown, OnUnknown)
        for name in ("gamma", "lam"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"{name} must be in [0, 1], got {getattr(self, name)}")


def math_shepherd(
    layout: Layout,
    scores: Float[np.ndarray, " S"],
    *,
    settings: MathShepherdSettings,
    values: Float[np.ndarray, " nodes"] | None = None,
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token: the discounted sum of its own and all later steps' scores, less a critic's values.

    A[t] = sum of (gamma * lam)**(i - j) * (score[i] + gamma * V[after i] - V[before i]) over steps i from t's step j on

    V = 0 without a critic: the return itself, without any baseline. Scores in [0, 1] then push every token up, and a
    rollout of many steps most of all; the sum is not additive (credit.md 3.2). It is here as published, beside `pure`,
    which repairs it.

    Args:
        layout: the batch, in the unit of the scores.
        scores: [S] step scores, NaN where unknown.
        settings: critic, gamma, lam.
        values: [S + N] the critic's node values, read only if `critic`; 0 at the ends, since the last step's reward is
            its score.

    Returns:
        [T] advantages; NaN for all tokens of a rollout that is dropped, and before an unknown value.

    Raises:
        CreditError: if a column does not fit the layout, values are wanted and not given, or an end value is not 0.

    Source: Wang et al. 2023, arXiv:2312.08935 (Math-Shepherd); credit.md 2.14. Differs: unknown scores; without a
    critic the return stands alone.

    >>> layout = Layout(np.array([0, 0, 1, 2]), np.array([0, 0, 1]), np.zeros(2))
    >>> math_shepherd(layout, np.array([0.5, 0.25, 1.0]), settings=MathShepherdSettings())
    array([0.75, 0.75, 0.25, 1.  ], dtype=float32)
    """
    if len(scores) != layout.steps:
        raise CreditError(f"scores: got {len(scores)} entries, the layout has {layout.steps}")
    rewards, dropped = without_unknown(layout, scores, neutral=settings.on_unknown == "neutral")
    if settings.critic:
        if values is None:
            raise CreditError("critic = true reads node values, and none were given; give Need.VALUES")
        advantages = gae(rewards, values, layout, gamma=settings.gamma, lam=settings.lam)
        if (np.asarray(values)[layout.step_starts[1:] + np.arange(layout.rollouts)] != 0.0).any():
            raise CreditError("the critic's value at the end of a rollout must be 0: the last step is paid its score")
    else:
        signal = Signal(rewards, "scores", additive=False)
        decay = settings.gamma * settings.lam
        advantages = to_go(signal, layout, site="step", decay=decay, summed_by="math_shepherd")
    advantages[dropped[layout.rollout_of_step]] = np.nan
    return spread(advantages.astype(np.float32), layout)


def without_unknown(
    layout: Layout, scores: Float[np.ndarray, " S"], *, neutral: bool
) -> tuple[Float64[np.ndarray, " S"], Bool[np.ndarray, " N"]]:
    """Scores with 0 in place of unknown ones, and the rollouts that get no credit because of them.

    Args:
        layout: the batch.
        scores: [S] NaN where unknown.
        neutral: True to drop no rollout.

    Returns:
        [S] scores, and [N] True for rollouts to drop.

    Source: own. Differs: none.

    >>> layout = Layout(np.arange(2), np.arange(2), np.zeros(2))
    >>> without_unknown(layout, np.array([np.nan, 0.5]), neutral=False)
    (array([0. , 0.5]), array([ True, False]))
    """
    unknown = np.isnan(scores)
    dropped = layout.holders(unknown)
    return np.where(unknown, 0.0, scores).astype(np.float64), dropped & (not neutral)
