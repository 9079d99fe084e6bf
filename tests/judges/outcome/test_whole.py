"""Outcome judges as judges of solutions that are one step."""

import asyncio

import numpy as np
import pytest
from outcome_cases import group, scoring

from stepcredit.core import judge_parts, protocols
from stepcredit.core.errors import BudgetError, EngineError, JudgeError
from stepcredit.core.protocols import Message, Scale
from stepcredit.core.records import Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.judges.cache import CachedChat, MemoryCache
from stepcredit.judges.outcome.spct import SpctJudge, SpctSettings
from stepcredit.judges.outcome.think_rm import Comparison, ThinkRMPairJudge
from stepcredit.judges.outcome.whole import ALONE, PairRater, WholeJudge, preferred
from stepcredit.judges.together import together
from stepcredit.testing import ScriptedChat


def whole(outcome, *, steps=1) -> Steps:
    starts = np.arange(steps)
    return Steps(outcome, starts, "whole", np.zeros(steps, bool), False)


async def test_a_group_is_rated_once_however_many_of_its_solutions_are_judged_together():
    chat, cases = ScriptedChat(scoring(len)), group("a", "bbb", "cc")
    inner = SpctJudge(chat, SpctSettings(votes=2))
    judge: protocols.Judge = WholeJudge(inner, lambda _: cases)
    found = await asyncio.gather(*(judge.judge(whole(outcome)) for outcome in cases.outcomes))
    assert [verdicts[0].score for verdicts in found] == [2.0, 6.0, 4.0]
    assert len(chat.asked) == 2
    assert (judge.fingerprint, judge.scale) == (inner.fingerprint, Scale.RATING)


async def test_a_group_that_failed_fails_for_each_of_its_solutions_and_is_not_asked_again():
    chat, cases = ScriptedChat([EngineError("gone")]), group("a", "b")
    judge = WholeJudge(SpctJudge(chat, SpctSettings(votes=1)), lambda _: cases)
    for outcome in cases.outcomes:
        with pytest.raises(JudgeError, match=f"{outcome.rollout.id}: g0: an SPCT model failed: gone"):
            await judge.judge(whole(outcome))
    assert len(chat.asked) == 1


async def test_a_limit_passes_through_and_the_group_is_asked_again():
    cases = group("a")
    chat = ScriptedChat([BudgetError("reached"), "\\boxed{3}"])
    judge = WholeJudge(SpctJudge(chat, SpctSettings(votes=1)), lambda _: cases)
    with pytest.raises(BudgetError):
        await judge.judge(whole(cases.outcomes[0]))
    assert (await judge.judge(whole(cases.outcomes[0])))[0].score == 3.0


async def test_steps_and_strangers_are_refused():
    judge = WholeJudge(SpctJudge(ScriptedChat(scoring(len)), SpctSettings(votes=1)), lambda _: group("x"))
    with pytest.raises(JudgeError, match="r1: the solution is not in its group g0"):
        await judge.judge(whole(group("a", "b").outcomes[1]))
    none, two = np.zeros(0), np.arange(2)
    rollout = Rollout("long", Problem("p0", "1 + 1?", None), "g0", 0, "ab", none, two, two)
    with pytest.raises(JudgeError, match="long: an outcome judge scores whole solutions, got 2 steps"):
        await judge.judge(whole(Outcome(rollout, "right"), steps=2))
    empty = Rollout("empty", Problem("p0", "1 + 1?", None), "g0", 0, "", none, none, none)
    assert await judge.judge(whole(Outcome(empty, "wrong"), steps=0)) == ()


async def test_a_preference_is_the_mean_over_the_comparisons_that_could_be_read():
    replies = ["<answer>-3</answer>", "<answer>0</answer>", "no"]
    rater: judge_parts.OutcomeJudge = PairRater(ThinkRMPairJudge(ScriptedChat(replies)))
    first, second, third = await rater.rate(group("a", "b", "c"))
    assert (first.score, second.score, third.score) == (1.5, -3.0, 0.0)
    assert second.reason == "mean of 1 of 2 comparisons"
    assert all(len(verdict.calls) == 2 for verdict in (first, second, third))


async def test_what_cannot_be_compared_is_unknown_with_the_reason():
    assert preferred([Comparison(0, 1, None, "cut", ("x",))], 2) == (Verdict(reason="cut", calls=("x",)),) * 2
    assert (await PairRater(ThinkRMPairJudge(ScriptedChat([]))).rate(group("a")))[0].reason == ALONE


async def test_a_reply_is_asked_for_once_a_question_and_seed():
    chat, cache = ScriptedChat(lambda _: "yes"), MemoryCache()
    cached: protocols.ChatModel = CachedChat(chat, lambda: cache)
    asked = {"max_tokens": 9, "temperature": 0.5}
    first = await cached.complete([Message("user", "a")], seed=1, **asked)
    assert await cached.complete([Message("user", "a")], seed=1, **asked) == first
    await cached.complete([Message("user", "a")], seed=2, **asked)
    await cached.complete([Message("user", "b")], seed=1, **asked)
    assert len(chat.asked) == 3
    assert cached.fingerprint == chat.fingerprint


async def test_a_damaged_reply_is_an_error_that_names_its_place():
    cache = MemoryCache()
    cached = CachedChat(ScriptedChat(["x"]), lambda: cache)
    await cached.complete([Message("user", "a")], max_tokens=1, temperature=0.0, seed=1)
    cache._kept = dict.fromkeys(cache._kept, b"{")
    with pytest.raises(JudgeError, match=r"the cache entry reply:.* is damaged"):
        await cached.complete([Message("user", "a")], max_tokens=1, temperature=0.0, seed=1)


async def test_what_is_under_way_ends_at_a_limit_and_is_cancelled_at_a_failure():
    ended: list[str] = []

    async def slow(name):
        try:
            await asyncio.sleep(0.01)
            ended.append(name)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def fails(error):
        raise error

    with pytest.raises(BudgetError):
        await together([slow("paid"), fails(BudgetError("reached"))])
    with pytest.raises(EngineError):
        await together([slow("lost"), fails(EngineError("gone"))])
    assert ended == ["paid", "cancelled"]
