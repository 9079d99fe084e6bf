"""Tables and plots of a judge's figures, for the page and the terminal."""

from collections.abc import Mapping
from typing import final

from stepcredit.evaluation.binary_f1 import BinaryF1
from stepcredit.evaluation.by_position import PositionRow
from stepcredit.evaluation.calibration import Calibration
from stepcredit.evaluation.compare import McNemar
from stepcredit.evaluation.first_error import FirstErrorF1, FirstErrorSplits
from stepcredit.evaluation.intervals import Interval
from stepcredit.evaluation.mistake import MistakeAccuracy
from stepcredit.evaluation.mr_score import MrScore
from stepcredit.evaluation.prmscore import PrmScore, PrmScores
from stepcredit.recipes.evaluating.calibrating import Fitted
from stepcredit.recipes.evaluating.comparing import PairedJudges
from stepcredit.recipes.evaluating.figures import ALL, Figures
from stepcredit.recipes.recorded.wrapping import CALIBRATION
from stepcredit.report.views import Cell, Estimate, PlotView, SeriesView, TableView

INTERVALS = "Brackets: 95% intervals, bootstrap over solutions."

Rows = list[tuple[Cell, ...]]


def tables_of(figures: Figures, compared: PairedJudges | None) -> tuple[TableView, ...]:
    """Every table that has rows, the official metric first."""
    made = [
        _prm(figures.prm) if figures.prm is not None else None,
        _mr(figures.mr),
        _mistake(figures.mistake),
        _first_error(figures.first_error),
        _binary(figures.binary),
        _compared(compared) if compared is not None else None,
        _generators(figures.generators),
        _positions(figures.positions),
        *([] if figures.calibration is None else [_calibration(figures.calibration), _bins(figures.calibration)]),
    ]
    return tuple(table for table in made if table is not None and table.rows)


def plots_of(figures: Figures) -> tuple[PlotView, ...]:
    """The reliability plot, where scores are probabilities, and verdicts by step position."""
    return (*_reliability(figures.calibration), _by_position(figures.positions))


def estimate(interval: Interval | None) -> Estimate | None:
    """An interval as a cell."""
    return None if interval is None else Estimate(interval.value, interval.low, interval.high)


def value(interval: Interval | None) -> Estimate | None:
    """The value alone; the summary has its interval."""
    return None if interval is None else Estimate(interval.value)


@final
class _Headed:
    """Rows under one head."""

    def __init__(self, title: str, *columns: str, note: str = "") -> None:
        self._title, self._columns, self._note = title, columns, note

    def table(self, rows: Rows) -> TableView:
        return TableView(self._title, self._columns, tuple(rows), self._note)


def _first_error(found: FirstErrorSplits) -> TableView:
    note = f"The official ProcessBench metric; a solution without an answer counts as wrong. {INTERVALS}"
    rows: Rows = [(name, estimate(score.f1), *_accuracies(score)) for name, score in found.splits.items()]
    if len(found.splits) > 1:
        rows.append(("mean F1", estimate(found.average), None, None, None, None))
    columns = ("F1", "on errors", "on clean", "asked", "unknown")
    return _Headed("first wrong step", "split", *columns, note=note).table(rows)


def _accuracies(score: FirstErrorF1) -> tuple[Cell, ...]:
    return (value(score.error_accuracy), value(score.correct_accuracy), score.coverage.asked, score.coverage.unknown)


def _generators(found: Mapping[str, FirstErrorF1]) -> TableView:
    rows: Rows = [
        (name, estimate(score.f1), score.coverage.asked, score.coverage.unknown) for name, score in found.items()
    ]
    return _Headed("first wrong step, by generator", "model", "F1", "asked", "unknown", note=INTERVALS).table(rows)


def _binary(found: Mapping[str, BinaryF1]) -> TableView:
    note = f"ThinkPRM's F1 of error-free solutions: another metric than the one above. {INTERVALS}"
    rows: Rows = [
        (name, estimate(score.f1), score.precision, score.recall, score.coverage.unknown)
        for name, score in found.items()
    ]
    return _Headed("any mistake at all", "split", "binary F1", "precision", "recall", "unknown", note=note).table(rows)


def _prm(found: PrmScores) -> TableView:
    rows: Rows = [(name, *_prm_row(score)) for name, score in found.classes.items()]
    if len(found.classes) > 1:
        rows += [(f"all {name}", Estimate(mean), None, None, None) for name, mean in found.groups.items()]
        rows.append(("mean of the classes", Estimate(found.mean), None, None, None))
        rows.append(("all steps together", *_prm_row(found.pooled)))
    note = f"Steps without a verdict count as wrong in either class. {INTERVALS}"
    columns = ("PRMScore", "F1 right", "F1 wrong", "unknown")
    return _Headed("every step", "class", *columns, note=note).table(rows)


def _prm_row(score: PrmScore) -> tuple[Cell, ...]:
    return (estimate(score.score), value(score.right_f1), value(score.wrong_f1), score.coverage.unknown)


def _mr(found: Mapping[str, MrScore]) -> TableView:
    if all(score.score is None for score in found.values()):
        note = f"MR-Score needs somebody who reads the judge's reasons: it is not computed. {INTERVALS}"
        rows: Rows = [(name, *_mr_parts(score)) for name, score in found.items()]
        columns = ("correlation", "step accuracy", "wrong", "unknown")
        return _Headed("parts of MR-Score", "split", *columns, note=note).table(rows)
    told = "0.2 correlation, 0.3 step and 0.5 reason accuracy; a reason without a grade counts as not right"
    rows = [
        (name, estimate(score.score), estimate(score.reason_accuracy), *_mr_parts(score), score.reasons.unknown)
        for name, score in found.items()
    ]
    if (mean := mean_mr_score(found)) is not None:
        rows.append(("mean of the splits", Estimate(mean), None, None, None, None, None, None))
    columns = ("MR-Score", "reason accuracy", "correlation", "step accuracy", "wrong", "unknown", "not graded")
    return _Headed("MR-Score", "split", *columns, note=f"{told}. {INTERVALS}").table(rows)


def _mr_parts(score: MrScore) -> tuple[Cell, ...]:
    return (estimate(score.correlation), estimate(score.step_accuracy), score.wrong, score.coverage.unknown)


def mean_mr_score(found: Mapping[str, MrScore]) -> float | None:
    """Plain mean of the splits' MR-Scores, the overall figure of MR-Ben; `None` for one split, or without reasons."""
    scores = [score.score for name, score in found.items() if name != ALL]
    known = [score.value for score in scores if score is not None]
    return sum(known) / len(known) if len(scores) > 1 and len(known) == len(scores) else None


def _mistake(found: Mapping[str, MistakeAccuracy]) -> TableView:
    rows: Rows = [
        (name, estimate(s.accuracy), value(s.with_mistake), value(s.without), s.coverage.unknown)
        for name, s in found.items()
    ]
    columns = ("accuracy", "with", "without", "unknown")
    return _Headed("first mistake", "task", *columns, note=INTERVALS).table(rows)


def _compared(found: PairedJudges) -> TableView:
    rows: Rows = []
    if found.f1 is not None:
        rows.append(("difference of F1", estimate(found.f1.difference), None, None, None))
        rows += [_test("solutions with an error", found.f1.errors), _test("error-free ones", found.f1.correct)]
    rows.append(_test("all solutions", found.exact))
    columns = ("difference", f"only {found.first}", f"only {found.second}", "p")
    note = f"{found.solutions:,} solutions, paired bootstrap and exact McNemar test; 0 inside: not shown to differ."
    return _Headed(f"{found.first} against {found.second}", "on", *columns, note=note).table(rows)


def _test(name: str, found: McNemar) -> tuple[Cell, ...]:
    return (name, None, found.first_only, found.second_only, found.p_value)


def _positions(found: tuple[PositionRow, ...]) -> TableView:
    rows: Rows = [
        (
            str(row.position),
            estimate(row.right_kept),
            estimate(row.wrong_found),
            row.coverage.asked,
            row.coverage.unknown,
        )
        for row in found
    ]
    columns = ("right kept", "wrong found", "labelled", "unknown")
    told = "Right steps called right and wrong ones called wrong, from step 0; the last row holds all later steps"
    note = f"{told}. Brackets: 95% Wilson intervals."
    return _Headed("by step position", "step", *columns, note=note).table(rows)


def _calibration(found: Calibration) -> TableView:
    rows: Rows = [
        ("expected calibration error", estimate(found.ece)),
        ("Brier score", estimate(found.brier)),
        ("log loss, nats a step", found.log_loss),
        ("labelled steps with a score", found.coverage.answered),
        ("labelled steps without", found.coverage.unknown),
    ]
    note = "Brackets: 95% intervals, bootstrap over steps."
    return _Headed("calibration of step scores", "what", "value", note=note).table(rows)


def _bins(found: Calibration) -> TableView:
    rows: Rows = [
        (f"{one.low:.3g} to {one.high:.3g}", one.count, one.probability, estimate(one.right)) for one in found.bins
    ]
    columns = ("steps", "mean score", "share right")
    note = "The table behind the plot of the page; calibrated: both last columns agree. Brackets: 95% Wilson intervals."
    return _Headed("reliability", "score", *columns, note=note).table(rows)


def fitted_tables(fitted: Fitted | None) -> tuple[TableView, ...]:
    """What a fitted temperature does to scores that it was not fitted on."""
    if fitted is None:
        return ()
    found = fitted.temperature
    rows: Rows = [(f"log loss of {fitted.split}, fitted on", Estimate(found.before), Estimate(found.after))]
    if fitted.before is not None and fitted.after is not None:
        before, after = fitted.before, fitted.after
        rows.append(("expected calibration error of the others", estimate(before.ece), estimate(after.ece)))
        rows.append(("Brier score of the others", estimate(before.brier), estimate(after.brier)))
        rows.append(("log loss of the others", Estimate(before.log_loss), Estimate(after.log_loss)))
    note = f"{CALIBRATION} holds the temperature; `--calibration FILE` applies it. Log loss in nats a step."
    title = f"temperature {found.value:.4g}, fitted on {found.steps:,} steps of {fitted.split}"
    return (_Headed(title, "what", "before", "after", note=note).table(rows),)


def _reliability(found: Calibration | None) -> tuple[PlotView, ...]:
    if found is None:
        return ()
    bins = found.bins
    judge = SeriesView(
        "judge",
        tuple(one.probability for one in bins),
        tuple(one.right.value for one in bins),
        tuple(one.right.low for one in bins),
        tuple(one.right.high for one in bins),
    )
    ideal = SeriesView("calibrated", (0.0, 1.0), (0.0, 1.0))
    return (PlotView("reliability", "mean score of the bin", "share of right steps", (judge, ideal), (0.0, 1.0)),)


def _by_position(found: tuple[PositionRow, ...]) -> PlotView:
    lines: list[SeriesView] = []
    for name, shares in (
        ("right steps called right", [(row.position, row.right_kept) for row in found]),
        ("wrong steps called wrong", [(row.position, row.wrong_found) for row in found]),
    ):
        known = [(position, share) for position, share in shares if share is not None]
        lines.append(
            SeriesView(
                name,
                tuple(float(position) for position, _ in known),
                tuple(share.value for _, share in known),
                tuple(share.low for _, share in known),
                tuple(share.high for _, share in known),
            )
        )
    return PlotView("by step position", "step, from 0", "share", tuple(lines), (0.0, 1.0))
