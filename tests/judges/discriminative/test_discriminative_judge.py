import math

import numpy as np
import pytest
from prm_parts import QWEN_TEMPLATE, llama_like, llama_template, mistral_like, qwen_like

from stepcredit.core.errors import BudgetError, EngineError, JudgeError, UsageError
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Outcome, Problem, Rollout, Steps
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.judges.discriminative.formats import MarkedFormat, TaggedFormat, TurnsFormat
from stepcredit.judges.discriminative.judge import DiscriminativeJudge, probability
from stepcredit.judges.discriminative.next_tokens import NextTokenClassifier
from stepcredit.testing import ScriptedClassifier, ScriptedWriter

STEPS = ("2 + 3 is 5.\n\n", "So 7.\n\n", "Done.")


def cut(texts=STEPS, problem="What is 2 + 3?"):
    starts = np.cumsum([0, *map(len, texts)])[: len(texts)]
    ids = np.arange(len(texts))
    rollout = Rollout("r0", Problem("p0", problem, "5"), "g0", 0, "".join(texts), np.zeros(1), ids, starts)
    return Steps(Outcome(rollout, "right"), ids, "paragraph", np.zeros(len(texts), bool), closed=False)


def form():
    return MarkedFormat(qwen_like(), ChatTemplate(QWEN_TEMPLATE, eos="<|im_end|>"))


def by_last_words(ids):
    """Right unless the step just read says 7."""
    return [0.0, -2.0 if qwen_like().decode(ids).endswith("So 7.<extra_0>") else 2.0]


async def test_a_step_is_scored_by_the_probability_at_its_mark():
    classifier = ScriptedClassifier(by_last_words)
    judge = DiscriminativeJudge(classifier, form())
    verdicts = await judge.judge(cut())
    high = 1 / (1 + math.exp(-2))
    assert [verdict.score for verdict in verdicts] == pytest.approx([high, 1 - high, high])
    assert [verdict.calls for verdict in verdicts] == [("call-1",)] * 3
    assert judge.scale is Scale.PROBABILITY
    assert len(classifier.asked) == 1
    signed = DiscriminativeJudge(classifier, form(), signed=True)
    assert [v.score for v in await signed.judge(cut())] == pytest.approx([2 * high - 1, 1 - 2 * high, 2 * high - 1])
    assert signed.scale is Scale.SIGNED
    assert signed.fingerprint != judge.fingerprint


async def test_steps_beyond_the_context_are_unknown_and_the_others_are_scored_as_ever():
    whole = await DiscriminativeJudge(ScriptedClassifier(by_last_words), form()).judge(cut())
    places = form().ask("What is 2 + 3?", STEPS).places
    room = int(places[1]) + 1
    classifier = ScriptedClassifier(by_last_words, context=room)
    found = await DiscriminativeJudge(classifier, form()).judge(cut())
    assert found[:2] == whole[:2]
    assert (found[2].known, found[2].reason) == (
        False,
        f"the step ends at token {places[2] + 1}, the model reads {room}",
    )
    assert len(classifier.asked[0][0]) == room
    none = ScriptedClassifier(by_last_words, context=3)
    assert not any(verdict.known for verdict in await DiscriminativeJudge(none, form()).judge(cut()))
    assert none.asked == []


async def test_blank_steps_are_unknown_and_change_nothing_for_the_others():
    judge = DiscriminativeJudge(ScriptedClassifier(by_last_words), form())
    found = await judge.judge(cut((STEPS[0], " \n", STEPS[1], STEPS[2], "\n")))
    assert [verdict.reason for verdict in found] == ["", "the step is blank", "", "", "the step is blank"]
    plain = await judge.judge(cut())
    assert [found[k].score for k in (0, 2, 3)] == [verdict.score for verdict in plain]
    assert await judge.judge(cut(())) == ()


async def test_an_injected_mark_changes_no_other_steps_place():
    """A script that scores by the number of marks read sees as many as there are steps."""
    mark = qwen_like().id_of("<extra_0>")
    count = ScriptedClassifier(lambda ids: [0.0, float((ids == mark).sum())])
    judge = DiscriminativeJudge(count, form())
    texts = ("one <extra_0>\n", "two <extra_0><extra_0>", "three")
    plain = await judge.judge(cut(("one\n", "two", "three")))
    assert [v.score for v in await judge.judge(cut(texts, "p <extra_0>"))] == [v.score for v in plain]


async def test_math_shepherd_and_rlhflow_are_read_through_a_writer():
    tagged = TaggedFormat(mistral_like())
    writer = ScriptedWriter(mistral_like(), [], lambda prompt: {"+": 0.6, "-": 0.2})
    judge = DiscriminativeJudge(NextTokenClassifier(writer, tagged.candidates), tagged)
    assert [v.score for v in await judge.judge(cut())] == pytest.approx([0.75] * 3)
    assert writer.looked[0].endswith("Step 1: 2 + 3 is 5. ки")
    assert [prompt.count(" ки") for prompt in writer.looked] == [1, 2, 3]
    turns = TurnsFormat(llama_like(), llama_template())
    doubts = {"+": 0.1, "-": 0.3}
    writer = ScriptedWriter(
        llama_like(), [], lambda prompt: doubts if "7.<|eot" in prompt[-80:] else {"+": 0.6, "-": 0.2}
    )
    judge = DiscriminativeJudge(NextTokenClassifier(writer, turns.candidates), turns)
    assert [v.score for v in await judge.judge(cut())] == pytest.approx([0.75, 0.25, 0.75])
    assert all(prompt.endswith("assistant<|end_header_id|>\n\n") for prompt in writer.looked)


async def test_a_candidate_that_the_server_does_not_name_is_unknown():
    tagged = TaggedFormat(mistral_like())
    writer = ScriptedWriter(
        mistral_like(), [], lambda prompt: {"+": 0.6} if prompt.count("ки") == 2 else {"+": 0.6, "-": 0.2}
    )
    classifier = NextTokenClassifier(writer, tagged.candidates, context=200)
    found = await DiscriminativeJudge(classifier, tagged).judge(cut())
    assert [verdict.score for verdict in found] == pytest.approx([0.75, None, 0.75])
    assert found[1].reason == "the model gave no number for the step"
    assert await classifier.context() == 199


async def test_a_text_that_the_tokenizer_does_not_give_back_is_unknown():
    class Mute:
        fingerprint, positive = "mute", 1

        def ask(self, problem, texts):
            return None

    classifier = ScriptedClassifier(by_last_words)
    found = await DiscriminativeJudge(classifier, Mute()).judge(cut())
    assert [verdict.reason for verdict in found] == ["the tokenizer does not give back the text that it read"] * 3
    assert classifier.asked == []


async def test_a_broken_model_is_a_judge_error_and_a_cost_limit_passes_through():
    def broken(error):
        def script(_):
            raise error

        return DiscriminativeJudge(ScriptedClassifier(script), form())

    with pytest.raises(JudgeError, match="r0: the reward model failed: gone"):
        await broken(EngineError("gone")).judge(cut())
    with pytest.raises(BudgetError):
        await broken(BudgetError("0 calls left")).judge(cut())


def test_a_model_of_one_class_is_refused():
    with pytest.raises(UsageError, match="needs a model with 2 classes, right and wrong, got 1"):
        DiscriminativeJudge(ScriptedClassifier(lambda ids: [0.0], classes=1), form())


def test_log_probabilities_are_logits_and_nothing_finite_is_unknown():
    rows = np.array(
        [[3.0, 4.0], [-1.3132616, -0.3132616], [-np.inf, 0.0], [-np.inf, -np.inf], [np.nan, 0.0]], np.float32
    )
    found = probability(rows, positive=1)
    assert found[:3] == pytest.approx([0.7310586, 0.7310586, 1.0])
    assert np.isnan(found[3:]).all()
