"""Line-level rewards for code: each line is paid its score over the number of lines, comment lines nothing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.core.records import Steps
from stepcredit.credit.additive import Signal
from stepcredit.credit.algebra import Std, spread, standardise, to_go
from stepcredit.credit.choices import check_choice, check_number
from stepcredit.credit.grpo import GrpoSettings, grpo
from stepcredit.credit.scored.math_shepherd import without_unknown
from stepcredit.credit.scored.pure import ScoreScale, signed

OnUnknown = Literal["drop", "neutral"]
"""What a line without a score does: its rollout gets no credit, or the line earns 0."""

Lines = Literal["all", "judged"]
"""What the scores are divided by: all lines of the rollout, or those that are not neutral."""


@final
@dataclass(frozen=True)
class LineLevelSettings:
    """How line scores join the outcome.

    Args:
        process_weight: scales the lines' rewards; 0 is GRPO.
        score_scale: what the scores are, as in `pure`; the rule pays 1 for right, -1 for wrong.
        lines: see `Lines`; by `judged` ones, comments neither earn nor thin out what the other lines earn.
        std: standard deviation of the outcome rewards, as in `grpo`.
        epsilon: added to it.
        on_unknown: see `OnUnknown`.
    """

    process_weight: float = 1.0
    score_scale: ScoreScale = "probability"
    lines: Lines = "all"
    std: Std = "population"
    epsilon: float = 0.0
    on_unknown: OnUnknown = "drop"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("score_scale", ScoreScale),
            ("lines", Lines),
            ("std", Std),
            ("on_unknown", OnUnknown),
        ):
            check_choice(name, getattr(self, name), allowed)
        check_number("epsilon", self.epsilon)
        check_number("process_weight", self.process_weight)


def line_level(
    layout: Layout,
    rewards: Float[np.ndarray, " N"],
    scores: Float[np.ndarray, " S"],
    *,
    settings: LineLevelSettings,
    neutral: Shaped[np.ndarray, " S"] | None = None,
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token: its rollout's standardised reward, plus what its own and later lines earn.

    A[t] = z(r) + w * sum of score[i] / L over lines i from t's line on;  score[i] = 0 for comment lines

    L is the rollout's number of lines: without the division, and with comments that earn, the policy pads both
    (credit.md 2.9). The sum is then a mean, additive in good measure, not exactly (credit.md 3.2).

    Args:
        layout: the batch in lines (the `newline` splitter).
        rewards: [N] +1 tests passed, -1 not, NaN unscorable.
        scores: [S] of the prefix that ends with the line, on the scale that the settings name, NaN where unknown.
        settings: the dials.
        neutral: [S] 1 for lines that earn and cost nothing (`comment_lines`), whatever their score; None for none.

    Returns:
        [T] advantages; NaN for unscorable and dropped rollouts, and in groups with fewer than two scorable ones.

    Raises:
        CreditError: if a column does not fit the layout, or a score is off its scale.

    Source: line-level process rewards for code, arXiv:2410.17621; credit.md 2.9. Differs: the paper runs PPO with a
    critic, here the group's standardised outcome stands in its place; unknown scores; `lines`.

    >>> layout = Layout(np.array([0, 0, 1, 2]), np.array([0, 0, 1]), np.zeros(2))
    >>> scores, comment = np.array([1.0, 0.75, 0.0]), np.array([0, 1, 0])
    >>> line_level(layout, np.array([1.0, -1.0]), scores, settings=LineLevelSettings(), neutral=comment)
    array([ 1.5,  1.5,  1. , -2. ], dtype=float32)
    """
    silent = np.zeros(layout.steps, np.bool_) if neutral is None else np.asarray(neutral) != 0.0
    for name, column in (("scores", scores), ("neutral", silent)):
        if len(column) != layout.steps:
            raise CreditError(f"{name}: got {len(column)} entries, the layout has {layout.steps}")
    owner = layout.rollout_of_step
    outcome = standardise(rewards, layout, std=settings.std, epsilon=settings.epsilon)
    if settings.process_weight == 0.0:
        return spread(outcome.astype(np.float32), layout, site="rollout")
    worth = np.where(silent, 0.0, signed(np.where(silent, np.nan, scores), settings.score_scale))
    earned, dropped = without_unknown(layout, worth, neutral=settings.on_unknown == "neutral")
    lines = layout.steps_of_rollout
    if settings.lines == "judged":
        lines = np.maximum(np.bincount(owner, weights=~silent, minlength=layout.rollouts), 1.0)
    signal = Signal(earned, "scores", additive=False).divided(lines[owner].astype(np.float64))
    advantages = outcome[owner] + settings.process_weight * to_go(signal, layout, site="step")
    advantages[dropped[owner]] = np.nan
    return spread(advantages.astype(np.float32), layout)


def outcome_part(
    layout: Layout, rewards: Float[np.ndarray, " N"], *, settings: LineLevelSettings
) -> Float32[np.ndarray, " T"]:
    """What `line_level` gives with a process weight of 0: `grpo` with the same standard deviation, bit for bit.

    Args:
        layout: the batch.
        rewards: [N] +1 tests passed, -1 not, NaN unscorable.
        settings: `std` and `epsilon` are read.

    Returns:
        [T] outcome advantages.

    Source: credit.md 2.9. Differs: none.

    >>> layout = Layout(np.array([0, 1]), np.array([0, 1]), np.zeros(2))
    >>> outcome_part(layout, np.array([1.0, -1.0]), settings=LineLevelSettings())
    array([ 1., -1.], dtype=float32)
    """
    return grpo(layout, rewards, settings=GrpoSettings(settings.std, settings.epsilon))


def comment_lines(batch: Sequence[Steps], *, marks: Sequence[str] = ("#",)) -> Bool[np.ndarray, " S"]:
    """Which steps hold nothing but comments and white space: the `neutral` column of a batch.

    Args:
        batch: rollouts cut at line ends, in the order of the batch.
        marks: what opens a comment, such as `#` or `//`; a comment behind code leaves the line as it is. Docstrings and
            block comments are not recognised.

    Returns:
        [S] True for comment and blank lines.

    Source: arXiv:2410.17621 (comment lines are neutral); credit.md 2.9. Differs: what a comment is, is ours.
    """
    opens = "|".join(re.escape(mark) for mark in marks)
    only = re.compile(rf"(?:\s*(?:(?:{opens})[^\n]*)?(?:\n|\Z))*\s*\Z" if marks else r"\s*\Z")
    return np.array([only.match(text) is not None for steps in batch for text in steps.texts], np.bool_)
