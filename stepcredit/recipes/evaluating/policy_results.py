"""Results of recorded attempts: the summary, the closing sentence and what the page shows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from stepcredit.evaluation.majority import VoteScore
from stepcredit.recipes.evaluating.policy_figures import Checked, PolicyFigures
from stepcredit.recipes.evaluating.results import plain
from stepcredit.recipes.evaluating.tables import estimate
from stepcredit.recipes.recorded.tally import ranked
from stepcredit.recipes.recorded.walk import Walked
from stepcredit.report.build import rollout_view
from stepcredit.report.views import Cell, PlotView, ReportData, SeriesView, TableView

STATUSES = ("right", "wrong", "unscorable", "quarantined")

_TOLD_REASONS = 20


@final
@dataclass(frozen=True)
class Attempted:
    """What an evaluation of recorded attempts found.

    Args:
        name: of the set.
        problems: problems in the set.
        checked: all attempts, in the file's order.
        figures: of each model.
        shown: attempts for the viewer, by place.
        seconds: wall time of each part of this session.
    """

    name: str
    problems: int
    checked: tuple[Checked, ...]
    figures: Mapping[str, PolicyFigures]
    shown: Mapping[int, Walked]
    seconds: Mapping[str, float]

    @property
    def counts(self) -> dict[str, int]:
        """Attempts by what became of them."""
        found = Counter(one.status for one in self.checked)
        return {"asked": len(self.checked), **{status: found[status] for status in STATUSES}}

    @property
    def reasons(self) -> dict[str, int]:
        """Why attempts are wrong or could not be checked, the most frequent first."""
        return ranked(Counter(f"{one.status}: {one.reason}" for one in self.checked if one.reason))


def policy_summary(found: Attempted, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `summary.json` holds; unknown is null.

    Args:
        found: the evaluation.
        settings: how it was made.
    """
    return {
        "set": found.name,
        "problems": found.problems,
        "coverage": found.counts,
        "reasons": dict(list(found.reasons.items())[:_TOLD_REASONS]),
        "resumed": sum(one.resumed for one in found.checked),
        "models": plain(found.figures),
        "seconds": round(sum(found.seconds.values()), 3),
        "stage_seconds": {part: round(value, 3) for part, value in found.seconds.items()},
        "settings": dict(settings),
    }


def policy_closing(found: Attempted) -> str:
    """One sentence a model: its average, over how many of the set's problems."""
    told: list[str] = []
    for model, figures in found.figures.items():
        average = figures.average
        attempts = str(figures.fewest) if figures.fewest == figures.most else f"{figures.fewest}-{figures.most}"
        share = f"avg@{attempts} {average.value:.3f} [{average.low:.3f}, {average.high:.3f}]"
        partial = "" if figures.problems == found.problems else ": not the whole set"
        told.append(f"{model or 'all attempts'}: {share} over {figures.problems} of {found.problems} problems{partial}")
    return "; ".join(told) + "."


def policy_report(found: Attempted, *, title: str, facts: Sequence[tuple[str, str]]) -> ReportData:
    """What the page and the terminal show."""
    counts = found.counts
    reasons = tuple(list(found.reasons.items())[:_TOLD_REASONS])
    return ReportData(
        title=title,
        subtitle=f"{found.name}: recorded attempts, checked",
        facts=tuple(facts),
        counts=tuple((name, counts[name]) for name in counts if counts[name] or name != "quarantined"),
        tables=(_models(found), _at_k(found), TableView("why", ("reason", "attempts"), reasons)),
        plots=_plots(found),
        closing=policy_closing(found),
        solutions=tuple(
            rollout_view(found.shown[place].steps, method=found.checked[place].attempt.model, note=_note(found, place))
            for place in sorted(found.shown)
        ),
        omitted=len(found.checked) - len(found.shown),
    )


def _note(found: Attempted, place: int) -> str:
    weight = found.checked[place].attempt.weight
    return "" if weight is None else f"score {weight:.4g}"


def _models(found: Attempted) -> TableView:
    rows: list[tuple[Cell, ...]] = [
        (
            model or "(not named)",
            estimate(figures.average),
            figures.problems,
            figures.coverage.asked,
            figures.coverage.unknown,
        )
        for model, figures in found.figures.items()
    ]
    note = "Mean over problems of the share of right attempts; one that could not be checked counts as not right."
    columns = ("model", "average", "problems", "attempts", "unscorable")
    return TableView("recorded attempts", columns, tuple(rows), f"{note} Brackets: 95% bootstrap over problems.")


def _at_k(found: Attempted) -> TableView:
    rows: list[tuple[Cell, ...]] = []
    for model, figures in found.figures.items():
        for at in figures.at:
            votes = (_share(at.majority), _share(at.weighted))
            rows.append((f"{model or '(not named)'}, k = {at.k}", estimate(at.passed), *votes, at.problems))
    note = "pass@k without bias; maj@k over all subsets of k attempts, weighted by the lines' scores. Ties are shared."
    return TableView("k attempts", ("model", "pass@k", "maj@k", "weighted maj@k", "problems"), tuple(rows), note)


def _share(score: VoteScore | None) -> Cell:
    return None if score is None else estimate(score.share)


def _plots(found: Attempted) -> tuple[PlotView, ...]:
    lines = [
        SeriesView(
            f"{model} pass@k".strip(),
            tuple(float(at.k) for at in figures.at),
            tuple(at.passed.value for at in figures.at),
            tuple(at.passed.low for at in figures.at),
            tuple(at.passed.high for at in figures.at),
        )
        for model, figures in found.figures.items()
    ]
    return (PlotView("pass@k", "k attempts", "share of problems", tuple(lines), (0.0, 1.0)),) if lines else ()
