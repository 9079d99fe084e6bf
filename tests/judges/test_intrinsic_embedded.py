import asyncio
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_solutions import solution

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Completion
from stepcredit.core.records import Label
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.intrinsic.embedded import (
    MAX_STEPS,
    Comparison,
    EmbeddedReader,
    Exercise,
    exercise_lesson,
    judge_words,
    mark,
    match_lesson,
    prompt_text,
    reflect_lesson,
    trace_lesson,
)
from stepcredit.judges.intrinsic.judge import IntrinsicJudge
from stepcredit.judges.intrinsic.parser import parse
from stepcredit.judges.intrinsic.replies import Matches, Reflection, Reflections, Reject, TracedVerification
from stepcredit.judges.intrinsic.tasks import MatchTask, ReflectTask, SplitTask, TraceTask, TraceVerifyTask
from stepcredit.tasks.reflection_world import WORDS

STEPS = ("; Step1 14 /15 4", "; check 4 *15 9 no-wait", "; Step1 14 /15 10 </think>")
ANSWER = ("answer", "; Step1 10 <eos>")
WRONG, REDONE = Comparison("4", "Step1", "10"), Comparison("10", "Step1", "10")


class Writer:
    """A sampler that writes what a lesson's reply says for its prompt; anything else if it is asked again."""

    fingerprint = "writer"

    def __init__(self, tokenizer, replies):
        self.tokenizer, self.replies, self.asked = tokenizer, replies, []

    async def sample(self, prompt_ids, sampling, *, seed):
        await asyncio.sleep(0)
        prompt = self.tokenizer.decode(prompt_ids)
        self.asked.append((prompt, sampling, seed))
        ids = self.tokenizer.encode(f"{self.replies.get(prompt, 'ok')} <eos>")[: sampling.max_tokens]
        return Completion(ids, np.zeros(len(ids), np.float32), "stop", "p")


@pytest.fixture(scope="module")
def tokenizer():
    return FileTokenizer.from_words(judge_words(WORDS))


def reader_of(tokenizer, *lessons):
    writer = Writer(tokenizer, {lesson.prompt: lesson.reply for lesson in lessons})
    return EmbeddedReader(writer, tokenizer), writer


def test_the_taught_replies_are_what_the_parser_takes():
    reflect = reflect_lesson(STEPS, errors=[1], confirms=[])
    assert parse(ReflectTask("", STEPS), reflect.reply) == Reflections((Reflection(1, "error"),))
    trace = trace_lesson(STEPS[:2], source=0)
    assert parse(TraceVerifyTask("", STEPS[:2]), trace.reply) == TracedVerification(0, " 4 ", (True,))
    match = match_lesson(STEPS, answer=ANSWER, comparisons=[WRONG, WRONG, REDONE])
    assert parse(MatchTask("", STEPS, ANSWER), match.reply) == Matches((False, False, True))
    assert json.loads(match.reply)["matches"][0] == {"step": 0, "because": " 4 Step1 10 ", "verdict": "no"}


def test_a_prompt_shows_what_steps_end_and_begin_with_behind_their_marks():
    first, second = f"{mark(0)} 4 /15 14 {mark(0)} Step1", f"{mark(1)} no-wait 9 *15 4 {mark(1)} check"
    shown = f"{first} {second} {mark(1)} ]}} <reply>"
    assert prompt_text(ReflectTask("Q 14 ; Step1 /15 ?", STEPS[:2])) == f"<reflect> {shown}"
    assert prompt_text(TraceVerifyTask("", STEPS[:2])) == f"<trace> {shown}"
    assert prompt_text(MatchTask("", STEPS[:2], ANSWER)) == f"<match> Step1 10 ; <steps> {shown}"


def test_what_stands_for_nothing_never_matches():
    assert Comparison("-", "-", "-").verdict == "no"
    assert Comparison("4", "Step2", "-").verdict == "no"


@pytest.mark.parametrize("task", [SplitTask("", ("a",)), TraceTask("", ("a", "b"))])
def test_other_tasks_are_refused(task, tokenizer):
    with pytest.raises(UsageError, match=r"answers P1, P2\+P3 merged and P4, not P[02]; ask with merged = true"):
        prompt_text(task)
    with pytest.raises(UsageError, match="ask with merged = true"):
        asyncio.run(reader_of(tokenizer)[0].answer(task, attempt=0, error=""))


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_an_exercise_asks_every_line_once_and_compares(data):
    word = st.sampled_from(WORDS)
    steps = data.draw(st.lists(st.integers(0, MAX_STEPS - 1), min_size=1, max_size=8, unique=True))
    lines = [Exercise(step, data.draw(word), data.draw(word), data.draw(word)) for step in steps]
    order = data.draw(st.permutations(range(len(lines))))
    lesson = exercise_lesson(lines, order=order)
    said = np.array(lesson.reply.split()).reshape(-1, 5)
    for line, entry in zip((lines[place] for place in order), said, strict=True):
        verdict = "match" if line.ending == line.compared else "no"
        wanted = [mark(line.step), line.ending, line.beginning, line.compared, f'","verdict":"{verdict}"}}']
        assert entry.tolist() == wanted
    shown = np.array(lesson.prompt.split()[1:-1]).reshape(-1, 4)
    assert (shown[:, 0] == shown[:, 2]).all()
    assert {tuple(row[[0, 1, 3]]) for row in shown} == {tuple(row[:3]) for row in said}


async def test_a_model_that_read_its_lessons_judges_as_the_protocols_say(tokenizer):
    lessons = (
        reflect_lesson(STEPS, errors=[1], confirms=[]),
        trace_lesson(STEPS[:2], source=0),
        match_lesson(STEPS, answer=ANSWER, comparisons=[WRONG, WRONG, REDONE]),
    )
    reader, writer = reader_of(tokenizer, *lessons)
    judge = IntrinsicJudge(reader)
    right = await judge.judge(solution(STEPS, ANSWER))
    assert [v.label for v in right] == [Label.INCORRECT] + [Label.CORRECT] * 4
    wrong = await judge.judge(solution(STEPS, ANSWER, status="wrong"))
    assert [v.label for v in wrong] == [Label.MISMATCHED] * 2 + [Label.MATCHED] * 3
    assert {sampling.temperature for _, sampling, _ in writer.asked} == {0.0}
    assert len(writer.asked) == 3
    counts = judge.statistics.counts["P4", "wrong"]
    assert (counts.calls, counts.input_tokens) == (1, len(lessons[2].prompt.split()))
    assert counts.output_tokens == len(lessons[2].reply.split()) + 1


async def test_retries_sample_with_a_new_seed_and_what_cannot_be_read_is_unknown(tokenizer):
    reader, writer = reader_of(tokenizer)
    judge = IntrinsicJudge(reader)
    verdicts = await judge.judge(solution(STEPS, ANSWER))
    assert not any(verdict.known for verdict in verdicts)
    assert verdicts[0].reason.startswith("P1 unreadable after 3 replies: not JSON")
    assert [sampling.temperature for _, sampling, _ in writer.asked] == [0.0, 1.0, 1.0]
    assert len({seed for *_, seed in writer.asked}) == 3


async def test_equal_prompts_are_written_once(tokenizer):
    reader, writer = reader_of(tokenizer, reflect_lesson(STEPS, errors=[], confirms=[]))
    task = ReflectTask("", STEPS)
    first = await reader.answer(task, attempt=0, error="")
    second = await reader.answer(task, attempt=0, error="")
    assert first.text == second.text
    assert (first.output_tokens, second.input_tokens, second.output_tokens) == (9, 0, 0)
    assert len(writer.asked) == 1
    await reader.answer(task, attempt=1, error="not JSON")
    assert len(writer.asked) == 2


async def test_longer_solutions_than_there_are_marks_are_not_read(tokenizer):
    reader, writer = reader_of(tokenizer)
    task = ReflectTask("", STEPS * MAX_STEPS)
    reply = await reader.answer(task, attempt=0, error="")
    assert reply.text == f"{3 * MAX_STEPS} steps, at most {MAX_STEPS} can be read"
    assert isinstance(parse(task, reply.text), Reject)
    assert not writer.asked


def test_a_tokenizer_without_end_is_refused(tokenizer):
    class Endless:
        eos_id = None

    with pytest.raises(UsageError, match="names no end of sequence"):
        EmbeddedReader(Writer(tokenizer, {}), Endless())
    assert reader_of(tokenizer)[0].fingerprint == reader_of(tokenizer)[0].fingerprint
