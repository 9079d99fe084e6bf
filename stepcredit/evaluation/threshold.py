"""A score threshold chosen on one split and applied to another, never to the one that it was chosen on."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.first_error import CLEAN, first_below, harmonic_mean
from stepcredit.evaluation.resampling import same_length


@final
@dataclass(frozen=True)
class Threshold:
    """The threshold that gave the best first-error F1 on one split.

    Args:
        value: a step below it is called wrong; in the unit of the scores.
        split: name of the split it was chosen on.
        f1: the F1 there; too good to be reported.
        ids: of the solutions it was chosen on.
    """

    value: float
    split: str
    f1: float
    ids: frozenset[str] = field(repr=False)

    def apply(self, split: str, ids: Sequence[str], scores: Sequence[Sequence[float | None]]) -> tuple[int | None, ...]:
        """[n] predicted labels of another split.

        Args:
            split: its name.
            ids: [n] of its solutions.
            scores: [n] their step scores.

        Raises:
            UsageError: if it is the split that the threshold was chosen on, or shares a solution with it.
        """
        same_length("ids and scores", len(ids), len(scores))
        if split == self.split:
            raise UsageError(f"the threshold was chosen on split `{split}`; apply it to another")
        if shared := sorted(self.ids.intersection(ids)):
            raise UsageError(f"{len(shared)} solutions of `{split}` were used to choose the threshold", item=shared[0])
        return tuple(first_below(row, self.value) for row in scores)


def choose_threshold(
    split: str, ids: Sequence[str], labels: Sequence[int], scores: Sequence[Sequence[float | None]]
) -> Threshold:
    """The threshold of best first-error F1; the middle of its range, the lowest range where several are best.

    Each solution is answered rightly for the thresholds of one interval: above the score of its first wrong step and
    at most the least score before it. So one sweep over the ends of the intervals finds the best.

    Args:
        split: name of the split.
        ids: [n] of its solutions.
        labels: [n] labels; both classes are needed.
        scores: [n] step scores; `None` or NaN is unknown.

    Raises:
        UsageError: if the numbers differ, a class is missing, a label lies outside its steps, or no score is known.

    Source: genprm.md 9.5 (the ProcessBench authors chose it on the GSM8K split). Differs: exact, not on a grid.

    >>> choose_threshold("gsm8k", ["a", "b"], [1, -1], [[0.75, 0.25], [0.5, 0.9]]).value
    0.375
    """
    same_length("ids, labels and scores", len(ids), len(labels), len(scores))
    errors = sum(label != CLEAN for label in labels)
    if not 0 < errors < len(labels):
        raise UsageError(f"a threshold needs solutions with and without an error, got {errors} of {len(labels)}")
    changes: dict[float, list[int]] = {}
    for name, label, row in zip(ids, labels, scores, strict=True):
        if not CLEAN <= label < len(row):
            raise UsageError(f"label {label} of a solution with {len(row)} scored steps", item=name)
        above, most = _range(label, row)
        if above < most:
            changes.setdefault(above, [0, 0])[label != CLEAN] += 1
            changes.setdefault(most, [0, 0])[label != CLEAN] -= 1
    known = [s for row in scores for s in row if s is not None and not math.isnan(s)]
    if not known:
        raise UsageError(f"no step of split `{split}` has a score")
    ends = sorted({-math.inf, *changes, *known, math.inf})
    best, value, right = -1.0, 0.0, [0, 0]
    for low, high in itertools.pairwise(ends):
        right = [count + change for count, change in zip(right, changes.get(low, (0, 0)), strict=True)]
        f1 = harmonic_mean(right[1] / errors, right[0] / (len(labels) - errors))
        if f1 > best:
            best, value = f1, _between(low, high)
    return Threshold(value, split, best, frozenset(ids))


def _range(label: int, scores: Sequence[float | None]) -> tuple[float, float]:
    """(above, at most): the thresholds at which `first_below` gives the label; empty if a score needed is unknown."""
    before = [math.nan if s is None else s for s in (scores if label == CLEAN else scores[:label])]
    own = -math.inf if label == CLEAN else scores[label]
    if own is None or any(math.isnan(s) for s in (own, *before)):
        return math.inf, -math.inf
    return own, min(before, default=math.inf)


def _between(low: float, high: float) -> float:
    """A threshold in (low, high]."""
    if math.isinf(low):
        return high
    middle = math.nextafter(low, math.inf) if math.isinf(high) else low + (high - low) / 2
    return middle if low < middle else high
