"""Signals that a line of a file brings beside its text: log probabilities, values, scores; read strictly, by name."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, final

import numpy as np
from jaxtyping import Float64

from stepcredit.core.arrays import frozen
from stepcredit.core.errors import UsageError

OLD = ("old_logprobs", "old_log_probs", "old_log_prob", "old_per_token_logps")
REFERENCE = ("ref_logprobs", "ref_log_probs", "ref_log_prob", "ref_per_token_logps")
"""Names that we, verl and TRL give to the two columns of log probabilities."""

_ROUNDING = 1e-3
"""How far above 0 a log probability may lie: engines of half precision round theirs."""


@final
@dataclass(frozen=True)
class BroughtSignals:
    """What one line brings; `None` is what it does not, NaN an entry that it does not know (null).

    Args:
        old_logprobs: [T] or [T + 1] log probability in nats of each completion token under the policy that was trained.
        ref_logprobs: the same under the frozen reference. The further entry of both is the end token's, which texts
            leave out.
        values: [K] value before each step, or [K + 1] with that of the end, in the unit of the outcome reward: -1 all
            wrong, +1 all right. A line may bring `success` instead, shares of right continuations in [0, 1].
        token_scores: [T] a number a token, higher is better.
        outcome_score: a score of the whole solution, higher is better.
    """

    old_logprobs: Float64[np.ndarray, " T"] | None = None
    ref_logprobs: Float64[np.ndarray, " T"] | None = None
    values: Float64[np.ndarray, " nodes"] | None = None
    token_scores: Float64[np.ndarray, " T"] | None = None
    outcome_score: float | None = None

    @property
    def any(self) -> bool:
        """True if the line brings something."""
        return any(getattr(self, field.name) is not None for field in fields(self))


def brought_by(row: Mapping[str, Any], place: str) -> BroughtSignals:
    """What a line brings under the names that are known.

    Args:
        row: the line.
        place: file and line, for messages.

    Raises:
        UsageError: for a column that is no list of numbers, for a number that is infinite or out of its range, or for
            two columns that say the same.

    Source: verl's and TRL's names of these columns. Differs: none.

    >>> found = brought_by({"success": [0.5, 1.0, None]}, "a.jsonl:1")
    >>> found.values.tolist(), found.old_logprobs
    ([0.0, 1.0, nan], None)
    """
    shares, values = numbers(row, ("success",), place), numbers(row, ("values",), place)
    if shares is not None and values is not None:
        raise UsageError("`values` and `success` say the same; leave one out", item=place)
    if shares is not None:
        _within(shares, 0.0, 1.0, name="success", place=place)
        values = 2.0 * shares - 1.0
    elif values is not None:
        mend = "; shares of right continuations are called `success`"
        _within(values, -1.0, 1.0, name="values", place=place, mend=mend)
    score = row.get("outcome_score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise UsageError(f"`outcome_score` must be a number or null, got {score!r}", item=place)
    return BroughtSignals(
        _logprobs(row, OLD, place),
        _logprobs(row, REFERENCE, place),
        None if values is None else frozen(values, np.float64),
        numbers(row, ("token_scores",), place),
        None if score is None else finite(score, "outcome_score", place),
    )


def numbers(row: Mapping[str, Any], names: Sequence[str], place: str) -> Float64[np.ndarray, " n"] | None:
    """The list of numbers under the first of the names that is there, NaN for null; `None` if none is.

    Raises:
        UsageError: if it is no such list, two of the names are there, or a number is infinite.
    """
    there = [name for name in names if row.get(name) is not None]
    if not there:
        return None
    if len(there) > 1:
        raise UsageError(f"`{there[0]}` and `{there[1]}` say the same; leave one out", item=place)
    value = row[there[0]]
    if not isinstance(value, list) or not all(
        entry is None or (isinstance(entry, int | float) and not isinstance(entry, bool)) for entry in value
    ):
        got = f"{type(value).__name__} {str(value)[:40]!r}"
        raise UsageError(f"`{there[0]}` must be a list of numbers (null: unknown), got {got}", item=place)
    column = [np.nan if entry is None else finite(entry, there[0], place) for entry in value]
    return frozen(np.array(column, np.float64), np.float64)


def finite(value: float, name: str, place: str) -> float:
    """A number of a column; NaN is unknown, and passes.

    Args:
        value: as the file has it, a whole number of any length too.
        name: of the column.
        place: file and line.

    Raises:
        UsageError: if it is infinite, or too large for a float.

    >>> finite(3, "score", "a.jsonl:1")
    3.0
    """
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise UsageError(f"`{name}` must hold finite numbers (null: unknown), got one that is infinite", item=place)
    return number


def _logprobs(row: Mapping[str, Any], names: Sequence[str], place: str) -> Float64[np.ndarray, " n"] | None:
    """A column of log probabilities, which are at most 0."""
    column = numbers(row, names, place)
    above = None if column is None else column[column > _ROUNDING]
    if above is not None and len(above):
        name = next(name for name in names if row.get(name) is not None)
        told = f"`{name}` must be log probabilities in nats, at most 0, got {above[0]:g}"
        raise UsageError(told, item=place)
    return column


def _within(
    column: Float64[np.ndarray, " n"], low: float, high: float, *, name: str, place: str, mend: str = ""
) -> None:
    outside = column[(column < low) | (column > high)]
    if len(outside):
        raise UsageError(f"`{name}` must lie in [{low:g}, {high:g}], got {outside[0]:g}{mend}", item=place)
