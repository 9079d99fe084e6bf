import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.core.protocols import NextTokens
from stepcredit.judges.genprm.reward import (
    find_verdict,
    named,
    processbench_prediction,
    read_verdict,
    solution_score,
    tempered,
    two_way,
    weighted_vote,
)


def v0(*probabilities):
    return tempered(np.log(probabilities), temperature=0.6, top_k=20, top_p=0.95)[0]


def test_the_raw_reward_is_the_share_of_yes():
    assert two_way(math.log(0.8), math.log(0.1)) == pytest.approx(8 / 9)
    assert two_way(-2000.0, -2000.0) == 0.5
    assert (two_way(-math.inf, -1.0), two_way(-1.0, -math.inf)) == (0.0, 1.0)


def test_the_reference_reward_is_exact_where_the_winner_holds_the_tempered_mass():
    assert v0(0.9, 0.1) == 1.0
    assert v0(0.1, 0.9) == 0.0
    assert v0(0.7, 0.3) == pytest.approx(0.7 ** (1 / 0.6) / (0.7 ** (1 / 0.6) + 0.3 ** (1 / 0.6)))
    assert v0(0.7, 0.3) == pytest.approx(0.804, abs=5e-4)
    assert (v0(0.145, 0.855), v0(0.855, 0.145)) == (0.0, 1.0)
    assert 0 < v0(0.147, 0.853) < v0(0.853, 0.147) < 1


def test_top_k_keeps_the_most_probable():
    assert tempered(np.log([0.4, 0.35, 0.25]), temperature=1.0, top_k=2, top_p=1.0) == pytest.approx(
        [8 / 15, 7 / 15, 0]
    )
    assert tempered(np.log([0.4, 0.35]), temperature=1.0, top_k=1, top_p=1.0) == [1.0, 0.0]
    assert tempered(np.log([0.5, 0.5]), temperature=1.0, top_k=-1, top_p=0.4)[1] == 1.0


def test_a_token_that_was_not_named_takes_the_bound_and_is_flagged():
    yes, no, truncated = named(NextTokens(np.array([math.log(0.9), math.nan]), math.log(0.01)))
    assert (round(math.exp(yes), 6), round(math.exp(no), 6), truncated) == (0.9, 0.01, True)
    assert named(NextTokens(np.log([0.9, 0.05]), math.log(0.01)))[2] is False


@pytest.mark.parametrize(
    ("logprobs", "bound"),
    [
        ([math.nan, math.nan], -3.0),
        ([-math.inf, -math.inf], -9.0),
        ([-9999.0, -9999.0], -9999.0),
        ([-1.0, math.nan], math.nan),
    ],
)
def test_where_neither_is_named_or_possible_there_is_no_number(logprobs, bound):
    assert named(NextTokens(np.array(logprobs), bound)) is None


def test_sentinels_are_probability_zero():
    yes, no, _ = named(NextTokens(np.array([-0.1, -9999.0]), -9999.0))
    assert two_way(yes, no) == 1.0


def test_the_verdict_is_read_from_the_judgement_line_and_not_from_the_analysis():
    text = "<analyze>\nthey say \\boxed{Yes} and Yes}\n</analyze>\n<output>\n**Judgement**: $\\boxed{No}$\n</output>\n"
    assert read_verdict(text) == "No"
    _, place = find_verdict(text)
    assert text[place:].startswith("No}")
    assert text[:place].endswith("$\\boxed{")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "**Judgement**: $\\boxed{Yes}$",
        "<output>\n\\boxed{Yes}\n</output>",
        "<output>\n**Judgement**: $\\boxed{Maybe}$",
        "<output>\n**Judgement**: $\\boxed{Yes",
        "<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n<output>\n",
    ],
)
def test_what_is_no_judgement_line_in_the_last_output_block_is_no_verdict(text):
    assert read_verdict(text) is None


@given(st.text(max_size=200))
def test_no_text_without_an_output_block_has_a_verdict(text):
    assert read_verdict(text.replace("<output>", "")) is None


def test_the_processbench_prediction_is_the_first_step_below_one_half():
    assert processbench_prediction([0.9, 0.5, 0.499, 0.1]) == 2
    assert processbench_prediction([0.9, 0.5]) == -1
    assert processbench_prediction([]) == -1
    assert processbench_prediction([0.9, 0.2, None]) == 1
    assert processbench_prediction([0.9, None, 0.2]) is None


def test_solution_scores_are_unknown_where_a_step_is():
    assert [solution_score([0.2, 0.7, 0.6], how) for how in ("last", "mean", "min")] == [0.6, pytest.approx(0.5), 0.2]
    assert [solution_score([None, 0.7], how) for how in ("last", "mean", "min")] == [None] * 3
    assert solution_score([], "mean") is None


def test_the_weighted_vote_sums_scores_of_equal_answers():
    assert weighted_vote(["a", "b", "b"], [0.9, 0.5, 0.3]) == "a"
    assert weighted_vote(["a", "b", "b"], [0.9, 0.5, 0.5]) == "b"
    assert weighted_vote(["b", "a"], [0.5, 0.5]) == "b"
    assert weighted_vote(["a", None], [None, 1.0]) is None
