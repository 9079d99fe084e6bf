"""What every judge owes (core.protocols.Judge); a new judge joins with a line in `JUDGES_UNDER_TEST`."""

import inspect
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

sys.path += [str(Path(__file__).parents[1] / "judges" / name) for name in ("thinkprm", "genprm")]

from genprm_doubles import CHAT, LITTLE
from thinkprm_parts import small_template, small_tokenizer

from stepcredit.core.protocols import Judge, Message, Scale
from stepcredit.core.records import Label, Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.engines.trained_judges import Critic, FittingSettings, ImplicitPrm, TokenRewardModel, ValueModel
from stepcredit.evaluation.reference_judges import REFERENCE_KINDS, ReferenceJudge
from stepcredit.judges import (
    BudgetedJudge,
    CachedJudge,
    CalibratedJudge,
    CriticJudge,
    FlippedJudge,
    MemoryCache,
    Meter,
    MeteredChat,
    OracleJudge,
    ThinkPRMSettings,
    VotingJudge,
    judge_entry,
)
from stepcredit.judges.discriminative.formats import MarkedFormat
from stepcredit.judges.intrinsic.embedded import judge_words
from stepcredit.judges.taught import taught_words
from stepcredit.tasks.reflection_world import WORDS
from stepcredit.testing import (
    ScriptedChat,
    ScriptedClassifier,
    ScriptedJudge,
    ScriptedSampler,
    ScriptedWriter,
    TabularPolicy,
)

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


def _thinkprm(mode: str, said: str = "Step 1: \\boxed{correct}. Then \\boxed{incorrect}.") -> Judge:
    tokenizer = small_tokenizer()
    writer = ScriptedWriter(tokenizer, lambda *_: said, {" Yes": 0.1, " No": 0.8})
    return judge_entry("thinkprm").make(writer, tokenizer, small_template(), ThinkPRMSettings(mode=mode))


def _genprm(following: dict[str, float]) -> Judge:
    writer = ScriptedWriter(LITTLE, lambda *_: "fine.\n</analyze>\n", following)
    return judge_entry("genprm").make(writer, LITTLE, CHAT)


def _discriminative(*, signed: bool) -> Judge:
    """Scores a step by how many tokens come before its end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.add_special_tokens([AddedToken("<extra_0>", normalized=False)])
    chat = ChatTemplate("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    classifier = ScriptedClassifier(lambda ids: [0.0, float(len(ids) % 5) - 2.0], context=400)
    return judge_entry("discriminative").make(classifier, MarkedFormat(FileTokenizer(raw), chat), signed=signed)


def _reads(messages: Sequence[Message]) -> str:
    """No reflections, and every step matched: what a chat model may say of a text of any number of steps."""
    said = messages[-1].content
    if '"reflections"' in said:
        return '{"reflections": []}'
    count = sum(line.startswith("[") for line in said.splitlines()) - 1
    return json.dumps({"matches": [{"step": k, "verdict": "match"} for k in range(count)]})


def _budgeted(max_tokens: int) -> Judge:
    meter = Meter()
    return BudgetedJudge(
        CriticJudge(MeteredChat(ScriptedChat(lambda _: "\\boxed{0}"), meter)), meter, max_tokens=max_tokens
    )


def _little(seed):
    return CausalLM(ModelConfig(8, dim=8, layers=1, heads=2, hidden=8, max_positions=16), seed=seed)


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
    "thinkprm": lambda: _thinkprm("independent"),
    "thinkprm that says nothing": lambda: _thinkprm("labels", said="I cannot tell."),
    "genprm": lambda: _genprm({"Yes": 0.8, "No": 0.1}),
    "genprm that says nothing": lambda: _genprm({}),
    "server": lambda: judge_entry("server").make(ScriptedChat(_reads)),
    "server that says nothing": lambda: judge_entry("server").make(ScriptedChat(lambda _: "I cannot tell.")),
    "calibrated": lambda: CalibratedJudge(_scripted(), temperature=2.0),
    "calibrated by points": lambda: CalibratedJudge(_scripted(), points=((0.0, 0.1), (1.0, 0.6))),
    "budgeted": lambda: _budgeted(10**6),
    "budgeted to nothing": lambda: _budgeted(1),
    "cached": lambda: CachedJudge(judge_entry("markers").make(), MemoryCache()),
    "vote": lambda: VotingJudge([judge_entry("markers").make(), judge_entry("world-markers").make()]),
    "flipped": lambda: FlippedJudge(judge_entry("markers").make(), 0.5, seed=3),
    "discriminative": lambda: _discriminative(signed=False),
    "discriminative, signed": lambda: _discriminative(signed=True),
    "step-critic": lambda: judge_entry("step-critic").make(ScriptedChat(lambda _: "<verdicts>0: yes</verdicts>")),
    "critic head": lambda: Critic(ValueModel(_little(0), dim=8), FittingSettings(1e-3)),
    "implicit": lambda: ImplicitPrm(_little(0), _little(1), FittingSettings(1e-3)),
    "token rewards": lambda: TokenRewardModel(_little(0), FittingSettings(1e-3)),
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
    for same in ("cached", "critic that says nothing", "genprm that says nothing", "server that says nothing"):
        del made[same]
    del made["budgeted"], made["budgeted to nothing"]
    assert len(set(made.values())) == len(made)
