"""What judges tell of why: one rationale a vote, heard through every wrapper, and nothing where nobody hears."""

import asyncio

import pytest
from judged_solutions import ScriptedReader, solution

from stepcredit.core.errors import EngineError, JudgeError
from stepcredit.core.protocols import Judge, Scale
from stepcredit.core.rationales import Passage, Rationale, hearing, tell
from stepcredit.core.records import Steps, Verdict
from stepcredit.judges.cache import CachedJudge, MemoryCache, cache_key, encode
from stepcredit.judges.critic import CriticJudge, CriticSettings
from stepcredit.judges.intrinsic.judge import IntrinsicJudge
from stepcredit.judges.step_critic import StepCritic
from stepcredit.judges.wrappers import CalibratedJudge, VotingJudge
from stepcredit.testing import ScriptedChat, ScriptedJudge

STEPS = ("Let x = 2.\n\n", "Then x + 3 = 6.\n\n", "So 6.")
HOSTILE = "</script>\u2028\ud800 \\boxed{1}"


async def heard(judge: Judge, steps: Steps | None = None) -> list[Rationale]:
    with hearing() as said:
        await judge.judge(steps or solution(STEPS))
    return said


def critic(*replies: str, **settings: float) -> CriticJudge:
    return CriticJudge(ScriptedChat(list(replies)), CriticSettings(**settings))  # type: ignore[arg-type]


async def test_each_reply_of_the_critic_is_a_vote_with_the_scores_that_it_gives_alone():
    first, second, third, cut = await heard(
        critic("x \\boxed{1}", "no box", "\\boxed{nine}", "a b c d e f", votes=4, temperature=1.0, max_tokens=5)
    )
    assert (first.scores, first.verdict, first.status) == ((1.0, 0.0, None), "boxed 1", "")
    assert first.passages == (Passage("written", "x \\boxed{1}"),)
    assert (second.scores, second.verdict, second.status) == ((None,) * 3, "", "no boxed answer")
    assert (third.scores, third.verdict) == ((None,) * 3, "boxed nine")
    assert (cut.status, cut.passages[0].text) == ("cut by length", "a b c d e")
    assert [said.name for said in (first, second, third, cut)] == [f"reply {k}" for k in (1, 2, 3, 4)]


async def test_the_step_critics_reply_is_told_even_where_it_cannot_be_read():
    good = "I see.\n<verdicts>\n0: yes\n1: no\n2: yes\n</verdicts>"
    [said] = await heard(StepCritic(ScriptedChat([good])))
    assert (said.scores, said.passages[0].text) == ((1.0, 0.0, 1.0), good)
    [said] = await heard(StepCritic(ScriptedChat(["I cannot tell."])))
    assert (said.scores, said.passages[0].text) == ((None,) * 3, "I cannot tell.")


async def test_replies_to_reading_tasks_are_told_in_order_the_rejected_ones_with_the_reason():
    reader = ScriptedReader(P1=["not json", '{"reflections": []}'])
    said = await heard(IntrinsicJudge(reader), solution(STEPS[:2], STEPS[2:]))
    assert [one.name for one in said] == ["P1, vote 1, try 1", "P1, vote 1, try 2"]
    assert said[0].status.startswith("rejected: ")
    assert (said[0].passages[0].text, said[0].scores, said[1].status) == ("not json", (), "")


async def test_what_is_told_in_tasks_reaches_who_hears_and_nobody_around():
    async def one(number: int) -> None:
        await asyncio.sleep(0)
        tell([Rationale(f"reply {number}")])

    with hearing() as outer:
        with hearing() as inner:
            await asyncio.gather(*(one(number) for number in range(3)))
        tell([Rationale("after")])
    tell([Rationale("nobody hears this")])
    assert sorted(said.name for said in inner) == ["reply 0", "reply 1", "reply 2"]
    assert [said.name for said in outer] == ["after"]


async def test_solutions_judged_side_by_side_do_not_hear_one_another():
    chat = ScriptedChat(lambda messages: f"{messages[-1].content[-600:]} \\boxed{{-1}}")
    judge = CriticJudge(chat)
    found = await asyncio.gather(*(heard(judge, solution((f"only {k}",), name=f"r{k}")) for k in range(20)))
    for number, [said] in enumerate(found):
        assert f"only {number}\n" in said.passages[0].text


async def test_a_cached_judgement_brings_its_texts_back_exactly():
    cache = MemoryCache()
    judge = CachedJudge(critic(HOSTILE), cache)
    first = await heard(judge, solution(STEPS, name="r0"))
    again = await heard(judge, solution(STEPS, name="r1"))
    assert (judge.hits, judge.misses) == (1, 1)
    assert first == again
    assert first[0].passages[0].text == HOSTILE


async def test_a_cache_that_was_filled_before_gives_the_verdicts_alone():
    inner, cache, steps = ScriptedJudge(lambda _: []), MemoryCache(), solution(STEPS)
    cache.put(cache_key(steps, inner.fingerprint), encode((Verdict(1.0),) * 3))
    judge = CachedJudge(inner, cache)
    assert await heard(judge, steps) == []
    assert (await judge.judge(steps))[0].score == 1.0


async def test_a_damaged_entry_beside_the_verdicts_is_named():
    steps, cache = solution(STEPS), MemoryCache()
    judge = CachedJudge(critic("\\boxed{1}"), cache)
    key = cache_key(steps, judge.fingerprint)
    cache.put(key, encode((Verdict(1.0),) * 3))
    cache.put(key.replace("verdicts:", "rationales:"), b"[[1]]")
    with pytest.raises(JudgeError, match=r"r0: the cache entry rationales:.* is damaged"):
        await judge.judge(steps)


async def test_a_judgement_that_failed_tells_nothing():
    with hearing() as said, pytest.raises(JudgeError):
        await CriticJudge(ScriptedChat([EngineError("gone")])).judge(solution(STEPS))
    assert said == []


async def test_judges_that_vote_are_told_apart_and_one_that_writes_nothing_votes_all_the_same():
    silent = ScriptedJudge(lambda steps: (Verdict(0.25),) * len(steps), scale=Scale.BINARY)
    said = await heard(VotingJudge([critic("\\boxed{0}"), silent, critic("\\boxed{-1}")]))
    assert [one.name for one in said] == ["judge 1, reply 1", "judge 2", "judge 3, reply 1"]
    assert [one.score_of(0) for one in said] == [0.0, 0.25, 1.0]


async def test_a_calibrated_judge_tells_the_scores_before_calibration():
    class Telling:
        fingerprint, scale = "telling", Scale.PROBABILITY

        async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
            tell([Rationale("reply 1", 0, (0.9,) * len(steps))])
            return (Verdict(0.9),) * len(steps)

    judge = CalibratedJudge(Telling(), temperature=2.0)
    [said] = await heard(judge)
    assert (said.scores[0], round((await judge.judge(solution(STEPS)))[0].score or 0, 3)) == (0.9, 0.75)
