import asyncio
from dataclasses import replace

import pytest
from judged_solutions import solution

from stepcredit.core.errors import JudgeError
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Label, Verdict
from stepcredit.judges.cache import CachedJudge, MemoryCache, cache_key, decode, encode
from stepcredit.judges.verdicts import labelled
from stepcredit.testing import ScriptedJudge

SOME = (
    labelled(Label.MATCHED, reason="ü", calls=("c1", "c2")),
    Verdict(0.1 + 0.2),
    Verdict(reason="cut"),
    Verdict(0.0),
)


def test_verdicts_come_back_exactly():
    assert decode(encode(SOME)) == SOME
    assert decode(encode(())) == ()


async def test_a_hit_makes_no_call_even_for_another_rollout_of_the_same_text():
    inner = ScriptedJudge(lambda _: SOME[:2])
    judge = CachedJudge(inner, MemoryCache())
    first = await judge.judge(solution(("a", "b"), name="r0"))
    assert await judge.judge(solution(("a", "b"), name="r1")) == first == SOME[:2]
    assert (inner.calls, judge.hits, judge.misses) == ({"r0": 1}, 1, 1)
    assert (judge.fingerprint, judge.scale) == (inner.fingerprint, Scale.BINARY)


async def test_equal_solutions_judged_at_once_are_asked_once():
    class Slow:
        fingerprint, scale, calls = "slow", Scale.BINARY, 0

        async def judge(self, steps):
            self.calls += 1
            await asyncio.sleep(0)
            return (Verdict(1.0),) * len(steps)

    inner = Slow()
    judge = CachedJudge(inner, MemoryCache())
    await asyncio.gather(*(judge.judge(solution(("a", "b"), name=f"r{k}")) for k in range(8)))
    assert (inner.calls, judge.hits, judge.misses) == (1, 7, 1)


async def test_what_was_all_unknown_is_asked_again():
    inner = ScriptedJudge(lambda steps: (Verdict(reason="cut"),) * len(steps))
    judge = CachedJudge(inner, MemoryCache())
    await judge.judge(solution(("a",)))
    await judge.judge(solution(("a",)))
    assert inner.calls == {"r0": 2}


def test_the_key_holds_all_that_a_judge_reads():
    base = solution(("a", "b"), ("c",))
    others = [
        solution(("a", "b"), ("d",)),
        solution(("ab",), ("c",)),
        solution(("a", "b", "c")),
        solution(("a", "b"), ("c",), status="wrong"),
        solution(("a", "b"), ("c",), closed=False),
        solution(("a", "b"), ("c",), problem="How much?"),
        replace(base, outcome=replace(base.outcome, answer="7")),
    ]
    keys = {cache_key(steps, "j") for steps in [base, *others]} | {cache_key(base, "k")}
    assert len(keys) == len(others) + 2
    assert cache_key(base, "j") == cache_key(solution(("a", "b"), ("c",), name="r5"), "j")


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'[[1.0, "odd", "", []]]', b'[[1.0, null, "", 3]]'])
async def test_a_damaged_entry_is_an_error_with_the_mend(data):
    steps = solution(("a",))
    cache = MemoryCache()
    judge = CachedJudge(ScriptedJudge(lambda _: SOME[:1]), cache)
    cache.put(cache_key(steps, judge.fingerprint), data)
    with pytest.raises(JudgeError, match=r"r0: the cache entry verdicts:\w+ (is damaged|has 0 verdicts).*remove it"):
        await judge.judge(steps)
