"""ProcessBench's F1 against hand cases, and the decision from step scores."""

import random
from typing import get_type_hints

import pytest

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.binary_f1 import BinaryF1, binary_f1, says_correct
from stepcredit.evaluation.first_error import (
    FirstErrorF1,
    first_below,
    first_error_f1,
    first_error_splits,
    step_labels,
)


def test_exact_accuracies_on_sets_of_the_official_size_give_the_published_f1() -> None:
    """7B Pass@1 on GSM8K: 140 of 207 errors located, 181 or 182 of 193 clean solutions kept (94.0, 78.7)."""
    labels = [2] * 207 + [-1] * 193
    predictions = [2] * 140 + [1] * 67 + [-1] * 181 + [0] * 12
    score = first_error_f1(labels, predictions, seed=0, resamples=20)
    assert score.f1 is not None
    assert score.error_accuracy is not None
    assert 100 * score.error_accuracy.value == pytest.approx(67.6, abs=0.05)
    assert 100 * score.f1.value == pytest.approx(78.6, abs=0.06)


def test_a_missing_prediction_is_wrong_in_either_class_and_counted_apart() -> None:
    score = first_error_f1([0, 1, -1, -1], [0, None, -1, None], seed=1, resamples=50)
    assert score.error_accuracy is not None
    assert score.correct_accuracy is not None
    assert (score.error_accuracy.value, score.correct_accuracy.value) == (0.5, 0.5)
    assert (score.coverage.asked, score.coverage.answered, score.coverage.unknown) == (4, 2, 2)


def test_both_accuracies_zero_give_zero() -> None:
    score = first_error_f1([0, -1], [1, 0], seed=0, resamples=20)
    assert score.f1 is not None
    assert (score.f1.value, score.f1.low, score.f1.high) == (0.0, 0.0, 0.0)


def test_a_near_miss_is_a_miss() -> None:
    score = first_error_f1([3, -1], [2, -1], seed=0, resamples=20)
    assert score.f1 is not None
    assert score.f1.value == 0.0


def test_a_set_without_one_of_the_classes_has_no_f1() -> None:
    score = first_error_f1([0, 2], [0, 1], seed=0, resamples=20)
    assert score.f1 is None
    assert score.correct_accuracy is None
    assert score.error_accuracy is not None
    assert score.error_accuracy.value == 0.5


def test_order_does_not_matter_and_everything_stays_inside_0_and_1() -> None:
    draw = random.Random(3)
    rows = [(draw.randint(-1, 4), draw.choice([None, -1, 0, 1, 2, 3, 4])) for _ in range(60)]
    mixed = draw.sample(rows, len(rows))
    one, two = (first_error_f1([y for y, _ in r], [p for _, p in r], seed=0, resamples=50) for r in (rows, mixed))
    assert one.f1 is not None
    assert two.f1 is not None
    assert one.f1.value == two.f1.value
    assert 0 <= one.f1.low <= one.f1.value <= one.f1.high <= 1


def test_equal_seeds_give_equal_intervals() -> None:
    labels, predictions = [0, 1, -1, -1] * 10, [0, 0, -1, 0] * 10
    assert first_error_f1(labels, predictions, seed=5) == first_error_f1(labels, predictions, seed=5)


def test_the_average_over_splits_is_the_mean_of_f1_not_the_f1_of_all() -> None:
    labels = {"a": [0, -1], "b": [0, 0, 0, -1]}
    predictions = {"a": [0, -1], "b": [1, 1, 0, -1]}
    scores = first_error_splits(labels, predictions, seed=0, resamples=50)
    assert scores.average is not None
    assert scores.average.value == pytest.approx((1.0 + 0.5) / 2)
    assert list(scores.splits) == ["a", "b"]
    assert scores.splits["b"].errors == 3


def test_splits_must_agree() -> None:
    with pytest.raises(UsageError, match="splits"):
        first_error_splits({"a": [0]}, {"b": [0]}, seed=0)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [([], [], "at least one"), ([0], [], "1 and 0"), ([-2], [0], "got -2")],
)
def test_what_cannot_be_scored_is_refused(labels: list[int], predictions: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        first_error_f1(labels, predictions, seed=0)


def test_the_decision_is_the_first_score_below_the_threshold() -> None:
    assert first_below([0.5, 0.9]) == -1
    assert first_below([0.9, 0.49, 0.1]) == 1
    assert first_below([0.9, 0.3], threshold=0.3) == -1


def test_an_unknown_step_leaves_the_decision_open_unless_it_was_made_before() -> None:
    assert first_below([0.9, None, 0.1]) is None
    assert first_below([0.9, float("nan"), 0.9]) is None
    assert first_below([0.1, None]) == 0
    with pytest.raises(UsageError, match="got 0"):
        first_below([])


def test_a_label_outside_the_steps_is_refused() -> None:
    assert step_labels(0, 2) == (False, None)
    with pytest.raises(UsageError, match="label 2"):
        step_labels(2, 2)


def test_binary_f1_of_a_coin_is_that_of_the_paper() -> None:
    """thinkprm.md 5.1: with share p of error-free rows a coin has p / (p + 0.5): 40.4 and 32.5 percent."""
    for clean, percent in ((339, 40.4), (241, 32.5)):
        labels = [-1] * (2 * clean) + [0] * (2 * (1000 - clean))
        coin = [i % 2 == 0 for i in range(2000)]
        assert 100 * binary_f1(labels, coin, seed=0, resamples=5).f1.value == pytest.approx(percent, abs=0.06)
    labels = [-1] * 678 + [0] * 1322
    other = binary_f1(labels, [i % 2 == 0 for i in range(2000)], seed=0, positive="error", resamples=5)
    assert 100 * other.f1.value == pytest.approx(56.9, abs=0.06)


def test_binary_f1_of_unusable_outputs_is_a_setting() -> None:
    labels, verdicts = [-1, -1, 0, 0], [True, None, False, None]
    wrong = binary_f1(labels, verdicts, seed=0, resamples=5)
    left_out = binary_f1(labels, verdicts, seed=0, unknown="left_out", resamples=5)
    assert (wrong.f1.value, wrong.precision, wrong.recall) == (0.5, 0.5, 0.5)
    assert left_out.f1.value == 1.0
    assert wrong.coverage == left_out.coverage
    assert wrong.coverage.unknown == 2


def test_binary_and_official_f1_are_types_of_their_own() -> None:
    assert not issubclass(BinaryF1, FirstErrorF1)
    assert set(get_type_hints(BinaryF1)) != set(get_type_hints(FirstErrorF1))


def test_a_solution_score_says_error_free_from_the_threshold_on() -> None:
    assert [says_correct(s) for s in (0.5, 0.4, None, float("nan"))] == [True, False, None, None]
