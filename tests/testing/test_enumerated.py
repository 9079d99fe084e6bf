"""Enumerated policies: probabilities, values and gradients are those of the definition."""

from itertools import product

import numpy as np
import pytest

from stepcredit.core.errors import UsageError
from stepcredit.testing.enumerated import Enumeration, cosine

TREE = Enumeration([(0,), (1, 0), (1, 1, 0), (1, 1, 1)])
REWARDS = np.array([1.0, -1.0, 0.5, 2.0])


def logits(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(TREE.rows, TREE.symbols))


def test_probabilities_of_all_sequences_add_up_to_1():
    assert TREE.probabilities(logits()).sum() == pytest.approx(1.0)
    even = Enumeration(list(product(range(3), repeat=3)))
    np.testing.assert_allclose(even.probabilities(np.zeros((even.rows, 3))), 1.0 / 27.0)


def test_the_whole_reward_on_every_token_gives_the_gradient_of_the_expected_reward():
    table, size = logits(), 1e-6
    got = TREE.gradient(table, REWARDS[TREE.owner])
    for place in np.ndindex(*table.shape):
        moved = [table.copy(), table.copy()]
        moved[0][place] += size
        moved[1][place] -= size
        above, below = (float(TREE.probabilities(one) @ REWARDS) for one in moved)
        assert got[place] == pytest.approx((above - below) / (2 * size), abs=1e-8)


def test_values_are_expected_rewards_and_true_advantages_have_the_same_gradient():
    table = logits(1)
    before, after = TREE.values(table, REWARDS)
    assert before[0] == pytest.approx(float(TREE.probabilities(table) @ REWARDS))
    chance = np.exp(TREE.logprobs(table))
    assert after[0] == pytest.approx([1.0, before[TREE.row_of_token[2]]])
    assert chance[1] * after[0, 1] + chance[0] * after[0, 0] == pytest.approx(before[0])
    advantages = after.ravel()[TREE.edges] - before[TREE.row_of_token]
    want = TREE.gradient(table, REWARDS[TREE.owner])
    np.testing.assert_allclose(TREE.gradient(table, advantages), want, atol=1e-12)
    assert cosine(want, -want) == pytest.approx(-1.0)


@pytest.mark.parametrize("sequences", [[], [()], [(0,), (1, 0)], [(0,), (0, 1), (1,)], [(0,), (1,), (1,)]])
def test_sequences_that_are_not_all_there_are_refused(sequences):
    with pytest.raises(UsageError, match="are not all that"):
        Enumeration(sequences)
