"""Supervised fine-tuning of the embedded policy to its gate: three figures that must hold before any round starts."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from stepcredit.core.errors import PartialError
from stepcredit.core.pack import Pack
from stepcredit.core.records import Outcome, Problem
from stepcredit.core.seeds import derive
from stepcredit.engines.embedded.checkpoint import load_checkpoint, save_checkpoint
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.learner import LearnerSettings, TorchLearner
from stepcredit.engines.learner.packing import demonstration_pack
from stepcredit.recipes.demo_settings import DemoRecipe
from stepcredit.recipes.held_out import held_out
from stepcredit.recipes.world import WorldTask, checkpoint_exists


@final
@dataclass(frozen=True)
class GateFigures:
    """What the gate looks at, measured on fresh problems at temperature 1.

    Args:
        accuracy: share of right outcomes at the gate's number of divisions.
        forward_facts: share of right products.
        caught: share of checked wrong guesses that the check caught; `None` if there was none.
    """

    accuracy: float
    forward_facts: float | None
    caught: float | None


@final
@dataclass(frozen=True)
class Pretrained:
    """A policy that passed the gate.

    Args:
        folder: its checkpoint, in Hugging Face format.
        figures: at the gate.
        attempt: 0 for the first try.
        cpu_seconds: process CPU time of all tries; 0 if it was there already.
    """

    folder: Path
    figures: GateFigures
    attempt: int
    cpu_seconds: float


def pretrain_to_gate(
    recipe: DemoRecipe, folder: Path, *, on_progress: Callable[[int, int, float], None] = lambda *_: None
) -> Pretrained:
    """Fine-tune until the gate is passed, with a new seed after each failure.

    Args:
        recipe: world, model, pretraining and gate.
        folder: where the checkpoint goes; one that is there and passes the gate is used as it is.
        on_progress: told (attempt, updates done, loss).

    Raises:
        PartialError: if no attempt passed; names the figures of the last one.

    Source: embedded_world.md 8.6. Differs: none.
    """
    task = WorldTask(recipe.world)
    started = time.process_time()
    if checkpoint_exists(folder):
        return Pretrained(folder, gate_figures(recipe, task, load_checkpoint(folder)), 0, 0.0)
    figures: list[GateFigures] = []
    for attempt in range(recipe.pretrain.restarts + 1):
        policy = pretrain(recipe, task, attempt=attempt, on_progress=on_progress)
        figures.append(gate_figures(recipe, task, policy))
        if passes(recipe, figures[-1]):
            save_checkpoint(policy, folder, tokenizer=task.tokenizer)
            return Pretrained(folder, figures[-1], attempt, time.process_time() - started)
    told = "; ".join(_told(found) for found in figures)
    gate = recipe.gate
    raise PartialError(
        f"fine-tuning missed the gate (accuracy >= {gate.accuracy}, forward facts >= {gate.forward_facts}, "
        f"caught >= {gate.caught}) in {len(figures)} tries: {told}; raise pretrain.updates or change pretrain.seed"
    )


def passes(recipe: DemoRecipe, figures: GateFigures) -> bool:
    """True if every figure reaches its bound; one that could not be measured counts only where its bound is 0."""
    pairs = (
        (figures.accuracy, recipe.gate.accuracy),
        (figures.forward_facts, recipe.gate.forward_facts),
        (figures.caught, recipe.gate.caught),
    )
    return all(bound == 0.0 if value is None else value >= bound for value, bound in pairs)


def pretrain(
    recipe: DemoRecipe, task: WorldTask, *, attempt: int, on_progress: Callable[[int, int, float], None]
) -> CausalLM:
    """One supervised run on fresh demonstrations, lengths mixed in each update with about equal tokens."""
    part = recipe.pretrain
    seed = derive(part.seed, "pretrain", attempt)
    config = ModelConfig(vocab_size=len(task.world.words), **recipe.model.model_dump())
    policy = CausalLM(config, seed=seed)
    learner = TorchLearner(
        policy,
        LearnerSettings(
            learning_rate=part.learning_rate,
            optimiser="muon",
            matrix_learning_rate=part.matrix_learning_rate,
            schedule="linear",
            total_updates=part.updates,
            final_fraction=0.1,
        ),
    )
    for index in range(part.updates):
        length, count = part.batches[index % len(part.batches)]
        update = learner.imitate(demonstrations_pack(task, count, length=length, seed=derive(seed, "batch", index)))
        on_progress(attempt, index + 1, update.loss)
    return policy


def demonstrations_pack(task: WorldTask, count: int, *, length: int, seed: int) -> Pack:
    """Fresh demonstrations as a pack for `TorchLearner.imitate`."""
    tokenizer = task.tokenizer
    found = task.demonstrations(count, seed=seed, length=length)
    return demonstration_pack([(tokenizer.encode(d.problem.text), tokenizer.encode(d.text)) for d in found])


def gate_figures(recipe: DemoRecipe, task: WorldTask, policy: CausalLM) -> GateFigures:
    """Measure a policy at the gate."""
    gate = recipe.gate
    problems = task.problems_with(gate.problems, seed=derive(0, "gate"), divisions=gate.divisions)
    found = asdict(task.statistics(sample_outcomes(task, policy, problems)))
    return GateFigures(found["accuracy"] or 0.0, found["forward_facts"], found["caught"])


def sample_outcomes(task: WorldTask, policy: CausalLM, problems: Sequence[Problem], *, seed: int = 0) -> list[Outcome]:
    """One checked rollout a problem, at temperature 1."""
    return asyncio.run(_sample_outcomes(task, policy, problems, seed))


async def _sample_outcomes(task: WorldTask, policy: CausalLM, problems: Sequence[Problem], seed: int) -> list[Outcome]:
    async with EmbeddedSampler(policy, slots=1024, capacity=task.capacity) as sampler:
        return await held_out(task, sampler, problems, seed=seed)


def _told(figures: GateFigures) -> str:
    forward = "unknown" if figures.forward_facts is None else f"{figures.forward_facts:.3f}"
    caught = "unknown" if figures.caught is None else f"{figures.caught:.3f}"
    return f"accuracy {figures.accuracy:.3f}, forward facts {forward}, caught {caught}"
