"""The Layout's derived columns: what is left of a rollout, places of a group, rollouts that hold what was found."""

import numpy as np
import pytest

from stepcredit.core.errors import LayoutError
from stepcredit.core.layout import Layout

# Two groups. Rollout 0: steps of 2 and 1 tokens; rollout 1 has none; rollout 2: one step of 2; rollout 3: 1 and 3.
LAYOUT = Layout(np.array([0, 0, 1, 2, 2, 3, 4, 4, 4]), np.array([0, 0, 2, 3, 3]), np.array([0, 0, 0, 1]))


def test_what_is_left_counts_the_entry_itself_and_ends_with_the_rollout() -> None:
    np.testing.assert_array_equal(LAYOUT.tokens_left, [3, 2, 1, 2, 1, 4, 3, 2, 1])
    np.testing.assert_array_equal(LAYOUT.steps_left, [2, 1, 1, 2, 1])


def test_tokens_at_one_position_of_a_group_share_a_place() -> None:
    np.testing.assert_array_equal(LAYOUT.place_of_token, [0, 1, 2, 0, 1, 3, 4, 5, 6])


def test_token_steps_are_step_of_token() -> None:
    assert LAYOUT.token_steps.dtype == np.intp
    np.testing.assert_array_equal(LAYOUT.token_steps, LAYOUT.step_of_token)


def test_rollouts_that_hold_a_step_or_a_token() -> None:
    np.testing.assert_array_equal(LAYOUT.holders(np.array([0, 1, 0, 0, 1]) > 0), [True, False, False, True])
    np.testing.assert_array_equal(LAYOUT.holders(np.arange(9) == 4), [False, False, True, False])
    with pytest.raises(LayoutError, match="found has 4 entries for 5 steps and 9 tokens"):
        LAYOUT.holders(np.zeros(4, np.bool_))


def test_a_batch_without_tokens_has_empty_columns() -> None:
    empty = Layout(np.zeros(0), np.zeros(0), np.zeros(2))
    columns = (empty.tokens_left, empty.steps_left, empty.place_of_token, empty.token_steps)
    assert [len(column) for column in columns] == [0] * 4
    assert not empty.holders(np.zeros(0, np.bool_)).any()
