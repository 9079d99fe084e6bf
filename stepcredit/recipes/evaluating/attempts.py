"""Recorded attempts at a problem set: read from a file, each tied to its problem, as the walk takes them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.records import Finish, Problem
from stepcredit.evaluation.labelled_lines import Line, lines, unique
from stepcredit.evaluation.problem_sets import TestedProblem
from stepcredit.recipes.recorded.walk import Placed
from stepcredit.tasks.jsonl import RecordedResponse

_INK = re.compile(r"[^a-z0-9]+")


@final
@dataclass(frozen=True)
class Attempt:
    """One completion of one problem.

    Args:
        id: unique in the file.
        problem: what was attempted.
        text: the completion.
        model: who wrote it, empty if that is not said.
        weight: a judge's score of it, for weighted votes; `None` is unknown.
        finish: `length` where the line says `finished: false`.
    """

    id: str
    problem: Problem
    text: str
    model: str = ""
    weight: float | None = None
    finish: Finish = "stop"


def read_attempts(path: Path, problems: Sequence[TestedProblem]) -> tuple[Attempt, ...]:
    """Attempts of a file.

    A line holds `problem_id`, or `problem` or `question` (recognised by its letters and digits alone), `completion` or
    `response`, and may hold `id`, `model`, `score` and `finished`.

    Args:
        path: JSONL, plain or packed.
        problems: of the set.

    Raises:
        UsageError: if a line cannot be used, its problem is not in the set, or two lines share an id.
        MachineError: if the file may not be read.
    """
    by_id = {tested.problem.id: tested.problem for tested in problems}
    by_text = {_key(tested.problem.text): tested.problem for tested in problems}
    found = [(_attempt(line, by_id, by_text), line.place) for line in lines(path)]
    unique([(attempt.id, place) for attempt, place in found])
    return tuple(attempt for attempt, _ in found)


def placed_attempts(attempts: Sequence[Attempt]) -> list[Placed]:
    """Attempts as the walk takes them, with their places from 0."""
    return [
        (place, RecordedResponse(one.id, one.problem, one.text, one.model, None, one.finish, place + 1))
        for place, one in enumerate(attempts)
    ]


def attempts_digest(attempts: Sequence[Attempt]) -> str:
    """Digest of all that a checker reads."""
    return digest([(a.id, a.problem.id, a.problem.answer, a.text, a.finish) for a in attempts])


def _attempt(line: Line, by_id: Mapping[str, Problem], by_text: Mapping[str, Problem]) -> Attempt:
    written = line.row.get("id")
    weight = line.row.get("score")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int | float)):
        raise line.wrong(f"`score` must be a number or null, got {str(weight)[:40]!r}")
    if weight is not None and (weight < 0 or not math.isfinite(weight)):
        raise line.wrong(f"`score` weighs a vote: a number of at least 0, got {weight}")
    return Attempt(
        id=line.place.replace("\\", "/").rsplit("/", 1)[-1] if written is None else str(written),
        problem=_problem(line, by_id, by_text),
        text=line.text("completion", "response"),
        model=line.text("model", "generator", default=""),
        weight=None if weight is None else float(weight),
        finish="length" if line.truth("finished") is False else "stop",
    )


def _problem(line: Line, by_id: Mapping[str, Problem], by_text: Mapping[str, Problem]) -> Problem:
    named = line.row.get("problem_id")
    if named is not None:
        if str(named) not in by_id:
            raise line.wrong(f"no problem of the set has the id {str(named)!r}")
        return by_id[str(named)]
    text = line.text("problem", "question")
    found = by_text.get(_key(text))
    if found is None:
        shown = " ".join(text.split())[:60]
        raise line.wrong(f"no problem of the set has this text: {shown!r}; name it with `problem_id`")
    return found


def _key(text: str) -> str:
    return _INK.sub("", text.lower())
