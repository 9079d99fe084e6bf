"""Lessons for the generative intrinsic judge: exercises, then reading, labelled by structure alone.

Nothing here asks whether a step is right: the labels say which step a redo replaced, and which value the answer block
restates (`Demonstration.structure`). Most solutions are changed first, and labelled as they then stand: demonstrators
go through all steps and restate their last value of each, and a reader that saw nothing else would count on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.pack import Pack
from stepcredit.engines.learner.packing import demonstration_pack
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.intrinsic.embedded import (
    EXERCISED,
    MAX_STEPS,
    NOTHING,
    Comparison,
    Exercise,
    Lesson,
    exercise_lesson,
    match_lesson,
    reflect_lesson,
    trace_lesson,
)
from stepcredit.tasks.world_text import EOS, NO_WAIT, OK, THINK_END, Unit, completion_of
from stepcredit.tasks.world_truth import Demonstration

EXERCISE_TOKENS, READING_TOKENS = 3000, 6000
"""Tokens of an update, prompts included."""

SHARES = {"P1": 1.0, "P23": 0.75, "P4": 2.0}
"""How often each task is drawn. P4 has most to learn; P23 is short."""

DISTURBED = 0.7
"""Share of the solutions of P4 that are disturbed."""

CUT_OFF = 0.15
"""Share of the solutions of P4 whose answer block ends early, as it does at the token limit."""

_LINES = (2, 4, 8)

_BLOCK = f"{THINK_END} answer"

Sequence2 = tuple[Int32[np.ndarray, " P"], Int32[np.ndarray, " T"]]


@final
@dataclass(frozen=True)
class Lessons:
    """Encoded lessons to draw packs from.

    Args:
        tokenizer: the judge's.
        readings: for each task its lessons, as prompt ids and reply ids.
        endings: words that steps end with, for exercises.
        beginnings: words that they begin with.
    """

    tokenizer: FileTokenizer
    readings: dict[str, list[Sequence2]]
    endings: tuple[str, ...]
    beginnings: tuple[str, ...]

    def exercise_pack(self, random: Random) -> Pack:
        """Copying and comparing, about `EXERCISE_TOKENS` tokens; only what can be told is trained on."""
        lessons: list[Lesson] = []
        tokens = 0
        while tokens < EXERCISE_TOKENS:
            steps = random.sample(range(MAX_STEPS), random.choice(_LINES))
            lines = [self._line(step, random) for step in steps]
            lessons.append(exercise_lesson(lines, order=random.sample(range(len(lines)), len(lines))))
            tokens += 9 * len(lines) + 2
        sequences = encoded(self.tokenizer, lessons)
        told = [np.resize(EXERCISED, len(reply)) for _, reply in sequences]
        trained = [
            part for (prompt, _), part in zip(sequences, told, strict=True) for part in (len(prompt) * [False], part)
        ]
        return replace(demonstration_pack(sequences), trained=np.concatenate(trained))

    def _line(self, step: int, random: Random) -> Exercise:
        ending, other = random.choice(self.endings), random.choice(self.endings)
        return Exercise(step, ending, random.choice(self.beginnings), random.choice((ending, other)))

    def reading_pack(self, random: Random) -> Pack:
        """Reading lessons of about `READING_TOKENS` tokens, tasks drawn by `SHARES`."""
        tasks, shares = list(SHARES), list(SHARES.values())
        chosen: list[Sequence2] = []
        tokens = 0
        while tokens < READING_TOKENS:
            lessons = self.readings[random.choices(tasks, shares)[0]]
            if lessons:
                chosen.append(random.choice(lessons))
                tokens += sum(map(len, chosen[-1]))
        return demonstration_pack(chosen)


def lessons_from(demonstrations: Sequence[Demonstration], tokenizer: FileTokenizer, *, random: Random) -> Lessons:
    """Lessons of demonstrations: P1 and P4 of each, P2+P3 of one of its retractions, if it has any.

    Args:
        demonstrations: solutions; their structure gives the labels.
        tokenizer: over `judge_words`.
        random: chooses the retraction.
    """
    found: dict[str, list[Lesson]] = {"P1": [], "P23": [], "P4": []}
    ends: set[tuple[str, str]] = set()
    for demonstration in demonstrations:
        units = demonstration.structure.solution.units[: demonstration.structure.solution.thinks]
        ends.update((words[0], words[-1]) for unit in units if (words := unit.words.split()))
        found["P1"].append(reflection_lesson(shortened(demonstration, random)))
        read = disturbed(demonstration, random) if random.random() < DISTURBED else demonstration
        found["P4"].append(matching_lesson(cut_off(read, random) if random.random() < CUT_OFF else read))
        traces = tracing_lessons(demonstration)
        found["P23"] += random.sample(traces, min(1, len(traces)))
    readings = {task: encoded(tokenizer, lessons, end=" <eos>") for task, lessons in found.items()}
    beginnings, endings = (tuple(sorted(set(column))) for column in zip(*ends, strict=True))
    return Lessons(tokenizer, readings, endings, beginnings)


def shortened(demonstration: Demonstration, random: Random) -> Demonstration:
    """The solution up to some step number, in every second case: a reader must not expect the usual length."""
    attempts = _attempts(demonstration)
    settled = [k for k, attempt in enumerate(attempts, 1) if attempt[-1].verdict != NO_WAIT]
    if not settled or random.random() < 0.5:
        return demonstration
    return _rewritten(demonstration, attempts[: random.choice(settled)], _lines(demonstration))


def disturbed(demonstration: Demonstration, random: Random) -> Demonstration:
    """The solution with attempts left out or moved, and other values in the answer block.

    One attempt in ten is left out; in half of the solutions their order is drawn anew, and in half only some first ones
    are kept. An answer line gets the value of another attempt or line one time in three, and is left out one time in
    twenty.
    """
    attempts, lines = _attempts(demonstration), _lines(demonstration)
    kept = [attempt for attempt in attempts if random.random() >= 0.1] or attempts
    if random.random() < 0.5:
        random.shuffle(kept)
    if random.random() < 0.5:
        kept = kept[: random.randint(1, len(kept))]
    values = [unit.value for unit in (*lines, *(attempt[0] for attempt in attempts))]
    block = [replace(line, value=random.choice(values)) if random.random() < 1 / 3 else line for line in lines]
    return _rewritten(demonstration, kept, [line for line in block if random.random() >= 0.05] or block)


def cut_off(demonstration: Demonstration, random: Random) -> Demonstration:
    """The solution cut somewhere in its answer block, which may leave half a line, or none."""
    think, _, block = demonstration.text.partition(_BLOCK)
    words = block.split()
    return Demonstration(demonstration.problem, " ".join([think + _BLOCK, *words[: random.randrange(len(words))]]))


def _attempts(demonstration: Demonstration) -> list[tuple[Unit, ...]]:
    """The think block in attempts: a step with what follows it, up to the next step."""
    solution = demonstration.structure.solution
    firsts = [k for k, unit in enumerate(solution.units[: solution.thinks]) if unit.kind == "step"]
    return [solution.units[a:b] for a, b in pairwise([*firsts, solution.thinks])]


def _lines(demonstration: Demonstration) -> tuple[Unit, ...]:
    solution = demonstration.structure.solution
    return solution.units[solution.thinks :]


def _rewritten(
    demonstration: Demonstration, attempts: Sequence[Sequence[Unit]], lines: Sequence[Unit]
) -> Demonstration:
    think = [unit for attempt in attempts for unit in attempt]
    return Demonstration(demonstration.problem, completion_of((*think, *lines), len(think)))


def reflection_lesson(demonstration: Demonstration) -> Lesson:
    """P1: a reflection is an error if a redo followed it, and confirms if it says `ok`."""
    solution = demonstration.structure.solution
    units = solution.units[: solution.thinks]
    confirms = [k for k, unit in enumerate(units) if unit.verdict == OK]
    errors = [retraction.reflection for retraction in solution.retractions]
    return reflect_lesson([unit.words for unit in units], errors=errors, confirms=confirms)


def tracing_lessons(demonstration: Demonstration) -> list[Lesson]:
    """P2+P3, one a retraction: its source is the step that was redone."""
    solution = demonstration.structure.solution
    words = [unit.words for unit in solution.units]
    return [trace_lesson(words[: r.reflection + 1], source=r.step) for r in solution.retractions]


def matching_lesson(demonstration: Demonstration) -> Lesson:
    """P4: what each step says of a step number, and what the answer block says of it."""
    solution = demonstration.structure.solution
    units = solution.units[: solution.thinks]
    lines = demonstration.text.partition(_BLOCK)[2].removesuffix(EOS).split(";")
    comparisons = [_comparison(unit, solution.answers) for unit in units]
    return match_lesson([unit.words for unit in units], answer=lines, comparisons=comparisons)


def encoded(tokenizer: FileTokenizer, lessons: Sequence[Lesson], *, end: str = "") -> list[Sequence2]:
    """Lessons as prompt ids and reply ids, `end` behind every reply."""
    prompts = tokenizer.encode_batch([lesson.prompt for lesson in lessons])
    replies = tokenizer.encode_batch([lesson.reply + end for lesson in lessons])
    return list(zip(prompts, replies, strict=True))


def _comparison(unit: Unit, answers: dict[int, int]) -> Comparison:
    if not unit.number:
        return Comparison(NOTHING, NOTHING, NOTHING)
    return Comparison(str(unit.claim), f"Step{unit.number}", str(answers.get(unit.number, NOTHING)))
