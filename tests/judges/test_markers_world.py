import json

import pytest
from judged_solutions import solution

from stepcredit.core.records import Label, Outcome, Rollout
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.intrinsic.judge import IntrinsicJudge
from stepcredit.judges.intrinsic.markers import world_markers
from stepcredit.judges.intrinsic.tasks import SplitTask, TraceTask, VerifyTask
from stepcredit.steps import Delimiter, retokenise
from stepcredit.tasks.chain_world import ChainWorld
from stepcredit.tasks.reflection_world import ReflectionWorld

C, X, M, U = Label.CORRECT, Label.INCORRECT, Label.MATCHED, Label.MISMATCHED
THINK = (
    "; Step1 14 /15 4",
    " ; check 4 *15 9 no-wait",
    " ; Step1 14 /15 10",
    " ; check 10 *15 14 ok",
    " ; Step2 10 *10 15",
    " ; Step3 15 /2 6",
    " ; check 6 *2 12 no-wait",
    " ; Step3 15 /2 5",
    " ; check 5 *2 10 no-wait",
    " ; Step3 15 /2 16 </think>",
)
ANSWER = (" answer", " ; Step1 10", " ; Step2 15", " ; Step3 5 <eos>")


async def labels(think, answer=(), **more):
    return [v.label for v in await IntrinsicJudge(world_markers()).judge(solution(think, answer, **more))]


async def test_right_solution_only_redone_steps_are_incorrect():
    assert await labels(THINK, ANSWER) == [X, C, C, C, C, X, C, X, C, C, *[C] * 4]


async def test_wrong_solution_units_with_the_answers_value_are_matched_checks_with_the_value_they_check():
    assert await labels(THINK, ANSWER, status="wrong") == [U, U, M, M, M, U, U, M, M, U, *[M] * 4]


async def test_a_no_wait_that_is_ignored_takes_nothing_back():
    assert await labels((*THINK[:2], " ; Step2 4 *10 6"), ANSWER) == [C, C, C, *[C] * 4]


async def test_a_no_wait_at_the_very_end_takes_nothing_back():
    assert await labels(THINK[:2], ANSWER) == [C, C, *[C] * 4]


async def test_a_check_said_ok_before_a_no_wait_stays_correct():
    think = ("; Step1 14 /15 4", " ; check 4 *15 9 ok", " ; check 4 *15 9 no-wait", " ; Step1 14 /15 10")
    assert await labels(think) == [X, C, C, C]


async def test_chain_world_wait_retracts_the_step_before_it():
    think = ("; Step1 14 +13 10", " ; Step2 10 *16 3", " ; wait,", " ; Step2 10 *16 7 </think>")
    assert await labels(think, (" answer", " ; Step1 10", " ; Step2 7 <eos>")) == [C, X, C, C, C, C, C]
    wrong = await labels(think, (" answer", " ; Step1 10", " ; Step2 3 <eos>"), status="wrong")
    assert wrong == [M, M, M, U, M, M, M]
    assert await labels(("; Step1 14 +13 10", " ; wait,", " ; Step2 10 *16 7")) == [C, C, C]


async def test_chain_world_with_equals_signs():
    think = ("Step1 14 +13 = 10", " Step2 10 *16 = 3", " wait,", " Step2 10 *16 = 7")
    assert await labels(think) == [C, X, C, C]


async def test_of_a_repeated_answer_line_the_last_counts_and_a_step_without_line_is_mismatched():
    think = ("; Step1 2 *2 4", " ; Step2 4 *2 8")
    assert await labels(think, (" answer", " ; Step1 5", " ; Step1 4"), status="wrong") == [M, U, M, M, M]


@pytest.mark.parametrize("text", ["", ";", "; hm", "; Step1", "; Step1 14 15 4", "; check 4", "; Step1 14 /15 4 4"])
async def test_unreadable_units_are_never_matched_nor_taken_back(text):
    assert await labels((text or " ", " ; check 4 *15 9 no-wait", " ; Step1 14 /15 10")) == [C, C, C]
    assert await labels((text or " ",), (" answer ; Step1 4",), status="wrong") == [U, M]


async def test_the_other_tasks_are_answered_too():
    reader = world_markers()
    split = await reader.answer(SplitTask("", THINK[:2]), attempt=0, error="")
    assert json.loads(split.text) == {"steps": [[0, 0], [1, 1]]}
    trace = await reader.answer(TraceTask("", THINK[:2]), attempt=0, error="")
    assert json.loads(trace.text) == {"source": 0, "evidence": "Step1 14 /15 4"}
    verify = await reader.answer(VerifyTask("", THINK[:2], 0, ""), attempt=0, error="")
    assert json.loads(verify.text) == {"verdicts": ["wrong"]}
    lost = await reader.answer(TraceTask("", ("hm", "; check 4 *15 9 no-wait")), attempt=0, error="")
    assert json.loads(lost.text) == {"source": None, "evidence": ""}


@pytest.mark.parametrize("world", [ReflectionWorld(), ChainWorld()], ids=["reflection", "chain"])
async def test_labels_of_demonstrations_are_their_structure(world):
    words = FileTokenizer.from_words(world.words)
    for index, problem in enumerate(world.problems(30, seed=1)):
        demonstration = world.demonstrate(problem, seed=index)
        ids, text, starts = retokenise(demonstration.text, words)
        rollout = Rollout("r", problem, "g", 0, text, words.encode(problem.text), ids, starts)
        structure = demonstration.structure
        for status, flags, label in (("right", structure.retracted, X), ("wrong", structure.adopted, M)):
            steps = Delimiter().split(Outcome(rollout, status))
            verdicts = await IntrinsicJudge(world_markers()).judge(steps)
            assert [v.label is label for v in verdicts] == list(flags)
