"""ThinkPRM's binary F1: does a solution hold any mistake? A type of its own, never mixed with ProcessBench's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Int64

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.first_error import CLEAN
from stepcredit.evaluation.intervals import Interval
from stepcredit.evaluation.resampling import Coverage, row_bootstrap, same_length

Positive = Literal["correct", "error"]
"""The class whose precision and recall are taken: the error-free solutions, or those with an error."""

UnknownAs = Literal["wrong", "left_out"]
"""What an unusable output does: it is wrong in either class, or its solution is left out."""


@final
@dataclass(frozen=True)
class BinaryF1:
    """Precision, recall and their harmonic mean over whole solutions; shares in [0, 1]. Not a `FirstErrorF1`.

    Args:
        f1: 2 TP / (2 TP + FP + FN); 0 if no positive was found.
        precision: 0 if nothing was called positive.
        recall: 0 if there is no positive.
        positive: which class that is.
        coverage: in solutions.
    """

    f1: Interval
    precision: float
    recall: float
    positive: Positive
    coverage: Coverage


def says_correct(score: float | None, threshold: float = 0.5) -> bool | None:
    """What a solution's score says: False (a mistake) below the threshold, `None` if there is no score.

    Source: thinkprm.md 5.1. Differs: none.

    >>> says_correct(0.5), says_correct(0.49), says_correct(None)
    (True, False, None)
    """
    return None if score is None or math.isnan(score) else score >= threshold


def binary_f1(
    labels: Sequence[int],
    verdicts: Sequence[bool | None],
    *,
    seed: int,
    positive: Positive = "correct",
    unknown: UnknownAs = "wrong",
    resamples: int = 1000,
) -> BinaryF1:
    """F1 of 'this solution is error-free'.

    Args:
        labels: [n] index of the first wrong step, -1 if none.
        verdicts: [n] True = the judge calls the solution error-free, `None` = unusable output.
        seed: of the bootstrap over solutions.
        positive: the paper does not say; its random baseline fits `correct` only.
        unknown: the paper does not say.
        resamples: of the bootstrap.

    Raises:
        UsageError: if the numbers differ, or no solution is left.

    Source: ThinkPRM, thinkprm.md 5.1. Differs: none; what the paper leaves open is a setting.

    >>> binary_f1([-1, -1, 3, 0], [True, False, True, False], seed=0).f1.value
    0.5
    """
    same_length("labels and verdicts", len(labels), len(verdicts))
    pairs = [(y == CLEAN, v) for y, v in zip(labels, verdicts, strict=True) if v is not None or unknown == "wrong"]
    if not pairs:
        raise UsageError(f"binary F1 needs at least one solution with a verdict, got none of {len(labels)}")
    truth = np.array([clean == (positive == "correct") for clean, _ in pairs])
    called = np.array([(not clean if v is None else v) == (positive == "correct") for clean, v in pairs])
    # A missing verdict stands as the opposite of the truth: wrong in either class.

    def counts(rows: Int64[np.ndarray, " m"]) -> tuple[int, int, int]:
        t, c = truth[rows], called[rows]
        return int((t & c).sum()), int((~t & c).sum()), int((t & ~c).sum())

    def f1(rows: Int64[np.ndarray, " m"]) -> float:
        tp, fp, fn = counts(rows)
        return 2 * tp / max(2 * tp + fp + fn, 1)

    interval = row_bootstrap(len(pairs), f1, seed=seed, purpose="binary_f1", resamples=resamples)
    tp, fp, fn = counts(np.arange(len(pairs)))
    answered = sum(verdict is not None for verdict in verdicts)
    coverage = Coverage(len(labels), answered)
    return BinaryF1(interval, tp / max(tp + fp, 1), tp / max(tp + fn, 1), positive, coverage)
