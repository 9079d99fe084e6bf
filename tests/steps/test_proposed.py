"""Ranges proposed by a judge must tile the steps."""

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.core.errors import StepsError
from stepcredit.core.records import Outcome, Steps
from stepcredit.steps import apply_ranges, splitter

OutcomeOf = Callable[..., Outcome]


@pytest.fixture
def four(outcome_of: OutcomeOf) -> Steps:
    """Four think steps and one answer step."""
    steps = splitter("newline").split(outcome_of("<think>a\nb\nc\nd</think>\nIt is 3."))
    assert steps.in_answer.tolist() == [False] * 4 + [True]
    return steps


def test_think_ranges_leave_the_answer_block_alone(four: Steps):
    joined = apply_ranges(four, [(0, 3), (3, 4)])
    assert joined.texts == ("<think>a\nb\nc\n", "d</think>\n", "It is 3.")
    assert (joined.unit, joined.in_answer.tolist(), joined.closed) == ("proposed", [False, False, True], True)
    assert apply_ranges(four, [(0, 3), (3, 4), (4, 5)]).starts.tolist() == joined.starts.tolist()


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([(0, 2), (3, 4)], "proposed range 1, [3, 4): leaves a gap, want a start at 2"),
        ([(0, 2), (1, 4)], "proposed range 1, [1, 4): overlaps or is out of order, want a start at 2"),
        ([(1, 4)], "proposed range 0, [1, 4): leaves a gap, want a start at 0"),
        ([(0, 2), (2, 2), (2, 4)], "proposed range 1, [2, 2): is empty"),
        ([(0, 2), (2, 1)], "proposed range 1, [2, 1): is empty"),
        ([(0, 4), (4, 9)], "proposed range 1, [4, 9): reaches past the 5 steps"),
        ([(0, 3), (3, 5)], "proposed range 1, [3, 5): holds steps of think and answer block, which begins at 4"),
        ([(0, 3)], "proposed ranges end at step 3, want 4"),
        ([], "proposed ranges end at step 0, want 4"),
        ([(-1, 4)], "proposed range 0, [-1, 4): overlaps or is out of order, want a start at 0"),
    ],
)
def test_what_is_no_tiling_is_named(four: Steps, ranges: list[tuple[int, int]], message: str):
    with pytest.raises(StepsError, match=re.escape("r: " + message)):
        apply_ranges(four, ranges)


def test_no_steps_no_ranges(outcome_of: OutcomeOf):
    assert len(apply_ranges(splitter("newline").split(outcome_of("")), [])) == 0


@given(st.integers(1, 12), st.sets(st.integers(1, 11)))
def test_any_tiling_gives_its_ranges(outcome_of: OutcomeOf, count: int, cuts: set[int]):
    steps = splitter("newline", form="r1").split(outcome_of("\n".join("x" for _ in range(count))))
    bounds = [0, *sorted(cut for cut in cuts if cut < count), count]
    ranges = list(pairwise(bounds))
    joined = apply_ranges(steps, ranges)
    assert joined.texts == tuple("".join(steps.texts[a:b]) for a, b in ranges)
