"""Intervals, pass@k and crossings, against hand-worked numbers."""

import numpy as np
import pytest

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.crossing import paired_speedup, rollouts_to
from stepcredit.evaluation.intervals import Interval, bootstrap, over_runs, student, two_level_bootstrap, wilson
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


def test_over_a_few_runs_student_covers_what_it_says_and_a_percentile_bootstrap_does_not() -> None:
    rng = np.random.default_rng(0)
    drawn = [rng.normal(size=5) for _ in range(400)]
    exact = [student(values) for values in drawn]
    resampled = [bootstrap(v, lambda x: float(x.mean()), seed=k, resamples=200) for k, v in enumerate(drawn)]
    covered = [sum(i.low <= 0.0 <= i.high for i in found) / len(drawn) for found in (exact, resampled)]
    assert 0.92 < covered[0] < 0.98
    assert covered[1] < 0.88


@pytest.mark.parametrize(("freedom", "point"), [(4, 2.7764), (30, 2.0423), (31, 2.0395), (60, 2.0003), (1000, 1.9623)])
def test_students_points(freedom: int, point: float) -> None:
    """The published points; past the table the expansion is right to the third digit."""
    values = np.linspace(-1.0, 1.0, freedom + 1)
    found = student(values)
    assert found.high / (values.std(ddof=1) / np.sqrt(len(values))) == pytest.approx(point, abs=1e-3)


def test_runs_of_one_checkpoint_and_single_runs_of_several_are_independent() -> None:
    values = np.array([0.2, 0.4, 0.9])
    assert over_runs([values], seed=0) == over_runs([values[:1], values[1:2], values[2:]], seed=0) == student(values)
    two = [np.array([0.0, 0.2]), np.array([0.8, 1.0])]
    assert over_runs(two, seed=3) == two_level_bootstrap(two, lambda sample: float(sample.mean()), seed=3)
    assert over_runs([np.array([0.5])], seed=0) == Interval(0.5, 0.5, 0.5)
    with pytest.raises(UsageError, match="needs at least one value"):
        over_runs([], seed=0)
    with pytest.raises(UsageError, match="student needs at least two values, got 1"):
        student(np.array([1.0]))
