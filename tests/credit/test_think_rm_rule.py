"""Think-RM's pairwise credit: equals the standardised reward where preferences are differences of one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import standardise
from stepcredit.credit.think_rm import ThinkRmSettings, pair_standardise, think_rm

THREE = Layout(np.arange(3), np.arange(3), np.zeros(3))


def layout_of(sizes: list[int]) -> Layout:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return Layout(np.arange(len(groups)), np.arange(len(groups)), groups)


def differences(rewards: np.ndarray, layout: Layout) -> np.ndarray:
    """[pairs] d[i, j] = R[i] - R[j], one matrix a group."""
    parts = [rewards[layout.group_of_rollout == group] for group in range(layout.groups)]
    return np.concatenate([(part[:, None] - part[None, :]).ravel() for part in parts])


def literal(matrix: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    """credit.md 2.7 word for word."""
    size = len(matrix)
    return matrix.sum(1) / size / np.sqrt((matrix**2).sum() / (2 * size * (size - 1)) + epsilon)


def antisymmetric(seed: int, size: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(-3, 4, (size, size)).astype(float)
    return np.triu(drawn, 1) - np.triu(drawn, 1).T


@given(st.integers(0, 2**31), st.lists(st.integers(2, 6), min_size=1, max_size=4))
@settings(deadline=None)
def test_differences_of_rewards_give_z_with_the_unbiased_std(seed, sizes) -> None:
    layout = layout_of(sizes)
    rewards = np.random.default_rng(seed).normal(size=layout.rollouts)
    want = standardise(rewards, layout, std="sample")
    np.testing.assert_allclose(pair_standardise(differences(rewards, layout), layout), want, atol=1e-9)
    np.testing.assert_allclose(
        think_rm(layout, differences(rewards, layout), settings=ThinkRmSettings()), want, atol=1e-5
    )


@given(st.integers(0, 2**31), st.integers(2, 6), st.sampled_from([0.0, 1e-4]))
@settings(deadline=None)
def test_intransitive_preferences_follow_the_formula(seed, size, epsilon) -> None:
    matrix = antisymmetric(seed, size)
    if not matrix.any():
        matrix[0, 1], matrix[1, 0] = 1.0, -1.0
    found = pair_standardise(matrix.ravel(), layout_of([size]), epsilon=epsilon)
    np.testing.assert_allclose(found, literal(matrix, epsilon), atol=1e-9)
    assert found.sum() == pytest.approx(0.0, abs=1e-9)


def test_by_hand() -> None:
    """Graded answers 3, 1 and -1: sums 4, -4, 0 over 3; squares 2 (9 + 1 + 1) / 12."""
    matrix = np.array([[0.0, 3.0, 1.0], [-3.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    want = np.array([4.0, -4.0, 0.0]) / 3 / np.sqrt(22 / 12)
    assert pair_standardise(matrix.ravel(), THREE) == pytest.approx(want)


def test_undecided_pairs_are_left_out_or_ties() -> None:
    """One of three pairs undecided: means over the decided, times (G - 1) / G; a tie pulls towards 0 instead."""
    matrix = np.array([[0.0, 2.0, np.nan], [-2.0, 0.0, -2.0], [np.nan, 2.0, 0.0]])
    scale = np.sqrt(16 / (2 * 4))
    left_out = pair_standardise(matrix.ravel(), THREE)
    assert left_out == pytest.approx(np.array([2.0, -2.0, 2.0]) * (2 / 3) / scale)
    tied = pair_standardise(matrix.ravel(), THREE, on_undecided="tie")
    assert tied == pytest.approx(literal(np.nan_to_num(matrix)))
    assert abs(tied[0]) < abs(left_out[0])


@given(st.integers(0, 2**31))
@settings(deadline=None)
def test_both_ways_agree_where_every_pair_is_decided(seed) -> None:
    matrix = antisymmetric(seed, 4).ravel()
    ways = [pair_standardise(matrix, layout_of([4]), on_undecided=way) for way in ("leave_out", "tie")]
    np.testing.assert_allclose(*ways, atol=1e-12)


def test_a_rollout_without_a_decided_pair_is_unknown_and_ties_are_no_signal() -> None:
    matrix = np.array([[0.0, 1.0, np.nan], [-1.0, 0.0, np.nan], [np.nan, np.nan, 0.0]])
    found = pair_standardise(matrix.ravel(), THREE)
    assert np.isnan(found).tolist() == [False, False, True]
    assert pair_standardise(np.zeros(9), THREE).tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(pair_standardise(np.zeros(1), layout_of([1]))).all()
    assert np.isnan(pair_standardise(np.full(1, 0.0), layout_of([1]), on_undecided="tie")).all()


@given(st.integers(0, 2**31), st.permutations(range(4)))
@settings(deadline=None)
def test_order_within_the_group_does_not_matter(seed, order) -> None:
    matrix, index, layout = antisymmetric(seed, 4), np.array(order), layout_of([4])
    found = pair_standardise(matrix[np.ix_(index, index)].ravel(), layout)
    np.testing.assert_allclose(found, pair_standardise(matrix.ravel(), layout)[index], atol=1e-12)


def test_no_preferences_of_an_empty_batch() -> None:
    empty = Layout(np.zeros(0, int), np.zeros(0, int), np.zeros(0, int))
    assert think_rm(empty, np.zeros(0), settings=ThinkRmSettings()).tolist() == []


def test_refused() -> None:
    with pytest.raises(CreditError, match="got 8 entries, the groups' matrices have 9"):
        pair_standardise(np.zeros(8), THREE)
    lopsided = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    with pytest.raises(CreditError, match=r"group 0 .*d\[0, 1\] = 1.0 and d\[1, 0\] = 1.0"):
        pair_standardise(lopsided.ravel(), THREE)
    with pytest.raises(CreditError, match=r"group 1 .*d\[0, 0\] = 2.0"):
        pair_standardise(np.concatenate([np.zeros(9), np.diag([2.0, 0.0]).ravel()]), layout_of([3, 2]))
    half = np.array([[0.0, np.nan], [1.0, 0.0]])
    with pytest.raises(CreditError, match="not antisymmetric"):
        pair_standardise(half.ravel(), layout_of([2]))
    with pytest.raises(CreditError, match="not antisymmetric"):
        pair_standardise(np.array([np.nan, 1.0, -1.0, 0.0]), layout_of([2]))
    with pytest.raises(UsageError, match="did you mean 'leave_out'"):
        ThinkRmSettings(on_undecided="leave out")
