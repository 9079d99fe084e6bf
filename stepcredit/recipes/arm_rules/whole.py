"""Signals of whole rollouts that are made of step verdicts: a score, and who is preferred to whom.

The embedded worlds have no judge that reads whole solutions. What stands here in its place is the step judge's word on
the think steps, made one number; the answer is left out, since its verdict is the outcome.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64

from stepcredit.core.errors import CreditError
from stepcredit.core.records import Group, Judgement, Verdict
from stepcredit.credit.rule import Need

OfSteps = Literal["mean", "min", "last"]
"""What a rollout's score is of the scores of its think steps: their mean, the least of them, or the last."""

WHOLE = (Need.OUTCOME_SCORES, Need.PREFERENCES)
"""Signals that are made of step verdicts."""

IN_ANSWER = "the answer's verdict is the outcome"
"""Reason of a verdict that is left out."""


def of_thinking(judgement: Judgement) -> Judgement:
    """The judgement without what it says of the answer block."""
    pairs = zip(judgement.verdicts, judgement.steps.in_answer.tolist(), strict=True)
    return replace(judgement, verdicts=tuple(Verdict(reason=IN_ANSWER) if inside else v for v, inside in pairs))


def whole_scores(judgements: Sequence[Judgement], *, of_steps: OfSteps = "mean") -> Float64[np.ndarray, " N"]:
    """[N] score of each rollout: of its think steps whose score is known; NaN without one.

    Args:
        judgements: N rollouts, with scores.
        of_steps: what is taken of the scores. A step that the rollout itself takes back counts like any other.
    """
    take = {"mean": np.mean, "min": np.min, "last": lambda scores: scores[-1]}[of_steps]
    found: list[float] = []
    for judgement in judgements:
        scores = [verdict.score for verdict in of_thinking(judgement).verdicts if verdict.score is not None]
        found.append(float(take(scores)) if scores else float("nan"))
    return np.array(found, np.float64)


def preferences(scores: Float[np.ndarray, " N"], sizes: Sequence[int]) -> Float64[np.ndarray, " pairs"]:
    """Each group's matrix, row after row: 1 where the row's rollout has the higher score, -1 the lower, 0 a tie.

    Args:
        scores: [N] one a rollout, groups side by side; NaN unknown.
        sizes: number of rollouts of each group.

    Returns:
        [sum of G * G] d[i, j] = sign(score[i] - score[j]); NaN where one of the two is unknown, 0 on the diagonal.

    Source: Hong et al. 2025, arXiv:2505.16265 (Think-RM: a judge compares every two rollouts of a group). Differs: the
    comparison is of two scores that were given apart.

    >>> preferences(np.array([1.0, 0.5]), [2]).tolist()
    [0.0, 1.0, -1.0, 0.0]
    """
    found: list[Float64[np.ndarray, " pairs"]] = []
    for part in np.split(np.asarray(scores, np.float64), np.cumsum(sizes)[:-1]):
        matrix = np.sign(part[:, None] - part[None, :]) + 0.0  # no -0
        np.fill_diagonal(matrix, 0.0)
        found.append(matrix.ravel())
    return np.concatenate(found) if found else np.zeros(0)


def whole_columns(
    groups: Sequence[Group], judgements: Sequence[Judgement], wanted: Collection[Need], *, of_steps: OfSteps
) -> dict[Need, Float64[np.ndarray, " n"]]:
    """Columns of the signals of whole rollouts, as `credit.batch.assign` takes them.

    Args:
        groups: the batch.
        judgements: in any order.
        wanted: signals that the rule reads; others than `WHOLE` are left alone.
        of_steps: as in `whole_scores`.

    Raises:
        CreditError: for a rollout without judgement.
    """
    asked = [need for need in WHOLE if need in wanted]
    if not asked:
        return {}
    given = {judgement.steps.rollout.id: judgement for judgement in judgements}
    names = [outcome.rollout.id for group in groups for outcome in group.outcomes]
    missing = next((name for name in names if name not in given), None)
    if missing is not None:
        raise CreditError("it was not judged, so that it has no score as a whole", item=missing)
    scores = whole_scores([given[name] for name in names], of_steps=of_steps)
    sizes = [len(group.outcomes) for group in groups]
    return {need: scores if need is Need.OUTCOME_SCORES else preferences(scores, sizes) for need in asked}
