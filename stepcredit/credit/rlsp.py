"""RLSP: the outcome with a bonus for searching longer and, if a judge gives one, for creativity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.core.records import Steps
from stepcredit.credit.algebra import Std, gae, spread, standardise
from stepcredit.credit.choices import check_choice, check_number
from stepcredit.credit.vineppo import nodes_ending

Baseline = Literal["group", "critic"]
"""What the mixed reward is compared with: the rollout's group, or a critic's values."""

OnUnread = Literal["drop", "half"]
"""What a rollout gets whose creativity the judge did not say: no credit, or 0.5 in its place, as the released code."""

CHARACTERS_A_TOKEN = 4.0
"""The released code takes this many characters of reasoning for one unit of length."""


@final
@dataclass(frozen=True)
class RlspSettings:
    """Settings of RLSP; `creativity = 0.2` and `baseline = "critic"` are the paper's.

    Args:
        right: reward of a right answer.
        wrong: of a wrong one; that of a missing answer is `wrong` and what `rlsp_bonus` takes off.
        creativity: share of the judge's number in the mix, in [0, 1]; 0 asks no judge.
        process_weight: weight of bonus and creativity; 0 pays the outcome alone.
        on_unread: what is done where the judge said nothing.
        baseline: `group` standardises the mixed reward among the group; `critic` needs VALUES and takes GAE.
        lam: GAE's lambda, for `critic`.
        std: as in `grpo`, for `group`.
        epsilon: added to it.
    """

    right: float = 1.0
    wrong: float = 0.0
    creativity: float = 0.0
    process_weight: float = 1.0
    on_unread: OnUnread = "drop"
    baseline: Baseline = "group"
    lam: float = 0.95
    std: Std = "population"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in {"on_unread": OnUnread, "baseline": Baseline, "std": Std}.items():
            check_choice(name, getattr(self, name), allowed)
        for name in ("creativity", "process_weight", "lam", "epsilon"):
            check_number(name, getattr(self, name))
        if self.lam > 1.0:
            raise UsageError(f"lam must be in [0, 1], got {self.lam}")
        if self.judged_share > 1.0:
            raise UsageError(f"creativity must be in [0, 1], by process_weight too, got {self.judged_share}")
        if not self.right > self.wrong:
            raise UsageError(f"right must be above wrong, got {self.right} and {self.wrong}")

    @property
    def judged_share(self) -> float:
        """Share of the judge's number in the mix; above 0, OUTCOME_SCORES are needed."""
        return self.process_weight * self.creativity


def rlsp(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    bonus: Float[np.ndarray, " N"],
    *,
    settings: RlspSettings,
    outcome_scores: Float[np.ndarray, " N"] | None = None,
    values: Float[np.ndarray, " nodes"] | None = None,
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token from its rollout's mixed reward (`mixed_reward`).

    `group`: the mixed reward standardised in the group, the same on all tokens. `critic`: GAE with the mixed reward at
    the end of the rollout and the critic's values before it, the same on all tokens of a step.

    Args:
        layout: the batch, in any unit; with `critic` the unit of the values.
        rewards: [N] +1 right, -1 wrong, NaN unscorable.
        bonus: [N] what `rlsp_bonus` gives: exploration, and the penalty of a missing answer.
        settings: the dials.
        outcome_scores: [N] the judge's creativity in [0, 1], NaN unread; needed if `creativity` is above 0.
        values: [S + N] critic's values; needed by `critic`. Those of the ends are not read.

    Returns:
        [T] advantages; NaN for rollouts without a known mixed reward and, under `group`, in groups of fewer than two
        such.

    Raises:
        CreditError: for signals that do not fit the layout, a reward that is not +1, -1 or NaN, creativity outside
            [0, 1], or a signal that the settings ask for and that is not given.

    Source: Ye et al. 2025, arXiv:2502.06773 (RLSP); credit.md 2.6. Differs: the group's mean and deviation by default,
    where the paper trains a critic.

    >>> layout = Layout(np.array([0, 0, 1]), np.array([0, 1]), np.zeros(2))
    >>> bonus = exploration(np.array([8000, 4000]))
    >>> rlsp(layout, np.array([-1.0, -1.0]), bonus, settings=RlspSettings())
    array([ 1.,  1., -1.], dtype=float32)
    """
    mixed = mixed_reward(layout, rewards, bonus, settings=settings, outcome_scores=outcome_scores)
    if settings.baseline == "group":
        standardised = standardise(mixed, layout, std=settings.std, epsilon=settings.epsilon)
        return spread(standardised.astype(np.float32), layout, site="rollout")
    if values is None:
        raise CreditError("rlsp with baseline 'critic' needs values, one a node")
    advantages = gae(np.zeros(layout.steps), nodes_ending(layout, values, mixed), layout, lam=settings.lam)
    return spread(advantages.astype(np.float32), layout)


def outcome_part(
    layout: Layout, rewards: Float[np.ndarray, " N"], *, settings: RlspSettings
) -> Float32[np.ndarray, " T"]:
    """What `rlsp` gives without bonus and judge: the standardised `right` or `wrong` under `group`.

    Under `critic` it is 0 by definition: there the mix is one reward, and no part of its GAE is the outcome's alone.

    Args:
        layout: the batch.
        rewards: [N] +1 right, -1 wrong, NaN unscorable.
        settings: `baseline`, `std` and `epsilon` are read.

    Returns:
        [T] outcome advantages.

    Source: credit.md 2.6. Differs: none.

    >>> layout = Layout(np.array([0, 1]), np.array([0, 1]), np.zeros(2))
    >>> outcome_part(layout, np.array([1.0, -1.0]), settings=RlspSettings())
    array([ 1., -1.], dtype=float32)
    """
    if settings.baseline == "critic":
        return np.zeros(layout.tokens, np.float32)
    base = np.where(np.isnan(rewards), np.nan, np.where(rewards > 0.0, settings.right, settings.wrong))
    standardised = standardise(base, layout, std=settings.std, epsilon=settings.epsilon)
    return spread(standardised.astype(np.float32), layout, site="rollout")


def mixed_reward(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    bonus: Float[np.ndarray, " N"],
    *,
    settings: RlspSettings,
    outcome_scores: Float[np.ndarray, " N"] | None = None,
) -> Float64[np.ndarray, " N"]:
    """Outcome and bonus, and the judge's share.

    R = right or wrong + w * bonus;  mixed = (1 - w * creativity) R + w * creativity * judge  with process weight w

    Args:
        layout: the batch.
        rewards: [N] +1 right, -1 wrong, NaN unscorable.
        bonus: [N] added to the outcome; not read with process weight 0.
        settings: `right`, `wrong`, `creativity`, `process_weight` and `on_unread` are read.
        outcome_scores: [N] the judge's numbers in [0, 1], NaN unread.

    Returns:
        [N] rewards; NaN where outcome or bonus is unknown, and where the judge said nothing under `drop`.

    Raises:
        CreditError: as `rlsp`.

    Source: Ye et al. 2025, arXiv:2502.06773; credit.md 2.6 (0.8 R + 0.2 judge, failures 0.5). Differs: a failed judge
    is unknown by default; w is ours, the paper's is 1.

    >>> layout = Layout(np.arange(2), np.arange(2), np.zeros(2))
    >>> settings, judged = RlspSettings(creativity=0.2), np.array([1.0, 0.5])
    >>> mixed_reward(layout, np.array([1.0, -1.0]), np.array([-1.0, -0.5]), settings=settings, outcome_scores=judged)
    array([ 0.2, -0.3])
    """
    columns = {"rewards": rewards, "bonus": bonus}
    columns |= {} if outcome_scores is None else {"outcome_scores": outcome_scores}
    for name, column in columns.items():
        if len(column) != layout.rollouts:
            raise CreditError(f"{name}: got {len(column)} entries, the layout has {layout.rollouts}")
    strange = ~np.isnan(rewards) & (np.abs(rewards) != 1.0)
    if strange.any():
        raise CreditError(f"rlsp reads rewards +1 (right), -1 (wrong) and NaN, got {rewards[strange][0]}")
    base = np.where(np.isnan(rewards), np.nan, np.where(rewards > 0.0, settings.right, settings.wrong))
    if settings.process_weight != 0.0:
        base = base + settings.process_weight * bonus
    if settings.judged_share == 0.0:
        return base
    if outcome_scores is None:
        raise CreditError("rlsp with creativity above 0 needs outcome_scores, the judge's number a rollout")
    outside = (outcome_scores < 0.0) | (outcome_scores > 1.0)
    if outside.any():
        raise CreditError(f"creativity is a number in [0, 1], got {outcome_scores[outside][0]}")
    judged = np.where(np.isnan(outcome_scores), 0.5, outcome_scores) if settings.on_unread == "half" else outcome_scores
    return (1.0 - settings.judged_share) * base + settings.judged_share * judged


def exploration(characters: Int[np.ndarray, " N"], *, scale: float = 1000.0) -> Float64[np.ndarray, " N"]:
    """Bonus for reasoning at length: steep for short answers, flat for long ones, never above 0.

    bonus = -scale / length  with  length = characters / 4, at least 1

    Args:
        characters: [N] characters of the reasoning.
        scale: C, the length at which the bonus is -1.

    Returns:
        [N] bonuses in [-scale, 0).

    Raises:
        CreditError: for a negative count or scale.

    Source: Ye et al. 2025, arXiv:2502.06773; credit.md 2.6. Differs: a length below 1 counts as 1.

    >>> exploration(np.array([4000, 16000]))
    array([-1.  , -0.25])
    """
    if (characters < 0).any() or not scale >= 0.0:
        raise CreditError(f"exploration needs counts and a scale of at least 0, got scale {scale}")
    return -scale / np.maximum(characters / CHARACTERS_A_TOKEN, 1.0)


def rlsp_bonus(batch: Sequence[Steps], *, scale: float = 1000.0, unanswered: float = -0.5) -> Float64[np.ndarray, " N"]:
    """Need.BONUS of RLSP: exploration over the characters of the think steps, and the penalty of a missing answer.

    Args:
        batch: N rollouts, cut; steps of the answer block are no reasoning.
        scale: as in `exploration`.
        unanswered: added where the outcome is wrong because there was no answer to read.

    Returns:
        [N] bonuses.

    Source: Ye et al. 2025, arXiv:2502.06773; credit.md 2.6 (no boxed answer -0.5). Differs: no answer that our checker
    reads, whatever its form.
    """
    thought = [
        sum(len(text) for text, inside in zip(steps.texts, steps.in_answer, strict=True) if not inside)
        for steps in batch
    ]
    missing = [steps.outcome.status == "wrong" and steps.outcome.answer is None for steps in batch]
    return exploration(np.array(thought, np.int64), scale=scale) + np.where(
        np.array(missing, np.bool_), unanswered, 0.0
    )
