"""Intervals: Wilson for shares, bootstrap over items, and the two-level bootstrap over checkpoint, then seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Float64

from stepcredit.core.errors import UsageError

_Z95 = 1.959963984540054


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
