"""Two judges on the same solutions: exact McNemar test, and a paired bootstrap of the difference of their F1."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Int64

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.first_error import CLEAN, exact, harmonic_mean
from stepcredit.evaluation.intervals import Interval
from stepcredit.evaluation.resampling import Coverage, row_bootstrap, same_length


@final
@dataclass(frozen=True)
class McNemar:
    """On how many items two judges differ, and how surprising that would be of equals.

    Args:
        both: items that both have right.
        first_only: items that only the first has right.
        second_only: items that only the second has right.
        neither: items that neither has right.
        p_value: two-sided, exact.
    """

    both: int
    first_only: int
    second_only: int
    neither: int
    p_value: float


@final
@dataclass(frozen=True)
class Comparison:
    """Two judges on the same labelled solutions.

    Args:
        difference: first F1 - second F1 with the interval of a paired bootstrap; 0 inside means: not shown to differ.
        mcnemar: over all solutions.
        errors: the same over those with an error.
        correct: the same over those without.
        first: coverage of the first judge, in solutions.
        second: coverage of the second.
    """

    difference: Interval
    mcnemar: McNemar
    errors: McNemar
    correct: McNemar
    first: Coverage
    second: Coverage


def mcnemar(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> McNemar:
    """Exact McNemar test: of the items that one judge alone has right, were more the first's than a coin would give?

    p = min(1, 2 P(X <= min(b, c))), X binomial with b + c trials of 1/2

    Args:
        first: [n] True where the first judge is right.
        second: [n] the same of the second, on the same items.

    Raises:
        UsageError: if the numbers of items differ.

    Source: McNemar 1947; exact form: Fagerland, Lydersen and Laake 2013. Differs: none.

    >>> mcnemar(np.array([True] * 6 + [False]), np.array([False] * 7)).p_value
    0.03125
    """
    same_length("items of two judges", len(first), len(second))
    one, two = np.asarray(first, np.bool_), np.asarray(second, np.bool_)
    b, c = int((one & ~two).sum()), int((~one & two).sum())
    below = sum(math.comb(b + c, i) for i in range(min(b, c) + 1))
    p_value = min(1.0, 2 * below / 2 ** (b + c))
    return McNemar(int((one & two).sum()), b, c, int((~one & ~two).sum()), p_value)


def compare_first_error(
    labels: Sequence[int],
    first: Sequence[int | None],
    second: Sequence[int | None],
    *,
    seed: int,
    resamples: int = 1000,
) -> Comparison:
    """Difference of two judges' official ProcessBench F1 on the same solutions.

    Args:
        labels: [n] labels.
        first: [n] predictions of the first judge; `None` is wrong.
        second: [n] predictions of the second.
        seed: of the bootstrap, which draws solutions and takes both judges' answers to them.
        resamples: of the bootstrap.

    Raises:
        UsageError: if the numbers differ, or a class is missing.

    Source: Efron and Tibshirani 1993 (paired bootstrap); genprm.md 9.2. Differs: none.

    >>> compare_first_error([0, 1, -1, -1], [0, 1, -1, -1], [0, 1, -1, 0], seed=0).difference.value
    0.33333333333333337
    """
    one, two = exact(labels, first), exact(labels, second)
    error = np.asarray(labels) != CLEAN
    if error.all() or not error.any():
        raise UsageError(f"comparing F1 needs both classes, got {int(error.sum())} of {len(labels)} with an error")

    def f1(right: Bool[np.ndarray, " n"], rows: Int64[np.ndarray, " m"]) -> float:
        hit, kind = right[rows], error[rows]
        shares = [float((hit & side).sum() / max(int(side.sum()), 1)) for side in (kind, ~kind)]
        return harmonic_mean(shares[0], shares[1])

    def difference(rows: Int64[np.ndarray, " m"]) -> float:
        return f1(one, rows) - f1(two, rows)

    return Comparison(
        row_bootstrap(len(labels), difference, seed=seed, purpose="compare_f1", resamples=resamples),
        mcnemar(one, two),
        mcnemar(one[error], two[error]),
        mcnemar(one[~error], two[~error]),
        Coverage(len(labels), sum(p is not None for p in first)),
        Coverage(len(labels), sum(p is not None for p in second)),
    )
