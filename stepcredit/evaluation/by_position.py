"""Where a judge is good: step verdicts by step position, first-error F1 by generator or any other group."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.first_error import FirstErrorF1, first_error_f1
from stepcredit.evaluation.intervals import Interval, wilson
from stepcredit.evaluation.resampling import Coverage, same_length


@final
@dataclass(frozen=True)
class PositionRow:
    """A judge's verdicts on the steps at one position.

    Args:
        position: index of the step, from 0; the last row also holds all later ones.
        right_kept: share of the right steps called right, Wilson interval; `None` if there is none.
        wrong_found: share of the wrong steps called wrong, Wilson interval; `None` if there is none.
        coverage: in labelled steps; one without a verdict is neither kept nor found.
    """

    position: int
    right_kept: Interval | None
    wrong_found: Interval | None
    coverage: Coverage


def by_position(
    labels: Sequence[Sequence[bool | None]], verdicts: Sequence[Sequence[bool | None]], *, last: int = 19
) -> tuple[PositionRow, ...]:
    """One row a step position, from the first step on.

    Args:
        labels: for each solution, for each step True = right, `None` = not labelled, and not counted.
        verdicts: the same of the judge; `None` = unknown.
        last: this position and all later ones share a row.

    Raises:
        UsageError: if the numbers differ, or `last` is negative.

    Source: own. Differs: none.

    >>> rows = by_position([[True, False], [True, True]], [[True, True], [True, None]])
    >>> rows[1].wrong_found.value, rows[1].right_kept.value, rows[1].coverage
    (0.0, 0.0, Coverage(asked=2, answered=1))
    """
    if last < 0:
        raise UsageError(f"the last position must be at least 0, got {last}")
    same_length("labelled and judged solutions", len(labels), len(verdicts))
    found: dict[int, list[tuple[bool, bool | None]]] = {}
    for truth, said in zip(labels, verdicts, strict=True):
        same_length("labels and verdicts of a solution", len(truth), len(said))
        for index, (label, verdict) in enumerate(zip(truth, said, strict=True)):
            if label is not None:
                found.setdefault(min(index, last), []).append((label, verdict))
    return tuple(_row(position, found[position]) for position in sorted(found))


def by_group(
    groups: Sequence[str],
    labels: Sequence[int],
    predictions: Sequence[int | None],
    *,
    seed: int,
    resamples: int = 1000,
) -> dict[str, FirstErrorF1]:
    """The official first-error figures of each group (generator, subject, kind of problem), in the order of the names.

    Args:
        groups: [n] the group of each solution.
        labels: [n] labels.
        predictions: [n] predicted labels.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        UsageError: if the numbers differ.

    Source: own, on the metric of genprm.md 9.2. Differs: none.

    >>> by_group(["b", "a", "b"], [0, -1, -1], [0, 0, -1], seed=0)["b"].f1.value
    1.0
    """
    same_length("groups, labels and predictions", len(groups), len(labels), len(predictions))
    scores: dict[str, FirstErrorF1] = {}
    for name in sorted(set(groups)):
        rows = [i for i, other in enumerate(groups) if other == name]
        mine = [labels[i] for i in rows], [predictions[i] for i in rows]
        scores[name] = first_error_f1(*mine, seed=seed, resamples=resamples)
    return scores


def _row(position: int, pairs: Sequence[tuple[bool, bool | None]]) -> PositionRow:
    answered = sum(verdict is not None for _, verdict in pairs)
    return PositionRow(position, _share(pairs, side=True), _share(pairs, side=False), Coverage(len(pairs), answered))


def _share(pairs: Sequence[tuple[bool, bool | None]], *, side: bool) -> Interval | None:
    """Share of the steps labelled `side` that were called so."""
    mine = [verdict for label, verdict in pairs if bool(label) == side]
    hits = sum(verdict is not None and bool(verdict) == side for verdict in mine)
    return wilson(hits, len(mine)) if mine else None
