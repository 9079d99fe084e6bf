"""Preference pairs as token ids, and the rows at which their margins are taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, Int, Int32, Int64

from stepcredit.core.arrays import frozen
from stepcredit.core.errors import UsageError
from stepcredit.engines.reward.settings import Reading


@final
@dataclass(frozen=True)
class Pair:
    """Two completions of one prompt, of which the first is preferred.

    Args:
        prompt_ids: [P] the prompt, may be empty.
        chosen_ids: [C] the preferred completion.
        rejected_ids: [R] the other one.
        similarity: how alike they are, in [0, 1], for PCRM; `None` takes the ratio of their lengths.

    Raises:
        UsageError: if a completion is empty or both are the same.
    """

    prompt_ids: Int32[np.ndarray, " P"]
    chosen_ids: Int32[np.ndarray, " C"]
    rejected_ids: Int32[np.ndarray, " R"]
    similarity: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
            object.__setattr__(self, name, frozen(getattr(self, name), np.int32))
        if not len(self.chosen_ids) or not len(self.rejected_ids):
            raise UsageError("a completion of a preference pair is empty; leave the pair out")
        if np.array_equal(self.chosen_ids, self.rejected_ids):
            raise UsageError("both completions of a preference pair are the same; leave the pair out")

    @property
    def tokens(self) -> int:
        """Tokens of both sequences, prompts included."""
        return 2 * len(self.prompt_ids) + len(self.chosen_ids) + len(self.rejected_ids)


@final
@dataclass(frozen=True)
class Margins:
    """Where margins are read: each is a weighted sum of scores, of which the rows are named.

    Args:
        chosen: [n] rows of the packed sequences whose score counts plus.
        rejected: [m] rows whose score counts minus.
        of_chosen: [n] margin that each plus belongs to.
        of_rejected: [m] margin that each minus belongs to.
        pair: [D] pair of each margin.
        weights: [D] weight of each margin in its pair; they sum to 1 there.
    """

    chosen: Int64[np.ndarray, " n"]
    rejected: Int64[np.ndarray, " m"]
    of_chosen: Int64[np.ndarray, " n"]
    of_rejected: Int64[np.ndarray, " m"]
    pair: Int64[np.ndarray, " D"]
    weights: Float64[np.ndarray, " D"]


def divergence(chosen: Int[np.ndarray, " C"], rejected: Int[np.ndarray, " R"]) -> int:
    """First token at which two completions differ; the length of the shorter one if it begins the other.

    >>> divergence(np.array([5, 6, 7]), np.array([5, 9]))
    1
    """
    shared = min(len(chosen), len(rejected))
    differs = np.flatnonzero(chosen[:shared] != rejected[:shared])
    return int(differs[0]) if len(differs) else shared


def margins_of(pairs: Sequence[Pair], *, reading: Reading) -> Margins:
    """Rows of the margins of a batch whose sequences stand end to end: prompt, chosen, prompt, rejected, pair by pair.

    Args:
        pairs: P pairs.
        reading: `last` takes one margin a pair, of the last tokens; `sum` one of the sums over all completion tokens;
            `after_split` one a token, from the first that differs to the end of the longer completion. Where the
            shorter one has ended, its last score stands.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    margins, at = 0, 0
    for index, pair in enumerate(pairs):
        first = at + len(pair.prompt_ids)
        second = first + len(pair.chosen_ids) + len(pair.prompt_ids)
        at = second + len(pair.rejected_ids)
        plus, minus = np.arange(first, first + len(pair.chosen_ids)), np.arange(second, at)
        of_plus, of_minus = np.zeros(len(plus), np.int64), np.zeros(len(minus), np.int64)
        if reading == "last":
            plus, minus, of_plus, of_minus = plus[-1:], minus[-1:], of_plus[-1:], of_minus[-1:]
        elif reading == "after_split":
            places = np.arange(divergence(pair.chosen_ids, pair.rejected_ids), max(len(plus), len(minus)))
            plus, minus = (rows[np.minimum(places, len(rows) - 1)] for rows in (plus, minus))
            of_plus = of_minus = np.arange(len(places))
        count = int(of_plus[-1]) + 1
        weights = np.full(count, 1.0 / count)
        parts.append((plus, minus, of_plus + margins, of_minus + margins, np.full(count, index), weights))
        margins += count
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Margins(*columns)
