"""Fresh attempts at held-out problems: what gates, curves and final figures are measured on."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from stepcredit.core.records import Outcome, Problem, Rollout
from stepcredit.core.seeds import derive
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.evaluation.policy import pass_at_k
from stepcredit.recipes.demo_settings import DemoRecipe
from stepcredit.recipes.world import WorldTask
from stepcredit.steps import align


async def held_out(
    task: WorldTask, sampler: EmbeddedSampler, problems: Sequence[Problem], *, attempts: int = 1, seed: int = 0
) -> list[Outcome]:
    """Checked attempts at problems, at temperature 1; equal seeds draw alike for every arm and round.

    Returns:
        `attempts` outcomes a problem, side by side, in the order of the problems.
    """
    sampling = task.sampling()

    async def one(place: int, attempt: int) -> Outcome:
        problem = problems[place]
        prompt_ids = task.tokenizer.encode(problem.text)
        draw = derive(seed, "held-out", problem.id, attempt)
        completion = await sampler.sample(prompt_ids, sampling, seed=draw)
        text, char_starts = align(completion.ids, task.tokenizer)
        group = f"h{place}"
        rollout = Rollout(
            f"{group}-s{attempt}", problem, group, attempt, text, prompt_ids, completion.ids, char_starts,
            completion.logprobs, completion.finish, completion.policy,
        )  # fmt: skip
        return await task.checker.check(rollout)

    return list(await asyncio.gather(*(one(p, a) for p in range(len(problems)) for a in range(attempts))))


@final
@dataclass(frozen=True)
class Attempts:
    """How the attempts at each of several problems went.

    Args:
        avg_at_8: [P] share of right attempts.
        pass_at_8: [P] probability that one of eight attempts is right, the unbiased estimate.
    """

    avg_at_8: tuple[float, ...]
    pass_at_8: tuple[float, ...]

    @staticmethod
    def of(outcomes: Sequence[Outcome], *, attempts: int) -> "Attempts":
        """From the outcomes of `held_out`, `attempts` a problem, at least eight.

        Raises:
            UsageError: for fewer than eight attempts.
        """
        right = np.array([outcome.status == "right" for outcome in outcomes]).reshape(-1, attempts)
        return Attempts(tuple(right.mean(axis=1).tolist()), tuple(pass_at_k(right, 8).tolist()))


@final
@dataclass(frozen=True)
class HardSet:
    """The hard problems of a recipe: of the same world, and longer.

    Args:
        task: the world at their length.
        problems: the problems, the same for every arm, seed and round; none if the recipe asks for none.
        attempts: at each.
    """

    task: WorldTask
    problems: tuple[Problem, ...]
    attempts: int

    @staticmethod
    def of(recipe: DemoRecipe) -> "HardSet":
        """As `[measure]` says; all steps are divisions where all of the world's are, else as many as there."""
        part, world = recipe.measure, recipe.world
        length, divisions = part.hard_length or world.length, world.divisions
        if divisions is not None:
            divisions = length if divisions == world.length else min(divisions, length)
        task = WorldTask(world.model_copy(update={"length": length, "divisions": divisions}))
        problems = task.problems(part.hard_problems, seed=derive(0, "hard"))
        return HardSet(task, problems, part.hard_attempts)

    def capacity(self, task: WorldTask) -> int:
        """Longest prompt plus completion of the task and of the hard problems, in tokens."""
        return max(task.capacity, self.task.capacity) if self.problems else task.capacity

    async def figures(self, sampler: EmbeddedSampler) -> dict[str, float]:
        """`hard_avg_at_8` and `hard_pass_at_8` of the policy as it is now; nothing without problems."""
        if not self.problems:
            return {}
        outcomes = await held_out(self.task, sampler, self.problems, attempts=self.attempts)
        found = Attempts.of(outcomes, attempts=self.attempts)
        return {
            "hard_avg_at_8": float(np.mean(found.avg_at_8)),
            "hard_pass_at_8": float(np.mean(found.pass_at_8)),
        }
