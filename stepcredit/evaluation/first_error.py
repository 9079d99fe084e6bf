"""ProcessBench: was the first wrong step found? The official F1 by exact index, its average over splits, coverage.

A label is spelled as the published sets spell it: 0-based index of the first wrong step, `CLEAN` (-1) if every step is
right. A prediction is a label, or `None` where the judge gave none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.intervals import Interval
from stepcredit.evaluation.resampling import Coverage, row_bootstrap, same_length

CLEAN = -1
"""The label of a solution without a wrong step, as ProcessBench spells it."""


@final
@dataclass(frozen=True)
class FirstErrorF1:
    """The official ProcessBench figures of one split; shares in [0, 1]. Not a `BinaryF1`: never in one table with it.

    Args:
        f1: harmonic mean of the two accuracies; `None` if the split lacks one of the classes.
        error_accuracy: share of the solutions with an error whose first wrong step was named; `None` if there is none.
        correct_accuracy: share of the error-free solutions that were called so; `None` if there is none.
        errors: solutions with an error.
        correct: solutions without.
        coverage: in solutions; one without a prediction is wrong in either class.
    """

    f1: Interval | None
    error_accuracy: Interval | None
    correct_accuracy: Interval | None
    errors: int
    correct: int
    coverage: Coverage


@final
@dataclass(frozen=True)
class FirstErrorSplits:
    """The figures of every split, and the plain mean of their F1 values.

    Args:
        splits: by name, in the order given.
        average: mean of the F1 values; `None` if a split has none.
    """

    splits: Mapping[str, FirstErrorF1]
    average: Interval | None


def first_below(scores: Sequence[float | None], threshold: float = 0.5) -> int | None:
    """The label that step scores decide: the first step whose score is below the threshold, `CLEAN` if none is.

    Args:
        scores: [K] one score a step, higher is better; `None` or NaN is unknown.
        threshold: in the unit of the scores.

    Returns:
        The label, or `None` if a step before the decision has no score. What follows the first low score is not
        read, so a judge may stop there.

    Raises:
        UsageError: if there are no scores, or the threshold is NaN.

    Source: genprm.md 4.7 and 9.5. Differs: an unknown step leaves the solution undecided.

    >>> first_below([0.9, 0.4, None]), first_below([0.5, 0.8]), first_below([0.9, None, 0.1])
    (1, -1, None)
    """
    if not len(scores) or math.isnan(threshold):
        raise UsageError(f"a first-error decision needs scores and a threshold, got {len(scores)} and {threshold}")
    for index, score in enumerate(scores):
        if score is None or math.isnan(score):
            return None
        if score < threshold:
            return index
    return CLEAN


def step_labels(label: int, steps: int) -> tuple[bool | None, ...]:
    """[K] what a first-error label says of each step: True before it, False at it, `None` (unlabelled) after it.

    Args:
        label: index of the first wrong step, -1 if every step is right.
        steps: K.

    Raises:
        UsageError: if the label lies outside the steps.

    Source: own. Differs: none.

    >>> step_labels(1, 3), step_labels(-1, 2)
    ((True, False, None), (True, True))
    """
    if not CLEAN <= label < steps:
        raise UsageError(f"label {label} of a solution with {steps} steps")
    if label == CLEAN:
        return (True,) * steps
    return (True,) * label + (False,) + (None,) * (steps - label - 1)


def harmonic_mean(error_accuracy: float, correct_accuracy: float) -> float:
    """2 a b / (a + b); 0 if both are 0, where the reference code divides by zero.

    Source: Zheng et al. 2024 (ProcessBench), arXiv:2412.06559; genprm.md 9.2. Differs: none.

    >>> round(100 * harmonic_mean(0.677, 0.94), 1)
    78.7
    """
    total = error_accuracy + correct_accuracy
    return 2 * error_accuracy * correct_accuracy / total if total else 0.0


def first_error_f1(
    labels: Sequence[int], predictions: Sequence[int | None], *, seed: int, resamples: int = 1000
) -> FirstErrorF1:
    """The official ProcessBench metric.

        error_acc   = mean over labels != -1 of [prediction == label]
        correct_acc = mean over labels == -1 of [prediction == -1]
        F1          = 2 error_acc correct_acc / (error_acc + correct_acc)

    Args:
        labels: [n] labels.
        predictions: [n] predicted labels; `None` is wrong in either class.
        seed: of the bootstrap over solutions; a resample that lacks a class counts 0 for it.
        resamples: of the bootstrap.

    Raises:
        UsageError: if there are no solutions, their numbers differ, or a label is below -1.

    Source: Zheng et al. 2024 (ProcessBench), arXiv:2412.06559; genprm.md 9.2. Differs: none.

    >>> score = first_error_f1([2, 0, -1, -1], [2, 1, -1, None], seed=0)
    >>> score.f1.value, score.coverage
    (0.5, Coverage(asked=4, answered=3))
    """
    return _columns({"": labels}, {"": predictions}).score(0, seed, resamples)


def first_error_splits(
    labels: Mapping[str, Sequence[int]],
    predictions: Mapping[str, Sequence[int | None]],
    *,
    seed: int,
    resamples: int = 1000,
) -> FirstErrorSplits:
    """The official metric on every split, and the plain mean of the F1 values.

    Args:
        labels: for each split, its labels.
        predictions: for the same splits, the predicted labels.
        seed: of the bootstrap; that of the average draws from all splits together.
        resamples: of the bootstrap.

    Raises:
        UsageError: if the splits differ, or one of them cannot be scored.

    Source: Zheng et al. 2024 (ProcessBench), arXiv:2412.06559; genprm.md 9.2. Differs: none.

    >>> first_error_splits({"a": [0, -1], "b": [0, -1]}, {"a": [0, -1], "b": [0, 1]}, seed=0).average.value
    0.5
    """
    if (
        not labels
        or list(labels) != [name for name in labels if name in predictions]
        or len(labels) != len(predictions)
    ):
        raise UsageError(f"labels have the splits {sorted(labels)}, predictions {sorted(predictions)}")
    columns = _columns(labels, predictions)
    splits = {name: columns.score(i, seed, resamples) for i, name in enumerate(labels)}
    average = None
    if all(score.f1 is not None for score in splits.values()):
        rows = len(columns.right)
        average = row_bootstrap(rows, columns.mean_f1, seed=seed, purpose="first_error_average", resamples=resamples)
    return FirstErrorSplits(splits, average)


def exact(labels: Sequence[int], predictions: Sequence[int | None]) -> Bool[np.ndarray, " n"]:
    """[n] True where the prediction is the label; a missing prediction is wrong.

    Raises:
        UsageError: if there are none, their numbers differ, or a label is below -1.

    >>> exact([0, -1, 2], [0, None, 1])
    array([ True, False, False])
    """
    same_length("labels and predictions", len(labels), len(predictions))
    if not len(labels):
        raise UsageError("a first-error metric needs at least one labelled solution, got none")
    if low := [label for label in labels if label < CLEAN]:
        raise UsageError(f"a label is the index of a step or {CLEAN}, got {low[0]}")
    return np.array([p is not None and p == y for y, p in zip(labels, predictions, strict=True)])


@final
@dataclass(frozen=True)
class _Columns:
    """[n] rows of all splits: class (2 * split + has an error), right or not, answered or not."""

    kind: Int64[np.ndarray, " n"]
    right: Float64[np.ndarray, " n"]
    answered: Bool[np.ndarray, " n"]
    splits: int

    def accuracies(self, rows: Int64[np.ndarray, " m"]) -> Float64[np.ndarray, "splits 2"]:
        """For each split the accuracy on error-free solutions and on those with an error; 0 where there is none."""
        total = np.bincount(self.kind[rows], minlength=2 * self.splits)
        right = np.bincount(self.kind[rows], weights=self.right[rows], minlength=2 * self.splits)
        return (right / np.maximum(total, 1)).reshape(-1, 2)

    def mean_f1(self, rows: Int64[np.ndarray, " m"]) -> float:
        """Mean over splits of the F1 of the rows drawn."""
        return float(np.mean([harmonic_mean(float(e), float(c)) for c, e in self.accuracies(rows)]))

    def score(self, split: int, seed: int, resamples: int) -> FirstErrorF1:
        mine = np.flatnonzero(self.kind // 2 == split)
        part = _Columns(self.kind[mine] % 2, self.right[mine], self.answered[mine], 1)
        errors = int(part.kind.sum())
        correct = len(mine) - errors

        def interval(side: int) -> Interval:
            values = part.right[part.kind == side]
            purpose = ("first_error_correct", "first_error_error")[side]

            def accuracy(rows: Int64[np.ndarray, " m"]) -> float:
                return float(values[rows].mean())

            return row_bootstrap(len(values), accuracy, seed=seed, purpose=purpose, resamples=resamples)

        f1 = None
        if errors and correct:
            f1 = row_bootstrap(len(mine), part.mean_f1, seed=seed, purpose="first_error_f1", resamples=resamples)
        coverage = Coverage(len(mine), int(part.answered.sum()))
        return FirstErrorF1(
            f1, interval(1) if errors else None, interval(0) if correct else None, errors, correct, coverage
        )


def _columns(labels: Mapping[str, Sequence[int]], predictions: Mapping[str, Sequence[int | None]]) -> _Columns:
    kinds = [2 * i + (np.asarray(labels[name]) != CLEAN) for i, name in enumerate(labels)]
    right = [exact(labels[name], predictions[name]) for name in labels]
    answered = [p is not None for name in labels for p in predictions[name]]
    return _Columns(
        np.concatenate(kinds).astype(np.int64),
        np.concatenate(right).astype(np.float64),
        np.array(answered, np.bool_),
        len(labels),
    )
