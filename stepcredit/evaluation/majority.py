"""How good a policy is that votes: avg@k, maj@k exactly, and weighted maj@k, over problems, with intervals."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import final

import numpy as np
from jaxtyping import Bool, Float64

from stepcredit.core.errors import UsageError
from stepcredit.core.seeds import derive
from stepcredit.evaluation.intervals import Interval
from stepcredit.evaluation.policy import mean_interval
from stepcredit.evaluation.resampling import Coverage, same_length

_MOST_ATTEMPTS = 1000


@final
@dataclass(frozen=True)
class VoteScore:
    """How often the answer that wins a vote of k attempts is right.

    Args:
        share: mean over problems with the bootstrap interval over problems.
        exact: True if it is the expectation over all subsets of k attempts, False if over subsets drawn with the seed.
        coverage: in attempts; one without an answer (or weight) does not vote.
    """

    share: Interval
    exact: bool
    coverage: Coverage


def avg_at_k(right: Bool[np.ndarray, "P n"], *, seed: int) -> Interval:
    """Mean over problems of the share of right attempts, with the bootstrap interval over problems.

    Args:
        right: [P, n] True for a right attempt.
        seed: of the bootstrap.

    Raises:
        UsageError: if there are no problems or no attempts.

    Source: own; avg@k of AIME reports. Differs: none.

    >>> avg_at_k(np.array([[True, False], [True, True]]), seed=0).value
    0.75
    """
    if not right.size:
        raise UsageError(f"avg@k needs problems and attempts, got {right.shape[0]} problems, none attempted")
    return mean_interval(right.mean(axis=1), seed=seed)


def majority_right(votes: Sequence[str | None], answer: str, k: int) -> float:
    """Probability that the most frequent answer of k attempts, drawn from n without putting back, is right.

    Exact: for each number j of right votes it counts the draws in which no other answer has more than j, by a
    convolution over the answers; t others with j votes share the win, which counts 1 / (1 + t).

    Args:
        votes: [n] the answer of each attempt, equal texts being one answer; `None` = no answer: drawn, does not vote.
        answer: the right answer.
        k: attempts drawn.

    Raises:
        UsageError: if n < k, k < 1, or n > 1000.

    Source: own; majority vote: Wang et al. 2022 (self-consistency), arXiv:2203.11171. Differs: ties are shared.

    >>> majority_right(["4", "4", "5"], "4", 3), majority_right(["4", "5", None], "4", 2)
    (1.0, 0.5)
    """
    attempts = len(votes)
    if not 1 <= k <= attempts <= _MOST_ATTEMPTS:
        raise UsageError(f"maj@{k} needs {max(k, 1)} to {_MOST_ATTEMPTS} attempts a problem, got {attempts}")
    counts = Counter(votes)
    right, silent = counts.pop(answer, 0), counts.pop(None, 0)
    total, share = float(math.comb(attempts, k)), 0.0
    for most in range(1, min(k, right) + 1):
        ways = _ways(list(counts.values()), silent, most, k - most)
        share += math.comb(right, most) / total * float((ways / np.arange(1, len(ways) + 1)).sum())
    return min(share, 1.0)


def maj_at_k(votes: Sequence[Sequence[str | None]], answers: Sequence[str], k: int, *, seed: int) -> VoteScore:
    """maj@k: the exact expectation over all subsets of k attempts, mean over problems.

    Args:
        votes: for each problem the answers of its attempts, as in `majority_right`.
        answers: [P] the right answers.
        k: attempts that vote.
        seed: of the bootstrap over problems.

    Raises:
        UsageError: as `majority_right`, or if the numbers of problems differ or are 0.

    Source: own; Wang et al. 2022, arXiv:2203.11171. Differs: ties are shared.

    >>> maj_at_k([["1", "1", "2"], ["3", "4", "4"]], ["1", "3"], 3, seed=0).share.value
    0.5
    """
    same_length("problems with votes and answers", len(votes), len(answers))
    shares = [majority_right(row, answer, k) for row, answer in zip(votes, answers, strict=True)]
    asked = sum(len(row) for row in votes)
    silent = sum(vote is None for row in votes for vote in row)
    return VoteScore(mean_interval(np.array(shares), seed=seed), True, Coverage(asked, asked - silent))


def weighted_maj_at_k(
    votes: Sequence[Sequence[str | None]],
    weights: Sequence[Sequence[float | None]],
    answers: Sequence[str],
    k: int,
    *,
    seed: int,
    subsets: int = 1000,
) -> VoteScore:
    """Weighted maj@k: the answer with the greatest sum of weights (a judge's scores) among k attempts.

    The expectation over all subsets where there are at most `subsets` of them; else an estimate from as many drawn.

    Args:
        votes: for each problem the answers of its attempts.
        weights: for each attempt its weight; an attempt whose weight is unknown does not vote.
        answers: [P] the right answers.
        k: attempts that vote.
        seed: of the subsets and of the bootstrap over problems.
        subsets: drawn for each problem.

    Raises:
        UsageError: if numbers differ, a problem has fewer than k attempts, or a weight is negative or infinite.

    Source: genprm.md 5 (weighted voting). Differs: ties are shared.

    >>> weighted_maj_at_k([["1", "2", "2"]], [[0.9, 0.2, 0.3]], ["1"], 3, seed=0).share.value
    1.0
    """
    same_length("problems with votes, weights and answers", len(votes), len(weights), len(answers))
    shares: list[float] = []
    exact, asked, answered = True, 0, 0
    for index, (row, own, answer) in enumerate(zip(votes, weights, answers, strict=True)):
        same_length("votes and weights of a problem", len(row), len(own))
        heard = [_ballot(vote, weight) for vote, weight in zip(row, own, strict=True)]
        asked, answered = asked + len(row), answered + sum(ballot is not None for ballot in heard)
        if not 1 <= k <= len(row):
            raise UsageError(f"weighted maj@{k} needs at least {max(k, 1)} attempts a problem, got {len(row)}")
        all_of_them = math.comb(len(row), k) <= subsets
        exact &= all_of_them
        drawn = combinations(range(len(row)), k) if all_of_them else _drawn(len(row), k, subsets, seed, index)
        shares.append(float(np.mean([_win([heard[i] for i in subset], answer) for subset in drawn])))
    return VoteScore(mean_interval(np.array(shares), seed=seed), exact, Coverage(asked, answered))


def _ways(others: Sequence[int], silent: int, most: int, left: int) -> Float64[np.ndarray, " t"]:
    """[t] ways to draw `left` attempts so that no other answer has more than `most` votes and t have just so many."""
    ties = left // most + 1
    ways = np.zeros((left + 1, ties))
    ways[0, 0] = 1.0
    for count in others:
        after = ways.copy()
        for drawn in range(1, min(count, most, left) + 1):
            added = math.comb(count, drawn) * ways[: left + 1 - drawn]
            if drawn < most:
                after[drawn:] += added
            else:
                after[drawn:, 1:] += added[:, :-1]
        ways = after
    mute = np.array([float(math.comb(silent, left - drawn)) for drawn in range(left + 1)])
    return mute @ ways


def _ballot(vote: str | None, weight: float | None) -> tuple[str, float] | None:
    if vote is None or weight is None or math.isnan(weight):
        return None
    if weight < 0 or math.isinf(weight):
        raise UsageError(f"the weight of a vote is a number of at least 0, got {weight}")
    return vote, weight


def _drawn(attempts: int, k: int, subsets: int, seed: int, problem: int) -> Iterable[Sequence[int]]:
    generator = np.random.default_rng(derive(seed, "weighted_maj_at_k", problem))
    return (generator.permutation(attempts)[:k].tolist() for _ in range(subsets))


def _win(ballots: Iterable[tuple[str, float] | None], answer: str) -> float:
    """1 if the answer has the greatest sum, its share if several have it, 0 if not."""
    sums: dict[str, list[float]] = {}
    for ballot in ballots:
        if ballot is not None:
            sums.setdefault(ballot[0], []).append(ballot[1])
    totals = {vote: math.fsum(weights) for vote, weights in sums.items()}
    most = max(totals.values(), default=0.0)
    first = [vote for vote, total in totals.items() if total == most]
    return 1.0 / len(first) if answer in first else 0.0
