"""PRMScore, MR-Score, BIG-Bench Mistake, positions and groups against hand-worked numbers."""

import numpy as np
import pytest

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.by_position import by_group, by_position
from stepcredit.evaluation.compare import compare_first_error, mcnemar
from stepcredit.evaluation.first_error import step_labels
from stepcredit.evaluation.intervals import wilson
from stepcredit.evaluation.mistake import mistake_accuracy
from stepcredit.evaluation.mr_score import matthews, mr_score
from stepcredit.evaluation.prmscore import prm_score, prm_scores


def test_prm_score_is_the_mean_of_the_two_f1() -> None:
    """4 right steps, 3 of them called right; 2 wrong, 1 called wrong: F1 6/8 and 2/4."""
    labels, verdicts = [[True, True, True, False], [True, False]], [[True, True, False, False], [True, True]]
    score = prm_score(labels, verdicts, seed=0, resamples=20)
    assert score.right_f1 is not None
    assert score.wrong_f1 is not None
    assert score.score is not None
    assert score.right_f1.value == pytest.approx(0.75)
    assert score.wrong_f1.value == pytest.approx(0.5)
    assert score.score.value == pytest.approx(0.625)
    assert (score.right, score.wrong) == (4, 2)


def test_an_unknown_step_counts_against_both_f1() -> None:
    score = prm_score([[True, False]], [[None, None]], seed=0, resamples=5)
    flipped = prm_score([[True, False]], [[False, True]], seed=0, resamples=5)
    assert score.score is not None
    assert score.score.value == 0.0
    assert flipped.score == score.score
    assert (score.coverage.unknown, flipped.coverage.unknown) == (2, 0)


def test_unlabelled_steps_do_not_count() -> None:
    score = prm_score([[True, False, None]], [[True, False, None]], seed=0, resamples=5)
    assert score.coverage.asked == 2
    assert score.score is not None
    assert score.score.value == 1.0


def test_a_class_without_wrong_steps_has_no_prm_score() -> None:
    score = prm_score([[True, True]], [[True, False]], seed=0, resamples=5)
    assert score.score is None
    assert score.wrong_f1 is None
    assert score.right_f1 is not None
    assert score.right_f1.value == pytest.approx(2 / 3)


def test_prm_scores_by_class_group_mean_and_pooled() -> None:
    scores = prm_scores(
        ["circular", "redundency", "deception"],
        [[True, False], [True, False], [True, False]],
        [[True, False], [False, True], [True, False]],
        seed=0,
        resamples=10,
    )
    assert scores.groups == {"simplicity": 0.5, "sensitivity": 1.0}
    assert scores.mean == pytest.approx(2 / 3)
    assert scores.pooled.score is not None
    assert scores.pooled.score.value == pytest.approx(2 / 3)


def test_prm_score_refuses_what_does_not_fit() -> None:
    with pytest.raises(UsageError, match="labels and verdicts of a solution"):
        prm_score([[True]], [[True, False]], seed=0)
    with pytest.raises(UsageError, match="at least one labelled step"):
        prm_score([[None]], [[True]], seed=0)


def test_matthews_by_hand() -> None:
    truth = np.array([True] * 6 + [False] * 4)
    called = np.array([True] * 5 + [False] + [True] + [False] * 3)
    assert matthews(truth, called) == pytest.approx((5 * 3 - 1 * 1) / np.sqrt(6 * 6 * 4 * 4))
    assert matthews(truth, truth) == 1.0
    assert matthews(truth, ~truth) == -1.0
    assert matthews(truth, np.ones(10, bool)) == 0.0


def test_mr_score_by_hand() -> None:
    """4 wrong (3 found, 2 at the step, 1 with the reason), 2 right (both kept): MCC of (3, 2, 0, 1)."""
    labels, predictions = [0, 1, 2, 3, -1, -1], [0, 1, 0, -1, -1, -1]
    score = mr_score(labels, predictions, [True, False, True, None, None, None], seed=0, resamples=20)
    mcc = (3 * 2 - 0) / np.sqrt(3 * 4 * 2 * 3)
    assert score.score is not None
    assert score.reason_accuracy is not None
    assert score.correlation.value == pytest.approx(mcc)
    assert (score.step_accuracy.value, score.reason_accuracy.value) == (0.5, 0.25)
    assert score.score.value == pytest.approx(0.2 * mcc + 0.3 * 0.5 + 0.5 * 0.25)
    assert (score.reasons.asked, score.reasons.answered) == (2, 2)


def test_a_correlation_below_zero_adds_nothing() -> None:
    score = mr_score([0, -1], [-1, 0], [None, None], seed=0, resamples=5)
    assert score.correlation.value == -1.0
    assert score.score is not None
    assert score.score.value == 0.0


def test_without_judged_reasons_there_is_no_mr_score() -> None:
    score = mr_score([0, -1], [0, None], seed=0, resamples=5)
    assert score.score is None
    assert score.reason_accuracy is None
    assert score.coverage.unknown == 1
    assert score.correlation.value == 0.0


def test_mr_score_refuses_weights_that_do_not_sum_to_one_and_a_set_without_wrong_solutions() -> None:
    with pytest.raises(UsageError, match="sum to 1"):
        mr_score([0], [0], seed=0, weights=(0.2, 0.3, 0.4))
    with pytest.raises(UsageError, match="at least one wrong solution"):
        mr_score([-1], [-1], seed=0)


def test_mistake_accuracy_by_hand() -> None:
    score = mistake_accuracy([0, 2, -1, -1], [0, None, -1, 0], seed=0, resamples=20)
    assert score.with_mistake is not None
    assert score.without is not None
    assert (score.accuracy.value, score.with_mistake.value, score.without.value) == (0.5, 0.5, 0.5)
    assert score.coverage.unknown == 1
    assert mistake_accuracy([0], [0], seed=0, resamples=5).without is None


def test_positions_share_the_last_row_and_unknown_is_neither_kept_nor_found() -> None:
    labels = [step_labels(2, 4), step_labels(-1, 2)]
    verdicts = [[True, None, False, True], [False, True]]
    rows = by_position(labels, verdicts, last=1)
    assert [row.position for row in rows] == [0, 1]
    assert rows[0].right_kept == wilson(1, 2)
    assert rows[0].wrong_found is None
    assert rows[1].right_kept == wilson(1, 2)
    assert rows[1].wrong_found == wilson(1, 1)
    assert (rows[1].coverage.asked, rows[1].coverage.unknown) == (3, 1)


def test_groups_are_scored_apart() -> None:
    scores = by_group(["x", "y", "x", "y"], [0, 0, -1, -1], [0, 1, -1, -1], seed=0, resamples=10)
    assert list(scores) == ["x", "y"]
    assert [score.f1.value for score in scores.values() if score.f1 is not None] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("first_only", "second_only", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (1, 0, 1.0), (10, 2, 79 * 2 / 4096), (2, 10, 79 * 2 / 4096), (8, 1, 20 / 512)],
)
def test_mcnemar_against_hand_values(first_only: int, second_only: int, p: float) -> None:
    """10 against 2: (1 + 12 + 66) / 2^12 on one side; 8 against 1: (1 + 9) / 2^9."""
    first = np.array([True] * first_only + [False] * second_only + [True, False])
    second = np.array([False] * first_only + [True] * second_only + [True, False])
    test = mcnemar(first, second)
    assert test.p_value == pytest.approx(p)
    assert (test.both, test.first_only, test.second_only, test.neither) == (1, first_only, second_only, 1)


def test_a_judge_against_itself_differs_in_nothing() -> None:
    labels, predictions = [0, 1, -1, -1] * 5, [0, 0, -1, None] * 5
    same = compare_first_error(labels, predictions, predictions, seed=0, resamples=50)
    assert (same.difference.value, same.difference.low, same.difference.high) == (0.0, 0.0, 0.0)
    assert same.mcnemar.p_value == 1.0
    assert same.first == same.second
    assert same.first.unknown == 5


def test_exchanging_the_judges_turns_the_sign() -> None:
    labels = [0, 1, -1, -1] * 20
    good, bad = [0, 1, -1, -1] * 20, [0, 0, -1, 0] * 20
    one = compare_first_error(labels, good, bad, seed=0, resamples=100)
    two = compare_first_error(labels, bad, good, seed=0, resamples=100)
    assert one.difference.value == pytest.approx(-two.difference.value)
    assert one.difference.low == pytest.approx(-two.difference.high)
    assert one.difference.low > 0
    assert one.errors.first_only == 20
    assert one.correct.p_value < 1e-4


def test_judges_on_different_items_are_refused() -> None:
    with pytest.raises(UsageError, match="2 and 1"):
        compare_first_error([0, -1], [0, -1], [0], seed=0)
