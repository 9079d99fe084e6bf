"""The arithmetic of markers_read.py: reflections and matched steps of two readings, counted and put into shares."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan
from typing import Any

import numpy as np

from stepcredit.core.seeds import derive
from stepcredit.evaluation.intervals import bootstrap

SEED = 4


@dataclass(frozen=True)
class Mark:
    """A reflection as somebody reads it.

    Args:
        step: where it turns back.
        end: last step of the passage that carries it out.
        kind: `error` takes back, `confirm` does not.
        source: earliest step that it goes back to, `None` if that is inside its own step or cannot be seen.
        unsure: the reader of the response was.
    """

    step: int
    end: int
    kind: str
    source: int | None
    unsure: bool = False


Counts = dict[str, tuple[int, int]]
"""Figure -> (hits, cases) of one response."""


def pairs_within(first: Sequence[int], second: Sequence[int], distance: int) -> int:
    """Most pairs of steps, one of each rising sequence and each used once, that are at most `distance` apart.

    >>> pairs_within([3, 4, 9], [4, 5], 1), pairs_within([3, 4, 9], [4, 5], 0)
    (2, 1)
    """
    i = j = pairs = 0
    while i < len(first) and j < len(second):
        if abs(first[i] - second[j]) <= distance:
            i, j, pairs = i + 1, j + 1, pairs + 1
        elif first[i] < second[j]:
            i += 1
        else:
            j += 1
    return pairs


def place_counts(read: Sequence[Mark], found: Sequence[Mark]) -> Counts:
    """Precision and recall of where reflections stand; `found` against `read`, of any kind and of errors."""
    counts: Counts = {}
    for kind in ("any", "error"):
        one, other = ([mark.step for mark in marks if kind in ("any", mark.kind)] for marks in (read, found))
        for name, distance in (("exact", 0), ("within one", 1)):
            hits = pairs_within(one, other, distance)
            counts[f"place, {kind}, {name}: precision"] = (hits, len(other))
            counts[f"place, {kind}, {name}: recall"] = (hits, len(one))
    steps, unsure = {mark.step for mark in found}, {mark.step for mark in read if mark.unsure}
    sure = {mark.step for mark in read} - unsure
    counts["place, any, exact, sure only: precision"] = (len(steps & sure), len(steps - unsure))
    counts["place, any, exact, sure only: recall"] = (len(steps & sure), len(sure))
    passages = [range(mark.step, mark.end + 1) for mark in read]
    counts["place, any, in a passage: precision"] = (sum(any(s in p for p in passages) for s in steps), len(steps))
    counts["place, any, in a passage: recall"] = (sum(any(s in p for s in steps) for p in passages), len(passages))
    return counts


def source_counts(read: Sequence[Mark], traced: Mapping[int, int | None], *, name: str) -> Counts:
    """How often a source that was read is traced; `traced` names what was found by the step of the reflection.

    Reflections without a source, and those not in `traced`, are no cases.
    """
    cases = [mark for mark in read if mark.source is not None and mark.step in traced]
    counts: Counts = {}
    for kind in ("any", "error"):
        gaps = [gap(mark.source, traced[mark.step]) for mark in cases if kind in ("any", mark.kind)]
        for within, distance in (("exact", 0), ("within one", 1)):
            counts[f"{name}, {kind}, {within}"] = (sum(found <= distance for found in gaps), len(gaps))
    return counts


def gap(read: int | None, found: int | None) -> float:
    """Steps between two sources; infinite where one is not known."""
    return abs(read - found) if read is not None and found is not None else inf


def kind_counts(read: Sequence[Mark], found: Sequence[Mark]) -> Counts:
    """How often both call a reflection of the same step by the same kind."""
    kinds = {mark.step: mark.kind for mark in found}
    both = [(mark.kind, kinds[mark.step]) for mark in read if mark.step in kinds]
    return {"kind, where both see a reflection": (sum(one == other for one, other in both), len(both))}


def blame_counts(read: Sequence[Mark], taken: Sequence[int]) -> Counts:
    """Where the steps stand that are labelled incorrect.

    Args:
        read: the reader's marks; a step can only be incorrect from an error's source to the step before the error.
        taken: steps that are labelled incorrect.
    """
    errors = [mark for mark in read if mark.kind == "error" and mark.source is not None]
    intervals = [range(mark.source or 0, mark.step) for mark in errors]
    inside = sum(any(step in interval for interval in intervals) for step in taken)
    return {
        "labelled incorrect, in an interval that was read: precision": (inside, len(taken)),
        "source of an error that was read, labelled incorrect": (
            sum(mark.source in taken for mark in errors),
            len(errors),
        ),
        "response without an error that was read, left without blame": (not errors and not taken, not errors),
    }


def right_counts(read: Sequence[Mark], found: Sequence[Mark], traced: Mapping[int, int | None]) -> Counts:
    """All figures of one right response.

    Args:
        read: the reader's marks.
        found: the marks to be measured.
        traced: the source found for a reflection at a step, by that step, told where it stands.
    """
    kinds = {mark.step: mark.kind for mark in found}
    shared = [mark for mark in read if mark.kind == kinds.get(mark.step) == "error"]
    own = {mark.step: mark.source for mark in found}
    given = source_counts(read, traced, name="source, given the place")
    chain = source_counts(shared, own, name="source, both see an error")
    chain = {name: counted for name, counted in chain.items() if ", any, " not in name}
    return {**place_counts(read, found), **kind_counts(read, found), **given, **chain}


def table_of(read: Sequence[bool], found: Sequence[bool]) -> tuple[int, int, int, int]:
    """Steps that both say yes to, only the first, only the second, neither."""
    cells = Counter(zip(read, found, strict=True))
    return cells[True, True], cells[True, False], cells[False, True], cells[False, False]


def kappa_of(tables: np.ndarray) -> float:
    """Cohen's kappa of the summed rows of `table_of`; NaN where both say one and the same throughout.

    >>> kappa_of(np.array([[1, 0, 0, 1], [1, 1, 0, 0]]))
    0.5
    """
    both, first, second, neither = tables.sum(0).tolist()
    total = both + first + second + neither
    chance = ((both + first) * (both + second) + (second + neither) * (first + neither)) / total**2
    return float("nan") if chance == 1 else ((both + neither) / total - chance) / (1 - chance)


def figure(rows: np.ndarray, statistic: Callable[[np.ndarray], float], *, name: str) -> dict[str, Any]:
    """A statistic of the rows, one a response, with its bootstrap interval over them."""
    indices = np.arange(len(rows), dtype=np.float64)
    interval = bootstrap(
        indices, lambda drawn: statistic(rows[drawn.astype(int)]), seed=derive(SEED, "bootstrap", name)
    )
    told = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {key: None if isnan(value) else round(value, 4) for key, value in told.items()}


def shares(counts: Sequence[Counts]) -> dict[str, dict[str, Any]]:
    """Every figure that the responses count, pooled, with its interval, hits and cases."""
    found: dict[str, dict[str, Any]] = {}
    for name in counts[0]:
        rows = np.array([count[name] for count in counts])
        hits, cases = rows.sum(0).tolist()
        found[name] = {**figure(rows, share, name=name), "hits": hits, "cases": cases}
    return found


def share(rows: np.ndarray) -> float:
    """Hits over cases of summed rows, NaN without a case."""
    hits, cases = rows.sum(0).tolist()
    return hits / cases if cases else float("nan")
