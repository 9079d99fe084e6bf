"""PURE: leave-one-out outcome plus the soft minimum of the step scores to come, less a baseline a token, whitened."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Shaped

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.additive import Signal
from stepcredit.credit.algebra import leave_one_out, softmin, spread, to_go, whiten
from stepcredit.credit.choices import check_choice, check_number
from stepcredit.credit.vineppo import finished, written

Baseline = Literal["leave_one_out", "none"]
"""What is taken off the process a token: the others' reward over `max_tokens`, or nothing."""

ScoreScale = Literal["probability", "signed"]
"""What the scores are: of being right, in [0, 1], or p in [-1, 1]; the rule pays p = 2 * probability - 1."""

OnUnknown = Literal["drop", "outcome_only"]
"""What a rollout with an unscored step gets: no credit, or the outcome alone; any step may be its worst."""


@final
@dataclass(frozen=True)
class PureSettings:
    """Settings of PURE; the defaults are the paper's.

    Args:
        temperature: of the soft minimum; towards 0 the worst step alone counts, `inf` is the mean of the scores.
        max_tokens: the longest completion that may be sampled, by which the baseline is spread: a constant, not the
            length of the response, or short and long ones would be paid differently. 8192 is the paper's; the arms of
            a recipe take the limit of their sampler.
        score_scale: see `ScoreScale`; a right or wrong verdict is a probability of 1 or 0. A worst step of score 0
            must cost: with p = 0 it would be paid like no step at all.
        baseline: see `Baseline`.
        outcome_weight: scales the outcome; 0 trains on the scores alone (and is hacked in the end, credit.md 2.2).
        process_weight: scales the process; 0 is whitened leave-one-out.
        whiten: whiten over the batch's tokens at the end.
        on_unknown: see `OnUnknown`.
    """

    temperature: float = 0.1
    max_tokens: int = 8192
    score_scale: ScoreScale = "probability"
    baseline: Baseline = "leave_one_out"
    outcome_weight: float = 1.0
    process_weight: float = 1.0
    whiten: bool = True
    on_unknown: OnUnknown = "drop"

    def __post_init__(self) -> None:
        check_choice("baseline", self.baseline, Baseline)
        check_choice("on_unknown", self.on_unknown, OnUnknown)
        check_choice("score_scale", self.score_scale, ScoreScale)
        for name in ("outcome_weight", "process_weight"):
            check_number(name, getattr(self, name))
        if not self.temperature > 0.0:
            raise UsageError(f"temperature must be above 0 (inf is the mean of the scores), got {self.temperature}")
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, got {self.max_tokens}")


def pure(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    scores: Float[np.ndarray, " S"],
    *,
    settings: PureSettings,
    trained: Shaped[np.ndarray, " T"] | None = None,
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token from its rollout's outcome and the soft minimum of its step scores.

    With R = (r + 1) / 2 (1 right, 0 wrong), p the score in [-1, 1], e = w * p, w = softmax(-p / temperature) over the
    rollout's steps, n rollouts in the group and t_left the policy's own tokens from t to the end, both included,

        A[t] = whiten( R - mean(R of the others)  +  sum of e from t's step on  -  b * t_left )
        b = sum of all e of the others / ((n - 1) * max_tokens)

    Args:
        layout: the batch in the unit of the scores (steps that end at blank lines in the paper).
        rewards: [N] +1 right, -1 wrong, NaN unscorable.
        scores: [S] higher is better, on the scale that the settings name; NaN unknown.
        settings: the dials.
        trained: [T] 1 for tokens that the policy wrote; the others count neither in t_left nor in a statistic, and get
            0. `None` counts all. Not read with process weight 0.

    Returns:
        [T] advantages; NaN for unscorable and dropped rollouts, and in groups with fewer than two scorable ones. With
        an outcome weight of 0 rewards are not read. Under `outcome_only` an unscored rollout is paid its outcome, and
        counts in no baseline.

    Raises:
        CreditError: if a column does not fit the layout, a score is off its scale, or a completion is longer than
            `max_tokens`.

    Source: Cheng et al. 2025, arXiv:2504.15275 (PURE); credit.md 2.2. Differs: unknown scores; no KL in the reward.

    >>> layout = Layout(np.array([0, 0, 1, 2]), np.array([0, 0, 1]), np.zeros(2))
    >>> settings = PureSettings(temperature=1e-3, max_tokens=4, whiten=False)
    >>> pure(layout, np.array([1.0, -1.0]), np.array([0.75, 0.25, 0.625]), settings=settings)
    array([ 0.3125,  0.375 ,  0.4375, -0.625 ], dtype=float32)
    """
    if len(scores) != layout.steps:
        raise CreditError(f"scores: got {len(scores)} entries, the layout has {layout.steps}")
    counted = written(trained, layout.tokens) if settings.process_weight and trained is not None else None
    lengths = layout.tokens_of_rollout if counted is None else np.bincount(layout.rollout_of_token, weights=counted)
    longest = int(lengths.max(initial=0))
    if longest > settings.max_tokens:
        raise CreditError(
            f"a completion has {longest} tokens, max_tokens is {settings.max_tokens}; set it to the limit"
        )
    outcome = _outcome(layout, rewards, settings)
    if settings.process_weight == 0.0:
        return _finished(spread(outcome, layout, site="rollout"), counted, settings)
    earned = softmin(signed(scores, settings.score_scale), layout, temperature=settings.temperature)
    share = np.zeros(layout.rollouts)
    if settings.baseline == "leave_one_out":
        share = settings.process_weight * others_reward(layout, earned) / settings.max_tokens
    if settings.on_unknown == "outcome_only":
        share[layout.rollout_of_step[np.isnan(earned)]] = 0.0
        earned = np.nan_to_num(earned, nan=0.0)
    coming = to_go(Signal(earned, "soft minimum", additive=True), layout, site="step")
    level = outcome[layout.rollout_of_step] + settings.process_weight * coming
    left = layout.tokens_left
    if counted is not None:
        left = to_go(Signal(counted.astype(np.float64), "tokens", additive=True), layout)
    paid = spread(level, layout) - spread(share, layout, site="rollout") * left
    return _finished(paid, counted, settings)


def outcome_part(
    layout: Layout, rewards: Float[np.ndarray, " N"], *, settings: PureSettings
) -> Float32[np.ndarray, " T"]:
    """What `pure` gives with a process weight of 0.

    Args:
        layout: the batch.
        rewards: [N] +1 right, -1 wrong, NaN unscorable.
        settings: `outcome_weight` and `whiten` are read.

    Returns:
        [T] outcome advantages, whitened by themselves if `whiten`.

    Source: credit.md 2.2. Differs: none.

    >>> layout = Layout(np.array([0, 1]), np.array([0, 1]), np.zeros(2))
    >>> outcome_part(layout, np.array([1.0, -1.0]), settings=PureSettings())
    array([ 1., -1.], dtype=float32)
    """
    paid = spread(_outcome(layout, rewards, settings), layout, site="rollout")
    return _finished(paid, None, settings)


def signed(scores: Float[np.ndarray, " S"], scale: ScoreScale) -> Float64[np.ndarray, " S"]:
    """Scores as PURE's reward model gives them: probability of + less probability of -.

    Args:
        scores: [S] on the scale named; NaN unknown.
        scale: see `ScoreScale`.

    Returns:
        [S] in [-1, 1].

    Raises:
        CreditError: for a score that does not lie on the scale.

    Source: credit.md 2.2. Differs: none.

    >>> signed(np.array([1.0, 0.25]), "probability")
    array([ 1. , -0.5])
    """
    lowest, mend = (
        (0.0, "; give score_scale = 'signed' to a judge of such scores") if scale == "probability" else (-1.0, "")
    )
    strange = (scores < lowest) | (scores > 1.0)
    if strange.any():
        raise CreditError(f"{scale} scores lie in [{lowest:g}, 1], got {np.asarray(scores)[strange][0]:g}{mend}")
    known = np.asarray(scores, np.float64)
    return 2.0 * known - 1.0 if scale == "probability" else known


def others_reward(layout: Layout, earned: Float[np.ndarray, " S"]) -> Float64[np.ndarray, " N"]:
    """Mean total process reward of the group's other rollouts.

    Args:
        layout: the batch.
        earned: [S] process reward of each step; rollouts with a NaN are left out.

    Returns:
        [N] means; 0 where no other rollout is known.

    Source: credit.md 2.2. Differs: none.

    >>> layout = Layout(np.arange(3), np.array([0, 0, 1]), np.zeros(2))
    >>> others_reward(layout, np.array([1.0, 2.0, 4.0]))
    array([4., 3.])
    """
    total = np.bincount(layout.rollout_of_step, weights=earned, minlength=layout.rollouts)
    known = ~np.isnan(total)
    own, group = np.where(known, total, 0.0), layout.group_of_rollout
    pooled = np.bincount(group, weights=own, minlength=layout.groups)
    members = np.bincount(group, weights=known, minlength=layout.groups)
    return (pooled[group] - own) / np.maximum(members[group] - known, 1.0)


def _outcome(layout: Layout, rewards: Float[np.ndarray, " N"], settings: PureSettings) -> Float64[np.ndarray, " N"]:
    if settings.outcome_weight == 0.0:
        return np.zeros(layout.rollouts)
    return settings.outcome_weight * leave_one_out((np.asarray(rewards, np.float64) + 1.0) / 2.0, layout)


def _finished(
    paid: Float64[np.ndarray, " T"], counted: Bool[np.ndarray, " T"] | None, settings: PureSettings
) -> Float32[np.ndarray, " T"]:
    if counted is not None:
        return finished(paid, counted, white=settings.whiten, std="population", epsilon=0.0)
    return (whiten(paid) if settings.whiten else paid).astype(np.float32)
