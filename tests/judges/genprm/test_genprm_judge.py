import pytest
from genprm_doubles import ASSISTANT, LITTLE, USER, judge_of, solution

from stepcredit.core.errors import BudgetError, EngineError, JudgeError, MachineError, UsageError
from stepcredit.core.protocols import Scale
from stepcredit.core.seeds import derive
from stepcredit.judges.genprm.records import Status
from stepcredit.judges.genprm.settings import PROFILES, GenPrmSettings
from stepcredit.testing import ScriptedRunner

STEPS = ["One.\n\n", "Two.\n\n", "Three."]
ANALYSIS = "fine.\n</analyze>\n"
CODE = "print(1)\n```\n"
YES, NO = "{Yes}$\n</output>\n", "{No}$\n</output>\n"


def always(text):
    return lambda prompt, writing: text


def by_step(**shares):
    """Probabilities of Yes by the last user turn."""

    def following(prompt):
        step = prompt.rpartition(USER)[2].partition(ASSISTANT)[0].strip(".").rpartition("\n")[2].lower()
        return {"Yes": shares[step], "No": 1 - shares[step]}

    return following


async def test_every_step_is_judged_with_the_critiques_before_it():
    judge, writer = judge_of(always(ANALYSIS), by_step(one=0.9, two=0.25, three=0.6))
    verdicts = await judge.judge(solution(STEPS))
    assert [verdict.score for verdict in verdicts] == pytest.approx([0.9, 0.25, 0.6])
    assert all(verdict.reason == "" and len(verdict.calls) == 1 for verdict in verdicts)
    third = writer.asked[2][0]
    assert third.count(USER) == 3
    assert "Paragraph 1 step by step: fine.\n</analyze>\n<output>\n**Judgement**: $\\boxed{Yes}$" in third
    assert "Paragraph 2 step by step: fine.\n</analyze>\n<output>\n**Judgement**: $\\boxed{No}$" in third
    assert f"{USER}Two.{ASSISTANT}" in third
    assert f"{USER}Question: 1 + 1?\n\nOne.{ASSISTANT}" in third


async def test_early_stop_leaves_the_steps_after_the_first_wrong_one_unknown():
    judge, writer = judge_of(always(ANALYSIS), by_step(one=0.9, two=0.25, three=0.6), early_stop=True)
    verdicts = await judge.judge(solution(STEPS))
    assert [verdict.score for verdict in verdicts] == [pytest.approx(0.9), pytest.approx(0.25), None]
    assert verdicts[2].reason == "not judged: an earlier step was found wrong"
    assert len(writer.asked) == 2
    assert judge.statistics.statuses == {"not_judged": 1}


async def test_exactly_one_half_is_right():
    judge, _ = judge_of(always(ANALYSIS), by_step(one=0.5, two=0.5, three=0.5), early_stop=True)
    assert [v.score for v in await judge.judge(solution(STEPS))] == [0.5] * 3


async def test_votes_are_independent_passes_with_their_own_seeds_histories_and_sessions():
    runner = ScriptedRunner(lambda code, session: session)

    def script(prompt, writing):
        if writing.stop == ("</analyze>\n",):
            return ANALYSIS
        return CODE if prompt.endswith("```python\n") else "ok\n</verify>\n"

    judge, writer = judge_of(script, runner=runner, passes=3, seed=5)
    records = await judge.examine(solution(STEPS[:2]))
    assert len(records) == 3
    assert all(len(each) == 2 for each in records)
    seeds = [seed for each in records for record in each for seed in record.seeds]
    assert len(set(seeds)) == 18
    assert records[1][1].seeds[2] == derive(5, "genprm", "r0", 1, 1, 2)
    assert sorted(runner.ended) == ["r0/0", "r0/1", "r0/2"]
    assert [each[0].blocks[0].feedback for each in records] == ["r0/0", "r0/1", "r0/2"]
    for prompt, _, _ in writer.asked:
        assert sum(f"r0/{k}\n" in prompt for k in range(3)) <= 1


async def test_the_score_is_the_mean_over_the_passes_that_have_one():
    judge, writer = judge_of([ANALYSIS, YES, ANALYSIS, "{Maybe}$", ANALYSIS, NO], passes=3, reward_source="hard")
    (verdict,) = await judge.judge(solution(["One."]))
    assert (verdict.score, verdict.reason) == (0.5, "mean of 2 of 3 passes; no_verdict in 1")
    assert [seed for _, _, seed in writer.asked] == [
        derive(0, "genprm", "r0", each, 0, call) for each in range(3) for call in range(2)
    ]
    assert (judge.statistics.steps, judge.statistics.judged) == (3, 2)


async def test_with_early_stop_the_mean_decides_and_all_passes_go_on():
    script = [ANALYSIS, YES, ANALYSIS, NO, ANALYSIS, NO, ANALYSIS, NO]
    judge, _ = judge_of(script, passes=2, reward_source="hard", early_stop=True)
    verdicts = await judge.judge(solution(STEPS))
    assert [verdict.score for verdict in verdicts] == [0.5, 0.0, None]


async def test_code_outputs_go_first_then_critiques_and_both_are_flagged():
    long = "Long critique. " * 20

    def script(prompt, writing):
        if writing.stop == ("</analyze>\n",):
            return long + "\n</analyze>\n"
        return CODE if prompt.endswith("```python\n") else "ok\n</verify>\n"

    runner = ScriptedRunner(lambda code, session: "7" * 400)
    texts = [f"Step {k}." for k in range(6)]
    judge, writer = judge_of(script, runner=runner, step_tokens=1200, context_tokens=3600)
    ((*records,),) = await judge.examine(solution(texts))
    assert all(record.reward is not None for record in records)
    flagged = [Status.HISTORY_TRUNCATED in record.statuses for record in records]
    assert flagged == sorted(flagged)
    assert any(flagged)
    assert not flagged[0]
    prompts = [prompt for prompt, writing, _ in writer.asked if writing.stop == ("</analyze>\n",)]
    first = prompts[flagged.index(True)]
    assert first.count("[Code Output]") < flagged.index(True)
    assert first.count("step by step: Long") == flagged.index(True)  # no critique went before the code outputs
    last = prompts[-1]
    assert last.count("step by step: Long") < 5
    assert last.count("**Judgement**") == 5
    assert max(len(LITTLE.encode(prompt)) + w.max_tokens for prompt, w, _ in writer.asked) <= 3600


async def test_a_problem_that_fills_the_context_is_unknown_with_the_reason():
    judge, writer = judge_of(always(ANALYSIS), context_tokens=400)
    (verdict,) = await judge.judge(solution(["One."], problem="long " * 100))
    assert (verdict.score, verdict.reason, writer.asked) == (None, "the context is full", [])


async def test_a_step_without_text_is_not_asked_about():
    judge, writer = judge_of(always(ANALYSIS))
    verdicts = await judge.judge(solution(["One.\n\n", "\n\n"]))
    assert [v.score is None for v in verdicts] == [False, True]
    assert verdicts[1].reason == "the step has no text"
    assert len(writer.asked) == 1
    assert await judge.judge(solution([])) == ()


@pytest.mark.parametrize("failure", [EngineError("gone"), MachineError("no sandbox")])
async def test_a_broken_runner_is_a_judge_error_that_names_the_rollout_and_ends_its_sessions(failure):
    runner = ScriptedRunner([failure])
    judge, _ = judge_of([ANALYSIS, CODE], runner=runner)
    with pytest.raises(JudgeError, match="r0: GenPRM could not go on") as caught:
        await judge.judge(solution(["One."]))
    assert caught.value.item == "r0"
    assert runner.ended == ["r0/0"]


async def test_a_broken_model_is_a_judge_error_and_a_cost_limit_passes_through():
    judge, _ = judge_of([EngineError("gone")])
    with pytest.raises(JudgeError, match="r0: GenPRM could not go on: gone"):
        await judge.judge(solution(["One."]))
    judge, _ = judge_of([BudgetError("0 calls left")])
    with pytest.raises(BudgetError):
        await judge.judge(solution(["One."]))


async def test_what_went_wrong_is_said_beside_the_score_and_counted():
    judge, _ = judge_of(always(ANALYSIS), {"Yes": 0.9, "Maybe": 0.1})
    (verdict,) = await judge.judge(solution(["One."]))
    assert verdict.reason == "truncated"
    assert judge.statistics.statuses == {"truncated": 1}
    assert judge.statistics.output_tokens == len(ANALYSIS)
    assert judge.statistics.unmetered == 0


def test_the_scale_is_binary_for_one_hard_pass():
    assert judge_of([])[0].scale is Scale.PROBABILITY
    assert judge_of([], reward_source="hard")[0].scale is Scale.BINARY
    assert judge_of([], reward_source="hard", passes=2)[0].scale is Scale.PROBABILITY


def test_everything_that_changes_a_score_is_part_of_the_fingerprint():
    runner = ScriptedRunner()
    made = [
        judge_of([])[0],
        judge_of([], seed=1)[0],
        judge_of([], mode="direct")[0],
        judge_of([], runner=runner)[0],
        judge_of([], runner=ScriptedRunner(name="other"))[0],
    ]
    assert len({judge.fingerprint for judge in made}) == 5
    assert judge_of([])[0].fingerprint == judge_of([], mode="analyze")[0].fingerprint


def test_running_code_needs_a_runner():
    with pytest.raises(UsageError, match="mode 'full' runs code and has no runner"):
        judge_of([], mode="full")
    assert judge_of([], mode="verify", execute=False)[0].scale is Scale.PROBABILITY


@pytest.mark.parametrize(
    "wrong",
    [{"passes": 0}, {"bos": 3}, {"temperature": 0.0, "reward_source": "reference_v0"}, {"top_p": 0.0}, {"top_k": 0}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError):
        GenPrmSettings(**wrong)


def test_profiles_are_those_of_the_specification():
    training, reference = PROFILES["training"], PROFILES["reference"]
    assert (training.first_turn, training.assistant_open, training.bos, training.reward_source) == (
        "question",
        "on",
        1,
        "raw",
    )
    assert (reference.first_turn, reference.assistant_open, reference.bos) == ("newline", "off", 2)
    assert (reference.reward_source, reference.rounds, reference.step_tokens) == ("reference_v0", 3, 2048)


async def test_the_reference_profile_opens_its_turn_without_an_assistant_token():
    settings = {name: getattr(PROFILES["reference"], name) for name in ("first_turn", "assistant_open", "bos")}
    judge, writer = judge_of([ANALYSIS, YES, ANALYSIS, YES], reward_source="reference_v0", **settings)
    assert [verdict.score for verdict in await judge.judge(solution(STEPS[:2]))] == [1.0, 1.0]
    assert writer.asked[0][0].endswith(f"{USER}1 + 1?\nOne.<analyze>\nLet's analyze the Paragraph 1 step by step: ")
    assert f"{USER}Two.<analyze>\nLet's analyze the Paragraph 2" in writer.asked[2][0]
    assert f"{ASSISTANT}<analyze>\nLet's analyze the Paragraph 1" in writer.asked[2][0]
