"""Calibration of step probabilities: reliability table, ECE, Brier score, log loss, and a fitted temperature."""

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.intervals import Interval, wilson
from stepcredit.evaluation.resampling import Coverage, row_bootstrap, same_length

Binning = Literal["equal_width", "equal_mass"]
"""Bins of one width on [0, 1], or of about one number of steps (equal probabilities stay in one bin)."""

_LEAST, _MOST = 1e-3, 1e3
_CLIP = 1e-6


@final
@dataclass(frozen=True)
class Bin:
    """One row of a reliability table.

    Args:
        low: lower edge.
        high: upper edge; belongs to the last bin only.
        count: steps in it, at least 1.
        probability: their mean probability.
        right: share of them that is right, with its 95% Wilson interval.
    """

    low: float
    high: float
    count: int
    probability: float
    right: Interval


@final
@dataclass(frozen=True)
class Calibration:
    """How far step probabilities can be believed.

    Args:
        bins: bins that hold a step, from low to high.
        ece: expected calibration error, in [0, 1].
        brier: Brier score, in [0, 1].
        log_loss: in nats a step; probabilities are kept 1e-6 away from 0 and 1.
        coverage: in steps; those without a probability are left out.
    """

    bins: tuple[Bin, ...]
    ece: Interval
    brier: Interval
    log_loss: float
    coverage: Coverage


@final
@dataclass(frozen=True)
class Temperature:
    """One number that softens (> 1) or sharpens (< 1) probabilities.

    Args:
        value: the temperature.
        at_bound: True if the fit ran to the end of its range, [1e-3, 1e3]: the probabilities separate right from
            wrong steps completely, or do not tell them apart.
        before: log loss of the steps it was fitted on, in nats a step.
        after: the same at the temperature.
        steps: how many it was fitted on.
    """

    value: float
    at_bound: bool
    before: float
    after: float
    steps: int


def calibration(
    probabilities: Float[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    *,
    seed: int,
    bins: int = 10,
    binning: Binning = "equal_width",
    resamples: int = 1000,
) -> Calibration:
    """Reliability table, ECE and Brier score of the probabilities that steps are right.

        ECE   = sum over bins of count / n |share right - mean probability|
        Brier = mean (probability - right)^2

    Args:
        probabilities: [n] in [0, 1]; NaN is unknown and left out.
        right: [n] True = the step is right.
        seed: of the bootstrap over steps; the edges of the bins stay as they are.
        bins: at least 1.
        binning: how the bins are cut.
        resamples: of the bootstrap.

    Raises:
        UsageError: if the numbers differ, no probability is known, or one is outside [0, 1].

    Source: Guo et al. 2017, arXiv:1706.04599 (ECE); Nixon et al. 2019, arXiv:1904.01685 (equal mass); Brier 1950.
    Differs: the probability is that of 'right', not of the class that was called.

    >>> table = calibration(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False]), seed=0)
    >>> round(table.ece.value, 3), round(table.brier.value, 3)
    (0.15, 0.21)
    """
    p, y = _known(probabilities, right)
    if bins < 1:
        raise UsageError(f"a reliability table needs at least one bin, got {bins}")
    edges = np.linspace(0, 1, bins + 1) if binning == "equal_width" else np.quantile(p, np.linspace(0, 1, bins + 1))
    edges = np.unique(edges)
    place = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, max(len(edges) - 2, 0))

    def ece(rows: Int64[np.ndarray, " m"]) -> float:
        gap = np.bincount(place[rows], weights=y[rows] - p[rows])
        return float(np.abs(gap).sum() / len(rows))

    def brier(rows: Int64[np.ndarray, " m"]) -> float:
        return float(((p[rows] - y[rows]) ** 2).mean())

    table: list[Bin] = []
    for index in np.unique(place).tolist():
        inside = place == index
        count, low, high = int(inside.sum()), float(edges[index]), float(edges[min(index + 1, len(edges) - 1)])
        table.append(Bin(low, high, count, float(p[inside].mean()), wilson(int(y[inside].sum()), count)))
    return Calibration(
        tuple(table),
        row_bootstrap(len(p), ece, seed=seed, purpose="ece", resamples=resamples),
        row_bootstrap(len(p), brier, seed=seed, purpose="brier", resamples=resamples),
        _log_loss(_log_odds(p), y),
        Coverage(len(probabilities), len(p)),
    )


def tempered(probabilities: Float[np.ndarray, " n"], temperature: float) -> Float64[np.ndarray, " n"]:
    """[n] sigmoid(log-odds / temperature); NaN stays NaN.

    Args:
        probabilities: [n] in [0, 1], kept 1e-6 away from the ends.
        temperature: > 0; 1 changes nothing.

    Raises:
        UsageError: if the temperature is not above 0.

    Source: Guo et al. 2017, arXiv:1706.04599. Differs: none.

    >>> tempered(np.array([0.5, 0.9]), 2.0)
    array([0.5 , 0.75])
    """
    if not 0 < temperature < math.inf:
        raise UsageError(f"a temperature is a number above 0, got {temperature}")
    return _sigmoid(_log_odds(np.asarray(probabilities, np.float64)) / temperature)


def fit_temperature(probabilities: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]) -> Temperature:
    """The temperature of least log loss on labelled steps; apply it to others.

    The loss is convex in 1 / temperature: its slope is halved in, so equal data give an equal number everywhere.

    Args:
        probabilities: [n] in [0, 1]; NaN is unknown and left out.
        right: [n] True = the step is right.

    Raises:
        UsageError: as `calibration`.

    Source: Guo et al. 2017, arXiv:1706.04599. Differs: solved by bisection.

    >>> fitted = fit_temperature(np.full(4, 0.9), np.array([True, True, True, False]))
    >>> round(float(tempered(np.array([0.9]), fitted.value)[0]), 6)
    0.75
    """
    p, y = _known(probabilities, right)
    odds = _log_odds(p)

    def slope(sharpness: float) -> float:
        return float(((_sigmoid(sharpness * odds) - y) * odds).mean())

    low, high = 1 / _MOST, 1 / _LEAST
    at_bound = True
    if slope(low) >= 0:
        high = low
    elif slope(high) <= 0:
        low = high
    else:
        at_bound = False
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if slope(middle) >= 0 else (middle, high)
    sharpness = math.sqrt(low * high)
    return Temperature(1 / sharpness, at_bound, _log_loss(odds, y), _log_loss(sharpness * odds, y), len(p))


def _known(
    probabilities: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """The known probabilities and their labels, in an order that does not depend on the order given."""
    same_length("probabilities and labels", len(probabilities), len(right))
    p, y = np.asarray(probabilities, np.float64), np.asarray(right, np.float64)
    known = ~np.isnan(p)
    if not known.any():
        raise UsageError(f"calibration needs at least one known probability, got none of {len(p)}")
    p, y = p[known], y[known]
    if p.min() < 0 or p.max() > 1:
        raise UsageError(f"probabilities lie in [0, 1], got {p.min():g} to {p.max():g}")
    order = np.lexsort((y, p))
    return p[order], y[order]


def _log_odds(p: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    inside = np.clip(p, _CLIP, 1 - _CLIP)
    return np.log(inside) - np.log1p(-inside)


def _sigmoid(x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Without overflow on either side."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _log_loss(odds: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"]) -> float:
    return float((np.logaddexp(0.0, odds) - y * odds).mean())
