"""TP-GRPO: outcome credit, lowered on wrong thoughts of right solutions, lifted on unused thoughts of wrong ones."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import Std, spread, standardise, to_go
from stepcredit.credit.choices import check_choice, check_number
from stepcredit.credit.grpo import GrpoSettings, grpo

Scale = Literal["adaptive", "fixed"]
"""Size of the process reward in a right solution: alpha * acc_G, or alpha."""

Sides = Literal["both", "correct", "incorrect"]
"""Which solutions get process rewards: all, or only those with a right (wrong) outcome."""

Relief = Literal["one", "acc", "1-acc"]
"""What scales the process reward in a wrong solution: nothing (the paper), acc_G, or 1 - acc_G."""

OnUnknown = Literal["drop", "outcome_only", "neutral"]
"""What a rollout with unjudged steps gets: no credit; the outcome alone; or the outcome alone on those steps."""

Unit = Literal["thought", "step"]
"""What carries a reward: a thought, or an unmerged step (the paper's ablation without S1)."""


@final
@dataclass(frozen=True)
class TpGrpoSettings:
    """Settings of TP-GRPO; the defaults are the paper's formula.

    Args:
        process_weight: the papers' lambda; 1 is the paper, 0 is GRPO.
        alpha: scale of the process reward in right solutions, not given by the paper.
        scale: `adaptive` multiplies alpha by acc_G, the share of right rollouts in the group.
        sides: which solutions get process rewards.
        incorrect_relief: scales the process reward in wrong solutions.
        std: standard deviation of the outcome rewards, as in `grpo`.
        epsilon: added to it.
        on_unknown: what is done about a rollout with unjudged steps.
        unit: `thought`, or `step` for suffix sums over unmerged steps.
    """

    process_weight: float = 1.0
    alpha: float = 1.0
    scale: Scale = "adaptive"
    sides: Sides = "both"
    incorrect_relief: Relief = "one"
    std: Std = "population"
    epsilon: float = 0.0
    on_unknown: OnUnknown = "drop"
    unit: Unit = "thought"

    def __post_init__(self) -> None:
        choices = {"scale": Scale, "sides": Sides, "incorrect_relief": Relief}
        choices |= {"std": Std, "on_unknown": OnUnknown, "unit": Unit}
        for name, allowed in choices.items():
            check_choice(name, getattr(self, name), allowed)
        for name in ("process_weight", "alpha", "epsilon"):
            check_number(name, getattr(self, name))


def tp_grpo(
    layout: Layout, rewards: Float[np.ndarray, " N"], flags: Float[np.ndarray, " S"], *, settings: TpGrpoSettings
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token from its rollout's outcome and its step's verdict.

    With z the standardised reward of the rollout and w the process weight, unit `thought` is the closed form

        A[t] = z - w * alpha * acc_G   on incorrect steps of right solutions
        A[t] = z * (1 - w * relief)    on mismatched steps of wrong solutions
        A[t] = z                       elsewhere

    It reads nothing but the step's own verdict, so that steps and merged thoughts give the same advantages. Unit `step`
    pays every step but the last +c or -c (c = alpha * acc_G, or z * relief) and adds what is to come; on a thought
    Layout, whose verdicts alternate and end in correct or matched, it would telescope to the closed form.

    Verdicts are read only where they can change something: not with process weight 0, not on a side that is off.

    Args:
        layout: the batch in steps or thoughts.
        rewards: [N] +1 right, -1 wrong, NaN unscorable (left out of the statistics; its tokens get NaN).
        flags: [S] 1 for incorrect and mismatched steps, 0 for correct and matched, NaN unknown.
        settings: the dials.

    Returns:
        [T] advantages; NaN for unscorable and dropped rollouts, and in groups with fewer than two scorable ones.

    Raises:
        CreditError: if a reward is not +1, -1 or NaN, a flag is not 0, 1 or NaN, lengths do not fit the layout, or
            unit `step` is asked of a layout in thoughts.

    Source: He et al. 2025, arXiv:2507.23317 (TP-GRPO); tp_grpo.md 1.6. Differs: process_weight, sides,
    incorrect_relief, on_unknown and alpha's default are ours; population std by default, the paper does not say.

    >>> layout = Layout(np.array([0, 0, 1, 2]), np.array([0, 0, 1]), np.zeros(2))
    >>> tp_grpo(layout, np.array([1.0, -1.0]), np.array([1.0, 0.0, 0.0]), settings=TpGrpoSettings())
    array([ 0.5,  0.5,  1. , -1. ], dtype=float32)
    """
    _check_signals(layout, rewards, flags, settings.unit)
    outcome = standardise(rewards, layout, std=settings.std, epsilon=settings.epsilon)
    reward = settings.process_weight * process_reward(layout, rewards, outcome, settings=settings)
    owner = layout.rollout_of_step
    read = (reward != 0.0)[owner]
    unknown = np.isnan(flags) & read
    told = read & ~unknown & ~_silenced(layout, unknown, settings.on_unknown)[owner]
    if settings.unit == "thought":
        process = -reward[owner] * np.where(told, flags, 0.0)
    else:
        paid = told & (layout.steps_left > 1)
        process = to_go(reward[owner] * np.where(paid, 1.0 - 2.0 * flags, 0.0), layout, site="step")
    advantages = outcome[owner] + process
    if settings.on_unknown == "drop":
        advantages[_silenced(layout, unknown, "drop")[owner]] = np.nan
    return spread(advantages.astype(np.float32), layout)


def outcome_part(
    layout: Layout, rewards: Float[np.ndarray, " N"], *, settings: TpGrpoSettings
) -> Float32[np.ndarray, " T"]:
    """What `tp_grpo` gives without process rewards: `grpo` with the same standard deviation, bit for bit.

    Args:
        layout: the batch.
        rewards: [N] +1 right, -1 wrong, NaN unscorable.
        settings: `std` and `epsilon` are read.

    Returns:
        [T] outcome advantages.

    Source: tp_grpo.md 6, F1. Differs: none.

    >>> layout = Layout(np.array([0, 1]), np.array([0, 1]), np.zeros(2))
    >>> outcome_part(layout, np.array([1.0, -1.0]), settings=TpGrpoSettings())
    array([ 1., -1.], dtype=float32)
    """
    return grpo(layout, rewards, settings=GrpoSettings(settings.std, settings.epsilon))


def process_reward(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    outcome: Float[np.ndarray, " N"],
    *,
    settings: TpGrpoSettings,
) -> Float64[np.ndarray, " N"]:
    """Reward of a correct or matched thought of each rollout; an incorrect or mismatched one gets its negative.

    Args:
        layout: says which rollouts form a group; acc_G is taken over all scorable rollouts of it.
        rewards: [N] +1 right, -1 wrong, NaN unscorable.
        outcome: [N] standardised rewards.
        settings: alpha, scale, sides and incorrect_relief.

    Returns:
        [N] alpha * acc_G >= 0 in right solutions, the standardised reward times the relief, <= 0, in wrong ones; 0 on a
        side that is off and for unscorable rollouts.

    Source: tp_grpo.md 1.6 and 6, F10. Differs: as `tp_grpo`.

    >>> layout = Layout(np.arange(2), np.arange(2), np.zeros(2))
    >>> process_reward(layout, np.array([1.0, -1.0]), np.array([1.0, -1.0]), settings=TpGrpoSettings())
    array([ 0.5, -1. ])
    """
    accuracy = accuracy_of_group(layout, rewards)[layout.group_of_rollout]
    relief = {"one": np.ones(len(rewards)), "acc": accuracy, "1-acc": 1.0 - accuracy}[settings.incorrect_relief]
    right = settings.alpha * (accuracy if settings.scale == "adaptive" else np.ones(len(rewards)))
    correct = (rewards > 0.0) & (settings.sides != "incorrect")
    incorrect = (rewards < 0.0) & (settings.sides != "correct")
    return np.where(correct, right, np.where(incorrect, np.nan_to_num(outcome) * relief, 0.0))


def accuracy_of_group(layout: Layout, rewards: Float[np.ndarray, " N"]) -> Float64[np.ndarray, " M"]:
    """acc_G: share of right rollouts among the scorable ones of each group.

    Args:
        layout: says which rollouts form a group.
        rewards: [N] above 0 right, below 0 wrong, NaN unscorable.

    Returns:
        [groups] shares in [0, 1]; NaN for a group without a scorable rollout.

    Source: tp_grpo.md 1.1. Differs: unscorable rollouts are left out.

    >>> accuracy_of_group(Layout(np.arange(2), np.arange(2), np.zeros(2)), np.array([1.0, -1.0]))
    array([0.5])
    """
    known = np.bincount(layout.group_of_rollout, weights=~np.isnan(rewards), minlength=layout.groups)
    right = np.bincount(layout.group_of_rollout, weights=rewards > 0.0, minlength=layout.groups)
    return np.where(known > 0, right, np.nan) / np.maximum(known, 1)


def _silenced(layout: Layout, unknown: Bool[np.ndarray, " S"], on_unknown: OnUnknown) -> Bool[np.ndarray, " N"]:
    """[N] True for rollouts whose verdicts are not used at all, because one of them is unknown."""
    if on_unknown == "neutral":
        return np.zeros(layout.rollouts, np.bool_)
    return layout.holders(unknown)


def _check_signals(
    layout: Layout, rewards: Float[np.ndarray, " N"], flags: Float[np.ndarray, " S"], unit: Unit
) -> None:
    """Refuse signals that the rule would misread."""
    for name, column, want in (("rewards", rewards, layout.rollouts), ("flags", flags, layout.steps)):
        if len(column) != want:
            raise CreditError(f"{name}: got {len(column)} entries, the layout has {want}")
    strange = ~np.isnan(rewards) & (np.abs(rewards) != 1.0)
    if strange.any():
        raise CreditError(f"tp_grpo reads rewards +1 (right), -1 (wrong) and NaN, got {rewards[strange][0]}")
    strange = ~np.isnan(flags) & (flags != 0.0) & (flags != 1.0)
    if strange.any():
        raise CreditError(f"tp_grpo reads flags 0, 1 and NaN (core.columns.flags_of), got {flags[strange][0]}")
    if unit == "step" and layout.unit == "thought":
        raise CreditError("unit = 'step' needs unmerged steps, got a layout in thoughts: do not merge for this setting")
