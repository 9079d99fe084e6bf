"""Two runs of different judges on the same solutions: paired differences, never two averages side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import orjson

from stepcredit.core.errors import StoreError, UsageError
from stepcredit.evaluation.compare import Comparison, McNemar, compare_first_error, mcnemar
from stepcredit.evaluation.first_error import CLEAN, exact
from stepcredit.recipes.evaluating.figures import Figures, Row
from stepcredit.recipes.evaluating.settings import MetricsPart
from stepcredit.store.run_folder import RunFolder, read_manifest
from stepcredit.store.shapes import EVALUATED, read_shaped

PREDICTIONS = "predictions.jsonl"
"""File of a run: one solution a line, with label, prediction and step scores."""

VERB = "evaluate"


@final
@dataclass(frozen=True)
class PairedJudges:
    """This run's judge and another's on the solutions that both were scored on.

    Args:
        first: name of this run's judge.
        second: name of the other's.
        solutions: how many both were scored on.
        f1: difference of the official F1 and exact tests; `None` where the solutions have one class only.
        exact: exact test of 'names the first wrong step, or its absence'.
    """

    first: str
    second: str
    solutions: int
    f1: Comparison | None
    exact: McNemar


def write_predictions(folder: RunFolder, rows: tuple[Row, ...], graded: Mapping[str, bool | None]) -> None:
    """Write one line a scored solution.

    Args:
        folder: of the run.
        rows: the solutions.
        graded: by id, whether the judge's reason is the true one, where somebody said.
    """
    lines = [
        orjson.dumps(
            {
                "id": row.solution.id,
                "split": row.solution.split,
                "kind": row.solution.kind,
                "generator": row.solution.generator,
                "label": row.label,
                "predicted": row.predicted,
                **row.reading.as_payload(),
                "given_reason": row.given_reason,
                "reason_right": graded.get(row.solution.id),
            }
        ).decode()
        for row in rows
    ]
    folder.write_text(PREDICTIONS, "".join(f"{line}\n" for line in lines))


def check_comparable(other: Path, sha256: str) -> None:
    """Refuse a run that is no evaluation of the same solutions, before any work.

    Args:
        other: its folder.
        sha256: digest of the solutions of this run.

    Raises:
        UsageError: naming what it is instead.
        StoreError: if its manifest is damaged.
    """
    verb = read_manifest(other).get("verb")
    if verb != VERB:
        raise UsageError(f"--compare names a run of `evaluate`, this is one of {verb}", item=str(other))
    manifest = read_shaped(other, EVALUATED)
    if manifest["input"]["sha256"] != sha256:
        name = manifest["input"]["name"]
        raise UsageError(
            f"--compare names a run on other solutions ({name}); both must judge the same", item=str(other)
        )
    if not (other / PREDICTIONS).exists():
        raise UsageError("this run has no predictions yet; let it come to its end, then compare", item=str(other))


def compare_runs(figures: Figures, other: Path, part: MetricsPart, *, judge: str) -> PairedJudges:
    """Compare with what another run predicted.

    Args:
        figures: of this run.
        other: folder of the other.
        part: `[metrics]` of the recipe.
        judge: name of this run's judge.

    Raises:
        UsageError: if no solution was scored by both.
        StoreError: if the other's predictions cannot be read.
    """
    theirs = _predictions(other)
    both = [row for row in figures.rows if row.solution.id in theirs]
    if not both:
        raise UsageError("no solution was scored by both runs", item=str(other))
    labels, mine = [row.label for row in both], [row.predicted for row in both]
    second = [theirs[row.solution.id] for row in both]
    wrong = np.array(labels) != CLEAN
    compared = None
    if wrong.any() and not wrong.all():
        compared = compare_first_error(labels, mine, second, seed=part.seed, resamples=part.resamples)
    name = read_shaped(other, EVALUATED)["judge"]["name"]
    return PairedJudges(judge, name, len(both), compared, mcnemar(exact(labels, mine), exact(labels, second)))


def _predictions(other: Path) -> dict[str, int | None]:
    try:
        rows: list[dict[str, Any]] = [orjson.loads(line) for line in (other / PREDICTIONS).read_bytes().splitlines()]
        return {row["id"]: row["predicted"] for row in rows}
    except (OSError, orjson.JSONDecodeError, KeyError) as error:
        raise StoreError(f"the predictions cannot be read: {error}", item=str(other / PREDICTIONS)) from error
