from collections import Counter
from random import Random

import numpy as np
import pytest

from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.intrinsic.embedded import EXERCISED, MAX_STEPS, Exercise, exercise_lesson, judge_words, mark
from stepcredit.judges.intrinsic.parser import parse
from stepcredit.judges.intrinsic.tasks import MatchTask, ReflectTask, TraceVerifyTask
from stepcredit.judges.intrinsic.world_markers import WorldGrammar
from stepcredit.recipes.demo_settings import WorldPart
from stepcredit.recipes.reading_lessons import (
    READING_TOKENS,
    cut_off,
    disturbed,
    lessons_from,
    matching_lesson,
    reflection_lesson,
    tracing_lessons,
)
from stepcredit.recipes.world import WorldTask
from stepcredit.tasks.world_truth import Demonstration

WORLDS = [WorldPart(), WorldPart(name="chain", length=5)]


def demonstrations(part=WORLDS[0], count=40):
    return WorldTask(part).demonstrations(count, seed=5, length=part.length, hard=True)


def texts(demonstration):
    """(think steps, answer steps) as the splitter cuts them."""
    think, _, answer = demonstration.text.partition(" </think> ")
    units = [f"; {unit}" for unit in think.removeprefix("; ").split(" ; ")]
    units[-1] += " </think>"
    return tuple(units), tuple(answer.replace(" ; ", "\n; ").split("\n"))


@pytest.mark.parametrize("part", WORLDS, ids=lambda part: part.name)
def test_lessons_say_what_the_grammar_reads(part):
    grammar = WorldGrammar()
    for demonstration in demonstrations(part):
        think, answer = texts(demonstration)
        lesson = reflection_lesson(demonstration)
        assert parse(ReflectTask("", think), lesson.reply).items == grammar.reflections(think)
        for trace in tracing_lessons(demonstration):
            shown = think[: _shown(trace, think)]
            task = TraceVerifyTask("", shown)
            found = parse(task, trace.reply)
            assert (found.source, found.wrong) == (grammar.trace("", shown).source, (True,))
        random = Random(demonstration.text)
        for version in (demonstration, disturbed(demonstration, random), cut_off(demonstration, random)):
            think, answer = texts(version)
            found = parse(MatchTask("", think, answer), matching_lesson(version).reply)
            assert found.matched == grammar.matched("", think, answer=answer)


def _shown(lesson, think):
    return max(k for k in range(len(think)) if mark(k) in lesson.prompt.split()) + 1


def test_disturbed_solutions_break_what_demonstrators_always_do():
    found = demonstrations(count=200)
    random = Random(0)
    changed = [disturbed(demonstration, random) for demonstration in found]

    def consistent(demonstration: Demonstration):
        solution = demonstration.structure.solution
        return all(solution.last[n].value == v for n, v in solution.answers.items() if n in solution.last)

    assert np.mean([consistent(x) for x in found]) == 1.0
    assert np.mean([consistent(x) for x in changed]) < 0.2
    rising = [list(x.structure.solution.last) == sorted(x.structure.solution.last) for x in changed]
    assert 0.3 < np.mean(rising) < 0.8
    matched = [flag for x in changed for flag in x.structure.adopted[: x.structure.solution.thinks]]
    assert 0.2 < np.mean(matched) < 0.8


@pytest.fixture(scope="module")
def lessons():
    tokenizer = FileTokenizer.from_words(judge_words(WorldTask(WORLDS[0]).world.words))
    return lessons_from(demonstrations(), tokenizer, random=Random(1))


def test_a_reading_pack_trains_replies_and_ends_them(lessons):
    pack = lessons.reading_pack(Random(2))
    assert READING_TOKENS <= len(pack.ids) < READING_TOKENS + 512
    ends = pack.starts[1:] - 1
    assert (pack.ids[ends] == lessons.tokenizer.eos_id).all()
    reply = lessons.tokenizer.id_of("<reply>")
    assert (np.flatnonzero(np.diff(pack.trained.astype(int)) == 1) == np.flatnonzero(pack.ids == reply)).all()
    openers = Counter(lessons.tokenizer.decode(pack.ids[pack.starts[:-1]]).split())
    assert set(openers) == {"<reflect>", "<trace>", "<match>"}


def test_an_exercise_trains_only_what_can_be_told(lessons):
    pack = lessons.exercise_pack(Random(3))
    words = np.array(lessons.tokenizer.decode(pack.ids).split())
    assert not any(word.startswith(('{"step"', ',{"step"')) for word in words[pack.trained])
    assert pack.trained_tokens % sum(EXERCISED) == 0
    verdicts = Counter(words[pack.trained][2::3])
    assert set(verdicts) == {'","verdict":"match"}', '","verdict":"no"}'}
    assert min(verdicts.values()) > 0.3 * sum(verdicts.values())


def test_exercises_use_all_marks():
    lines = [Exercise(step, "4", "Step1", "4") for step in range(MAX_STEPS)]
    assert len(set(exercise_lesson(lines, order=range(MAX_STEPS)).reply.split())) == MAX_STEPS + 3


def test_lessons_know_what_steps_begin_and_end_with(lessons):
    assert lessons.beginnings == ("Step1", "Step2", "Step3", "Step4", "Step5", "Step6", "check")
    assert set(lessons.endings) == {*map(str, range(1, 17)), "ok", "no-wait"}
    assert {task: len(found) for task, found in lessons.readings.items() if task != "P23"} == {"P1": 40, "P4": 40}


def test_a_solution_is_cut_at_any_word_of_its_answer_block():
    demonstration = demonstrations(count=1)[0]
    head = demonstration.text.partition(" answer")[0] + " answer"
    words = demonstration.text[len(head) :].split()
    found = {cut_off(demonstration, Random(seed)).text for seed in range(400)}
    assert found == {" ".join([head, *words[:k]]) for k in range(len(words))}
