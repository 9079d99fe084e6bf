"""A perfect, a constant and a random judge on every step-labelled set: the figures that theory gives."""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from stepcredit.core.seeds import derive
from stepcredit.evaluation.binary_f1 import binary_f1
from stepcredit.evaluation.first_error import FirstErrorF1, first_error_f1, first_error_splits, harmonic_mean
from stepcredit.evaluation.judge_sets import (
    LabelledSolution,
    read_bigbench_mistake,
    read_mr_ben,
    read_mr_gsm8k,
    read_prm800k_records,
    read_prmbench,
    read_processbench,
)
from stepcredit.evaluation.mistake import mistake_accuracy
from stepcredit.evaluation.mr_score import mr_score
from stepcredit.evaluation.prmscore import prm_score, prm_scores

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SETS: dict[str, Callable[[Path], tuple[LabelledSolution, ...]]] = {
    "processbench": read_processbench,
    "prmbench": read_prmbench,
    "mr_gsm8k": read_mr_gsm8k,
    "mr_ben": read_mr_ben,
    "bigbench_mistake": read_bigbench_mistake,
    "prm800k_sample": lambda folder: read_prm800k_records(folder / "raw_records.jsonl"),
}
FEW = 40


@cache
def solutions(name: str) -> list[LabelledSolution]:
    if not (DATA / name).is_dir():
        pytest.skip(f"needs ../shared/data/{name}")
    return [s for s in SETS[name](DATA / name) if s.label is not None and not s.out_of_range]


def labels_of(found: list[LabelledSolution]) -> list[int]:
    return [solution.label for solution in found if solution.label is not None]


def accuracies(score: FirstErrorF1) -> tuple[float | None, float | None]:
    error, correct = score.error_accuracy, score.correct_accuracy
    return None if error is None else error.value, None if correct is None else correct.value


@pytest.mark.parametrize("name", SETS)
def test_a_perfect_judge_is_right_everywhere(name: str) -> None:
    labels = labels_of(solutions(name))
    score = first_error_f1(labels, labels, seed=0, resamples=FEW)
    assert {part for part in accuracies(score) if part is not None} == {1.0}
    assert score.f1 is None or score.f1.value == 1.0
    assert score.f1 is None or score.f1.low == 1.0 or len(labels) < FEW, "only a tiny set's resamples lack a class"
    assert mistake_accuracy(labels, labels, seed=0, resamples=FEW).accuracy.low == 1.0
    assert score.coverage.unknown == 0


@pytest.mark.parametrize("name", SETS)
def test_a_judge_that_always_says_correct_has_no_error_accuracy(name: str) -> None:
    labels = labels_of(solutions(name))
    score = first_error_f1(labels, [-1] * len(labels), seed=0, resamples=FEW)
    assert accuracies(score) in ((0.0, 1.0), (None, 1.0))
    assert score.f1 is None or score.f1.value == 0.0
    clean = sum(label == -1 for label in labels)
    binary = binary_f1(labels, [True] * len(labels), seed=0, resamples=FEW)
    assert binary.f1.value == pytest.approx(2 * clean / (clean + len(labels)))
    accuracy = mistake_accuracy(labels, [-1] * len(labels), seed=0, resamples=FEW).accuracy.value
    assert accuracy == pytest.approx(clean / len(labels))


@pytest.mark.parametrize("name", SETS)
def test_a_judge_that_always_names_the_first_step_finds_the_errors_that_are_there(name: str) -> None:
    labels = labels_of(solutions(name))
    score = first_error_f1(labels, [0] * len(labels), seed=0, resamples=FEW)
    errors = sum(label != -1 for label in labels)
    first = sum(label == 0 for label in labels)
    error, correct = accuracies(score)
    assert error == (pytest.approx(first / errors) if errors else None)
    assert correct in (0.0, None)
    assert score.f1 is None or score.f1.value == 0.0
    assert binary_f1(labels, [False] * len(labels), seed=0, resamples=FEW).f1.value == 0.0


@pytest.mark.parametrize("name", [name for name in SETS if name != "prm800k_sample"])
def test_a_random_judge_has_the_accuracies_of_chance(name: str) -> None:
    """It draws from -1 and the K steps alike: right with 1 / (K + 1); 4 standard errors are allowed."""
    found = solutions(name)
    labels = labels_of(found)
    draw = random.Random(derive(0, name))
    predictions = [draw.randrange(-1, len(s.steps)) for s in found]
    score = first_error_f1(labels, predictions, seed=0, resamples=FEW)
    expected: list[float] = []
    for share, rows in (
        (score.error_accuracy, [s for s in found if s.label != -1]),
        (score.correct_accuracy, [s for s in found if s.label == -1]),
    ):
        chances = [1 / (len(s.steps) + 1) for s in rows]
        mean = sum(chances) / len(chances)
        error = sum(p * (1 - p) for p in chances) ** 0.5 / len(chances)
        assert share is not None
        assert abs(share.value - mean) < 4 * error
        expected.append(mean)
    assert score.f1 is not None
    assert score.f1.value == pytest.approx(harmonic_mean(*expected), abs=0.05)


@pytest.mark.parametrize("name", SETS)
def test_a_judge_that_says_nothing_is_wrong_everywhere_and_covers_nothing(name: str) -> None:
    labels = labels_of(solutions(name))
    score = first_error_f1(labels, [None] * len(labels), seed=0, resamples=FEW)
    assert set(accuracies(score)) <= {0.0, None}
    assert (score.coverage.asked, score.coverage.answered) == (len(labels), 0)


def test_the_average_over_processbench_of_a_judge_that_knows_two_splits_is_a_half() -> None:
    found = solutions("processbench")
    labels: dict[str, list[int]] = {}
    for solution, label in zip(found, labels_of(found), strict=True):
        labels.setdefault(solution.split, []).append(label)
    said = {name: rows if name in ("gsm8k", "math") else [-1] * len(rows) for name, rows in labels.items()}
    average = first_error_splits(labels, said, seed=0, resamples=FEW).average
    assert average is not None
    assert (average.value, average.low, average.high) == (0.5, 0.5, 0.5)


def test_prm_scores_of_perfect_and_constant_judges_on_prmbench() -> None:
    """All right: F1 of right steps 2 r / (2 r + w), of wrong steps 0; all wrong: the other way round."""
    found = [s for s in solutions("prmbench") if s.kind not in ("original", "multi_solutions")]
    truth = [s.step_truth for s in found]
    perfect = prm_scores([s.kind for s in found], truth, truth, seed=0, resamples=5)
    assert perfect.mean == 1.0
    assert perfect.groups == {"simplicity": 1.0, "soundness": 1.0, "sensitivity": 1.0}
    right = perfect.pooled.right
    wrong = perfect.pooled.wrong
    for verdict, hits, misses in ((True, right, wrong), (False, wrong, right)):
        score = prm_score(truth, [[verdict] * len(row) for row in truth], seed=0, resamples=5)
        assert score.score is not None
        assert score.score.value == pytest.approx(0.5 * 2 * hits / (2 * hits + misses))


@pytest.mark.parametrize("name", ["mr_gsm8k", "mr_ben"])
def test_mr_scores_of_perfect_and_constant_judges(name: str) -> None:
    labels = labels_of(solutions(name))
    perfect = mr_score(labels, labels, [True] * len(labels), seed=0, resamples=FEW)
    assert perfect.score is not None
    assert (perfect.score.value, perfect.correlation.value) == (1.0, 1.0)
    silent = mr_score(labels, labels, [False] * len(labels), seed=0, resamples=FEW)
    assert silent.score is not None
    assert silent.score.value == pytest.approx(0.5)
    clean = mr_score(labels, [-1] * len(labels), [None] * len(labels), seed=0, resamples=FEW)
    assert clean.score is not None
    assert (clean.score.value, clean.correlation.value) == (0.0, 0.0)
    first = mr_score(labels, [0] * len(labels), [False] * len(labels), seed=0, resamples=FEW)
    assert first.score is not None
    assert first.score.value == pytest.approx(0.3 * first.step_accuracy.value)
