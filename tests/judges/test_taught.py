import asyncio

import numpy as np
import pytest
from judged_solutions import solution

from stepcredit.core.errors import EngineError, JudgeError, UsageError
from stepcredit.core.protocols import Completion
from stepcredit.core.records import Label
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.taught import Claim, TaughtJudge, claim_of, taught_words
from stepcredit.tasks.reflection_world import WORDS
from stepcredit.tasks.world_text import apply

C, X, M, U = Label.CORRECT, Label.INCORRECT, Label.MATCHED, Label.MISMATCHED
THINK = ("; Step1 14 /15 4", "; check 4 *15 9 no-wait", "; Step1 14 /15 10", "; hm </think>")
ANSWER = ("answer", "; Step1 10 <eos>")


class Knowing:
    """A sampler that works every claim out; `broken` raises, `mumbling` says what cannot be read."""

    fingerprint = "knowing"

    def __init__(self, manner=""):
        self.tokenizer = FileTokenizer.from_words(taught_words(WORDS))
        self.manner, self.asked = manner, []

    async def sample(self, prompt_ids, sampling, *, seed):
        await asyncio.sleep(0)
        prompt = self.tokenizer.decode(prompt_ids)
        self.asked.append(prompt)
        if self.manner == "broken":
            raise EngineError("gone")
        _, operand, operator, value, *_ = prompt.split()
        right = apply(operator, int(operand)) == int(value)
        text = "maybe right" if self.manner == "mumbling" else f"{value} {'right' if right else 'wrong'}"
        ids = self.tokenizer.encode(f"{text.replace('maybe', '?')} <eos>")
        return Completion(ids, np.zeros(len(ids), np.float32), "stop", "p")


def judge_of(manner=""):
    sampler = Knowing(manner)
    return TaughtJudge(sampler, sampler.tokenizer), sampler


def judged(judge, think, answer=ANSWER, **kind):
    return asyncio.run(judge.judge(solution(think, answer, **kind)))


def test_claims_are_read_from_steps_and_checks_alone():
    assert claim_of("; Step1 14 /15 4") == Claim(14, "/15", 4)
    assert claim_of("; check 4 *15 9 no-wait </think>") == Claim(4, "*15", 9)
    assert [claim_of(text) for text in ("answer", "; Step1 4", "; hm", "; check 4 *15 9")] == [None] * 4


def test_wrong_steps_are_blamed_on_both_sides_and_the_answer_block_is_not_judged():
    judge, sampler = judge_of()
    assert [v.label for v in judged(judge, THINK)] == [X, C, C, C, C, C]
    assert [v.label for v in judged(judge, THINK, status="wrong")] == [M, U, U, U, M, M]
    assert [v.score for v in judged(judge, THINK, status="wrong")] == [0, 1, 1, 1, 0, 0]
    assert len(sampler.asked) == 3
    assert (judge.calls, judge.tokens) == (3, 3 * (6 + 3))


def test_a_unit_without_arithmetic_goes_with_the_step_before_it():
    think = ("; hm", "; Step1 14 /15 4", "; hm", "; Step1 14 /15 10", "; hm")
    assert [v.label for v in judged(judge_of()[0], think, ())] == [C, X, X, C, C]


@pytest.mark.parametrize(
    ("check", "label"),
    [
        ("; check 4 *15 9 no-wait", C),
        ("; check 4 *15 9 ok", X),
        ("; check 10 *15 14 no-wait", X),
        ("; check 4 *15 14 ok", X),
    ],
)
def test_a_check_must_be_right_and_its_verdict_must_follow_from_its_product(check, label):
    value = check.split()[2]
    verdicts = judged(judge_of()[0], (f"; Step1 14 /15 {value}", check), ())
    assert verdicts[1].label == label


def test_replies_that_cannot_be_read_are_unknown_and_outcomes_that_cannot_be_scored_are_not_judged():
    verdicts = judged(judge_of("mumbling")[0], THINK)
    assert [v.known for v in verdicts] == [False, False, False, True, True, True]
    assert verdicts[0].reason == "unreadable reply '? right'"
    judge, sampler = judge_of()
    assert {v.reason for v in judged(judge, THINK, status="unscorable")} == {
        "the outcome is unscorable: no answer found"
    }
    assert not sampler.asked


def test_a_broken_engine_is_the_judges_failure_and_is_asked_again():
    judge, sampler = judge_of("broken")
    for _ in range(2):
        with pytest.raises(JudgeError, match="r0: the judge's engine broke: gone"):
            judged(judge, THINK)
    sampler.manner = ""
    assert [v.label for v in judged(judge, THINK)][:2] == [X, C]


def test_a_tokenizer_without_end_is_refused():
    class Endless:
        eos_id = None

    with pytest.raises(UsageError, match="names no end of sequence"):
        TaughtJudge(Knowing(), Endless())
