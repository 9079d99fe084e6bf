from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_solutions import solution

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Judgement, Label, Verdict
from stepcredit.judges.verdicts import labelled, unknown
from stepcredit.judges.wrappers import FlippedJudge, VotingJudge, flip, vote
from stepcredit.steps import thoughts
from stepcredit.testing import ScriptedJudge

C, X, M, U = Label.CORRECT, Label.INCORRECT, Label.MATCHED, Label.MISMATCHED


def constant(verdict, *, scale=Scale.BINARY, name="constant"):
    return ScriptedJudge(lambda steps: (verdict,) * len(steps), scale=scale, name=name)


def test_the_label_that_most_gave_wins_and_scores_are_averaged():
    voted = vote([Verdict(1.0, C, calls=("a",)), Verdict(1.0, C, calls=("b",)), Verdict(0.0, X, "slip", ("c",))])
    assert (voted.label, voted.score, voted.calls) == (C, pytest.approx(2 / 3), ("a", "b", "c"))


def test_a_winning_mismatched_has_no_score():
    assert vote([labelled(U), labelled(U), labelled(M)]) == Verdict(None, U)
    assert vote([labelled(M), labelled(M), labelled(U)]) == Verdict(0.0, M)


def test_unknown_verdicts_do_not_vote():
    assert vote([Verdict(reason="cut"), labelled(X), Verdict(reason="cut")]) == labelled(X)
    assert vote([Verdict(reason="cut"), Verdict(reason="no box")]) == Verdict(reason="cut")
    assert vote([Verdict(0.25), Verdict(reason="cut"), Verdict(0.75)]).score == 0.5


def test_a_tie_gives_no_label_and_says_so():
    tied = vote([labelled(C), labelled(X), Verdict(reason="cut")])
    assert tied == Verdict(reason="labels tie: 1 correct, 1 incorrect")
    assert vote([Verdict(1.0, C, calls=("a",)), Verdict(0.0, X, calls=("b",))]).calls == ("a", "b")


async def test_a_tie_can_be_merged_into_thoughts():
    steps = solution(("a", "b", "c"))
    judge = VotingJudge([constant(labelled(C), name="a"), constant(labelled(X), name="b")])
    merged = thoughts(Judgement(steps, await judge.judge(steps), judge.fingerprint))
    assert [verdict.label for verdict in merged.verdicts] == [None]


@given(st.permutations([labelled(C), labelled(C), labelled(X), Verdict(0.5), Verdict(reason="cut")]))
def test_the_order_of_the_ballots_does_not_matter(ballots):
    voted = vote(ballots)
    assert (voted.label, voted.score) == (C, pytest.approx(fmean([1, 1, 0, 0.5])))


async def test_voting_judges_need_one_scale_and_make_binary_a_probability():
    one, other = constant(labelled(C), name="a"), constant(labelled(X), name="b")
    judge = VotingJudge([one, one, other])
    assert judge.scale is Scale.PROBABILITY
    assert VotingJudge([one]).scale is Scale.BINARY
    assert [v.label for v in await judge.judge(solution(("a", "b")))] == [C, C]
    assert judge.fingerprint != VotingJudge([one, other, one]).fingerprint
    with pytest.raises(UsageError, match="got 2 judges with binary, signed"):
        VotingJudge([one, constant(Verdict(0.5), scale=Scale.SIGNED)])
    with pytest.raises(UsageError, match="got 0 judges with none"):
        VotingJudge([])


@pytest.mark.parametrize(
    ("scale", "verdict", "flipped"),
    [
        (Scale.BINARY, labelled(C), (0.0, X)),
        (Scale.BINARY, labelled(X), (1.0, C)),
        (Scale.BINARY, labelled(M), (None, U)),
        (Scale.BINARY, labelled(U), (0.0, M)),
        (Scale.BINARY, Verdict(1.0), (0.0, None)),
        (Scale.PROBABILITY, Verdict(0.75, C), (0.25, X)),
        (Scale.SIGNED, Verdict(0.5), (-0.5, None)),
        (Scale.LOG_RATIO, Verdict(-2.0), (2.0, None)),
    ],
)
def test_flips(scale, verdict, flipped):
    got = flip(verdict, scale)
    assert (got.score, got.label, got.reason) == (*flipped, "flipped")


async def test_share_zero_changes_nothing_and_share_one_flips_all_but_answer_block_and_unknown():
    steps = solution(("a", "b", "c"), ("d",))
    given_verdicts = (labelled(C), Verdict(reason="cut"), labelled(X), labelled(C))
    judge = ScriptedJudge(lambda _: given_verdicts)
    assert await FlippedJudge(judge, 0.0, seed=1).judge(steps) == given_verdicts
    flipped = await FlippedJudge(judge, 1.0, seed=1).judge(steps)
    assert [v.label for v in flipped] == [X, None, C, C]
    assert flipped[1] == given_verdicts[1]


async def test_flips_hit_the_share_and_depend_on_seed_and_rollout_only():
    steps = solution(["x"] * 4000)
    judge = constant(labelled(C))
    first = await FlippedJudge(judge, 0.2, seed=1).judge(steps)
    assert sum(v.label is X for v in first) == pytest.approx(800, abs=100)
    assert first == await FlippedJudge(judge, 0.2, seed=1).judge(steps)
    assert first != await FlippedJudge(judge, 0.2, seed=2).judge(steps)
    assert first != await FlippedJudge(judge, 0.2, seed=1).judge(solution(["x"] * 4000, name="r1"))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_the_unit_interval_is_refused(share):
    with pytest.raises(UsageError, match=r"must be in \[0, 1\]"):
        FlippedJudge(constant(labelled(C)), share, seed=1)


def test_unknown_verdicts_carry_reason_and_calls():
    assert unknown(2, "cut", calls=("c",)) == (Verdict(reason="cut", calls=("c",)),) * 2
