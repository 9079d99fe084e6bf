"""Intervals: Wilson for shares, Student for a few runs, bootstrap over items, two-level over checkpoint, then seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Float64

from stepcredit.core.errors import UsageError

_Z95 = 1.959963984540054
_T95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448,
    2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484,
    2.0452, 2.0423,
)  # fmt: skip
"""97.5% points of Student's distribution with 1 to 30 degrees of freedom."""


@final
@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval.

    >>> Interval(0.5, 0.4, 0.6).overlaps(Interval(0.7, 0.6, 0.8))
    True
    """

    value: float
    low: float
    high: float

    def overlaps(self, other: "Interval") -> bool:
        """True if the two intervals share a point: then no difference is shown."""
        return self.low <= other.high and other.low <= self.high


def wilson(successes: int, total: int) -> Interval:
    """95% Wilson score interval of a share.

    Args:
        successes: number of successes.
        total: number of independent items, at least 1.

    Raises:
        UsageError: if total is 0 or successes are out of range.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001. Differs: none.

    >>> interval = wilson(8, 10)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.49, 0.943)
    """
    if total < 1 or not 0 <= successes <= total:
        raise UsageError(f"wilson needs 0 <= successes <= total and total >= 1, got {successes} of {total}")
    share, z2 = successes / total, _Z95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z95 / (1 + z2 / total) * np.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    low, high = float(centre - half), float(centre + half)
    return Interval(share, 0.0 if successes == 0 else low, 1.0 if successes == total else high)


def student(values: Float[np.ndarray, " n"]) -> Interval:
    """95% interval of a mean of a few independent runs, by Student's distribution.

    A percentile bootstrap over five runs covers about 83% where 95% is meant: five values do not show how far a sixth
    may lie, and the resampled deviation is too small by (n - 1) / n on top of it.

    Args:
        values: [n] one value a run, n at least 2.

    Raises:
        UsageError: if there are fewer than two values.

    Source: Student 1908; beyond 30 degrees of freedom the first three terms of the expansion around the normal point.
    Differs: none.

    >>> student(np.array([1.0, 2.0, 3.0]))
    Interval(value=2.0, low=-0.484..., high=4.484...)
    """
    data = np.asarray(values, np.float64)
    if len(data) < 2:
        raise UsageError(f"student needs at least two values, got {len(data)}")
    freedom = len(data) - 1
    point = _Z95 + (_Z95**3 + _Z95) / (4 * freedom) + (5 * _Z95**5 + 16 * _Z95**3 + 3 * _Z95) / (96 * freedom**2)
    if freedom <= len(_T95):
        point = _T95[freedom - 1]
    mean, half = float(data.mean()), float(point * data.std(ddof=1) / np.sqrt(len(data)))
    return Interval(mean, mean - half, mean + half)


def bootstrap(
    values: Float[np.ndarray, " n"],
    statistic: Callable[[Float64[np.ndarray, " n"]], float],
    *,
    seed: int,
    resamples: int = 1000,
) -> Interval:
    """95% percentile bootstrap over items.

    Args:
        values: [n] one value per independent item.
        statistic: of a resampled [n].
        seed: from `seeds.derive`.
        resamples: number of resamples.

    Raises:
        UsageError: if there are no values.

    Source: Efron and Tibshirani 1993. Differs: none.
    """
    data = np.asarray(values, np.float64)
    if not len(data):
        raise UsageError("bootstrap needs at least one value, got none")
    generator = np.random.default_rng(seed)
    draws = [statistic(data[generator.integers(0, len(data), len(data))]) for _ in range(resamples)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(statistic(data), float(low), float(high))


def two_level_bootstrap(
    clusters: Sequence[Float[np.ndarray, " n"]],
    statistic: Callable[[Float64[np.ndarray, " m"]], float],
    *,
    seed: int,
    resamples: int = 2000,
) -> Interval:
    """95% percentile bootstrap that resamples clusters (checkpoints), then members (seeds) inside each.

    Args:
        clusters: one array a checkpoint, one value a seed.
        statistic: of all resampled values laid end to end.
        seed: from `seeds.derive`.
        resamples: number of resamples.

    Raises:
        UsageError: if there are no values.

    Source: Davison and Hinkley 1997, 3.8 (two-level resampling). Differs: none.
    """
    data = [np.asarray(cluster, np.float64) for cluster in clusters if len(cluster)]
    if not data:
        raise UsageError("two_level_bootstrap needs at least one value, got none")
    generator = np.random.default_rng(seed)
    draws: list[float] = []
    for _ in range(resamples):
        chosen = [data[i] for i in generator.integers(0, len(data), len(data))]
        draws.append(statistic(np.concatenate([c[generator.integers(0, len(c), len(c))] for c in chosen])))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(statistic(np.concatenate(data)), float(low), float(high))


def over_runs(clusters: Sequence[Float[np.ndarray, " n"]], *, seed: int) -> Interval:
    """95% interval of the mean over runs: `student` where no two levels can be told apart, `two_level_bootstrap` else.

    Args:
        clusters: one array a checkpoint, one value a seed. Runs of one checkpoint, and single runs of several, are
            taken as independent; of one run alone there is no interval, and both ends are its value.
        seed: of the bootstrap.

    Raises:
        UsageError: if there are no values.

    Source: own. Differs: none.

    >>> over_runs([np.array([1.0]), np.array([2.0]), np.array([3.0])], seed=0) == student(np.array([1.0, 2.0, 3.0]))
    True
    """
    data = [np.asarray(cluster, np.float64) for cluster in clusters if len(cluster)]
    flat = np.concatenate(data) if data else np.zeros(0)
    if len(flat) > 1 and (len(data) == 1 or len(data) == len(flat)):
        return student(flat)
    return two_level_bootstrap(data, lambda sample: float(sample.mean()), seed=seed)
