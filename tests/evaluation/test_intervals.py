"""Intervals, pass@k and crossings, against hand-worked numbers."""

import numpy as np
import pytest

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.crossing import paired_speedup, rollouts_to
from stepcredit.evaluation.intervals import Interval, bootstrap, two_level_bootstrap, wilson
from stepcredit.evaluation.policy import mean_interval, pass_at_k


def test_wilson_of_half_is_symmetric_and_covers_the_share() -> None:
    interval = wilson(50, 100)
    assert interval.low == pytest.approx(1 - interval.high)
    assert interval.low < 0.5 < interval.high


def test_wilson_at_the_ends_stays_inside() -> None:
    assert wilson(0, 10).low == 0.0
    assert wilson(10, 10).high == 1.0


def test_wilson_refuses_no_items() -> None:
    with pytest.raises(UsageError, match="total >= 1"):
        wilson(0, 0)


def test_bootstrap_of_a_constant_has_no_width() -> None:
    assert bootstrap(np.full(9, 0.25), lambda s: float(s.mean()), seed=1) == Interval(0.25, 0.25, 0.25)


def test_bootstrap_width_of_a_mean_is_that_of_the_standard_error() -> None:
    data = np.random.default_rng(0).normal(size=400)
    interval = mean_interval(data, seed=3)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * data.std() / 20, rel=0.1)


def test_two_level_bootstrap_is_wider_when_checkpoints_differ() -> None:
    generator = np.random.default_rng(1)
    noise = [generator.normal(size=5) for _ in range(4)]
    same = two_level_bootstrap(noise, lambda s: float(s.mean()), seed=0)
    apart = two_level_bootstrap([n + 5 * i for i, n in enumerate(noise)], lambda s: float(s.mean()), seed=0)
    assert apart.high - apart.low > 3 * (same.high - same.low)


def test_pass_at_k_limits() -> None:
    right = np.array([[True, True, False, False], [False] * 4, [True] * 4])
    assert pass_at_k(right, 1).tolist() == [0.5, 0.0, 1.0]
    assert pass_at_k(right, 4).tolist() == [1.0, 0.0, 1.0]
    assert pass_at_k(right, 2)[0] == pytest.approx(1 - 1 / 6)


def test_pass_at_k_refuses_too_few_attempts() -> None:
    with pytest.raises(UsageError, match="at least 8 attempts"):
        pass_at_k(np.zeros((3, 4), bool), 8)


def test_crossing_at_the_first_evaluation_and_with_a_window() -> None:
    rollouts, curve = np.array([0.0, 10.0, 20.0, 30.0]), np.array([0.6, 0.2, 0.8, 0.8])
    assert rollouts_to(rollouts, curve, 0.5) == 0.0
    assert rollouts_to(rollouts[1:], curve[1:], 0.5, window=2) == 20.0


def test_censored_runs_are_counted_and_bounded_by_the_budget() -> None:
    speedup = paired_speedup([[(None, 500.0), (1000.0, None)]], budget=1000.0, seed=0)
    assert speedup.pairs == 2
    assert (speedup.method_censored, speedup.baseline_censored) == (1, 1)
    assert speedup.ratio.value == pytest.approx(np.sqrt(2.0))


def test_a_level_that_held_at_the_start_is_no_level_never_reached() -> None:
    speedup = paired_speedup([[(0.0, 0.0), (100.0, 0.0)]], budget=1000.0, seed=0)
    assert (speedup.method_censored, speedup.baseline_censored) == (0, 0)
    assert speedup.ratio.value == pytest.approx(10.0)
