"""Results of a walk over recorded solutions: the summary, the tables and what the step viewer shows."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from stepcredit.core.protocols import Scale
from stepcredit.core.records import Credit
from stepcredit.credit.batch import CreditSummary
from stepcredit.recipes.recorded.credit import Credited
from stepcredit.recipes.recorded.rollouts import Grouping
from stepcredit.recipes.recorded.settings import ReportPart
from stepcredit.recipes.recorded.walk import Walked
from stepcredit.report.build import rollout_view
from stepcredit.report.views import Cell, ReportData, RolloutView, TableView
from stepcredit.steps import thoughts
from stepcredit.store.attempts import AttemptTotals

STATUSES = ("right", "wrong", "unscorable")


@final
@dataclass(frozen=True)
class WalkResult:
    """All that a walk found, in memory.

    Args:
        walked: [N] solutions in the file's order.
        grouping: their groups.
        credited: their credit, `None` if the walk stopped before.
        calls: model calls of the run, those of earlier walks included.
        scale: what the judge's scores mean, `None` if nothing was judged.
        seconds: wall time of each stage.
    """

    walked: tuple[Walked, ...]
    grouping: Grouping
    credited: Credited | None
    calls: AttemptTotals
    scale: Scale | None
    seconds: Mapping[str, float]


@final
@dataclass(frozen=True)
class Counts:
    """What became of the solutions; `responses == judged + unknown` once a judge was asked.

    Args:
        responses: solutions in the file.
        judged: those with a verdict on any step, `None` if no judge was asked.
        unknown: those without.
        unknown_reasons: why, counted.
        empty: solutions without text.
        finished: solutions that their model ended itself.
        sound: finished, scorable, and with an answer block behind a closed think block.
        sound_judged: those of `sound` that were judged.
        sound_varied: those of `sound` whose steps have more than one label.
        steps: steps of all solutions, `None` if they were not cut.
        thoughts: thoughts of the labelled ones, `None` if the judge gives no labels.
        tokens: tokens of all solutions, `None` if no tokenizer was named.
        labels: steps by label.
        failed: solutions on which the judge itself failed.
    """

    responses: int
    judged: int | None
    unknown: int | None
    unknown_reasons: Mapping[str, int]
    empty: int
    finished: int
    sound: int
    sound_judged: int
    sound_varied: int
    steps: int | None
    thoughts: int | None
    tokens: int | None
    labels: Mapping[str, int]
    failed: int

    @property
    def judged_share(self) -> float | None:
        """Judged share of finished, closed, scorable solutions, `None` if there are none or no judge was asked."""
        return self.sound_judged / self.sound if self.sound and self.judged is not None else None

    @property
    def varied_share(self) -> float | None:
        """Share of the same whose labels are not all one, `None` as above or if the judge gives no labels."""
        return self.sound_varied / self.sound if self.sound and self.thoughts is not None else None


def count(walked: Sequence[Walked], *, split: bool, tokenised: bool) -> Counts:
    """Count what became of the solutions.

    Args:
        walked: the solutions.
        split: the walk cut them.
        tokenised: their tokens are those of a tokenizer that was named, not bytes.
    """
    asked = [item for item in walked if item.judgement is not None]
    judged = [item for item in asked if item.judged]
    sound = [item for item in walked if _sound(item)]
    labelled = [item for item in judged if labels_of(item)]
    merged = [thoughts(item.judgement) for item in labelled if item.judgement is not None]
    return Counts(
        responses=len(walked),
        judged=len(judged) if asked else None,
        unknown=len(asked) - len(judged) if asked else None,
        unknown_reasons=_ranked(item.unknown_reason for item in asked if not item.judged),
        empty=sum(not len(item.steps) for item in walked),
        finished=sum(item.rollout.finish == "stop" for item in walked),
        sound=len(sound),
        sound_judged=sum(item.judged for item in sound),
        sound_varied=sum(len(set(labels_of(item))) > 1 for item in sound),
        steps=sum(len(item.steps) for item in walked) if split else None,
        thoughts=sum(len(found.steps) for found in merged) if merged else None,
        tokens=sum(len(item.rollout.completion_ids) for item in walked) if tokenised else None,
        labels=_ranked(label for item in labelled for label in labels_of(item)),
        failed=sum(bool(item.failed) for item in walked),
    )


def labels_of(item: Walked) -> tuple[str, ...]:
    """Labels of a solution's labelled steps, in order."""
    verdicts = () if item.judgement is None else item.judgement.verdicts
    return tuple(verdict.label.value for verdict in verdicts if verdict.label is not None)


def summary_of(result: WalkResult, counts: Counts, *, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `summary.json` holds; unknown is null.

    Args:
        result: the walk.
        counts: its counts.
        settings: how it was walked: judge, checker, splitter, tokenizer, credit, group_by, until.
    """
    outcomes = Counter(item.outcome.status for item in result.walked)
    credited = result.credited
    return {
        "responses": counts.responses,
        "judged": counts.judged,
        "unknown": counts.unknown,
        "unknown_reasons": dict(counts.unknown_reasons),
        "checker": {status: outcomes[status] for status in STATUSES},
        "unscorable_reasons": _ranked(item.outcome.reason for item in result.walked if item.outcome.reward is None),
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
        "resumed": sum(item.resumed for item in result.walked),
        "groups": len(result.grouping.models),
        "group_sizes": {str(size): number for size, number in sorted(result.grouping.sizes.items())},
        "mixed_groups": result.grouping.mixed,
        "credit": None if credited is None else _credit_figures(credited.summary) | {"shard": credited.shard.name},
        "calls": _call_figures(result.calls),
        "seconds": round(sum(result.seconds.values()), 3),
        "stage_seconds": {name: round(value, 3) for name, value in result.seconds.items()},
        "settings": dict(settings),
    }


def report_of(
    result: WalkResult, counts: Counts, *, title: str, facts: Sequence[tuple[str, str]], part: ReportPart
) -> ReportData:
    """What the page and the terminal show."""
    shown = _shown(result.walked, part)
    outcomes = Counter(item.outcome.status for item in result.walked)
    numbers: list[tuple[str, int | str]] = [("solutions", counts.responses)]
    numbers += [(status, outcomes[status]) for status in STATUSES]
    known = {"judged": counts.judged, "unknown": counts.unknown, "steps": counts.steps, "thoughts": counts.thoughts}
    numbers += [(name, value) for name, value in known.items() if value is not None]
    tables = [_models_table(result.walked), _reasons_table(result.walked, counts), _labels_table(counts)]
    tables += [] if result.credited is None else [_credit_table(result.credited.summary, result.grouping)]
    return ReportData(
        title=title,
        subtitle="recorded solutions: " + ", ".join(result.seconds),
        facts=tuple(facts),
        counts=tuple(numbers),
        tables=tuple(table for table in tables if table.rows),
        closing=closing_of(counts),
        solutions=_views(result, shown),
        omitted=len(result.walked) - len(shown),
    )


def closing_of(counts: Counts) -> str:
    """One sentence: how much of the file the judge could read.

    >>> closing_of(count((), split=True, tokenised=True))
    'No judge was asked.'
    """
    if counts.judged is None:
        return "No judge was asked."
    told = f"{counts.judged:,} of {counts.responses:,} solutions judged"
    if counts.judged_share is None:
        return f"{told}; none is finished, with an answer behind a closed think block, and scorable."
    told += f"; of the {counts.sound:,} that are finished, closed and scorable {counts.judged_share:.1%}"
    return f"{told}." if counts.varied_share is None else f"{told}, {counts.varied_share:.1%} with more than one label."


def _sound(item: Walked) -> bool:
    return item.rollout.finish == "stop" and item.steps.closed and item.outcome.status != "unscorable"


def _ranked(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0])))


def _credit_figures(summary: CreditSummary) -> dict[str, Any]:
    figures = asdict(summary)
    return {name: None if value != value else value for name, value in figures.items()}


def _call_figures(calls: AttemptTotals) -> dict[str, Any] | None:
    return asdict(calls) if calls.attempts else None


def _models_table(walked: Sequence[Walked]) -> TableView:
    found: dict[str, list[Walked]] = {}
    for item in walked:
        found.setdefault(item.rollout.policy or "(not named)", []).append(item)
    rows: list[tuple[Cell, ...]] = []
    for model, items in found.items():
        outcomes = Counter(item.outcome.status for item in items)
        judged = sum(item.judged for item in items) if items[0].judgement is not None else None
        lengths = [len(item.steps) for item in items]
        rows.append((model, len(items), *(outcomes[s] for s in STATUSES), judged, round(sum(lengths) / len(items), 1)))
    columns = ("model", "solutions", *STATUSES, "judged", "steps each")
    return TableView("by model", columns, tuple(rows))


def _reasons_table(walked: Sequence[Walked], counts: Counts) -> TableView:
    rows = [("outcome: " + name, number) for name, number in _ranked(_outcome_reasons(walked)).items()]
    rows += [("verdicts unknown: " + name, number) for name, number in counts.unknown_reasons.items()]
    return TableView("why", ("reason", "solutions"), tuple(rows))


def _outcome_reasons(walked: Sequence[Walked]) -> Iterator[str]:
    return (f"{item.outcome.status}, {item.outcome.reason}" for item in walked if item.outcome.reason)


def _labels_table(counts: Counts) -> TableView:
    total = sum(counts.labels.values())
    rows = tuple((label, number, round(number / total, 4)) for label, number in counts.labels.items())
    return TableView("labels", ("label", "steps", "share"), rows)


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


def _shown(walked: Sequence[Walked], part: ReportPart) -> tuple[Walked, ...]:
    """Solutions for the viewer: spread evenly over the file, as many as fit."""
    size = sum(len(item.rollout.text) for item in walked)
    fits = len(walked) if size <= part.characters else int(len(walked) * part.characters / size)
    number = min(len(walked), part.solutions, fits)
    return tuple(walked[index * len(walked) // number] for index in range(number))


def _views(result: WalkResult, shown: Sequence[Walked]) -> tuple[RolloutView, ...]:
    by_rollout: dict[str, Credit] = {}
    if result.credited is not None:
        by_rollout = {credit.steps.rollout.id: credit for credit in result.credited.credits}
    views: list[RolloutView] = []
    for item in shown:
        credit = by_rollout.get(item.rollout.id)
        view = rollout_view(
            item.judgement or item.steps,
            beside=() if credit is None else (credit,),
            method=item.rollout.policy,
            scale=result.scale,
            note=item.failed,
        )
        views.append(view)
    return tuple(views)
