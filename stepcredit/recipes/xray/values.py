"""Monte-Carlo values of the X-ray's rollouts: from a file, or by continuing prefixes with their own policy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from jaxtyping import Float64

from stepcredit.adapters.logged.signals import brought_by
from stepcredit.core.errors import UsageError
from stepcredit.credit.rule import Need
from stepcredit.recipes.xray.batch import XrayBatch, nodes_of
from stepcredit.report.progress import Progress
from stepcredit.tasks.jsonl import read_objects

VALUES = "values.jsonl"
"""File of a result's folder that holds the values that were taken; `--values` reads it again."""


def with_values_of(batch: XrayBatch, file: Path) -> XrayBatch:
    """The batch with the values of a file: a line a rollout, `id` and `values` (or `success`).

    Args:
        batch: whose rollouts the ids name; lines of others are passed over.
        file: JSONL.

    Raises:
        UsageError: for a line that cannot be used, an id that comes twice, or a file that names none of the rollouts.
    """
    steps = {each.rollout.id: each for each in batch.steps}
    found: dict[str, Float64[np.ndarray, " n"]] = {}
    lines = 0
    for place, row in read_objects(file):
        lines += 1
        if row.get("id") is None:
            raise UsageError(f"no key `id`; the keys are {', '.join(row)}", item=place)
        name, values = str(row["id"]), brought_by(row, place).values
        if values is None:
            raise UsageError("no key `values` (or `success`); one value before each step is wanted", item=place)
        if name in found:
            raise UsageError(f"id {name} comes twice", item=place)
        if name in steps:
            found[name] = nodes_of(values, steps[name], place=place)
    if not found:
        first = next(iter(steps), "none")
        raise UsageError(f"none of its {lines} ids is that of a rollout here, such as {first}", item=str(file))
    source = f"{file.name}, {len(found)} of {len(steps)} rollouts"
    return batch.with_signal(Need.VALUES, found, source)


def with_continued(batch: XrayBatch, completions: int, progress: Progress) -> XrayBatch:
    """The batch with values by continuation.

    Args:
        batch: of rollouts whose policy is at hand.
        completions: K, continuations of each prefix.
        progress: who is told.

    Raises:
        UsageError: if the policy is not at hand, or is not the one that wrote the rollouts.
        MachineError: if torch is not installed.
    """
    if batch.continues is None:
        raise UsageError(f"--continuations: {batch.no_policy}; give --values FILE", item=batch.name)
    cuts = [steps for steps in batch.steps if len(steps)]
    task = progress.start("continuing prefixes", total=len(cuts), unit="rollouts")
    entries = batch.continues(cuts, completions, task)
    return batch.with_signal(Need.VALUES, entries, f"{completions} continuations of each prefix by its own policy")


def value_lines(batch: XrayBatch) -> Iterator[bytes]:
    """The batch's values as lines that `with_values_of` reads; null is unknown."""
    for name, column in batch.signals.get(Need.VALUES, {}).items():
        values: list[Any] = [None if np.isnan(value) else round(float(value), 9) for value in column]
        yield orjson.dumps({"id": name, "values": values}, option=orjson.OPT_APPEND_NEWLINE)
