"""ProcessBench's F1 against hand cases and the published table, and the decision from step scores."""

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
    harmonic_mean,
    step_labels,
)

SPLITS = ("GSM8K", "MATH", "Olympiad", "Omni")
ACCURACIES = {
    "1.5B Pass@1": ((37.0, 92.7), (57.1, 80.1), (47.0, 66.5), (45.2, 68.7)),
    "1.5B Maj@8": ((34.8, 97.4), (64.7, 87.7), (57.2, 76.1), (51.3, 80.1)),
    "7B Pass@1": ((67.7, 94.0), (74.6, 87.0), (68.3, 76.6), (63.5, 77.4)),
    "7B Maj@8": ((69.6, 96.9), (80.5, 91.6), (74.0, 83.5), (70.0, 85.1)),
    "32B Pass@1": ((73.1, 96.4), (79.4, 84.1), (73.4, 72.2), (70.3, 75.5)),
    "32B Maj@8": ((74.9, 98.5), (84.0, 88.7), (79.0, 78.8), (76.3, 84.2)),
    "Direct 7B": ((52.7, 81.4), (55.9, 80.0), (44.8, 69.6), (45.5, 72.6)),
    "Qwen2.5-Math-PRM-7B": ((72.0, 96.4), (68.0, 90.4), (55.7, 85.5), (55.2, 83.0)),
    "Qwen2.5-Math-PRM-72B": ((78.7, 97.9), (74.2, 88.2), (67.9, 82.0), (64.8, 78.8)),
    "QwQ-32B-Preview": ((81.6, 95.3), (78.1, 79.3), (61.4, 54.6), (55.7, 68.0)),
}
"""genprm.md 8.2: error and correct accuracy in percent."""
PUBLISHED = {
    "1.5B Pass@1": (52.8, 66.6, 55.1, 54.5, 57.3),
    "1.5B Maj@8": (51.3, 74.4, 65.3, 62.5, 63.4),
    "7B Pass@1": (78.7, 80.3, 72.2, 69.8, 75.2),
    "7B Maj@8": (81.0, 85.7, 78.4, 76.8, 80.5),
    "32B Pass@1": (83.1, 81.7, 72.8, 72.8, 77.6),
    "32B Maj@8": (85.1, 86.3, 78.9, 80.1, 82.6),
    "Direct 7B": (63.9, 65.8, 54.5, 55.9, 60.0),
    "Qwen2.5-Math-PRM-7B": (82.4, 77.6, 67.5, 66.3, 73.5),
    "Qwen2.5-Math-PRM-72B": (87.3, 80.6, 74.3, 71.1, 78.3),
    "QwQ-32B-Preview": (88.0, 78.7, 57.8, 61.3, 71.5),
}
"""genprm.md 8.1: F1 on the four splits and their average, in percent."""
SLIPS = {
    ("1.5B Maj@8", "GSM8K"): "the size table repeats it as 81.0; table 8.1 has 51.3, which follows",
    ("RLHFlow-Deepseek-8B", "Omni"): "16.9 published, its accuracies give 18.0",
    ("Skywork-PRM-7B", "MATH"): "53.6 published, its accuracies give 51.4",
}
"""Known exceptions (genprm.md 8.2, paper slips). The accuracies behind the last two do not stand in the spec."""
ROUNDING = 0.05 + 0.05 + 1e-9
"""Half a unit of the last digit of the F1, and what rounding both accuracies can move it by."""


@pytest.mark.parametrize("model", ACCURACIES)
def test_f1_follows_from_the_published_accuracies(model: str) -> None:
    for split, (error, correct), f1 in zip(SPLITS, ACCURACIES[model], PUBLISHED[model], strict=False):
        assert 100 * harmonic_mean(error / 100, correct / 100) == pytest.approx(f1, abs=ROUNDING), split


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_average_is_the_plain_mean_of_the_splits(model: str) -> None:
    *splits, average = PUBLISHED[model]
    assert sum(splits) / 4 == pytest.approx(average, abs=ROUNDING)


def test_the_only_slip_inside_the_table_is_the_one_of_the_size_table() -> None:
    error, correct = ACCURACIES["1.5B Maj@8"][0]
    value = 100 * harmonic_mean(error / 100, correct / 100)
    assert value == pytest.approx(51.3, abs=ROUNDING)
    assert abs(value - 81.0) > 20
    assert [model for model, _ in SLIPS if model in ACCURACIES] == ["1.5B Maj@8"]


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
