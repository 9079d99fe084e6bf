"""Shuffled credit: marginals stay, information goes; and the keep rules."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.keep import keep_rollouts
from stepcredit.credit.shuffled import ShuffledSettings, shuffled


def random_batch(seed: int, groups: int = 6) -> tuple[Layout, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, 3 * groups)
    lengths = rng.integers(1, 5, counts.sum())
    layout = Layout(
        np.repeat(np.arange(len(lengths)), lengths),
        np.repeat(np.arange(len(counts)), counts),
        np.repeat(np.arange(groups), 3),
    )
    outcome = rng.normal(size=layout.rollouts).astype(np.float32)[layout.rollout_of_token]
    process = rng.integers(-3, 4, layout.steps).astype(np.float32)[layout.step_of_token] / 8
    return layout, outcome, process


def pool_column(layout: Layout, pool: str) -> np.ndarray:
    columns = {"batch": np.zeros(layout.tokens, int), "rollout": layout.rollout_of_token}
    return columns.get(pool, layout.group_of_rollout[layout.rollout_of_token])


@given(st.integers(0, 99), st.sampled_from(["batch", "group", "rollout"]), st.sampled_from(["step", "token"]))
def test_each_pool_keeps_its_process_values_token_for_token(seed, pool, over):
    layout, outcome, process = random_batch(seed)
    settings = ShuffledSettings(seed, pool=pool, over=over)
    moved = shuffled(layout, outcome + process, outcome, settings=settings) - outcome
    column = pool_column(layout, pool)
    for index in np.unique(column):
        mine = column == index
        np.testing.assert_allclose(np.sort(moved[mine]), np.sort(process[mine]), atol=1e-5)


def test_the_outcome_part_stays_where_it_was_and_nothing_is_left_of_the_place():
    layout, outcome, process = random_batch(0, groups=400)
    moved = shuffled(layout, outcome + process, outcome, settings=ShuffledSettings(1)) - outcome
    assert abs(np.corrcoef(moved, process)[0, 1]) < 0.05
    assert abs(np.corrcoef(moved, outcome)[0, 1]) < 0.05
    still = shuffled(layout, outcome, outcome, settings=ShuffledSettings(1))
    np.testing.assert_array_equal(still, outcome)


def test_steps_move_in_one_piece():
    """Steps of 1, 2, 3 and 4 tokens with values of their own come out as runs of 1, 2, 3 and 4, in another order."""
    layout = Layout(np.repeat(np.arange(4), [1, 2, 3, 4]), np.zeros(4), np.zeros(1))
    process = layout.step_of_token.astype(np.float64)
    got = [shuffled(layout, process, np.zeros(10), settings=ShuffledSettings(seed)) for seed in range(5)]
    for column in got:
        assert all(len(list(run)) == value + 1 for value, run in groupby(column.tolist()))
    assert len({column.tobytes() for column in got}) > 1


def test_equal_seeds_give_equal_shuffles_and_other_seeds_others():
    layout, outcome, process = random_batch(3)
    first, again, other = (
        shuffled(layout, outcome + process, outcome, settings=ShuffledSettings(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_masked_and_unknown_tokens_take_no_part():
    layout, outcome, process = random_batch(4)
    advantages = outcome + process
    advantages[layout.rollout_of_token == 2] = np.nan
    mask = layout.rollout_of_token != 0
    got = shuffled(layout, advantages, outcome, settings=ShuffledSettings(0, over="token"), mask=mask)
    np.testing.assert_array_equal(got[~mask], advantages[~mask])
    assert np.isnan(got[layout.rollout_of_token == 2]).all()
    live = mask & ~np.isnan(advantages)
    np.testing.assert_allclose(np.sort((got - outcome)[live]), np.sort(process[live]), atol=1e-5)


def test_shuffled_checks_its_columns_and_settings():
    layout, outcome, _ = random_batch(0)
    with pytest.raises(CreditError, match="mask: got 1 entries"):
        shuffled(layout, outcome, outcome, settings=ShuffledSettings(0), mask=np.ones(1, np.bool_))
    with pytest.raises(UsageError, match="pool = 'rolout' is unknown; did you mean 'rollout'"):
        ShuffledSettings(0, pool="rolout")


KEEP_LAYOUT = Layout(np.array([0, 1, 2, 3, 4, 5]), np.array([0, 0, 1, 2, 2, 3]), np.zeros(4))
KEEP_OUTCOME = np.array([1.0, 1.0, 1.0, 0.0, 0.0, -1.0])
KEEP_ADVANTAGES = np.array([0.5, 1.0, 1.0, 0.0, 0.0, np.nan])


@pytest.mark.parametrize(
    ("keep", "kept", "counts"),
    [
        ("nonzero_process", [True, False, False, False], {"unknown": 1, "zero advantage": 1, "zero process": 1}),
        ("nonzero_advantage", [True, True, False, False], {"unknown": 1, "zero advantage": 1}),
        ("all", [True, True, True, False], {"unknown": 1}),
    ],
)
def test_keep_rules(keep, kept, counts):
    got = keep_rollouts(KEEP_LAYOUT, KEEP_ADVANTAGES, KEEP_OUTCOME, keep=keep)
    assert got.mask.tolist() == kept
    assert got.counts == counts


def test_keep_rules_check_their_input():
    with pytest.raises(UsageError, match="keep = 'non_zero' is unknown"):
        keep_rollouts(KEEP_LAYOUT, KEEP_ADVANTAGES, KEEP_OUTCOME, keep="non_zero")
    with pytest.raises(CreditError, match="outcome: got 1 entries, the layout has 6 tokens"):
        keep_rollouts(KEEP_LAYOUT, KEEP_ADVANTAGES, np.zeros(1), keep="all")
