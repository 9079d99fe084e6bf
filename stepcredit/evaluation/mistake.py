"""BIG-Bench Mistake: share of the traces whose first mistake, or its absence, was named."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Int64

from stepcredit.evaluation.first_error import CLEAN, exact
from stepcredit.evaluation.intervals import Interval
from stepcredit.evaluation.resampling import Coverage, row_bootstrap


@final
@dataclass(frozen=True)
class MistakeAccuracy:
    """Accuracy of finding the first mistake; shares in [0, 1].

    Args:
        accuracy: over all traces.
        with_mistake: over the traces that hold one; `None` if none does.
        without: over the traces that hold none; `None` if there is no such trace.
        coverage: in traces; one without a prediction is wrong.
    """

    accuracy: Interval
    with_mistake: Interval | None
    without: Interval | None
    coverage: Coverage


def mistake_accuracy(
    labels: Sequence[int], predictions: Sequence[int | None], *, seed: int, resamples: int = 1000
) -> MistakeAccuracy:
    """Share of the traces with the right first mistake, -1 = none.

    Args:
        labels: [n] labels.
        predictions: [n] predicted labels; `None` is wrong.
        seed: of the bootstrap over traces.
        resamples: of the bootstrap.

    Raises:
        UsageError: if there are no traces, or their numbers differ.

    Source: Tyen et al. 2023 (BIG-Bench Mistake), arXiv:2311.08516. Differs: none.

    >>> score = mistake_accuracy([3, 0, -1, 2], [3, 1, -1, None], seed=0)
    >>> score.accuracy.value, score.without.value
    (0.5, 1.0)
    """
    right = exact(labels, predictions)
    mistake = np.asarray(labels) != CLEAN
    coverage = Coverage(len(labels), sum(p is not None for p in predictions))

    def interval(values: Bool[np.ndarray, " n"], purpose: str) -> Interval:
        def mean(rows: Int64[np.ndarray, " m"]) -> float:
            return float(values[rows].mean())

        return row_bootstrap(len(values), mean, seed=seed, purpose=purpose, resamples=resamples)

    return MistakeAccuracy(
        interval(right, "mistake"),
        interval(right[mistake], "mistake_with") if mistake.any() else None,
        interval(right[~mistake], "mistake_without") if not mistake.all() else None,
        coverage,
    )
