"""Results of a walk over recorded solutions: the summary, the tables and what the step viewer shows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, final

from stepcredit.core.protocols import Scale
from stepcredit.core.records import Credit
from stepcredit.credit.batch import CreditSummary
from stepcredit.recipes.recorded.credit import Credited
from stepcredit.recipes.recorded.outcome_results import Scores
from stepcredit.recipes.recorded.rationales import Told
from stepcredit.recipes.recorded.reading import ReadingCounts
from stepcredit.recipes.recorded.rollouts import Grouping
from stepcredit.recipes.recorded.settings import ReportPart
from stepcredit.recipes.recorded.signatures import signature_figures, signature_table
from stepcredit.recipes.recorded.tally import Counts, Tally, ranked
from stepcredit.recipes.recorded.walk import Walked
from stepcredit.report.build import rollout_view
from stepcredit.report.views import Cell, ReportData, RolloutView, TableView
from stepcredit.store.attempts import AttemptTotals
from stepcredit.tasks.checking import UNREADABLE
from stepcredit.tasks.jsonl import SkippedLine

STATUSES = ("right", "wrong", "unscorable")

TOLD_LINES = 20
"""Skipped lines that the summary quotes; all are counted."""


@final
@dataclass(frozen=True)
class WalkResult:
    """What a walk found.

    Args:
        tally: counts over all solutions.
        shown: solutions for the viewer, in the file's order.
        grouping: groups of all solutions.
        credited: their credit, `None` if the walk stopped before.
        calls: model calls of the run, those of earlier walks included.
        scale: what the judge's scores mean, `None` if nothing was judged.
        seconds: wall time of each stage.
        skipped: lines of the file that could not be used.
        signatures: what the judge's model did, by name; empty if it counts nothing.
        reading: parse statistics of the judge, over all sessions.
        told: what the judge wrote about the shown solutions, by rollout id.
        scores: of whole solutions, `None` if the judge judges steps.
    """

    tally: Tally
    shown: tuple[Walked, ...]
    grouping: Grouping
    credited: Credited | None
    calls: AttemptTotals
    scale: Scale | None
    seconds: Mapping[str, float]
    skipped: tuple[SkippedLine, ...] = ()
    signatures: Mapping[str, int] = field(default_factory=dict[str, int])
    reading: ReadingCounts = ReadingCounts()  # noqa: RUF009 -- frozen
    told: Mapping[str, Told] = field(default_factory=dict[str, Told])
    scores: Scores | None = None


def summary_of(result: WalkResult, counts: Counts, *, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `summary.json` holds; unknown is null.

    Args:
        result: the walk.
        counts: its counts.
        settings: how it was walked: judge, checker, splitter, tokenizer, credit, group_by, until.
    """
    tally, credited = result.tally, result.credited
    unscorable = {reason: n for (status, reason), n in tally.outcome_reasons.items() if status == "unscorable"}
    return {
        "coverage": counts.coverage or None,
        "responses": counts.responses,
        "judged": counts.judged,
        "unknown": counts.unknown,
        "unknown_reasons": dict(counts.unknown_reasons),
        "checker": {status: tally.outcomes[status] for status in STATUSES},
        "unreadable_answers": tally.outcome_reasons["wrong", UNREADABLE],
        "unscorable_reasons": ranked(unscorable),
        "steps": counts.steps,
        "thoughts": counts.thoughts,
        "labels": dict(counts.labels),
        "tokens": counts.tokens,
        "empty": counts.empty,
        "finished": counts.finished,
        "finished_closed_checkable": counts.sound,
        "judged_share": counts.judged_share,
        "varied_share": counts.varied_share,
        "judge_failures": counts.failed,
        "resumed": tally.resumed,
        "skipped_lines": counts.skipped,
        "skipped": {line.place: line.reason for line in result.skipped[:TOLD_LINES]},
        "groups": len(result.grouping.models),
        "group_sizes": {str(size): number for size, number in sorted(result.grouping.sizes.items())},
        "mixed_groups": result.grouping.mixed,
        "credit": None if credited is None else _credit_figures(credited.summary) | {"shard": credited.shard.name},
        "scores": None if result.scores is None else result.scores.figures(),
        "calls": _call_figures(result.calls),
        "signatures": signature_figures(result.signatures),
        "reading": result.reading.as_payload(),
        "seconds": round(sum(result.seconds.values()), 3),
        "stage_seconds": {name: round(value, 3) for name, value in result.seconds.items()},
        "settings": dict(settings),
    }


def report_of(result: WalkResult, counts: Counts, *, title: str, facts: Sequence[tuple[str, str]]) -> ReportData:
    """What the page and the terminal show."""
    numbers: list[tuple[str, int | str]] = [("solutions", counts.responses)]
    numbers += [(status, result.tally.outcomes[status]) for status in STATUSES]
    known = {"judged": counts.judged, "unknown": counts.unknown}
    known |= {"steps": counts.steps, "thoughts": counts.thoughts} if result.scores is None else {}
    numbers += [(name, value) for name, value in known.items() if value is not None]
    rare = {"failed": counts.failed, "quarantined": counts.quarantined, "lines skipped": counts.skipped}
    numbers += [(name, value) for name, value in rare.items() if value]
    models = (_models_table(result.tally),) if result.scores is None else result.scores.tables()
    tables = [*models, _reasons_table(result.tally, counts), _labels_table(counts)]
    tables += [signature_table(result.signatures), reading_table(result.reading)]
    tables += [] if result.credited is None else [_credit_table(result.credited.summary, result.grouping)]
    return ReportData(
        title=title,
        subtitle="recorded solutions: " + ", ".join(result.seconds),
        facts=tuple(facts),
        counts=tuple(numbers),
        tables=tuple(table for table in tables if table.rows),
        closing=closing_of(counts, result.scores),
        solutions=_views(result),
        omitted=counts.responses - len(result.shown),
    )


def closing_of(counts: Counts, scores: Scores | None = None) -> str:
    """One sentence: how much of the file the judge could read; and how far its scores of whole solutions agree.

    >>> closing_of(Tally().counts(split=True, tokenised=True))
    'No judge was asked.'
    """
    skipped = f" {counts.skipped:,} lines of the file could not be used and were skipped." if counts.skipped else ""
    return _judged_sentence(counts) + ("" if scores is None else scores.sentence()) + skipped


def coverage_line(coverage: Mapping[str, int], *, asked: int | None = None) -> str:
    """One line: how many solutions were asked for and what became of them.

    Args:
        coverage: `Counts.coverage`.
        asked: solutions in the file, where the walk has not come to its end.

    >>> coverage_line({"asked": 3, "answered": 1, "unknown": 1, "failed": 1, "quarantined": 0}, asked=9)
    'asked 9: answered 1, unknown 1, failed 1, quarantined 0, not yet 6'
    """
    parts = [f"{name} {number:,}" for name, number in coverage.items() if name != "asked"]
    seen = coverage.get("asked", 0)
    parts += [f"not yet {asked - seen:,}"] if asked is not None and asked > seen else []
    return f"asked {seen if asked is None else asked:,}: " + ", ".join(parts)


def shown_places(number: int, characters: int, part: ReportPart) -> tuple[int, ...]:
    """Places of the solutions for the viewer: spread evenly over the file, as many as fit.

    Args:
        number: solutions in the file.
        characters: of all their texts.
        part: `[report]` of the recipe.

    >>> shown_places(10, 100, ReportPart(solutions=4, characters=1000))
    (0, 2, 5, 7)
    """
    fits = number if characters <= part.characters else int(number * part.characters / characters)
    count = min(number, part.solutions, fits)
    return tuple(index * number // count for index in range(count))


def _judged_sentence(counts: Counts) -> str:
    if counts.judged is None:
        return "No judge was asked."
    told = f"{counts.judged:,} of {counts.responses:,} solutions judged"
    lost = {"the judge failed on": counts.failed, "left out (quarantined)": counts.quarantined}
    told += "".join(f", {name} {number:,}" for name, number in lost.items() if number)
    if counts.judged_share is None:
        why = ", ".join(f"{number:,} {reason}" for reason, number in counts.unsound.items())
        return f"{told}; none of them is finished, scorable and with an answer block: {why}."
    told += f"; of the {counts.sound:,} that are finished, closed and scorable {counts.judged_share:.1%}"
    return f"{told}." if counts.varied_share is None else f"{told}, {counts.varied_share:.1%} with more than one label."


def _credit_figures(summary: CreditSummary) -> dict[str, Any]:
    figures = asdict(summary)
    return {name: None if value != value else value for name, value in figures.items()}


def _call_figures(calls: AttemptTotals) -> dict[str, Any] | None:
    return asdict(calls) if calls.attempts else None


def _models_table(tally: Tally) -> TableView:
    rows: list[tuple[Cell, ...]] = []
    for model, found in tally.models.items():
        outcomes = tuple(found.outcomes[status] for status in STATUSES)
        steps_each = round(found.steps / found.solutions, 1) if found.solutions else None
        rows.append((model or "(not named)", found.solutions, *outcomes, found.judged, steps_each))
    columns = ("model", "solutions", *STATUSES, "judged", "steps each")
    return TableView("by model", columns, tuple(rows))


def _reasons_table(tally: Tally, counts: Counts) -> TableView:
    given = {f"{status}, {reason}": n for (status, reason), n in tally.outcome_reasons.items() if reason}
    rows = [("outcome: " + name, number) for name, number in ranked(given).items()]
    rows += [("verdicts unknown: " + name, number) for name, number in counts.unknown_reasons.items()]
    return TableView("why", ("reason", "solutions"), tuple(rows))


def _labels_table(counts: Counts) -> TableView:
    total = sum(counts.labels.values())
    rows = tuple((label, number, round(number / total, 4)) for label, number in counts.labels.items())
    return TableView("labels", ("label", "steps", "share"), rows)


def reading_table(reading: ReadingCounts) -> TableView:
    """How a judge's replies could be read, task by task."""
    rows: list[tuple[Cell, ...]] = []
    for name, counts in reading.tasks.items():
        rejects = ", ".join(f"{number} {reason}" for reason, number in counts.rejects.items())
        tries = (counts.first_try, counts.after_retry, counts.failed, counts.broken)
        rows.append((name, counts.asked, *tries, rejects or None))
    columns = ("task", "asked", "read at once", "after a retry", "never", "broken", "rejected replies")
    return TableView("reading tasks", columns, tuple(rows))


def _credit_table(summary: CreditSummary, grouping: Grouping) -> TableView:
    rows: list[tuple[Cell, ...]] = [
        ("groups", summary.groups),
        ("groups with fewer than 2 scorable solutions: no advantage", summary.short_groups),
        ("groups all right", summary.all_right),
        ("groups all wrong", summary.all_wrong),
        ("groups of mixed policy", grouping.mixed),
        ("solutions kept", summary.kept),
        *((f"solutions dropped: {reason}", number) for reason, number in summary.dropped.items()),
        ("tokens", summary.tokens),
        ("tokens kept", summary.kept_tokens),
    ]
    return TableView("credit", ("what", "number"), tuple(rows), "Recorded text is looked at, never trained on.")


def _views(result: WalkResult) -> tuple[RolloutView, ...]:
    by_rollout: dict[str, Credit] = {}
    if result.credited is not None:
        by_rollout = {credit.steps.rollout.id: credit for credit in result.credited.credits}
    views: list[RolloutView] = []
    for item in result.shown:
        credit = by_rollout.get(item.rollout.id)
        told = result.told.get(item.rollout.id, Told())
        view = rollout_view(
            item.judgement or item.steps,
            beside=() if credit is None else (credit,),
            method=item.rollout.policy,
            scale=result.scale,
            note=item.failed or item.quarantined or told.note,
            rationales=told.rationales,
        )
        views.append(view)
    return tuple(views)
