"""Teaching the two small judges of the embedded task: one from structure alone, one from true step labels."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, final

from stepcredit.core.pack import Pack
from stepcredit.core.records import Steps
from stepcredit.core.seeds import derive
from stepcredit.engines.embedded.checkpoint import load_checkpoint, save_checkpoint
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.learner import LearnerSettings, TorchLearner
from stepcredit.engines.learner.packing import demonstration_pack
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.intrinsic.embedded import Lesson, judge_words
from stepcredit.judges.taught import Claim, claim_of, taught_words
from stepcredit.recipes.demo_settings import DemoRecipe
from stepcredit.recipes.pretraining import sample_outcomes
from stepcredit.recipes.reading_lessons import lessons_from
from stepcredit.recipes.world import WorldTask
from stepcredit.tasks.world_text import apply

GENERATIVE, TAUGHT = "judge-generative", "judge-taught"
GENERATIVE_SHAPE: Mapping[str, Any] = {
    "dim": 64,
    "layers": 2,
    "heads": 2,
    "kv_heads": 2,
    "hidden": 168,
    "matrix_gain": 0.3,
}
"""Two wide heads tell forty names apart better than four narrow ones; small first weights find copying sooner."""

GENERATIVE_UPDATES, EXERCISE_UPDATES = 800, 80
READING_SOLUTIONS = 3000
TAUGHT_SOLUTIONS = 3000
TAUGHT_UPDATES = 250
TAUGHT_BATCH = 512
TAUGHT_REPLACED = 0.25
"""Chance that a right claim is taught with another value in its place, which is wrong with no further label."""


@final
@dataclass(frozen=True)
class TeachingRecord:
    """What teaching a judge took.

    Args:
        updates: optimiser steps.
        tokens: tokens learnt from.
        true_labels: true step labels used; 0 for the intrinsic judge, which sees none.
        loss: of the last update, nats a token.
        cpu_seconds: process CPU time.
    """

    updates: int
    tokens: int
    true_labels: int
    loss: float
    cpu_seconds: float


def teach_generative(
    recipe: DemoRecipe, folder: Path, *, on_progress: Callable[[int, float], None] = lambda *_: None
) -> TeachingRecord:
    """Teach the generative intrinsic judge to read, from the structure of demonstrations alone.

    The first updates only copy and compare words, with no solution in sight. A small model needs these skills for every
    reply, and learns them several times faster when they are practised alone.

    Args:
        recipe: world and `[generative]`.
        folder: where the judge is saved, as `judge-generative`.
        on_progress: told (updates done, loss).

    Source: own; tp_grpo.md 3 for the tasks. Differs: n/a (the paper asks a large model, untrained).
    """
    started = time.process_time()
    task = WorldTask(recipe.world)
    seed = derive(recipe.generative.seed, "generative")
    tokenizer = FileTokenizer.from_words(judge_words(task.world.words))
    model = CausalLM(ModelConfig(vocab_size=tokenizer.size, **GENERATIVE_SHAPE), seed=seed)
    updates = recipe.generative.updates or GENERATIVE_UPDATES
    learner = TorchLearner(model, generative_learner(updates))
    length = recipe.world.length
    found = task.demonstrations(READING_SOLUTIONS, seed=derive(seed, "solutions"), length=length, hard=True)
    lessons = lessons_from(found, tokenizer, random=Random(derive(seed, "retractions")))
    random = Random(derive(seed, "batches"))
    tokens, loss = 0, float("nan")
    for index in range(updates):
        pack = lessons.exercise_pack(random) if index < EXERCISE_UPDATES else lessons.reading_pack(random)
        loss = learner.imitate(pack).loss
        tokens += pack.trained_tokens
        on_progress(index + 1, loss)
    save_checkpoint(model, folder / GENERATIVE, tokenizer=tokenizer)
    return TeachingRecord(updates, tokens, 0, loss, time.process_time() - started)


def teach_taught(
    recipe: DemoRecipe, folder: Path, *, on_progress: Callable[[int, float], None] = lambda *_: None
) -> TeachingRecord:
    """Teach the step judge with true labels of the starting policy's own steps.

    Args:
        recipe: world and `[taught]`.
        folder: the policy's checkpoint; the judge is saved in it.
        on_progress: told (updates done, loss).

    The starting policy writes a wrong product once in a hundred. Taught with its own claims alone, the judge believes
    every product, and a policy trained by it learns to write wrong ones; hence the replaced values.

    Source: embedded_world.md 4 and 8.6. Differs: right claims are also taught with another value, as wrong.
    """
    started = time.process_time()
    task = WorldTask(recipe.world)
    part = recipe.taught
    problems = task.problems(TAUGHT_SOLUTIONS, seed=derive(part.seed, "taught"))
    outcomes = sample_outcomes(task, load_checkpoint(folder), problems, seed=derive(part.seed, "taught"))
    claims = claims_of([task.splitter.split(outcome) for outcome in outcomes])
    words = taught_words(task.world.words)
    tokenizer = FileTokenizer.from_words(words)
    model = CausalLM(ModelConfig(vocab_size=len(words), dim=64, hidden=168), seed=derive(part.seed, "taught"))
    updates = part.updates or TAUGHT_UPDATES
    learner = TorchLearner(model, taught_learner(updates))
    random = Random(derive(part.seed, "taught", "batches"))
    tokens, loss = 0, float("nan")
    for index in range(updates):
        drawn = [claim_lesson(claim) for claim in drawn_claims(claims, TAUGHT_BATCH, random)]
        pack = lesson_pack(tokenizer, drawn)
        loss = learner.imitate(pack).loss
        tokens += pack.trained_tokens
        on_progress(index + 1, loss)
    save_checkpoint(model, folder / TAUGHT, tokenizer=tokenizer)
    return TeachingRecord(updates, tokens, len(claims), loss, time.process_time() - started)


def claims_of(cut: Sequence[Steps]) -> list[Claim]:
    """Every arithmetic claim of the think blocks; each is a true label once it is looked up."""
    pairs = (pair for steps in cut for pair in zip(steps.texts, steps.in_answer, strict=True))
    found = (claim_of(text) for text, inside in pairs if not inside)
    return [claim for claim in found if claim is not None]


def drawn_claims(claims: Sequence[Claim], count: int, random: Random) -> list[Claim]:
    """So many claims with replacement; some right ones carry a value that another claim has, and so are wrong."""
    values = sorted({claim.value for claim in claims})
    found: list[Claim] = []
    for claim in random.choices(claims, k=count):
        others = [value for value in values if value != claim.value]
        replaced = others and _worked_out(claim)[1] and random.random() < TAUGHT_REPLACED
        found.append(replace(claim, value=random.choice(others)) if replaced else claim)
    return found


def claim_lesson(claim: Claim) -> Lesson:
    """The claim worked out again: a quotient is multiplied back, anything else is done once more; then the label.

    >>> claim_lesson(Claim(14, "/15", 4)).reply, claim_lesson(Claim(4, "*15", 9)).reply
    ('9 wrong', '9 right')
    """
    shown, right = _worked_out(claim)
    return Lesson(claim.prompt, f"{shown} {'right' if right else 'wrong'}")


def _worked_out(claim: Claim) -> tuple[int, bool]:
    """What the claim comes to, and whether it is right."""
    product = claim.operator[0] == "/"
    shown = apply(f"*{claim.operator[1:]}", claim.value) if product else apply(claim.operator, claim.operand)
    return shown, shown == (claim.operand if product else claim.value)


def lesson_pack(tokenizer: FileTokenizer, lessons: Sequence[Lesson]) -> Pack:
    """Lessons as a pack for `TorchLearner.imitate`, each reply ended by the tokenizer's end token."""
    return demonstration_pack([(tokenizer.encode(x.prompt), tokenizer.encode(f"{x.reply} <eos>")) for x in lessons])


def generative_learner(updates: int) -> LearnerSettings:
    """The optimiser of the generative judge: a high rate for the embedding, on which copying rests."""
    return LearnerSettings(
        learning_rate=0.03,
        optimiser="muon",
        matrix_learning_rate=0.03,
        momentum=0.9,
        schedule="linear",
        total_updates=updates,
        final_fraction=0.1,
        token_budget=8192,
    )


def taught_learner(updates: int) -> LearnerSettings:
    """The optimiser of the taught judge: Muon on the matrices, AdamW on the rest, linear decay."""
    return LearnerSettings(
        learning_rate=3e-3,
        optimiser="muon",
        matrix_learning_rate=0.03,
        schedule="linear",
        total_updates=updates,
        final_fraction=0.1,
    )
