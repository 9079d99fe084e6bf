import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_solutions import solution

from stepcredit.core.errors import BudgetError, EngineError, JudgeError, UsageError
from stepcredit.judges.critic import CriticJudge, CriticSettings, critic_prompt, last_boxed, verdicts_of, vote_boxed
from stepcredit.testing import ScriptedChat

STEPS = ("Let x = 2.\n\n", "Then {x} + 3 = 6.\n\n", "So 6.")


async def scores(*replies, **more):
    verdicts = await CriticJudge(ScriptedChat(list(replies)), CriticSettings(**more)).judge(solution(STEPS))
    return [verdict.score for verdict in verdicts], [verdict.reason for verdict in verdicts]


async def test_steps_before_the_first_error_are_right_the_error_is_wrong_and_the_rest_is_unknown():
    got, reasons = await scores("2 + 3 is 5. \\boxed{1}")
    assert got == [1.0, 0.0, None]
    assert reasons[2] == "after the first error, which the critic sees in step 1"


async def test_minus_one_clears_all_steps():
    assert (await scores("all good \\boxed{-1}"))[0] == [1.0, 1.0, 1.0]


async def test_the_last_box_counts():
    assert (await scores("\\boxed{0}? no: \\boxed{ 2 }"))[0] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("paragraph 1 is wrong", "the reply has no \\boxed{} answer"),
        ("", "the reply has no \\boxed{} answer"),
        ("\\boxed{}", "the boxed answer '' is no paragraph index of 0..2 and not -1"),
        ("\\boxed{3}", "the boxed answer '3' is no paragraph index of 0..2 and not -1"),
        ("\\boxed{-2}", "the boxed answer '-2' is no paragraph index of 0..2 and not -1"),
        ("\\boxed{1.}", "the boxed answer '1.' is no paragraph index of 0..2 and not -1"),
        ("\\boxed{1} or \\boxed{two}", "the boxed answer 'two' is no paragraph index of 0..2 and not -1"),
    ],
)
async def test_what_names_no_paragraph_is_unknown_with_the_reason(reply, reason):
    assert await scores(reply) == ([None] * 3, [reason] * 3)


async def test_a_cut_reply_is_never_taken_as_an_answer():
    got, reasons = await scores("\\boxed{1} but let me look again", max_tokens=2)
    assert (got, reasons[0]) == ([None] * 3, "the reply was cut at 2 tokens")


async def test_votes_are_counted_on_the_boxed_text():
    replies = ["\\boxed{2}", "hm", "\\boxed{ -1 }", "\\boxed{-1}"]
    assert (await scores(*replies, votes=4, temperature=1.0))[0] == [1.0, 1.0, 1.0]
    assert vote_boxed(["2", None, "-1"]) == "2"
    assert vote_boxed([None]) is None


async def test_the_vote_is_on_the_raw_text_and_is_read_as_a_number_only_then():
    """As ProcessBench has it (genprm.md 9.4): `3.` is another answer than `3`, and may win, which is no prediction."""
    got, reasons = await scores("\\boxed{1.}", "\\boxed{1}", "\\boxed{1.}", "\\boxed{2}", votes=4, temperature=1.0)
    assert got == [None] * 3
    assert reasons[0] == "the boxed answer '1.' is no paragraph index of 0..2 and not -1"
    assert (await scores("\\boxed{2}", "\\boxed{1}", "\\boxed{ 1 }", votes=3, temperature=1.0))[0] == [1.0, 0.0, None]
    assert (await scores("\\boxed{2}", "\\boxed{1}", "none", votes=3, temperature=1.0))[0] == [1.0, 1.0, 0.0]


async def test_votes_of_one_question_have_seeds_of_their_own():
    """Seeds are part of the call's id: eight replies of one seed would be one reply eight times."""
    chat = ScriptedChat(lambda _: "\\boxed{0}")
    verdicts = await CriticJudge(chat, CriticSettings(votes=8, temperature=1.0)).judge(solution(STEPS))
    assert len(set(verdicts[0].calls)) == 8


async def test_the_prompt_shows_problem_and_numbered_paragraphs_and_no_reference_answer():
    chat = ScriptedChat(["\\boxed{-1}"])
    verdicts = await CriticJudge(chat).judge(solution(STEPS, problem="What is {x} + 3?"))
    ((message,),) = chat.asked
    assert message.role == "user"
    assert (
        "[Math Problem]\n\nWhat is {x} + 3?\n\n[Solution]\n\n<paragraph_0>\nLet x = 2.\n</paragraph_0>"
        in message.content
    )
    assert "</paragraph_0>\n\n<paragraph_1>\nThen {x} + 3 = 6.\n</paragraph_1>\n\n<paragraph_2>" in message.content
    assert message.content.count("\\boxed{") == 2
    assert all(verdict.calls and verdict.calls[0] for verdict in verdicts)
    assert critic_prompt("p", []).startswith("Below are a math problem")


async def test_no_steps_need_no_call():
    assert await CriticJudge(ScriptedChat([])).judge(solution(())) == ()


async def test_a_broken_model_is_a_judge_error_and_a_cost_limit_passes_through():
    with pytest.raises(JudgeError, match="r0: the critic's model failed: gone"):
        await scores(EngineError("gone"))
    with pytest.raises(BudgetError):
        await scores(BudgetError("0 calls left"))


async def test_a_vote_that_fails_ends_the_others_so_that_nothing_more_is_spent():
    ended: list[str] = []

    class OneFails:
        fingerprint = "one-fails"

        def __init__(self):
            self.asked = 0

        async def complete(self, messages, *, max_tokens, temperature, seed):
            self.asked += 1
            if self.asked == 3:
                raise EngineError("gone")
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    with pytest.raises(JudgeError, match="gone"):
        await CriticJudge(OneFails(), CriticSettings(votes=3, temperature=1.0)).judge(solution(STEPS))
    assert ended == ["cancelled", "cancelled"]


def test_settings_are_checked_and_part_of_the_fingerprint():
    chat = ScriptedChat([])
    assert CriticJudge(chat).fingerprint != CriticJudge(chat, CriticSettings(temperature=0.5)).fingerprint
    assert CriticJudge(chat).fingerprint != CriticJudge(ScriptedChat([], name="other")).fingerprint
    with pytest.raises(UsageError, match="votes and max_tokens of at least 1"):
        CriticJudge(chat, CriticSettings(votes=0))


@settings(deadline=None)
@given(st.text(max_size=60), st.integers(1, 4))
def test_any_answer_gives_one_verdict_a_step_and_no_score_it_did_not_say(answer, count):
    verdicts = verdicts_of(answer, count)
    assert len(verdicts) == count
    if answer not in {"-1", "0", "1", "2", "3"} and not answer.lstrip("0").isdigit():
        assert answer.startswith("0") or not any(verdict.known for verdict in verdicts)
    assert last_boxed(f"\\boxed{{{answer}}}") == (answer.partition("}")[0].strip())
