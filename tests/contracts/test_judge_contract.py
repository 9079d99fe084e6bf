"""What every judge owes (core.protocols.Judge); a new judge joins with a line in `JUDGES_UNDER_TEST`."""

import inspect
import math

import numpy as np
import pytest

from stepcredit.core.protocols import Judge, Scale
from stepcredit.core.records import Label, Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.evaluation.reference_judges import REFERENCE_KINDS, ReferenceJudge
from stepcredit.judges import (
    CachedJudge,
    CriticJudge,
    FlippedJudge,
    MemoryCache,
    OracleJudge,
    VotingJudge,
    judge_entry,
)
from stepcredit.judges.intrinsic.embedded import judge_words
from stepcredit.judges.taught import taught_words
from stepcredit.tasks.reflection_world import WORDS
from stepcredit.testing import ScriptedChat, ScriptedJudge, ScriptedSampler, TabularPolicy

SIDES = {"right": {Label.CORRECT, Label.INCORRECT}, "wrong": {Label.MATCHED, Label.MISMATCHED}, "unscorable": set()}
TEXTS = {
    "words": ("Two and two are 5.\n\n", "Wait, that's wrong: 4.\n\n", "So 4."),
    "world": ("; Step1 14 /15 4", " ; check 4 *15 9 no-wait", " ; Step1 14 /15 10 </think>", " answer", " ; Step1 10"),
    "one": ("4",),
    "blank": (" ", "\n"),
    "odd": ("🙂 \\boxed{", "</think>", "\x00 ends"),
    "none": (),
}


def _scripted() -> Judge:
    return ScriptedJudge(lambda steps: (Verdict(0.5),) * len(steps), scale=Scale.PROBABILITY)


def _small(name: str, words: tuple[str, ...]) -> Judge:
    """A judge whose model has learnt nothing: what it says can seldom be read, and then the verdict says so."""
    tokenizer = FileTokenizer.from_words(words)
    return judge_entry(name).make(ScriptedSampler(TabularPolicy(tokenizer.size)), tokenizer)


def _reference(kind):
    return lambda: ReferenceJudge(kind, lambda steps: [(True, False, None)[k % 3] for k in range(len(steps))])


JUDGES_UNDER_TEST = {
    "scripted": _scripted,
    "markers": judge_entry("markers").make,
    "world-markers": judge_entry("world-markers").make,
    "oracle": lambda: OracleJudge(lambda steps: [k % 2 == 0 for k in range(len(steps))], "even"),
    "embedded": lambda: _small("embedded", judge_words(WORDS)),
    "taught": lambda: _small("taught", taught_words(WORDS)),
    "critic": lambda: CriticJudge(ScriptedChat(lambda _: "\\boxed{0}")),
    "critic that says nothing": lambda: CriticJudge(ScriptedChat(lambda _: "I cannot tell.")),
    "cached": lambda: CachedJudge(judge_entry("markers").make(), MemoryCache()),
    "vote": lambda: VotingJudge([judge_entry("markers").make(), judge_entry("world-markers").make()]),
    "flipped": lambda: FlippedJudge(judge_entry("markers").make(), 0.5, seed=3),
    **{kind: _reference(kind) for kind in REFERENCE_KINDS},
}


def cut(texts, status, *, answers):
    starts = np.cumsum([0, *map(len, texts)])[: len(texts)]
    ids = np.arange(len(texts))
    rollout = Rollout("r0", Problem("p0", "2 + 2?", "4"), "g0", 0, "".join(texts), np.zeros(1), ids, starts)
    inside = np.arange(len(texts)) >= len(texts) - answers
    return Steps(Outcome(rollout, status, reason="none read"), ids, "paragraph", inside, closed=answers > 0)


@pytest.fixture(params=JUDGES_UNDER_TEST)
def make(request):
    return JUDGES_UNDER_TEST[request.param]


@pytest.mark.parametrize("answers", [0, 1])
@pytest.mark.parametrize("status", ["right", "wrong", "unscorable"])
@pytest.mark.parametrize("name", TEXTS)
async def test_every_step_gets_one_verdict_known_or_with_a_reason(make, name, status, answers):
    judge = make()
    steps = cut(TEXTS[name], status, answers=min(answers, len(TEXTS[name])))
    verdicts = await judge.judge(steps)
    assert isinstance(verdicts, tuple)
    assert len(verdicts) == len(steps)
    for verdict in verdicts:
        assert verdict.known or verdict.reason
        assert verdict.label is None or verdict.label in SIDES[status]
        assert verdict.score is None or math.isfinite(verdict.score)
        if judge.scale in (Scale.BINARY, Scale.PROBABILITY) and verdict.score is not None:
            assert 0.0 <= verdict.score <= 1.0
        if judge.scale is Scale.BINARY:
            assert verdict.score in (None, 0.0, 1.0)


async def test_the_same_steps_get_the_same_verdicts_from_an_equal_judge(make):
    steps = cut(TEXTS["words"], "right", answers=1)
    assert await make().judge(steps) == await make().judge(steps)


async def test_judging_changes_nothing_that_the_judge_says_of_itself(make):
    judge = make()
    before = (judge.fingerprint, judge.scale)
    await judge.judge(cut(TEXTS["words"], "right", answers=1))
    assert (judge.fingerprint, judge.scale) == before
    assert isinstance(judge.fingerprint, str)
    assert judge.fingerprint == make().fingerprint
    assert isinstance(judge.scale, Scale)


def test_judging_is_asynchronous_and_takes_one_solution(make):
    assert inspect.iscoroutinefunction(make().judge)
    assert list(inspect.signature(make().judge).parameters) == ["steps"]


def test_fingerprints_tell_the_judges_apart():
    made = {name: build().fingerprint for name, build in JUDGES_UNDER_TEST.items()}
    del made["cached"], made["critic that says nothing"]
    assert len(set(made.values())) == len(made)
