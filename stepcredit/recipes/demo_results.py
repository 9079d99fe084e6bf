"""The demo's figures: from arm results to the table, the plots, the closing sentence and `summary.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from stepcredit.core.seeds import derive
from stepcredit.evaluation.crossing import rollouts_to
from stepcredit.evaluation.intervals import Interval, student
from stepcredit.evaluation.policy import mean_interval
from stepcredit.recipes.arms import ArmResult
from stepcredit.recipes.demo_settings import DemoRecipe
from stepcredit.recipes.judge_figures import ALL_ROUNDS, Figures
from stepcredit.recipes.teaching import TeachingRecord
from stepcredit.report.views import Estimate, PlotView, SeriesView, TableView

CURVES = (
    ("accuracy", "Accuracy", "held-out accuracy"),
    ("first_guess", "First guess", "share of right first guesses"),
    ("catch", "Catch rate", "own wrong steps answered by no-wait"),
    ("tokens", "Length", "words a solution"),
)


@final
@dataclass(frozen=True)
class MethodFigures:
    """What one arm gave over all seeds.

    Args:
        name: key of the arm.
        title: its title.
        accuracy: on the final problems; the interval covers problems, and seeds where there are at least two.
        pass_at_8: mean over pass problems and seeds.
        first_guess: right first guesses on the final problems, mean over seeds.
        catch: catch rate on the final problems, mean over seeds.
        rollouts: sampled in one run.
        rollouts_to: level name -> sampled rollouts to it, mean over the seeds that reached it, `None` if none did.
        reached: level name -> seeds that reached it.
        judge_tokens: read and written by the judge in one run, mean over seeds.
        signal_tokens: read and written for signals beside outcomes and verdicts (reference passes, continuations), too.
        true_labels: true step labels that the arm's judge was taught with.
        cpu_seconds: of one run, mean over seeds, teaching of the judge included.
        seconds: wall time of one run, mean over seeds.
        seeds: number of seeds.
    """

    name: str
    title: str
    accuracy: Interval
    pass_at_8: Interval
    first_guess: float | None
    catch: float | None
    rollouts: int
    rollouts_to: Mapping[str, float | None]
    reached: Mapping[str, int]
    judge_tokens: float
    signal_tokens: float
    true_labels: int
    cpu_seconds: float
    seconds: float
    seeds: int


def method_figures(
    recipe: DemoRecipe, name: str, *, results: Sequence[ArmResult], teaching: Mapping[str, TeachingRecord]
) -> MethodFigures:
    """Figures of one arm from its runs, one a seed."""
    taught = teaching.get(recipe.arms[name].judge)
    crossings = [_crossings(recipe, result) for result in results]
    reached = {level: [c[level] for c in crossings if c[level] is not None] for level in crossings[0]}
    return MethodFigures(
        name=name,
        title=recipe.arms[name].title,
        accuracy=_over_seeds([np.array(result.final_right, np.float64) for result in results]),
        pass_at_8=_over_seeds([np.array(result.pass_at_8) for result in results]),
        first_guess=_mean([r.final_figures.get("first_guess") for r in results]),
        catch=_mean([r.final_figures.get("catch") for r in results]),
        rollouts=results[0].rows[-1].rollouts,
        rollouts_to={level: _mean(found) for level, found in reached.items()},
        reached={level: len(found) for level, found in reached.items()},
        judge_tokens=float(np.mean([r.judge_tokens for r in results])),
        signal_tokens=float(np.mean([r.signal_tokens for r in results])),
        true_labels=taught.true_labels if taught else 0,
        cpu_seconds=float(np.mean([r.cpu_seconds for r in results])) + (taught.cpu_seconds if taught else 0.0),
        seconds=float(np.mean([r.seconds for r in results])),
        seeds=len(results),
    )


def closing_sentence(figures: Sequence[MethodFigures]) -> str:
    """What the intervals allow to be said of final accuracy, against the first arm; nothing more.

    Each later arm is above, below, or `no difference shown` where the 95% intervals overlap.
    """
    base, *others = figures
    if not others:
        reached = f"{base.accuracy.value:.3f} [{base.accuracy.low:.3f}, {base.accuracy.high:.3f}]"
        return f"{base.title}: final accuracy {reached} after {base.rollouts} rollouts, seeds: {base.seeds}."
    said: list[str] = []
    for other in others:
        if other.accuracy.overlaps(base.accuracy):
            said.append(f"{other.title}: no difference shown")
        else:
            side = "above" if other.accuracy.value > base.accuracy.value else "below"
            said.append(f"{other.title}: {side} ({other.accuracy.value:.3f} against {base.accuracy.value:.3f})")
    scope = (
        f"{base.seeds} seeds on one checkpoint"
        if base.seeds > 1
        else "One seed: the intervals cover problems, not training runs, so this is a look, not a finding"
    )
    return f"Final accuracy against {base.title}. {'; '.join(said)}. {scope}."


def summary(
    recipe: DemoRecipe,
    figures: Sequence[MethodFigures],
    *,
    base_accuracy: float,
    judges: Mapping[str, Mapping[str, Figures]],
    versions: Mapping[str, str],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """`summary.json` of the demo."""
    methods: dict[str, Any] = {}
    for found in figures:
        methods[found.name] = {
            "title": found.title,
            "accuracy": found.accuracy.value,
            "accuracy_ci": [found.accuracy.low, found.accuracy.high],
            "pass_at_8": found.pass_at_8.value,
            "pass_at_8_ci": [found.pass_at_8.low, found.pass_at_8.high],
            "first_guess": found.first_guess,
            "catch": found.catch,
            "rollouts": found.rollouts,
            "rollouts_to": dict(found.rollouts_to),
            "reached": dict(found.reached),
            "judge_tokens": found.judge_tokens,
            "signal_tokens": found.signal_tokens,
            "true_labels": found.true_labels,
            "cpu_seconds": found.cpu_seconds,
            "seconds": found.seconds,
        }
    return {
        "base": {"accuracy": base_accuracy},
        "methods": methods,
        "judges": {name: _judge(rounds) for name, rounds in judges.items()},
        "world": recipe.world.name,
        "closing": closing_sentence(figures),
        "versions": dict(versions),
        "seeds": list(seeds),
    }


def _judge(rounds: Mapping[str, Figures]) -> dict[str, Any]:
    """One judge: step F1 and parse rate over all measured rounds, and every figure round by round."""
    pooled = rounds.get(ALL_ROUNDS, {})
    apart = {when: figures for when, figures in rounds.items() if when != ALL_ROUNDS}
    return {"step_f1": pooled.get("step_f1"), "parse_rate": pooled.get("parse_rate"), **apart}


def result_table(recipe: DemoRecipe, figures: Sequence[MethodFigures], *, base_accuracy: float) -> TableView:
    """The final table."""
    levels, signals = _level_names(recipe), any(f.signal_tokens for f in figures)
    columns = (
        "method", "accuracy", "pass@8", "first guess", "catch rate",
        *(f"rollouts to {level}" for level in levels),
        "true step labels", "judge tokens", *(["signal tokens"] if signals else []), "CPU s",
    )  # fmt: skip
    rows = tuple(
        (
            f.title,
            Estimate(f.accuracy.value, f.accuracy.low, f.accuracy.high),
            Estimate(f.pass_at_8.value, f.pass_at_8.low, f.pass_at_8.high),
            Estimate(f.first_guess),
            Estimate(f.catch),
            *(_crossing_cell(f, level) for level in levels),
            f.true_labels,
            round(f.judge_tokens),
            *([round(f.signal_tokens)] if signals else []),
            round(f.cpu_seconds),
        )
        for f in figures
    )
    note = (
        f"Start: accuracy {base_accuracy:.3f}. {figures[0].rollouts} rollouts a run, seeds: {figures[0].seeds}. "
        "95% intervals: bootstrap over problems for one seed, Student's over seeds for several. "
        "A dash: never reached. CPU seconds include teaching the judge."
        + (" Signal tokens: reference passes and continuations." if signals else "")
    )
    return TableView("Equal rollouts, one starting policy", columns, rows, note)


def curve_plots(recipe: DemoRecipe, results: Mapping[str, Sequence[ArmResult]]) -> tuple[PlotView, ...]:
    """One plot a figure: mean over seeds against sampled rollouts, with the range over seeds as a band."""
    plots: list[PlotView] = []
    for key, title, label in CURVES:
        series = [_series(recipe.arms[name].title, runs, key) for name, runs in results.items()]
        limits = None if key == "tokens" else (0.0, 1.0)
        plots.append(PlotView(title, "sampled rollouts", label, tuple(s for s in series if s.x), limits))
    return tuple(plots)


def _series(title: str, runs: Sequence[ArmResult], key: str) -> SeriesView:
    points: dict[int, list[float]] = {}
    for run in runs:
        for row in run.rows:
            value = row.accuracy if key == "accuracy" else row.figures.get(key)
            if value is not None:
                points.setdefault(row.rollouts, []).append(value)
    kept = {x: values for x, values in sorted(points.items()) if len(values) == len(runs)}
    band = len(runs) > 1
    return SeriesView(
        title,
        tuple(float(x) for x in kept),
        tuple(float(np.mean(values)) for values in kept.values()),
        tuple(min(values) for values in kept.values()) if band else (),
        tuple(max(values) for values in kept.values()) if band else (),
    )


def _crossings(recipe: DemoRecipe, result: ArmResult) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    rows = [row for row in result.rows if row.accuracy is not None]
    rollouts = np.array([row.rollouts for row in rows], np.float64)
    accuracy = np.array([row.accuracy for row in rows], np.float64)
    first = np.array([row.figures.get("first_guess", np.nan) for row in rows], np.float64)
    for level in recipe.measure.levels:
        found[f"{level:g}"] = rollouts_to(rollouts, accuracy, level)
    level = recipe.measure.first_guess_level
    found[f"first guess {level:g}"] = rollouts_to(rollouts, first, level)
    return found


def _level_names(recipe: DemoRecipe) -> list[str]:
    return [*(f"{level:g}" for level in recipe.measure.levels), f"first guess {recipe.measure.first_guess_level:g}"]


def _crossing_cell(found: MethodFigures, level: str) -> str | int | None:
    value = found.rollouts_to[level]
    if value is None:
        return None
    whole = found.reached[level] == found.seeds
    return round(value) if whole else f"{value:.0f} ({found.reached[level]} of {found.seeds} seeds)"


def _over_seeds(values: Sequence[np.ndarray]) -> Interval:
    """Mean with a 95% interval: over problems for one seed, over seeds for several (the problems are the same ones)."""
    if len(values) == 1:
        return mean_interval(values[0], seed=derive(0, "final"))
    return student(np.array([value.mean() for value in values]))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
