"""ThinkPRM's score algebra (thinkprm.md 9, item 2), the repetition detector and the counters."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.protocols import NextTokens
from stepcredit.judges.thinkprm.labels import StepLabels
from stepcredit.judges.thinkprm.signatures import Chain, ChainCounts, Status, closed, is_looping, pair_probability


def probability(yes: float, no: float, *, bound: float = -20.0, temperature: float = 1.0):
    return pair_probability(NextTokens(np.array([yes, no], np.float32), bound), temperature)


def test_six_to_two_is_three_quarters():
    score, truncated = probability(math.log(0.6), math.log(0.2))
    assert (score, truncated) == (pytest.approx(0.75), False)


def test_a_log_probability_of_zero_is_one_like_any_other():
    assert probability(0.0, -2.0) == (pytest.approx(1 / (1 + math.exp(-2.0))), False)


def test_the_one_that_was_not_named_counts_with_the_bound_and_is_flagged():
    assert probability(-0.1, math.nan, bound=-8.1) == (pytest.approx(1 / (1 + math.exp(-8.0))), True)
    assert probability(math.nan, -0.1, bound=-8.1) == (pytest.approx(math.exp(-8.0) / (1 + math.exp(-8.0))), True)


def test_neither_named_is_no_score():
    assert probability(math.nan, math.nan) == (None, True)
    assert probability(-math.inf, -math.inf) == (None, False)
    assert probability(-1.0, math.nan, bound=math.nan) == (None, True)


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


@pytest.mark.parametrize("unit", ["Wait, let me check step 3 again. ", "no ", ".", "A long passage; " * 12 + "end. "])
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_passage_repeated_to_the_end_is_a_loop_wherever_it_is_cut(unit, cut):
    text = "Step 1 is fine. " + unit * (10 + 300 // len(unit))
    assert is_looping(text[: len(text) - cut])


def test_lists_and_plain_text_are_no_loop():
    steps = "".join(f"Step {number}: this follows. The step is \\boxed{{correct}}.\n" for number in range(60))
    assert not is_looping(steps)
    assert not is_looping("")
    assert not is_looping("ha" * 50)
    assert not is_looping("".join(random.Random(0).choices("abc ", k=30_000)))


def test_the_detector_is_linear_on_long_texts():
    assert is_looping("a" * 1_000_000)


def test_statuses_follow_from_what_was_read():
    right = StepLabels((True,), 1)
    assert closed(Chain(Status.OK, 0.9, right)).status is Status.OK
    assert closed(Chain(Status.OK, 0.9, right, truncated=True)).status is Status.TRUNCATED
    assert closed(Chain(Status.OK, 0.1, right, truncated=True)).status is Status.CONTRADICTS
    assert closed(Chain(Status.OK, 0.9, None)).reason == "the critique lacks a step label"
    assert closed(Chain(Status.OK, None, right)).reason == "the critique lacks yes and no among the named tokens"


def test_counts_add_up_and_name_piled_up_scores():
    piled = [Chain(Status.OK, score) for score in [0.999] * 12 + [0.001] * 7]
    counts = ChainCounts().plus(piled)
    assert (counts.at_one, counts.at_zero, counts.saturation, counts.saturated) == (12, 7, 1.0, False)
    assert counts.plus([Chain(Status.OK, 0.9999)]).saturated
    assert not counts.plus([Chain(Status.OK, 0.5)] * 10).saturated
    more = counts.plus([Chain(Status.LOOP, tokens=7, resampled=True), Chain(Status.TRUNCATED, 0.4, truncated=True)])
    assert dict(more.statuses) == {Status.OK: 19, Status.LOOP: 1, Status.TRUNCATED: 1}
    assert (more.chains, more.scores, more.resampled, more.bounds, more.tokens) == (21, 20, 1, 1, 7)
    assert ChainCounts().saturation is None
