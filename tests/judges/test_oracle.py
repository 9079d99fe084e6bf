import pytest
from judged_solutions import solution

from stepcredit.core.errors import JudgeError
from stepcredit.core.records import Judgement, Label, Verdict
from stepcredit.judges.oracle import OracleJudge
from stepcredit.steps import thoughts

C, X, M, U = Label.CORRECT, Label.INCORRECT, Label.MATCHED, Label.MISMATCHED


def oracle(*truth):
    return OracleJudge(lambda _: truth, "fixed")


async def test_right_outcome_wrong_steps_are_incorrect():
    verdicts = await oracle(True, False, None, False).judge(solution(("a", "b", "c"), ("d",)))
    assert [v.label for v in verdicts] == [C, X, None, C]
    assert [v.score for v in verdicts] == [1, 0, None, 0]
    assert verdicts[2].reason == "the truth of this step is not known"


async def test_wrong_outcome_wrong_steps_are_blamed_and_right_steps_freed():
    verdicts = await oracle(True, False, None).judge(solution(("a", "b"), ("d",), status="wrong"))
    assert [v.label for v in verdicts] == [U, M, M]
    assert [v.score for v in verdicts] == [1, 0, None]


async def test_an_unscorable_outcome_makes_all_steps_unknown_and_can_be_merged_into_thoughts():
    steps = solution(("a", "b"), status="unscorable")
    verdicts = await oracle(True, None).judge(steps)
    assert verdicts == (Verdict(reason="the outcome is unscorable: no answer found"),) * 2
    assert len(thoughts(Judgement(steps, verdicts, "oracle")).steps) == 1


async def test_a_truth_of_another_length_is_an_error():
    with pytest.raises(JudgeError, match="r0: the truth has 1 entries for 2 steps"):
        await oracle(True).judge(solution(("a", "b")))
