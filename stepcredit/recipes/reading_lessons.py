"""Lessons for the generative intrinsic judge: copying exercises, then reading, labelled by structure alone.

Nothing here asks whether a step is right: the labels say which step a redo replaced, and which value the answer block
restates (`Demonstration.structure`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.pack import Pack
from stepcredit.engines.learner.packing import demonstration_pack
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.intrinsic.embedded import (
    MAX_STEPS,
    NONE,
    Lesson,
    copying_lesson,
    match_lesson,
    name_word,
    reflect_lesson,
    trace_lesson,
)
from stepcredit.tasks.world_text import OK, Unit
from stepcredit.tasks.world_truth import Demonstration

COPYING_TOKENS, READING_TOKENS = 2000, 6000
"""Tokens of an update, prompts included."""

SHARES = {"P1": 1.0, "P23": 0.75, "P4": 2.0}
"""How often each task is drawn. P4 has most to learn; P23 is short."""

_PAIRS = (4, 8, 12)

Sequence2 = tuple[Int32[np.ndarray, " P"], Int32[np.ndarray, " T"]]


@final
@dataclass(frozen=True)
class Lessons:
    """Encoded lessons to draw packs from.

    Args:
        tokenizer: the judge's.
        readings: for each task its lessons, as prompt ids and reply ids.
        endings: words that steps end with: what copying is practised on.
    """

    tokenizer: FileTokenizer
    readings: dict[str, list[Sequence2]]
    endings: tuple[str, ...]

    @cached_property
    def _name_ids(self) -> Int32[np.ndarray, " names"]:
        return np.array([self.tokenizer.id_of(name_word(step)) for step in range(MAX_STEPS)], np.int32)

    def copying_pack(self, random: Random) -> Pack:
        """Copying exercises of about `COPYING_TOKENS` tokens; only the copied words are trained on."""
        lessons: list[Lesson] = []
        tokens = 0
        while tokens < COPYING_TOKENS:
            names = random.sample(range(MAX_STEPS), random.choice(_PAIRS))
            words = random.choices(self.endings, k=len(names))
            lessons.append(copying_lesson(names, words, order=random.sample(range(len(names)), len(names))))
            tokens += 4 * len(names) + 2
        pack = demonstration_pack(encoded(self.tokenizer, lessons))
        return replace(pack, trained=pack.trained & ~np.isin(pack.ids, self._name_ids))

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
    endings: set[str] = set()
    for demonstration in demonstrations:
        units = demonstration.structure.solution.units[: demonstration.structure.solution.thinks]
        endings.update(unit.words.split()[-1] for unit in units)
        found["P1"].append(reflection_lesson(demonstration))
        found["P4"].append(matching_lesson(demonstration))
        traces = tracing_lessons(demonstration)
        found["P23"] += random.sample(traces, min(1, len(traces)))
    readings = {task: encoded(tokenizer, lessons, end=" <eos>") for task, lessons in found.items()}
    return Lessons(tokenizer, readings, tuple(sorted(endings)))


def reflection_lesson(demonstration: Demonstration) -> Lesson:
    """P1: a reflection is an error if a redo followed it, and confirms if it says `ok`."""
    solution = demonstration.structure.solution
    units = solution.units[: solution.thinks]
    confirms = [k for k, unit in enumerate(units) if unit.verdict == OK]
    return reflect_lesson([unit.words for unit in units], [r.reflection for r in solution.retractions], confirms)


def tracing_lessons(demonstration: Demonstration) -> list[Lesson]:
    """P2+P3, one a retraction: its source is the step that was redone."""
    structure = demonstration.structure
    words = [unit.words for unit in structure.solution.units]
    return [
        trace_lesson(words[: r.reflection + 1], source=r.step, wrong=structure.retracted[r.step : r.reflection])
        for r in structure.solution.retractions
    ]


def matching_lesson(demonstration: Demonstration) -> Lesson:
    """P4: a step matches if the answer block restates its value; the grounds are the values compared."""
    structure = demonstration.structure
    solution = structure.solution
    units = solution.units[: solution.thinks]
    return match_lesson(
        [unit.words for unit in units],
        [unit.words for unit in solution.units[solution.thinks :]],
        structure.adopted[: solution.thinks],
        because=[_grounds(unit, solution.answers) for unit in units],
    )


def encoded(tokenizer: FileTokenizer, lessons: Sequence[Lesson], *, end: str = "") -> list[Sequence2]:
    """Lessons as prompt ids and reply ids, `end` behind every reply."""
    prompts = tokenizer.encode_batch([lesson.prompt for lesson in lessons])
    replies = tokenizer.encode_batch([lesson.reply + end for lesson in lessons])
    return list(zip(prompts, replies, strict=True))


def _grounds(unit: Unit, answers: dict[int, int]) -> str:
    if unit.kind not in ("step", "check"):
        return NONE
    return f"Step{unit.number} {unit.claim} {answers.get(unit.number, NONE)}"
