"""What ThinkPRM's chains tell: the stretch of the critique that is about a step, its score, and the answer."""

import pytest
from thinkprm_parts import BAD, GOOD, NO, YES, judge_of, solution

from stepcredit.core.rationales import Rationale, hearing

STEPS = solution(("Let x = 2.\n\n", "Then x + 3 = 6.\n\n", "So 6."))


async def told(script, following=None, **settings) -> list[Rationale]:
    judge, _ = judge_of(script, following, **settings)
    with hearing() as said:
        await judge.judge(STEPS)
    return said


async def test_a_chain_on_the_whole_solution_gives_each_step_its_own_words():
    [said] = await told([GOOD + BAD + " I stop."], NO)
    assert [part.step for part in said.passages] == [0, 1]
    assert "".join(part.text for part in said.passages) == GOOD + BAD + " I stop."
    assert said.passages[0].text.endswith("\\boxed{correct}")
    assert (said.first, said.scores) == (0, (1.0, 0.0, 0.0))
    assert said.verdict.startswith("probability of yes 0.")
    assert (said.name, said.status) == ("chain 1", "ok")


async def test_votes_that_cannot_be_read_are_told_whole_and_score_nothing():
    votes = await told([GOOD * 3, "I solve it anew: 5.", GOOD + BAD], YES, votes=3, resample=False, temperature=0.6)
    assert [said.scores for said in votes][1] == (None,) * 3
    assert [(part.step, part.text) for part in votes[1].passages] == [(None, "I solve it anew: 5.")]
    assert votes[1].status == "no_verdict: the critique lacks a step label"
    assert votes[2].status == "contradicts"


async def test_a_chain_that_is_not_counted_scores_nothing():
    [said] = await told([GOOD * 3], NO, keep_contradicting=False)
    assert (said.scores, said.status) == ((None,) * 3, "contradicts")


async def test_rounds_before_the_labels_stand_before_and_speak_of_no_step():
    [said] = await told([GOOD + BAD, " again: " + GOOD * 3], YES, rounds=2)
    assert [part.step for part in said.passages] == [None, 0, 1, 2]
    assert said.passages[0].text.startswith(GOOD + BAD)
    assert said.scores == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("mode", "scores"), [("prefixes", None), ("independent", (0.0,))])
async def test_a_chain_on_a_prefix_speaks_of_its_last_step(mode: str, scores: tuple[float, ...] | None):
    said = await told([GOOD, GOOD + BAD, GOOD + BAD], NO, mode=mode)
    assert [(one.first, len(one.scores)) for one in said] == [(0, 1), (1, 1), (2, 1)]
    assert [{part.step for part in one.passages} for one in said] == [{0}, {1}, {2}]
    if scores is not None:
        assert said[1].scores == scores
        assert said[2].scores == (None,)  # it had stopped before


async def test_the_votes_of_a_step_have_the_mean_that_is_its_score():
    judge, _ = judge_of([GOOD * 3, GOOD + BAD, "lost"], NO, votes=3, resample=False, temperature=0.6)
    with hearing() as said:
        verdicts = await judge.judge(STEPS)
    for index, verdict in enumerate(verdicts):
        given = [score for one in said if (score := one.score_of(index)) is not None]
        assert verdict.score == sum(given) / len(given)
