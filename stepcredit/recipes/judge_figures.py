"""How good judges are on policy rollouts: parsing, agreement with markers, precision and recall against exact truth."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepcredit.core.records import Judgement, Label, Outcome, Steps
from stepcredit.judges.intrinsic.judge import IntrinsicSettings
from stepcredit.recipes.demo_settings import DemoRecipe
from stepcredit.recipes.judges import named_judge
from stepcredit.recipes.world import WorldTask, true_steps
from stepcredit.report.views import TableView

Figures = dict[str, float | None]

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
        Judge -> `round 1` ... -> figures: `solutions` (finished ones with an answer), `parse_rate` (share that was
        judged), precision, recall and F1 of blame on think steps against exact truth, over all solutions (`step_f1`)
        and apart for right solutions (`_reflection`) and wrong ones (`_matching`), and there the share of labels that
        equal the markers' (`agreement_reflection`, `agreement_matching`). `None` where nothing could be counted.
    """
    task = WorldTask(recipe.world)
    finished = {index: _finished(task, outcomes) for index, outcomes in rounds.items()}
    every = [steps for found in finished.values() for steps in found]
    judged = asyncio.run(_judged(checkpoint, [*dict.fromkeys(["markers", *judges])], every))
    found: dict[str, dict[str, Figures]] = {name: {} for name in judges}
    first = 0
    for index, solutions in finished.items():
        part = slice(first, first := first + len(solutions))
        for name in judges:
            found[name][f"round {index + 1}"] = judge_figures(judged[name][part], judged["markers"][part])
    return found


def judge_table(judges: Mapping[str, Mapping[str, Figures]]) -> TableView:
    """The figures of `measure_judges` as a table, one row a judge and round."""
    rows = tuple(
        (f"{name}, {when}", *(_cell(key, figures.get(key)) for key in COLUMNS))
        for name, rounds in judges.items()
        for when, figures in rounds.items()
    )
    note = (
        "On solutions that this report shows. Right, wrong: solutions with that outcome. Precision and recall of "
        "blamed steps against exact step truth; markers read the intrinsic signals by the task's grammar."
    )
    return TableView("Judges", ("judge", *COLUMNS.values()), rows, note)


def judge_figures(mine: Sequence[Judgement], markers: Sequence[Judgement]) -> Figures:
    """Figures of one judge on solutions that markers judged too, both in the same order."""
    row: Figures = {
        "solutions": float(len(mine)),
        "parse_rate": sum(judgement.known for judgement in mine) / len(mine) if mine else None,
    }
    for status, protocol in (("right", "reflection"), ("wrong", "matching")):
        pairs = [(a, b) for a, b in zip(mine, markers, strict=True) if a.steps.outcome.status == status and a.known]
        labels = [(x.label, y.label) for a, b in pairs for x, y in _think(a, b) if y.label is not None]
        row[f"agreement_{protocol}"] = sum(x == y for x, y in labels) / len(labels) if labels else None
        row |= {f"{key}_{protocol}": value for key, value in _against_truth([a for a, _ in pairs]).items()}
    return row | {f"step_{key}": value for key, value in _against_truth([j for j in mine if j.known]).items()}


def _finished(task: WorldTask, outcomes: Sequence[Outcome]) -> list[Steps]:
    seen = {(o.rollout.problem.id, o.rollout.completion_ids.tobytes()): o for o in outcomes}
    cut = [task.splitter.split(outcome) for outcome in seen.values()]
    return [steps for steps in cut if steps.closed and steps.outcome.status != "unscorable"]


async def _judged(checkpoint: Path, names: Sequence[str], cut: Sequence[Steps]) -> dict[str, list[Judgement]]:
    found: dict[str, list[Judgement]] = {}
    for name in names:
        built = named_judge(name, checkpoint, IntrinsicSettings())
        judge = built.judge
        if judge is not None:
            verdicts = await asyncio.gather(*(judge.judge(steps) for steps in cut))
            found[name] = [Judgement(s, v, judge.fingerprint) for s, v in zip(cut, verdicts, strict=True)]
        await built.aclose()
    return found


def _think(mine: Judgement, other: Judgement) -> list[tuple[Any, Any]]:
    pairs = zip(mine.verdicts, other.verdicts, mine.steps.in_answer, strict=True)
    return [(a, b) for a, b, inside in pairs if not inside]


def _against_truth(judgements: Sequence[Judgement]) -> Figures:
    """Precision, recall and F1 of blame (`incorrect`, `matched`) on think steps that are truly wrong."""
    hits = blamed = wrong = 0
    for judgement in judgements:
        truths = true_steps(judgement.steps)
        for verdict, right, inside in zip(judgement.verdicts, truths, judgement.steps.in_answer, strict=True):
            if inside or right is None:
                continue
            flag = verdict.label in (Label.INCORRECT, Label.MATCHED)
            blamed, wrong, hits = blamed + flag, wrong + (not right), hits + (flag and not right)
    precision = hits / blamed if blamed else None
    recall = hits / wrong if wrong else None
    total = blamed + wrong
    return {"precision": precision, "recall": recall, "f1": 2 * hits / total if total else None}


def _cell(key: str, value: float | None) -> float | int | None:
    if value is None:
        return None
    return int(value) if key == "solutions" else round(value, 3)
