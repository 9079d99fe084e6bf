"""Two candidates as the next token: the score algebra (thinkprm.md 9, item 2; genprm.md 4.4)."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.protocols import NextTokens
from stepcredit.judges.pair import Pair, read_pair


def probability(yes: float, no: float, *, bound: float = -20.0, temperature: float = 1.0):
    found = read_pair(NextTokens(np.array([yes, no], np.float32), bound))
    return None if found is None else (found.share(temperature), found.truncated)


def test_six_to_two_is_three_quarters():
    score, truncated = probability(math.log(0.6), math.log(0.2))
    assert (score, truncated) == (pytest.approx(0.75), False)


def test_a_log_probability_of_zero_is_one_like_any_other():
    assert probability(0.0, -2.0) == (pytest.approx(1 / (1 + math.exp(-2.0))), False)


def test_the_one_that_was_not_named_counts_with_the_bound_and_is_flagged():
    assert probability(-0.1, math.nan, bound=-8.1) == (pytest.approx(1 / (1 + math.exp(-8.0))), True)
    assert probability(math.nan, -0.1, bound=-8.1) == (pytest.approx(math.exp(-8.0) / (1 + math.exp(-8.0))), True)


def test_neither_named_is_no_score():
    assert probability(math.nan, math.nan) is None
    assert probability(-math.inf, -math.inf) is None
    assert probability(-1.0, math.nan, bound=math.nan) is None
    assert probability(-9999.0, -9999.0, bound=-9999.0) is None


def test_impossible_answers_give_the_ends():
    assert probability(0.0, -math.inf) == (1.0, False)
    assert probability(-math.inf, 0.0)[0] == pytest.approx(0.0)


@settings(max_examples=60, deadline=None)
@given(st.floats(-50, 0), st.floats(-50, 0), st.floats(0.1, 10))
def test_a_higher_temperature_moves_the_score_towards_a_half(yes, no, temperature):
    cold, warm = probability(yes, no, temperature=temperature)[0], probability(yes, no, temperature=temperature * 2)[0]
    assert cold is not None
    assert warm is not None
    assert abs(warm - 0.5) <= abs(cold - 0.5) + 1e-12
    assert probability(no, yes, temperature=temperature)[0] == pytest.approx(1 - cold)


def test_the_raw_reward_is_the_share_of_yes():
    assert Pair(math.log(0.8), math.log(0.1)).share() == pytest.approx(8 / 9)
    assert Pair(-2000.0, -2000.0).share() == 0.5
    assert (Pair(-math.inf, -1.0).share(), Pair(-1.0, -math.inf).share()) == (0.0, 1.0)


def test_sentinels_are_probability_zero():
    assert probability(-0.1, -9999.0, bound=-9999.0) == (1.0, False)
