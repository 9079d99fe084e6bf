import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.judges.genprm.reward import find_verdict, read_verdict, solution_score, tempered, weighted_vote


def v0(*probabilities):
    return tempered(np.log(probabilities), temperature=0.6, top_k=20, top_p=0.95)[0]


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


def test_solution_scores_are_unknown_where_a_step_is():
    assert [solution_score([0.2, 0.7, 0.6], how) for how in ("last", "mean", "min")] == [0.6, pytest.approx(0.5), 0.2]
    assert [solution_score([None, 0.7], how) for how in ("last", "mean", "min")] == [None] * 3
    assert solution_score([], "mean") is None


def test_the_weighted_vote_sums_scores_of_equal_answers():
    assert weighted_vote(["a", "b", "b"], [0.9, 0.5, 0.3]) == "a"
    assert weighted_vote(["a", "b", "b"], [0.9, 0.5, 0.5]) == "b"
    assert weighted_vote(["b", "a"], [0.5, 0.5]) == "b"
    assert weighted_vote(["a", None], [None, 1.0]) is None
