"""How good judges are on policy rollouts: parsing, agreement with markers, precision and recall against exact truth.

Beside it how their replies were read while the arms trained, task by task (F3).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from stepcredit.core.protocols import Judge
from stepcredit.core.records import Judgement, Label, Outcome, Steps
from stepcredit.judges.intrinsic.judge import IntrinsicJudge, IntrinsicSettings
from stepcredit.judges.intrinsic.markers import world_markers
from stepcredit.judges.intrinsic.statistics import TaskCounts
from stepcredit.recipes.arms import ArmResult
from stepcredit.recipes.demo_settings import DemoRecipe
from stepcredit.recipes.judges import named_judge
from stepcredit.recipes.world import WorldTask, true_steps
from stepcredit.report.views import Cell, Estimate, TableView
from stepcredit.store.codec import decode
from stepcredit.store.ledger import Ledger
from stepcredit.training.evaluate import STAGE as JUDGEMENTS
from stepcredit.training.sample import STAGE as ROLLOUTS

Figures = dict[str, float | None]

ALL_ROUNDS = "all rounds"
"""Name of the figures over the solutions of all measured rounds together."""

COLUMNS = {
    "solutions": "solutions",
    "parse_rate": "parsed",
    "agreement_reflection": "agrees with markers, right",
    "agreement_matching": "agrees with markers, wrong",
    "precision_reflection": "precision, right",
    "recall_reflection": "recall, right",
    "precision_matching": "precision, wrong",
    "recall_matching": "recall, wrong",
    "step_f1": "step F1",
}


def measure_judges(
    recipe: DemoRecipe, checkpoint: Path, rounds: Mapping[int, Sequence[Outcome]], *, judges: Sequence[str]
) -> dict[str, dict[str, Figures]]:
    """How good judges are on policy rollouts of some rounds, against exact truth and against markers.

    Args:
        recipe: its world.
        checkpoint: folder of the starting policy, with the taught judges.
        rounds: round index -> checked rollouts of that round; equal completions of a problem count once.
        judges: names of the judges.

    Returns:
        Judge -> `round 1` ... and `all rounds` -> figures: `solutions` (finished ones with an answer), `parse_rate`
        (share that was judged), precision, recall and F1 of blame on think steps against exact truth, over all
        solutions (`step_f1`) and apart for right solutions (`_reflection`) and wrong ones (`_matching`), and there the
        share of labels that equal the markers' (`agreement_reflection`, `agreement_matching`). `None` where nothing
        could be counted.
    """
    task = WorldTask(recipe.world)
    finished = {index: _finished(task, outcomes) for index, outcomes in rounds.items()}
    every = [steps for found in finished.values() for steps in found]
    judged = asyncio.run(_judged(checkpoint, [*dict.fromkeys(["markers", *judges])], every))
    found: dict[str, dict[str, Figures]] = {}
    for name in judges:
        counts = iter(_counted(judged[name], judged["markers"]))
        found[name] = _by_round({index: list(islice(counts, len(part))) for index, part in finished.items()})
    return found


def measure_in_training(recipe: DemoRecipe, ledgers: Sequence[Path], rounds: Sequence[int]) -> dict[str, Figures]:
    """What a judge said of all finished rollouts while arms trained with it; nobody is asked again but markers.

    Args:
        recipe: its world.
        ledgers: of the runs that trained with the judge.
        rounds: indices of the rounds.

    Returns:
        As `measure_judges`, of one judge.
    """
    task, markers = WorldTask(recipe.world), IntrinsicJudge(world_markers())
    counts: dict[int, list[_Counts]] = {index: [] for index in rounds}
    for path in ledgers:
        for index, mine in asyncio.run(_recorded(task, path, rounds)).items():
            counts[index] += _counted(mine, asyncio.run(_said(markers, [one.steps for one in mine])))
    return _by_round(counts)


async def recorded_outcomes(task: WorldTask, path: Path, rounds: Sequence[int]) -> dict[int, list[Outcome]]:
    """All rollouts of some rounds of an arm, from its ledger at `path`, checked again: round index -> outcomes."""
    found: dict[int, list[Outcome]] = {index: [] for index in rounds}
    ledger = Ledger(path, journal=None)
    try:
        for key, payload in ledger.items(ROLLOUTS):
            if (index := _round_of(key)) in found:
                found[index].append(await task.checker.check(decode(payload)))
    finally:
        ledger.close()
    return found


def judge_table(judges: Mapping[str, Mapping[str, Figures]]) -> TableView:
    """The figures of `measure_judges` as a table, one row a judge and round."""
    rows = tuple(
        (f"{name}, {when}", *(_cell(key, figures.get(key)) for key in COLUMNS))
        for name, rounds in judges.items()
        for when, figures in rounds.items()
    )
    note = (
        "On all finished solutions of the first and the last round of a method that trained with the judge. Right, "
        "wrong: solutions with that outcome. Precision and recall of blamed steps against exact step truth; markers "
        "read the intrinsic signals by the task's grammar."
    )
    return TableView("Judges", ("judge", *COLUMNS.values()), rows, note)


def readings(results: Mapping[str, Sequence[ArmResult]]) -> dict[str, dict[str, TaskCounts]]:
    """Arm -> task and kind of solution -> counts over all seeds, of the arms whose judge writes replies."""
    found: dict[str, dict[str, TaskCounts]] = {}
    for name, runs in results.items():
        counts: dict[str, TaskCounts] = {}
        for run in runs:
            for task, part in run.parse.items():
                counts[task] = counts.get(task, TaskCounts()).plus(part)
        if counts:
            found[name] = dict(sorted(counts.items()))
    return found


def reading_summary(results: Mapping[str, Sequence[ArmResult]]) -> dict[str, Any]:
    """Part `parsing` of `summary.json`."""
    return {
        name: {task: {**counts.as_payload(), "parse_rate": counts.parse_rate} for task, counts in tasks.items()}
        for name, tasks in readings(results).items()
    }


def reading_tables(recipe: DemoRecipe, results: Mapping[str, Sequence[ArmResult]]) -> tuple[TableView, ...]:
    """The parse statistics, one row an arm and task; no table where no judge writes replies."""
    rows: list[tuple[Cell, ...]] = []
    for name, tasks in readings(results).items():
        for task, counts in tasks.items():
            why = ", ".join(f"{reason} {count:,}" for reason, count in counts.rejects.items())
            ends = (counts.asked, counts.first_try, counts.after_retry, counts.failed, counts.broken)
            rate = Estimate(counts.parse_rate)
            rows.append((f"{recipe.arms[name].title}, {task}", *ends, rate, why or None, counts.untraceable))
    columns = (
        "method, task and solutions", "asked", "read at once", "after a retry", "never read", "reader broke", "read",
        "replies rejected", "no source found",
    )  # fmt: skip
    note = (
        "Over all sessions and seeds; equal solutions are asked about once. P1 finds reflections, P23 traces and "
        "verifies what they take back, P4 compares with the answer. The raw replies are in the arm's ledger."
    )
    return (TableView("How the judge was read", columns, tuple(rows), note),) if rows else ()


@dataclass(frozen=True)
class _Counts:
    """What is counted of one judged solution.

    Args:
        status: its outcome.
        known: whether the judge's replies were read.
        agrees: labels of think steps that equal the markers', of those that markers gave one.
        labels: those that markers gave.
        hits: think steps blamed (`incorrect`, `matched`) that are truly wrong.
        blamed: think steps blamed.
        wrong: think steps that are truly wrong.
    """

    status: str
    known: bool
    agrees: int = 0
    labels: int = 0
    hits: int = 0
    blamed: int = 0
    wrong: int = 0


def _counted(mine: Sequence[Judgement], markers: Sequence[Judgement]) -> list[_Counts]:
    """Counts of solutions that a judge and markers judged, both in the same order."""
    return [_count(one, other) for one, other in zip(mine, markers, strict=True)]


def _count(mine: Judgement, markers: Judgement) -> _Counts:
    status = mine.steps.outcome.status
    if not mine.known:
        return _Counts(status, known=False)
    agrees = labels = hits = blamed = wrong = 0
    rows = zip(mine.verdicts, markers.verdicts, true_steps(mine.steps), mine.steps.in_answer, strict=True)
    for verdict, other, right, inside in rows:
        if inside:
            continue
        if other.label is not None:
            labels, agrees = labels + 1, agrees + (verdict.label == other.label)
        if right is not None:
            flag = verdict.label in (Label.INCORRECT, Label.MATCHED)
            blamed, wrong, hits = blamed + flag, wrong + (not right), hits + (flag and not right)
    return _Counts(status, True, agrees, labels, hits, blamed, wrong)


def _by_round(counts: Mapping[int, Sequence[_Counts]]) -> dict[str, Figures]:
    every = [one for part in counts.values() for one in part]
    return {f"round {index + 1}": _figures(part) for index, part in counts.items()} | {ALL_ROUNDS: _figures(every)}


def _figures(counts: Sequence[_Counts]) -> Figures:
    row: Figures = {
        "solutions": float(len(counts)),
        "parse_rate": sum(one.known for one in counts) / len(counts) if counts else None,
    }
    for status, protocol in (("right", "reflection"), ("wrong", "matching")):
        part = [one for one in counts if one.status == status]
        labels = sum(one.labels for one in part)
        row[f"agreement_{protocol}"] = sum(one.agrees for one in part) / labels if labels else None
        row |= {f"{key}_{protocol}": value for key, value in _against_truth(part).items()}
    return row | {f"step_{key}": value for key, value in _against_truth(counts).items()}


def _finished(task: WorldTask, outcomes: Sequence[Outcome]) -> list[Steps]:
    seen = {(o.rollout.problem.id, o.rollout.completion_ids.tobytes()): o for o in outcomes}
    cut = [task.splitter.split(outcome) for outcome in seen.values()]
    return [steps for steps in cut if steps.closed and steps.outcome.status != "unscorable"]


async def _judged(checkpoint: Path, names: Sequence[str], cut: Sequence[Steps]) -> dict[str, list[Judgement]]:
    found: dict[str, list[Judgement]] = {}
    for name in names:
        built = named_judge(name, checkpoint, IntrinsicSettings())
        if built.judge is not None:
            found[name] = await _said(built.judge, cut)
        await built.aclose()
    return found


async def _said(judge: Judge, cut: Sequence[Steps]) -> list[Judgement]:
    verdicts = await asyncio.gather(*(judge.judge(steps) for steps in cut))
    return [Judgement(s, v, judge.fingerprint) for s, v in zip(cut, verdicts, strict=True)]


async def _recorded(task: WorldTask, path: Path, rounds: Sequence[int]) -> dict[int, list[Judgement]]:
    """Judgements of the finished rollouts of some rounds, as a run's ledger keeps them."""
    ledger = Ledger(path, journal=None)
    try:
        kept = {key.split("/")[0]: said for key, said in ledger.items(JUDGEMENTS) if _round_of(key) in rounds}
    finally:
        ledger.close()
    found: dict[int, list[Judgement]] = {}
    for index, outcomes in (await recorded_outcomes(task, path, rounds)).items():
        pairs = [(cut, kept[cut.rollout.id]) for cut in _finished(task, outcomes) if cut.rollout.id in kept]
        found[index] = [decode(said, resolve=lambda _kind, _name, cut=cut: cut) for cut, said in pairs]
    return found


def _round_of(rollout: str) -> int:
    """Round of a rollout id, `r3-p10-s2`."""
    return int(rollout[1 : rollout.index("-")])


def _against_truth(counts: Sequence[_Counts]) -> Figures:
    """Precision, recall and F1 of blame on think steps that are truly wrong."""
    hits, blamed, wrong = (sum(getattr(one, key) for one in counts) for key in ("hits", "blamed", "wrong"))
    precision = hits / blamed if blamed else None
    recall = hits / wrong if wrong else None
    total = blamed + wrong
    return {"precision": precision, "recall": recall, "f1": 2 * hits / total if total else None}


def _cell(key: str, value: float | None) -> float | int | None:
    if value is None:
        return None
    return int(value) if key == "solutions" else round(value, 3)
