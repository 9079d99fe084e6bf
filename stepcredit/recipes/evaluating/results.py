"""Results of an evaluation: the summary, the closing sentence and what the page shows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, final

from stepcredit.core.protocols import Scale
from stepcredit.evaluation.first_error import CLEAN
from stepcredit.evaluation.intervals import Interval
from stepcredit.evaluation.named_sets import LabelledSet, Metric
from stepcredit.evaluation.resampling import Coverage
from stepcredit.recipes.evaluating.calibrating import Fitted
from stepcredit.recipes.evaluating.comparing import PairedJudges
from stepcredit.recipes.evaluating.figures import ALL, Figures, Row
from stepcredit.recipes.evaluating.grading import Graded
from stepcredit.recipes.evaluating.reading import Reading
from stepcredit.recipes.evaluating.tables import fitted_tables, mean_mr_score, plots_of, tables_of
from stepcredit.recipes.recorded.rationales import Told
from stepcredit.recipes.recorded.reading import ReadingCounts
from stepcredit.recipes.recorded.results import reading_table
from stepcredit.recipes.recorded.signatures import signature_figures, signature_table
from stepcredit.recipes.recorded.tally import ranked
from stepcredit.recipes.recorded.walk import Walked
from stepcredit.report.build import rollout_view
from stepcredit.report.views import ReportData, RolloutView, TableView, Truth
from stepcredit.store.attempts import AttemptTotals

STATUSES = ("answered", "unknown", "failed", "quarantined")

_GRADES = {True: "the true one", False: "another one", None: "not graded"}

_TOLD_REASONS = 20
"""Reasons that the summary and the page list; all solutions are counted."""


@final
@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found.

    Args:
        labelled: the solutions that were asked about.
        readings: [n] what the judge said of each.
        figures: its scores.
        graded: what a checker says of its reasons.
        compared: with another run, `None` if none was named.
        shown: solutions for the viewer, by place.
        scale: what the judge's scores mean.
        calls: model calls of the run, those of earlier sessions included.
        seconds: wall time of each part of this session.
        told: what the judge wrote about the shown solutions, by rollout id.
        signatures: what the judge's model did, by name, over all sessions; empty if it counts nothing.
        reading: parse statistics of a judge that has them, over all sessions.
        fitted: a temperature, `None` if none was fitted.
    """

    labelled: LabelledSet
    readings: tuple[Reading, ...]
    figures: Figures
    graded: Graded
    compared: PairedJudges | None
    shown: Mapping[int, Walked]
    scale: Scale
    calls: AttemptTotals
    seconds: Mapping[str, float]
    told: Mapping[str, Told] = field(default_factory=dict[str, Told])
    signatures: Mapping[str, int] = field(default_factory=dict[str, int])
    reading: ReadingCounts = ReadingCounts()  # noqa: RUF009 -- frozen
    fitted: Fitted | None = None

    @property
    def coverage(self) -> dict[str, int]:
        """Solutions asked about, and what became of them."""
        return coverage_of(self.readings)

    @property
    def reasons(self) -> dict[str, int]:
        """Why solutions have no answer, the most frequent first."""
        return ranked(Counter(reading.reason for reading in self.readings if reading.reason))


def coverage_of(readings: Sequence[Reading]) -> dict[str, int]:
    """Solutions asked about, and what became of them; the other numbers add up to `asked`.

    >>> coverage_of([Reading((1.0,), "answered"), Reading((None,), "unknown", "cut")])
    {'asked': 2, 'answered': 1, 'unknown': 1, 'failed': 0, 'quarantined': 0}
    """
    counts = Counter(reading.status for reading in readings)
    return {"asked": len(readings), **{status: counts[status] for status in STATUSES}}


def summary_of(found: Evaluated, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `summary.json` holds; unknown is null.

    Args:
        found: the evaluation.
        settings: how it was made.
    """
    figures, chosen = found.figures, found.figures.chosen
    name, score = headline(figures, found.labelled.metric)
    return {
        "set": found.labelled.name,
        "metric": name,
        "score": plain(score),
        "solutions": len(found.labelled.solutions),
        "scored": len(figures.rows),
        "left_out": dict(found.labelled.left_out),
        "coverage": found.coverage,
        "unknown_reasons": dict(list(found.reasons.items())[:_TOLD_REASONS]),
        "resumed": sum(reading.resumed for reading in found.readings),
        "threshold": {
            "value": figures.threshold,
            "chosen_on": None if chosen is None else chosen.split,
            "f1_there": None if chosen is None else chosen.f1,
        },
        "first_error": plain(figures.first_error),
        "binary_f1": plain(figures.binary),
        "prm_score": plain(figures.prm),
        "mr_score": plain(figures.mr) or None,
        "mr_score_mean": mean_mr_score(figures.mr),
        "reasons": found.graded.summary,
        "mistake": plain(figures.mistake) or None,
        "by_position": plain(figures.positions),
        "by_generator": plain(figures.generators) or None,
        "calibration": plain(figures.calibration),
        "fitted": None if found.fitted is None else fitted_figures(found.fitted),
        "compared": plain(found.compared),
        "calls": asdict(found.calls) if found.calls.attempts else None,
        "signatures": signature_figures(found.signatures),
        "reading": found.reading.as_payload(),
        "seconds": round(sum(found.seconds.values()), 3),
        "stage_seconds": {part: round(value, 3) for part, value in found.seconds.items()},
        "settings": dict(settings),
    }


def fitted_figures(fitted: Fitted) -> dict[str, Any]:
    """The temperature, and calibration of the other splits before and after it."""
    told: dict[str, Any] = {"split": fitted.split, "temperature": plain(fitted.temperature)}
    return told | {"before": plain(fitted.before), "after": plain(fitted.after)}


def headline(figures: Figures, metric: Metric) -> tuple[str, Interval | None]:
    """Name and value of the set's official figure; of MR-Score the step accuracy, if nobody read the reasons."""
    splits = figures.first_error.splits
    if metric == "prm-score" and figures.prm is not None:
        return "PRMScore over all steps", figures.prm.pooled.score
    if metric == "mr-score" and figures.mr:
        last = figures.mr.get(ALL) or next(iter(figures.mr.values()))
        if last.score is not None:
            return "MR-Score" if len(figures.mr) == 1 else "MR-Score over all solutions", last.score
        return "step accuracy of MR-Score", last.step_accuracy
    if metric == "mistake":
        last = figures.mistake.get(ALL) or next(iter(figures.mistake.values()))
        return "accuracy of the first mistake", last.accuracy
    if len(splits) > 1:
        return f"first-error F1, mean of {len(splits)} splits", figures.first_error.average
    return "first-error F1", next(iter(splits.values())).f1


def closing_of(found: Evaluated) -> str:
    """One sentence: the official figure, on how many solutions, and what is missing."""
    figures, coverage = found.figures, found.coverage
    name, score = headline(figures, found.labelled.metric)
    told = "not defined" if score is None else f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
    parts = [f"{name} {told} on {len(figures.rows):,} solutions"]
    if figures.chosen is not None:
        parts.append(f"threshold {figures.threshold:.4g} chosen on {figures.chosen.split}, which is not scored")
    if found.fitted is not None:
        parts.append(f"temperature {found.fitted.temperature.value:.4g} fitted on {found.fitted.split}, not scored")
    lost = coverage["asked"] - coverage["answered"]
    if lost:
        parts.append(f"{lost:,} of {coverage['asked']:,} have no answer and count as wrong")
    if coverage["failed"] or coverage["quarantined"]:
        parts.append("partial: the judge failed, so this is no score of the judge yet")
    return "; ".join(parts) + "."


def report_of(found: Evaluated, *, title: str, facts: Sequence[tuple[str, str]]) -> ReportData:
    """What the page and the terminal show."""
    coverage = found.coverage
    numbers: list[tuple[str, int | str]] = [(name, coverage[name]) for name in ("asked", "answered", "unknown")]
    numbers += [(name, coverage[name]) for name in ("failed", "quarantined") if coverage[name]]
    calls = found.calls
    spent = {"model calls": calls.calls, "input tokens": calls.input_tokens, "output tokens": calls.output_tokens}
    numbers += [(name, value) for name, value in spent.items() if value]
    numbers += [] if calls.cost is None else [("cost", f"{calls.cost:.4g}")]
    return ReportData(
        title=title,
        subtitle=f"{found.labelled.name}: what the judge says beside what people labelled",
        facts=tuple(facts),
        counts=tuple(numbers),
        tables=(
            *tables_of(found.figures, found.compared),
            *fitted_tables(found.fitted),
            *_reasons(found),
            *_did(found),
        ),
        plots=plots_of(found.figures),
        closing=closing_of(found),
        solutions=_views(found),
        omitted=len(found.readings) - len(found.shown),
    )


def plain(value: Any) -> Any:
    """Records as JSON-able values: their fields by name, a coverage with its unknown.

    >>> plain({"a": Interval(0.5, 0.0, 1.0), "b": (Coverage(2, 1), None)})
    {'a': {'value': 0.5, 'low': 0.0, 'high': 1.0}, 'b': [{'asked': 2, 'answered': 1, 'unknown': 1}, None]}
    """
    if isinstance(value, Coverage):
        return {"asked": value.asked, "answered": value.answered, "unknown": value.unknown}
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [plain(inner) for inner in value]
    return value


def first_disagreement(row: Row) -> int | None:
    """Index of the first step on which label and judge disagree, `None` if they do on none that both speak of."""
    pairs = zip(row.solution.step_truth, row.called, strict=True)
    for index, (label, said) in enumerate(pairs):
        if label is not None and said is not None and label != said:
            return index
    return None


def _reasons(found: Evaluated) -> tuple[TableView, ...]:
    rows = [(reason, number) for reason, number in list(found.reasons.items())[:_TOLD_REASONS]]
    rows += [(f"left out: {reason}", number) for reason, number in found.labelled.left_out.items()]
    tables = [TableView("without an answer", ("reason", "solutions"), tuple(rows))]
    whys = (found.graded.summary or {}).get("unknown_reasons", {})
    note = f"of {len(found.graded.grades):,} wrong solutions whose first wrong step was named"
    tables.append(TableView("reasons without a grade", ("why", "reasons"), tuple(whys.items()), note))
    return tuple(table for table in tables if table.rows)


def _did(found: Evaluated) -> tuple[TableView, ...]:
    tables = (signature_table(found.signatures), reading_table(found.reading))
    return tuple(table for table in tables if table.rows)


def _views(found: Evaluated) -> tuple[RolloutView, ...]:
    rows = {row.solution.id: row for row in found.figures.rows}
    views: list[RolloutView] = []
    for place in sorted(found.shown):
        item = found.shown[place]
        row, solution = rows.get(item.rollout.id), found.labelled.solutions[place]
        told, threshold = found.told.get(item.rollout.id, Told()), found.figures.threshold
        label = CLEAN if solution.label is None else solution.label
        parts = [f"label: {_said(label)}"]
        if row is not None:
            parts.append(f"judge: {_said(row.predicted)}")
            differs = first_disagreement(row)
            parts += [] if differs is None else [f"first disagreement: step {differs}"]
        parts += [f"reason given with the label: {reason}" for reason in solution.reasons if reason]
        grade = found.graded.grades.get(solution.id)
        parts += [f"the judge's reason: {_GRADES[grade.right]}"] if grade is not None else []
        parts += [reason for reason in (found.readings[place].reason, told.note) if reason]
        method = solution.generator or found.labelled.split_of(solution)
        shown = item.judgement if item.judgement is not None and len(item.steps) else item.steps
        views.append(
            rollout_view(
                shown,
                method=method,
                scale=found.scale,
                note="; ".join(parts),
                rationales=told.rationales,
                truth=Truth(solution.step_truth, found.readings[place].called(threshold), threshold),
            )
        )
    return tuple(views)


def _said(label: int | None) -> str:
    return "no answer" if label is None else "no wrong step" if label == CLEAN else f"step {label} is the first wrong"
