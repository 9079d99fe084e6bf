"""The scripted parts do what their protocols say."""

import numpy as np
import pytest

from stepcredit.core import code, judge_parts, protocols
from stepcredit.core.errors import EngineError, JudgeError
from stepcredit.core.protocols import Message
from stepcredit.core.records import Group, Judgement, Outcome, Problem, Rollout, Verdict
from stepcredit.testing import (
    ScriptedChat,
    ScriptedChecker,
    ScriptedClassifier,
    ScriptedCritiqueRater,
    ScriptedGroupJudge,
    ScriptedJudge,
    ScriptedLearner,
    ScriptedOutcomeJudge,
    ScriptedRenderer,
    ScriptedRunner,
    ScriptedSampler,
    ScriptedScorer,
    ScriptedSplitter,
    ScriptedTasks,
    ScriptedTokenizer,
    ScriptedTrainedJudge,
    ScriptedWriter,
    TabularPolicy,
)

TOKENIZER = ScriptedTokenizer(("<eos>", ";", "a", "b"))


def rollout(text: str, *, answer: str | None = "a", name: str = "r") -> Rollout:
    ids = TOKENIZER.encode(text)
    starts = np.cumsum([0, *(len(p) for p in TOKENIZER.pieces(ids))])[:-1]
    problem = Problem("p", "copy b", answer)
    return Rollout(name, problem, "g", 0, text, np.array([2]), ids, starts, policy="x")


def test_every_protocol_has_a_double():
    # Assignments that pyright checks too: each double implements its protocol.
    policy = TabularPolicy(4)
    doubles: list[object] = []
    tokenizer: protocols.Tokenizer = TOKENIZER
    sampler: protocols.Sampler = ScriptedSampler(policy)
    scorer: protocols.Scorer = ScriptedScorer(policy)
    chat: protocols.ChatModel = ScriptedChat([])
    writer: protocols.Writer = ScriptedWriter(TOKENIZER, [])
    renderer: protocols.ChatRenderer = ScriptedRenderer()
    learner: protocols.Learner = ScriptedLearner(policy)
    splitter: protocols.Splitter = ScriptedSplitter()
    checker: protocols.Checker = ScriptedChecker()
    judge: protocols.Judge = ScriptedJudge(lambda steps: [])
    group_judge: protocols.GroupJudge = ScriptedGroupJudge()
    trained: protocols.TrainedJudge = ScriptedTrainedJudge()
    tasks: protocols.TaskSet = ScriptedTasks({"a": "b"})
    runner: code.CodeRunner = ScriptedRunner()
    doubles += [
        runner,
        tokenizer,
        sampler,
        scorer,
        chat,
        writer,
        renderer,
        learner,
        splitter,
        checker,
        judge,
        group_judge,
        trained,
        tasks,
    ]
    named = {
        n
        for module in (protocols, code)
        for n, v in vars(module).items()
        if getattr(v, "_is_protocol", False) and n != "Protocol"
    }
    assert len(doubles) == len(named)


def test_every_protocol_of_judge_parts_has_a_double():
    classifier: judge_parts.TokenClassifier = ScriptedClassifier(lambda ids: [0.0, 0.0])
    outcome_judge: judge_parts.OutcomeJudge = ScriptedOutcomeJudge(lambda group: [])
    rater: judge_parts.CritiqueRater = ScriptedCritiqueRater(lambda critique: None)
    named = [n for n, v in vars(judge_parts).items() if getattr(v, "_is_protocol", False) and n != "Protocol"]
    assert len([classifier, outcome_judge, rater]) == len(named)


async def test_judge_parts():
    classifier = ScriptedClassifier(lambda ids: [len(ids), ids[-1]], context=3)
    found = await classifier.classify(np.array([5, 6, 7]), np.array([0, 2]))
    assert found.values.tolist() == [[1, 5], [3, 7]]
    assert (classifier.asked, found.calls) == ([((5, 6, 7), (0, 2))], ("call-1",))
    with pytest.raises(EngineError, match="4 tokens do not fit the script's 3"):
        await classifier.classify(np.arange(4), np.array([0]))
    with pytest.raises(EngineError, match="the script gave 1 logits for 2 classes"):
        await ScriptedClassifier(lambda ids: [0.0]).classify(np.arange(4), np.array([0]))
    outcome = await ScriptedChecker().check(rollout("a"))
    judge = ScriptedOutcomeJudge(lambda group: [Verdict(score=1.0)])
    assert await judge.rate(Group("g", (outcome,))) == (Verdict(score=1.0),)
    with pytest.raises(JudgeError, match="g: the script gave 1 verdicts for 0 outcomes"):
        await judge.rate(Group("g", ()))
    rater = ScriptedCritiqueRater(lambda critique: None if "?" in critique else float(len(critique)))
    assert (await rater.rate_critique("p", ["s"], "four")).score == 4.0
    assert (await rater.rate_critique("p", ["s"], "?")).reason == "the script has no score"


def test_tokenizer():
    ids = TOKENIZER.encode("a ; b <eos>")
    assert ids.tolist() == [2, 1, 3, 0]
    assert TOKENIZER.decode(ids) == "a ; b <eos>"
    assert TOKENIZER.eos_id == 0
    assert ScriptedTokenizer(["<eos>", "x"]).fingerprint != TOKENIZER.fingerprint
    with pytest.raises(EngineError, match="'zz' is not in the vocabulary of 4"):
        TOKENIZER.encode("a zz")
    with pytest.raises(EngineError, match="id 4 is outside"):
        TOKENIZER.pieces([4])
    with pytest.raises(EngineError, match="must be distinct"):
        ScriptedTokenizer(["<eos>", "a", "a"])


async def test_splitter_cuts_after_delimiters_or_by_count():
    outcome = await ScriptedChecker().check(rollout("a ; b b ; a <eos>"))
    assert outcome.status == "right"
    steps = ScriptedSplitter([1]).split(outcome)
    assert steps.texts == ("a ;", " b b ;", " a <eos>")
    assert steps.in_answer.tolist() == [False, False, True]
    assert ScriptedSplitter(every=3, unit="three").split(outcome).spans == ((0, 3), (3, 6), (6, 7))
    assert len(ScriptedSplitter().split(Outcome(rollout(""), "wrong"))) == 0


async def test_checker():
    checker = ScriptedChecker()
    assert (await checker.check(rollout("b <eos>"))).status == "wrong"
    assert (await checker.check(rollout("<eos>"))).reason == "no answer"
    assert (await checker.check(rollout("a", answer=None))).reason == "no reference"
    fixed = Outcome(rollout("a"), "unscorable", None, "scripted")
    assert await ScriptedChecker({"r": fixed}).check(rollout("a")) is fixed


async def test_judges():
    outcome = await ScriptedChecker().check(rollout("a ; b"))
    steps = ScriptedSplitter([1]).split(outcome)
    judge = ScriptedJudge(lambda steps: [Verdict(score=1.0)] * len(steps))
    assert await judge.judge(steps) == (Verdict(score=1.0),) * 2
    assert judge.calls == {"r": 1}
    with pytest.raises(JudgeError, match="r: the script gave 0 verdicts for 2 steps"):
        await ScriptedJudge(lambda steps: []).judge(steps)
    trained = ScriptedTrainedJudge()
    verdicts = await trained.judge(steps)
    assert trained.fit([Judgement(steps, verdicts, "x")]) == 1.0
    assert (await trained.judge(steps))[0].score == -0.5
    others = (outcome, Outcome(rollout("a", name="r2"), "right"), Outcome(rollout("a", name="r3"), "unscorable"))
    found = await ScriptedGroupJudge().compare(Group("g", others))
    np.testing.assert_array_equal(found[:2, :2], [[0, -1], [1, 0]])
    assert np.isnan(found[2]).all()


async def test_chat():
    chat = ScriptedChat(["one two three", EngineError("gone")])
    reply = await chat.complete([Message("user", "hi there")], max_tokens=2, temperature=0.0, seed=0)
    assert (reply.text, reply.finish, reply.input_tokens, reply.output_tokens) == ("one two", "length", 2, 2)
    with pytest.raises(EngineError, match="gone"):
        await chat.complete([], max_tokens=2, temperature=0.0, seed=0)
    with pytest.raises(EngineError, match="the script has 2 answers, this is call 3"):
        await chat.complete([], max_tokens=2, temperature=0.0, seed=0)
    echo = ScriptedChat(lambda messages: messages[-1].content)
    assert (await echo.complete([Message("user", "hi")], max_tokens=9, temperature=0.0, seed=0)).text == "hi"


def test_renderer():
    said = [Message("system", "s"), Message("user", "u"), Message("assistant", "a"), Message("user", "v")]
    text = ScriptedRenderer("^", "$").render(said, add_generation_prompt=True)
    assert text == "^<system>s<user>u<assistant>a$<user>v<assistant>"
    assert ScriptedRenderer("^").fingerprint != ScriptedRenderer().fingerprint


def test_tasks():
    tasks = ScriptedTasks({"a": "c", "b": "a", "c": "b"})
    problems = tasks.problems(20, seed=1)
    assert problems == tasks.problems(20, seed=1)
    assert problems != tasks.problems(20, seed=2)
    assert {(p.text, p.answer) for p in problems} == {("copy a", "c"), ("copy b", "a"), ("copy c", "b")}
    assert len({p.id for p in problems}) == 20
