"""When a learning curve first reaches a level: the unit of sample efficiency, censored runs included."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Float64

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.intervals import Interval, over_runs


def rollouts_to(
    rollouts: Float[np.ndarray, " n"], accuracy: Float[np.ndarray, " n"], level: float, *, window: int = 1
) -> float | None:
    """Sampled rollouts at which a curve first reaches a level, by linear interpolation.

    Args:
        rollouts: [n] sampled rollouts at each evaluation, rising.
        accuracy: [n] the curve.
        level: what is to be reached.
        window: evaluations averaged (trailing) before the search; 1 takes the curve as it is.

    Returns:
        The crossing, or `None` if the run never reached the level (censored).

    Source: own. Differs: none.

    >>> rollouts_to(np.array([0.0, 100.0, 200.0]), np.array([0.25, 0.25, 0.75]), 0.5)
    150.0
    >>> rollouts_to(np.array([0.0, 100.0]), np.array([0.2, 0.4]), 0.5) is None
    True
    """
    if len(rollouts) != len(accuracy) or not len(rollouts):
        raise UsageError(f"a curve needs as many accuracies as rollouts, got {len(accuracy)} and {len(rollouts)}")
    smooth = _trailing_mean(np.asarray(accuracy, np.float64), window)
    above = np.flatnonzero(smooth >= level)
    if not len(above):
        return None
    i = int(above[0])
    if i == 0:
        return float(rollouts[0])
    share = (level - smooth[i - 1]) / (smooth[i] - smooth[i - 1])
    return float(rollouts[i - 1] + share * (rollouts[i] - rollouts[i - 1]))


@final
@dataclass(frozen=True)
class Speedup:
    """How many times fewer rollouts a method needed than its baseline, paired by checkpoint and seed.

    Args:
        ratio: geometric mean of baseline / method over the pairs with its 95% interval.
        pairs: number of pairs used.
        method_censored: pairs in which the method never reached the level (its budget stands in: ratio too high).
        baseline_censored: pairs in which the baseline never did (its budget stands in: ratio too low).
    """

    ratio: Interval
    pairs: int
    method_censored: int
    baseline_censored: int


def paired_speedup(
    pairs: Sequence[Sequence[tuple[float | None, float | None]]], *, budget: float, seed: int
) -> Speedup:
    """Geometric-mean ratio baseline / method of rollouts to a level.

    Args:
        pairs: for each checkpoint, for each seed (baseline, method) rollouts, `None` = never within the budget.
        budget: rollouts of a whole run; stands in for censored runs, which are counted.
        seed: of the bootstrap.

    Raises:
        UsageError: if there are no pairs.

    Source: own; the interval is that of `intervals.over_runs`. Differs: none.

    >>> round(paired_speedup([[(200.0, 100.0)], [(400.0, 100.0)]], budget=1000, seed=0).ratio.value, 3)
    2.828
    """
    flat = [pair for cluster in pairs for pair in cluster]
    logs = [np.array([np.log(_spent(b, budget) / _spent(m, budget)) for b, m in cluster]) for cluster in pairs]
    interval = over_runs(logs, seed=seed)
    ratio = Interval(*(float(np.exp(v)) for v in (interval.value, interval.low, interval.high)))
    return Speedup(ratio, len(flat), sum(m is None for _, m in flat), sum(b is None for b, _ in flat))


def _spent(rollouts: float | None, budget: float) -> float:
    """Rollouts to the level: the budget where it was never reached, one where the start was there already."""
    return budget if rollouts is None else max(rollouts, 1.0)


def _trailing_mean(values: Float64[np.ndarray, " n"], window: int) -> Float64[np.ndarray, " n"]:
    sums = np.cumsum(values)
    sums[window:] = sums[window:] - sums[:-window]
    return sums / np.minimum(np.arange(1, len(values) + 1), window)
