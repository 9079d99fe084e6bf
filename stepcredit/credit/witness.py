"""Witness credit: steps are paid for what the group's solutions testify of them; without a word, the outcome stands."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Float, Float32, Float64

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import Std, spread, standardise
from stepcredit.credit.choices import check_choice, check_number
from stepcredit.credit.grpo import GrpoSettings, grpo

Yields = Literal["never", "contradicted", "witnessed"]
"""Where the outcome gives way to the testimony: nowhere; on steps of which the two say opposite things; on all steps of
which anybody testifies."""


@final
@dataclass(frozen=True)
class WitnessCreditSettings:
    """Settings of witness credit; the argument for the defaults stands in docs/own_rule.md.

    Args:
        process_weight: 1 is the rule, 0 is GRPO, between them both parts in that measure.
        alpha: size of the process credit.
        outcome_yields: see `Yields`.
        std: standard deviation of the outcome rewards, as in `grpo`.
        epsilon: added to it.
    """

    process_weight: float = 1.0
    alpha: float = 1.0
    outcome_yields: Yields = "contradicted"
    std: Std = "population"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        check_choice("outcome_yields", self.outcome_yields, Yields)
        check_choice("std", self.std, Std)
        for name in ("process_weight", "alpha", "epsilon"):
            check_number(name, getattr(self, name))


def witness(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    testimony: Float[np.ndarray, " S"],
    *,
    settings: WitnessCreditSettings,
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token from its rollout's outcome and from what is testified of its step.

    With z the standardised reward of the rollout, u the testimony, m the mean of u over all tokens of the group that
    anybody testifies of, and w the process weight,

        A[t] = z + w * (alpha * (u - m) - z)    on steps where the outcome yields (`contradicted`: z * u < 0)
        A[t] = z + w * alpha * (u - m)          on other steps of which somebody testifies
        A[t] = z                                elsewhere

    alpha * (u - m) is centred by token, so that it sums to 0 over the group's tokens: no group, no length and no number
    of steps is paid as such, and where all agree nothing is paid. What the outcome yields is not centred: it
    leaves -w * z on the tokens where it is contradicted (nothing under `never`). The rule reads nothing but the step's
    own testimony: no step is paid for what comes after it. A group without a right solution has z = 0 and still learns.

    Args:
        layout: the batch in steps.
        rewards: [N] above 0 right, below 0 wrong, NaN unscorable (its tokens get NaN).
        testimony: [S] above 0 borne out, below 0 refuted, at most 1 in size; NaN where nobody testifies, 0 where both
            sides weigh the same: that is heard, and counts in the mean. Any signed step score will do.
        settings: the dials.

    Returns:
        [T] advantages; NaN for unscorable rollouts, and in groups with fewer than two scorable ones.

    Raises:
        CreditError: if a column does not fit the layout.

    Source: own. Differs: n/a.

    >>> layout = Layout(np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1]), np.zeros(2))
    >>> told = np.array([1.0, -1.0, 1.0, np.nan])
    >>> witness(layout, np.array([1.0, -1.0]), told, settings=WitnessCreditSettings()).round(2)
    array([ 1.67, -1.33,  0.67, -1.  ], dtype=float32)
    """
    if len(testimony) != layout.steps:
        raise CreditError(f"testimony: got {len(testimony)} entries, the layout has {layout.steps}")
    outcome = standardise(rewards, layout, std=settings.std, epsilon=settings.epsilon)[layout.rollout_of_step]
    if settings.process_weight == 0.0:
        return spread(outcome.astype(np.float32), layout)
    heard = ~np.isnan(testimony) & ~np.isnan(outcome)
    told = np.where(heard, testimony, 0.0)
    yields = {"never": np.zeros(layout.steps, np.bool_), "contradicted": told * np.nan_to_num(outcome) < 0.0}
    yields["witnessed"] = heard
    process = settings.alpha * np.where(heard, told - _mean(layout, told, heard), 0.0)
    process -= np.where(yields[settings.outcome_yields], outcome, 0.0)
    return spread((outcome + settings.process_weight * process).astype(np.float32), layout)


def outcome_part(
    layout: Layout, rewards: Float[np.ndarray, " N"], *, settings: WitnessCreditSettings
) -> Float32[np.ndarray, " T"]:
    """What `witness` gives with a process weight of 0: `grpo` with the same standard deviation, bit for bit.

    Args:
        layout: the batch.
        rewards: [N] outcome rewards, NaN unscorable.
        settings: `std` and `epsilon` are read.

    Returns:
        [T] outcome advantages.

    Source: own. Differs: n/a.

    >>> layout = Layout(np.array([0, 1]), np.array([0, 1]), np.zeros(2))
    >>> outcome_part(layout, np.array([1.0, -1.0]), settings=WitnessCreditSettings())
    array([ 1., -1.], dtype=float32)
    """
    return grpo(layout, rewards, settings=GrpoSettings(settings.std, settings.epsilon))


def _mean(layout: Layout, told: np.ndarray, heard: np.ndarray) -> Float64[np.ndarray, " S"]:
    """[S] mean of the testimony over the heard tokens of the step's group."""
    group, weight = layout.group_of_step, layout.tokens_of_step * heard
    total = np.bincount(group, weights=weight * told, minlength=layout.groups)
    count = np.bincount(group, weights=weight, minlength=layout.groups)
    return (total / np.maximum(count, 1.0))[group]
