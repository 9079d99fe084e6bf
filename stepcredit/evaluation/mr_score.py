"""MR-Score of Mr-GSM8K and MR-Ben: is the solution right, where is its first error, and is the reason the true one?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Int64

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.first_error import CLEAN, exact
from stepcredit.evaluation.intervals import Interval
from stepcredit.evaluation.resampling import Coverage, row_bootstrap, same_length

MR_WEIGHTS = (0.2, 0.3, 0.5)
"""Weights of correlation, step and reason, as both papers give them."""


@final
@dataclass(frozen=True)
class MrScore:
    """MR-Score and its three parts.

    Args:
        score: the weighted sum, in [0, 1]; `None` if no reasons were judged.
        correlation: Matthews correlation of right and wrong solutions, in [-1, 1]; 0 where it is not defined.
        step_accuracy: share of the wrong solutions whose first wrong step was named.
        reason_accuracy: share of the wrong solutions with the step named and the reason right; `None` if not judged.
        wrong: wrong solutions.
        coverage: in solutions.
        reasons: of the wrong solutions whose step was named: how many had their reason judged.
    """

    score: Interval | None
    correlation: Interval
    step_accuracy: Interval
    reason_accuracy: Interval | None
    wrong: int
    coverage: Coverage
    reasons: Coverage


def matthews(truth: Bool[np.ndarray, " n"], called: Bool[np.ndarray, " n"]) -> float:
    """Matthews correlation of two yes/no columns, in [-1, 1]; 0 if one of them is constant.

    Source: Matthews 1975. Differs: none.

    >>> round(matthews(np.array([True, True, False, False]), np.array([True, False, False, False])), 4)
    0.5774
    """
    tp, tn = int((truth & called).sum()), int((~truth & ~called).sum())
    fp, fn = int((~truth & called).sum()), int((truth & ~called).sum())
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / math.sqrt(below) if below else 0.0


def mr_score(
    labels: Sequence[int],
    predictions: Sequence[int | None],
    reasons: Sequence[bool | None] | None = None,
    *,
    seed: int,
    weights: tuple[float, float, float] = MR_WEIGHTS,
    resamples: int = 1000,
) -> MrScore:
    """0.2 max(0, MCC) + 0.3 step accuracy + 0.5 reason accuracy, the accuracies over the wrong solutions.

    Args:
        labels: [n] index of the first wrong step, -1 for a right solution.
        predictions: [n] the judge's; `None` counts against it: as the opposite class, with no step.
        reasons: [n] True = the reason that the judge gave for the step is the true one (a person or a model says so);
            read only where the step was named, and not right where `None`. Without it there is no MR-Score.
        seed: of the bootstrap over solutions; a resample without a wrong solution counts 0 for the accuracies.
        weights: of correlation, step and reason; they sum to 1.
        resamples: of the bootstrap.

    Raises:
        UsageError: if the numbers differ, no solution is wrong, or the weights do not sum to 1.

    Source: Zeng et al. 2023 (MR-GSM8K), arXiv:2312.17080; Zeng et al. 2024 (MR-Ben), arXiv:2406.13975. Differs: none.

    >>> score = mr_score([0, 1, -1, -1], [0, 0, -1, -1], [True, None, None, None], seed=0)
    >>> score.correlation.value, score.step_accuracy.value, score.reason_accuracy.value, score.score.value
    (1.0, 0.5, 0.5, 0.6)
    """
    if min(weights) < 0 or not math.isclose(sum(weights), 1.0):
        raise UsageError(f"the weights of MR-Score must be at least 0 and sum to 1, got {weights}")
    same_length("labels and reasons", len(labels), len(labels if reasons is None else reasons))
    named = exact(labels, predictions)
    wrong = np.asarray(labels) != CLEAN
    if not wrong.any():
        raise UsageError(f"MR-Score needs at least one wrong solution, got none of {len(labels)}")
    called = np.array([y == CLEAN if p is None else p != CLEAN for y, p in zip(labels, predictions, strict=True)])
    named &= wrong
    given = [None] * len(labels) if reasons is None else reasons
    reasoned = np.array([step and bool(reason) for step, reason in zip(named.tolist(), given, strict=True)])

    def correlation(rows: Int64[np.ndarray, " m"]) -> float:
        return matthews(wrong[rows], called[rows])

    def step(rows: Int64[np.ndarray, " m"]) -> float:
        return float(named[rows].sum() / max(int(wrong[rows].sum()), 1))

    def reason(rows: Int64[np.ndarray, " m"]) -> float:
        return float(reasoned[rows].sum() / max(int(wrong[rows].sum()), 1))

    def score(rows: Int64[np.ndarray, " m"]) -> float:
        parts = max(0.0, correlation(rows)), step(rows), reason(rows)
        return math.fsum(w * part for w, part in zip(weights, parts, strict=True))

    def interval(name: str) -> Interval:
        statistic = {"correlation": correlation, "step": step, "reason": reason, "score": score}[name]
        return row_bootstrap(len(labels), statistic, seed=seed, purpose=f"mr_{name}", resamples=resamples)

    judged = sum(bool(step) and reason is not None for step, reason in zip(named, given, strict=True))
    return MrScore(
        None if reasons is None else interval("score"),
        interval("correlation"),
        interval("step"),
        None if reasons is None else interval("reason"),
        int(wrong.sum()),
        Coverage(len(labels), sum(p is not None for p in predictions)),
        Coverage(int(named.sum()), judged),
    )
