"""Bootstrap over items that have several columns: the rows are drawn, so an item's columns stay together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, Int64

from stepcredit.core.errors import UsageError
from stepcredit.core.seeds import derive
from stepcredit.evaluation.intervals import Interval, bootstrap


@final
@dataclass(frozen=True)
class Coverage:
    """How many items a judge was asked about, and how many of its answers could be read.

    >>> Coverage(asked=4, answered=3).unknown
    1
    """

    asked: int
    answered: int

    @property
    def unknown(self) -> int:
        """Items asked about that have no answer."""
        return self.asked - self.answered


def row_bootstrap(
    rows: int, statistic: Callable[[Int64[np.ndarray, " n"]], float], *, seed: int, purpose: str, resamples: int = 1000
) -> Interval:
    """95% percentile bootstrap of a statistic of row numbers.

    Args:
        rows: number of independent rows, at least 1.
        statistic: of [n] row numbers; all of them in order give the value itself.
        seed: the run's seed.
        purpose: what is drawn; other purposes draw other rows.
        resamples: number of resamples.

    Raises:
        UsageError: if there are no rows.

    Source: Efron and Tibshirani 1993. Differs: none.

    >>> row_bootstrap(3, lambda rows: 0.5, seed=0, purpose="doctest")
    Interval(value=0.5, low=0.5, high=0.5)
    """

    def of(sample: Float64[np.ndarray, " n"]) -> float:
        return statistic(sample.astype(np.int64))

    return bootstrap(np.arange(rows, dtype=np.float64), of, seed=derive(seed, purpose), resamples=resamples)


def same_length(what: str, *lengths: int) -> None:
    """Refuses columns that differ in length.

    Raises:
        UsageError: if they do; names what was given.
    """
    if len(set(lengths)) > 1:
        raise UsageError(f"{what} must be equally many, got {' and '.join(map(str, lengths))}")
