"""Votes of policies against all subsets, one by one."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.majority import avg_at_k, maj_at_k, majority_right, weighted_maj_at_k
from stepcredit.evaluation.policy import mean_interval, pass_at_k


def counted(votes: list[str | None], answer: str, k: int) -> float:
    """The same by listing every subset."""
    wins = []
    for subset in combinations(votes, k):
        counts = Counter(vote for vote in subset if vote is not None)
        first = [vote for vote, count in counts.items() if count == max(counts.values())]
        wins.append(1 / len(first) if answer in first else 0.0)
    return float(np.mean(wins))


@pytest.mark.parametrize("k", range(1, 9))
def test_the_exact_expectation_is_the_mean_over_all_subsets(k: int) -> None:
    for votes in (list("aabbbccd"), list("aaabcdef"), ["a", "a", "b", "b", "c", "c", None, None], list("bbbbcccc")):
        assert majority_right(votes, "a", k) == pytest.approx(counted(votes, "a", k))


def test_one_vote_is_the_share_of_right_attempts() -> None:
    assert majority_right(["1", "2", "2", None], "2", 1) == 0.5


def test_more_votes_help_a_plurality_and_harm_a_minority() -> None:
    votes = ["r"] * 32 + ["x"] * 20 + ["y"] * 12
    shares = [majority_right(votes, "r", k) for k in (1, 5, 17, 64)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert majority_right(votes, "y", 33) < majority_right(votes, "y", 1)


def test_votes_of_no_answer_are_drawn_and_say_nothing() -> None:
    score = maj_at_k([[None, None], ["1", None]], ["1", "1"], 2, seed=0)
    assert score.share.value == 0.5
    assert (score.coverage.asked, score.coverage.unknown) == (4, 3)
    assert score.exact


def test_a_vote_never_beats_pass_at_k() -> None:
    generator = np.random.default_rng(0)
    votes = [[str(generator.integers(0, 4)) for _ in range(10)] for _ in range(20)]
    right = np.array([[vote == "0" for vote in row] for row in votes])
    for k in (1, 3, 10):
        share = maj_at_k(votes, ["0"] * 20, k, seed=0).share
        assert 0 <= share.low <= share.value <= share.high <= 1
        assert share.value <= mean_interval(pass_at_k(right, k), seed=0).value + 1e-12
    assert maj_at_k(votes, ["0"] * 20, 1, seed=0).share.value == pytest.approx(avg_at_k(right, seed=0).value)


def test_the_order_of_attempts_and_the_names_of_wrong_answers_do_not_matter() -> None:
    assert majority_right(list("aabbc"), "a", 3) == majority_right(list("cbaba"), "a", 3)
    assert majority_right(list("aabbc"), "a", 3) == majority_right(list("aaxxy"), "a", 3)


def test_equal_weights_vote_like_no_weights() -> None:
    votes = [list("aabbc"), list("abbbc")]
    weighted = weighted_maj_at_k(votes, [[0.5] * 5] * 2, ["a", "a"], 3, seed=0)
    assert weighted.exact
    assert weighted.share.value == pytest.approx(maj_at_k(votes, ["a", "a"], 3, seed=0).share.value)


def test_weights_can_turn_a_vote_and_an_unknown_weight_is_silent() -> None:
    votes = [["a", "b", "b"]]
    assert weighted_maj_at_k(votes, [[0.9, 0.3, 0.3]], ["a"], 3, seed=0).share.value == 1.0
    score = weighted_maj_at_k(votes, [[None, 0.3, float("nan")]], ["a"], 3, seed=0)
    assert score.share.value == 0.0
    assert score.coverage.unknown == 2


def test_many_subsets_are_drawn_with_the_seed() -> None:
    votes, weights = [["a"] * 12 + ["b"] * 8], [[1.0] * 20]
    one = weighted_maj_at_k(votes, weights, ["a"], 9, seed=1, subsets=400)
    assert not one.exact
    assert one == weighted_maj_at_k(votes, weights, ["a"], 9, seed=1, subsets=400)
    assert one.share.value == pytest.approx(majority_right(votes[0], "a", 9), abs=0.08)


def test_too_few_attempts_and_strange_weights_are_refused() -> None:
    with pytest.raises(UsageError, match="maj@3 needs 3"):
        majority_right(["a"], "a", 3)
    with pytest.raises(UsageError, match="at least 2 attempts"):
        weighted_maj_at_k([["a"]], [[1.0]], ["a"], 2, seed=0)
    with pytest.raises(UsageError, match="at least 0, got -1"):
        weighted_maj_at_k([["a"]], [[-1.0]], ["a"], 1, seed=0)
    with pytest.raises(UsageError, match="0 problems"):
        avg_at_k(np.zeros((0, 4), bool), seed=0)
