"""Calibration, fitted temperature and thresholds, before and after, on synthetic judges."""

import math

import numpy as np
import pytest
from jaxtyping import Bool, Float64

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.calibration import calibration, fit_temperature, tempered
from stepcredit.evaluation.first_error import first_below, first_error_f1
from stepcredit.evaluation.threshold import choose_threshold


def judged(steps: int, sharpness: float, seed: int) -> tuple[Float64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Steps that are right with a true probability, and a judge whose log-odds are that many times too large."""
    generator = np.random.default_rng(seed)
    odds = generator.normal(0.0, 1.5, steps)
    right = generator.random(steps) < 1 / (1 + np.exp(-odds))
    return 1 / (1 + np.exp(-sharpness * odds)), right


def test_an_over_confident_judge_is_mended_by_the_temperature_fitted_on_other_steps() -> None:
    fitted = fit_temperature(*judged(4000, 4.0, 1))
    assert fitted.value == pytest.approx(4.0, rel=0.1)
    assert fitted.after < fitted.before
    assert not fitted.at_bound
    probabilities, right = judged(4000, 4.0, 2)
    before = calibration(probabilities, right, seed=0, resamples=50)
    after = calibration(tempered(probabilities, fitted.value), right, seed=0, resamples=50)
    assert before.ece.low > 0.1
    assert after.ece.value < 0.03
    assert after.brier.high < before.brier.low
    assert after.log_loss < before.log_loss


def test_temperature_keeps_the_order_and_one_half() -> None:
    warm = tempered(np.array([0.1, 0.5, 0.9, np.nan]), 3.0)
    assert warm[1] == 0.5
    assert 0.1 < warm[0] < 0.5 < warm[2] < 0.9
    assert np.isnan(warm[3])
    assert tempered(np.array([0.3]), 1.0)[0] == pytest.approx(0.3)


def test_temperature_does_not_depend_on_the_order_and_is_least() -> None:
    probabilities, right = judged(500, 3.0, 5)
    order = np.random.default_rng(0).permutation(500)
    fitted = fit_temperature(probabilities, right)
    assert fitted == fit_temperature(probabilities[order], right[order])
    for other in (0.9, 1.1):
        moved = tempered(probabilities, fitted.value * other)
        assert calibration(moved, right, seed=0, resamples=2).log_loss > fitted.after


def test_steps_told_apart_completely_drive_the_temperature_to_its_bound() -> None:
    fitted = fit_temperature(np.array([0.6, 0.4]), np.array([True, False]))
    assert fitted.at_bound
    assert fitted.value == pytest.approx(1e-3)
    worse = fit_temperature(np.array([0.6, 0.4]), np.array([False, True]))
    assert worse.at_bound
    assert worse.value == pytest.approx(1e3)


def test_ece_and_table_by_hand() -> None:
    """Bins [0, 0.5) and [0.5, 1]: 0.2 and 0.4 (none, one right), 0.6 and 1.0 (both right)."""
    table = calibration(
        np.array([0.2, 0.4, 0.6, 1.0]), np.array([False, True, True, True]), seed=0, bins=2, resamples=10
    )
    assert [row.count for row in table.bins] == [2, 2]
    assert [row.probability for row in table.bins] == pytest.approx([0.3, 0.8])
    assert [row.right.value for row in table.bins] == [0.5, 1.0]
    assert table.ece.value == pytest.approx(0.5 * 0.2 + 0.5 * 0.2)
    assert table.brier.value == pytest.approx((0.04 + 0.36 + 0.16 + 0.0) / 4)


def test_equal_mass_bins_hold_equally_many_and_keep_equal_probabilities_together() -> None:
    probabilities, right = judged(1000, 1.0, 3)
    table = calibration(probabilities, right, seed=0, bins=5, binning="equal_mass", resamples=2)
    assert [row.count for row in table.bins] == [200] * 5
    same = calibration(np.full(9, 0.7), np.arange(9) < 7, seed=0, bins=5, binning="equal_mass", resamples=2)
    assert [row.count for row in same.bins] == [9]
    assert same.ece.value == pytest.approx(7 / 9 - 0.7)


def test_perfect_and_constant_judges() -> None:
    right = np.array([True, False] * 10)
    perfect = calibration(right.astype(float), right, seed=0, resamples=10)
    assert (perfect.ece.value, perfect.brier.value) == (0.0, 0.0)
    half = calibration(np.full(20, 0.5), right, seed=0, resamples=10)
    assert (half.ece.value, half.brier.value) == (0.0, 0.25)
    assert half.log_loss == pytest.approx(math.log(2))


def test_unknown_probabilities_are_left_out_and_counted() -> None:
    table = calibration(np.array([np.nan, 1.0]), np.array([False, True]), seed=0, resamples=2)
    assert (table.coverage.asked, table.coverage.answered) == (2, 1)
    assert table.brier.value == 0.0
    with pytest.raises(UsageError, match="none of 1"):
        calibration(np.array([np.nan]), np.array([True]), seed=0)
    with pytest.raises(UsageError, match=r"in \[0, 1\]"):
        fit_temperature(np.array([1.5]), np.array([True]))


def test_a_threshold_is_not_applied_to_the_split_it_was_chosen_on() -> None:
    chosen = choose_threshold("gsm8k", ["a", "b"], [0, -1], [[0.1], [0.8]])
    assert 0.1 < chosen.value <= 0.8
    assert chosen.f1 == 1.0
    with pytest.raises(UsageError, match="chosen on split `gsm8k`"):
        chosen.apply("gsm8k", ["c"], [[0.5]])
    with pytest.raises(UsageError, match=r"b: 1 solutions of `math`"):
        chosen.apply("math", ["b", "c"], [[0.5], [0.9]])
    assert chosen.apply("math", ["c", "d", "e"], [[0.9, 0.2], [0.9], [None]]) == (1, -1, None)


def test_the_threshold_chosen_is_the_best_of_all() -> None:
    generator = np.random.default_rng(4)
    labels = [int(generator.integers(-1, 4)) for _ in range(80)]
    scores = [
        [None if generator.random() < 0.02 else round(float(generator.random()), 2) for _ in range(4)] for _ in labels
    ]
    chosen = choose_threshold("a", [str(i) for i in range(80)], labels, scores)

    def f1(threshold: float) -> float:
        found = first_error_f1(labels, [first_below(row, threshold) for row in scores], seed=0, resamples=1).f1
        assert found is not None
        return found.value

    assert f1(chosen.value) == pytest.approx(chosen.f1)
    assert chosen.f1 == pytest.approx(max(f1(i / 200) for i in range(203)))


def test_a_threshold_needs_both_classes_and_labels_inside_the_steps() -> None:
    with pytest.raises(UsageError, match="with and without"):
        choose_threshold("a", ["x"], [0], [[0.1]])
    with pytest.raises(UsageError, match="x: label 1"):
        choose_threshold("a", ["x", "y"], [1, -1], [[0.1], [0.2]])
