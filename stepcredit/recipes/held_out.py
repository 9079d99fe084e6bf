"""Fresh attempts at held-out problems: what gates, curves and final figures are measured on."""

import asyncio
from collections.abc import Sequence

from stepcredit.core.records import Outcome, Problem, Rollout
from stepcredit.core.seeds import derive
from stepcredit.engines.embedded.engine import EmbeddedSampler
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
