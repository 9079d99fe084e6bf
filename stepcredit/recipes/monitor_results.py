"""What the monitors fired, for the report and `summary.json`: when, at which value, what was done, what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from stepcredit.recipes.arms import ArmResult
from stepcredit.recipes.demo_settings import DemoRecipe
from stepcredit.report.views import Cell, Estimate, TableView
from stepcredit.training.monitoring import STRENGTH, Firing
from stepcredit.training.monitors import MONITORS
from stepcredit.training.rounds import RoundRow

_SHOWN = ("catch",)
"""Held-out figures shown beside accuracy."""


@final
@dataclass(frozen=True)
class FiredMonitor:
    """One monitor that fired in one run.

    Args:
        arm: key of the arm.
        seed: seed of the run.
        first: its first firing.
        rounds: all rounds in which it fired.
        quiet_since: first round after its last firing, `None` if it fired in the last round.
        then: accuracy and figures after the round of the first firing, as far as they were measured.
        end: the same after the last round.
    """

    arm: str
    seed: int
    first: Firing
    rounds: tuple[int, ...]
    quiet_since: int | None
    then: Mapping[str, float]
    end: Mapping[str, float]

    @property
    def recovered(self) -> bool | None:
        """True if the monitor fell silent and accuracy ended no lower than when it fired; `None` if not measured."""
        if "accuracy" not in self.then or "accuracy" not in self.end:
            return None
        return self.quiet_since is not None and self.end["accuracy"] >= self.then["accuracy"]

    def as_payload(self) -> dict[str, Any]:
        """For `summary.json`."""
        return {
            **self.first.as_payload(),
            "arm": self.arm,
            "seed": self.seed,
            "rounds": list(self.rounds),
            "quiet_since": self.quiet_since,
            "then": dict(self.then),
            "end": dict(self.end),
            "recovered": self.recovered,
        }


def fired_monitors(results: Mapping[str, Sequence[ArmResult]]) -> list[FiredMonitor]:
    """Every monitor that fired, one entry a run, the strongest actions first."""
    found = [entry for runs in results.values() for run in runs for entry in _of_run(run)]
    return sorted(found, key=lambda entry: -STRENGTH.index(entry.first.action))


def monitor_summary(results: Mapping[str, Sequence[ArmResult]]) -> dict[str, Any]:
    """Part `monitors` of `summary.json`."""
    return {
        "watched": len(MONITORS),
        "fired": [entry.as_payload() for entry in fired_monitors(results)],
        "unknown": {name: list(runs[0].unknown_monitors) for name, runs in results.items()},
    }


def monitor_fact(results: Mapping[str, Sequence[ArmResult]]) -> str:
    """One line for the head of the report."""
    fired = sorted({entry.first.monitor for entry in fired_monitors(results)})
    silent = set(MONITORS)
    for runs in results.values():
        for run in runs:
            silent &= set(run.unknown_monitors)
    told = f"fired: {', '.join(fired)}" if fired else "none fired"
    return f"{len(MONITORS)} watched, {told}" + (f"; unknown here: {', '.join(sorted(silent))}" if silent else "")


def monitor_tables(recipe: DemoRecipe, results: Mapping[str, Sequence[ArmResult]]) -> tuple[TableView, ...]:
    """The table of the monitors that fired; no table where none did."""
    fired = fired_monitors(results)
    if not fired:
        return ()
    columns = (
        "monitor", "method", "first fired at", "value", "bound", "action", "fired in rounds",
        "accuracy then", "accuracy at the end", "catch then", "catch at the end", "recovered",
    )  # fmt: skip
    meanings = {entry.first.monitor: MONITORS[entry.first.monitor].meaning for entry in fired}
    note = "Then: measured after the round of the first firing. Recovered: silent at the end, and accuracy no lower. "
    note += ". ".join(f"{name}: {meaning}" for name, meaning in sorted(meanings.items())) + "."
    return (TableView("Monitors that fired", columns, tuple(_cells(recipe, entry) for entry in fired), note),)


def _cells(recipe: DemoRecipe, entry: FiredMonitor) -> tuple[Cell, ...]:
    first = entry.first
    word = {True: f"yes, quiet since round {entry.quiet_since}", False: "no", None: None}[entry.recovered]
    return (
        f"{first.monitor} of {first.of}" if first.of else first.monitor,
        f"{recipe.arms[entry.arm].title}, seed {entry.seed}",
        f"{first.rollouts} rollouts",
        Estimate(first.value),
        Estimate(first.bound),
        first.action,
        ", ".join(str(index) for index in entry.rounds),
        *(
            Estimate(measured.get(name))
            for name in ("accuracy", *_SHOWN)
            for measured in (entry.then, entry.end)
        ),
        word,
    )  # fmt: skip


def _of_run(run: ArmResult) -> list[FiredMonitor]:
    last = run.rows[-1].index
    grouped: dict[str, list[Firing]] = {}
    for firing in run.firings:
        grouped.setdefault(firing.monitor, []).append(firing)
    entries: list[FiredMonitor] = []
    for firings in grouped.values():
        rounds = tuple(sorted({firing.round for firing in firings}))
        quiet = rounds[-1] + 1 if rounds[-1] < last else None
        then = _measured(run.rows, rounds[0])
        entries.append(FiredMonitor(run.name, run.seed, firings[0], rounds, quiet, then, _measured(run.rows, last)))
    return entries


def _measured(rows: Sequence[RoundRow], index: int) -> dict[str, float]:
    """Accuracy and shown figures after a round; of the next measured one if that round was not measured."""
    row = next((row for row in rows if row.index >= index and row.accuracy is not None), None)
    if row is None or row.accuracy is None:
        return {}
    return {"accuracy": row.accuracy, **{name: row.figures[name] for name in _SHOWN if name in row.figures}}
