"""Figures by step position and by generator, ECE and reliability, by hand: in summary, page and terminal."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from stepcredit.core.protocols import Scale
from stepcredit.evaluation.intervals import wilson
from stepcredit.evaluation.judge_sets import LabelledSolution
from stepcredit.evaluation.named_sets import LabelledSet
from stepcredit.recipes.evaluating.figures import Figures, measure
from stepcredit.recipes.evaluating.grading import Graded
from stepcredit.recipes.evaluating.reading import Reading
from stepcredit.recipes.evaluating.results import Evaluated, report_of, summary_of
from stepcredit.recipes.evaluating.settings import load_evaluate
from stepcredit.report import ReportData, terminal_report, write_report
from stepcredit.store.attempts import AttemptTotals

STEPS = ("one", "two", "three")
JUDGED = (
    (LabelledSolution("a", "p", STEPS, 1, generator="m1"), (0.9, 0.2, 0.7)),  # found
    (LabelledSolution("b", "p", STEPS, -1, generator="m1"), (0.9, 0.8, 0.4)),  # blamed
    (LabelledSolution("c", "p", STEPS, 0, generator="m2"), (0.3, 0.1, 0.1)),  # found
    (LabelledSolution("d", "p", STEPS, -1, generator="m2"), (0.8, 0.9, 0.9)),  # cleared
    (LabelledSolution("e", "p", STEPS, 2, generator="m2"), (0.9, None, 0.1)),  # undecided
)
SETTINGS = ("metrics.bins=2", "metrics.last_position=1", "metrics.resamples=20")


@pytest.fixture(scope="module")
def found() -> Evaluated:
    labelled = LabelledSet("mine", "first-error", tuple(solution for solution, _ in JUDGED))
    readings = tuple(Reading(scores, "unknown" if None in scores else "answered") for _, scores in JUDGED)
    part = load_evaluate(SETTINGS).metrics
    figures = measure(labelled, readings, part, scale=Scale.PROBABILITY, threshold=0.5)
    totals = AttemptTotals(0, 0, 0, 0.0, None, None, None)
    return Evaluated(labelled, readings, figures, Graded(), None, {}, Scale.PROBABILITY, totals, {})


@pytest.fixture(scope="module")
def figures(found: Evaluated) -> Figures:
    return found.figures


@pytest.fixture(scope="module")
def report(found: Evaluated) -> ReportData:
    return report_of(found, title="t", facts=())


def test_positions_count_labelled_steps_and_the_last_row_holds_all_later_ones(figures: Figures) -> None:
    """Position 0: four right, all kept, one wrong, found. From 1 on: of five right three kept, both wrong found."""
    first, later = figures.positions
    assert (first.position, first.right_kept, first.wrong_found) == (0, wilson(4, 4), wilson(1, 1))
    assert (later.position, later.right_kept, later.wrong_found) == (1, wilson(3, 5), wilson(2, 2))
    assert (first.coverage.asked, first.coverage.unknown) == (5, 0)
    assert (later.coverage.asked, later.coverage.unknown) == (7, 1)


def test_generators_have_an_f1_each(figures: Figures) -> None:
    """m1 finds its error and blames its clean one: 0. m2 finds one of two and clears its clean one: 2/3."""
    one, two = figures.generators["m1"], figures.generators["m2"]
    assert one.f1 is not None
    assert two.f1 is not None
    assert (one.f1.value, two.f1.value) == (0.0, pytest.approx(2 / 3))
    assert (one.coverage.unknown, two.coverage.unknown) == (0, 1)


def test_ece_and_brier_score_are_of_the_labelled_steps_with_a_score(figures: Figures) -> None:
    """Below 0.5: 0.3, 0.2, 0.1 wrong and 0.4 right: no gap. Above: seven right, mean 6.1 / 7, so 7/11 of 0.9/7."""
    told = figures.calibration
    assert told is not None
    low, high = told.bins
    assert (low.count, low.probability, low.right.value) == (4, pytest.approx(0.25), 0.25)
    assert (high.count, high.probability, high.right.value) == (7, pytest.approx(6.1 / 7), 1.0)
    assert told.ece.value == pytest.approx(0.9 / 11)
    assert told.brier.value == pytest.approx((5 * 0.01 + 2 * 0.04 + 0.36 + 0.09 + 0.04 + 0.01) / 11)
    assert (told.coverage.asked, told.coverage.unknown) == (12, 1)


def test_the_summary_carries_them(found: Evaluated) -> None:
    told: dict[str, Any] = summary_of(found, {})
    assert [row["position"] for row in told["by_position"]] == [0, 1]
    assert told["by_position"][1]["right_kept"]["value"] == pytest.approx(0.6)
    assert told["by_generator"]["m2"]["f1"]["value"] == pytest.approx(2 / 3)
    assert told["calibration"]["ece"]["value"] == pytest.approx(0.9 / 11)
    assert [row["count"] for row in told["calibration"]["bins"]] == [4, 7]


def test_the_plots_are_the_tables(report: ReportData) -> None:
    plots = {plot.title: plot for plot in report.plots}
    judge, ideal = plots["reliability"].series
    assert judge.x == pytest.approx((0.25, 6.1 / 7))
    assert judge.y == (0.25, 1.0)
    assert judge.low == pytest.approx((wilson(1, 4).low, wilson(7, 7).low))
    assert judge.high == pytest.approx((wilson(1, 4).high, wilson(7, 7).high))
    assert (ideal.x, ideal.y) == ((0.0, 1.0), (0.0, 1.0))
    kept, wrong = plots["by step position"].series
    assert (kept.x, kept.y) == ((0.0, 1.0), (1.0, pytest.approx(0.6)))
    assert (wrong.x, wrong.y) == ((0.0, 1.0), (1.0, 1.0))


def test_page_and_terminal_show_them(report: ReportData) -> None:
    screen = StringIO()
    Console(file=screen, width=120).print(terminal_report(report))
    shown = screen.getvalue()
    page = write_report(report)
    for title in ("first wrong step, by generator", "by step position", "calibration of step scores", "reliability"):
        assert title in shown
        assert title in page
    for number in ("0.667", "0.600", "0.082", "0.871"):
        assert number in shown
        assert number in page
    assert "0.5 to 1" in shown
    rows = [line for line in shown.splitlines() if "0 to 0.5" in line]
    assert len(rows) == 1
    assert "0.250" in rows[0]


def test_scores_that_are_no_probabilities_have_no_calibration(found: Evaluated) -> None:
    part = load_evaluate(SETTINGS).metrics
    signed = measure(found.labelled, found.readings, part, scale=Scale.SIGNED, threshold=0.5)
    assert signed.calibration is None
    assert signed.positions == found.figures.positions
