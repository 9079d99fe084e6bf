"""The embedded task as parts: world, tokenizer, splitter, and the policy engine made from a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import final

from stepcredit.core.protocols import Sampling
from stepcredit.core.records import Outcome, Problem, Steps
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.recipes.demo_settings import WorldPart
from stepcredit.steps import Delimiter
from stepcredit.tasks.chain_world import ChainWorld
from stepcredit.tasks.reflection_world import ReflectionWorld
from stepcredit.tasks.world_checker import WorldChecker
from stepcredit.tasks.world_statistics import WorldStatistics, statistics
from stepcredit.tasks.world_text import parse
from stepcredit.tasks.world_truth import Demonstration, truth

World = ReflectionWorld | ChainWorld


@final
@dataclass(frozen=True)
class WorldTask:
    """One embedded world with the problems that a recipe asks; a TaskSet.

    Args:
        part: the recipe's `[world]`.
    """

    part: WorldPart

    @cached_property
    def world(self) -> World:
        """The world behind it."""
        if self.part.name == "chain":
            return ChainWorld(task_seed=self.part.task_seed, length=self.part.length)
        divisions = self.part.length if self.part.divisions is None else self.part.divisions
        return ReflectionWorld(task_seed=self.part.task_seed, length=self.part.length, divisions=divisions)

    @property
    def name(self) -> str:
        """Name of the world."""
        return self.world.name

    @property
    def guessed(self) -> str:
        """Signs of the operators that are guessed, not known."""
        return self.world.guessed

    def problems(self, count: int, *, seed: int) -> tuple[Problem, ...]:
        """Problems as reinforcement learning asks them."""
        return self.world.problems(count, seed=seed)

    def problems_with(self, count: int, *, seed: int, divisions: int | None) -> tuple[Problem, ...]:
        """Problems with another number of divisions; the chain world has none to set."""
        if isinstance(self.world, ReflectionWorld):
            return self.world.problems(count, seed=seed, divisions=divisions)
        return self.world.problems(count, seed=seed)

    def demonstrations(self, count: int, *, seed: int, length: int, hard: bool = False) -> tuple[Demonstration, ...]:
        """Demonstrator's solutions; `hard` asks divisions at every step, as reinforcement learning does."""
        if isinstance(self.world, ReflectionWorld):
            return self.world.demonstrations(count, seed=seed, length=length, divisions=length if hard else None)
        return self.world.demonstrations(count, seed=seed, length=length)

    @cached_property
    def tokenizer(self) -> FileTokenizer:
        """One id a word of the world."""
        return FileTokenizer.from_words(self.world.words)

    @cached_property
    def splitter(self) -> Delimiter:
        """One step a unit: what a `;` opens."""
        return Delimiter(";", form="world")

    @property
    def checker(self) -> WorldChecker:
        """The world's outcome checker."""
        return self.world.checker

    @property
    def capacity(self) -> int:
        """Longest prompt plus completion, in tokens."""
        longest = max(len(p.text.split()) for p in self.problems(1, seed=0))
        return longest + self.world.max_tokens

    def sampling(self, *, temperature: float = 1.0) -> Sampling:
        """How the policy is sampled: up to the world's token cap, `<eos>` ends."""
        eos = self.tokenizer.eos_id
        stop = () if eos is None else (eos,)
        return Sampling(self.world.max_tokens, temperature=temperature, stop_ids=stop)

    def statistics(self, outcomes: Sequence[Outcome]) -> WorldStatistics:
        """The behaviour table of embedded_world.md 8.1."""
        return statistics(outcomes, guessed=self.guessed)


def true_steps(steps: Steps) -> tuple[bool | None, ...]:
    """[K] exact truth of each step of a world's rollout; for measuring, and for the arms that say so.

    Steps and units are both opened by `;`, so they are paired by where they begin in the text. A `wait,` claims nothing
    and counts as right, what cannot be read counts as wrong; `None` only where a line or check refers to no step.

    Source: embedded_world.md 8.1. Differs: none.
    """
    text = steps.rollout.text
    units = parse(text).units
    truths = [(u.start, _settled(u.kind, t)) for u, t in zip(units, truth(text), strict=True)]
    starts = steps.rollout.char_starts[steps.starts].tolist() if len(steps) else []
    found: list[bool | None] = []
    for first, last in pairwise([*starts, len(text)]):
        inside = [value for place, value in truths if first <= place < last and value is not None]
        found.append(all(inside) if inside else None)
    return tuple(found)


def _settled(kind: str, value: bool | None) -> bool | None:  # noqa: FBT001 -- private
    return {"wait": True, "other": False}.get(kind, value)


def checkpoint_exists(folder: Path) -> bool:
    """True if a checkpoint in Hugging Face format is there."""
    return (folder / "config.json").exists()
