"""Stage 1 of a round: the newest policy writes a group of rollouts for each problem; every rollout is kept at once."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.digests import digest
from stepcredit.core.records import Problem, Rollout
from stepcredit.core.seeds import derive
from stepcredit.steps.alignment import align
from stepcredit.store.codec import decode, encode
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.parts import Parts, RoundSettings

STAGE = "rollout"


@final
@dataclass(frozen=True)
class _Request:
    problem: Problem
    prompt_ids: Int32[np.ndarray, " P"]
    group: str
    sample: int

    @property
    def id(self) -> str:
        return f"{self.group}-s{self.sample}"


async def sample_round(parts: Parts, settings: RoundSettings, folder: RunFolder, *, round_index: int) -> list[Rollout]:
    """Rollouts of one round, in the order problem > sample.

    Rollouts recorded by an earlier, interrupted attempt are reused, never resampled.

    Raises:
        EngineError: if the sampler failed; what was written stays recorded.

    Source: tp_grpo.md 1.8 stage 1. Differs: none.
    """
    problems = parts.tasks.problems(settings.problems, seed=derive(settings.seed, "problems", round_index))
    requests = [
        _Request(problem, prompt_ids, f"r{round_index}-p{place}", sample)
        for place, problem in enumerate(problems)
        for prompt_ids in (parts.tokenizer.encode(problem.text),)
        for sample in range(settings.group_size)
    ]
    recorded = {key: payload for key, payload in folder.ledger.items(STAGE) if key.startswith(f"r{round_index}-")}
    tasks: list[asyncio.Task[Rollout]] = []
    try:
        async with asyncio.TaskGroup() as group:
            for request in requests:
                payload = recorded.get(request.id)
                tasks.append(group.create_task(_sample_one(parts, settings, folder, request=request, payload=payload)))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    finally:
        folder.ledger.flush()
    return [task.result() for task in tasks]


async def _sample_one(
    parts: Parts, settings: RoundSettings, folder: RunFolder, *, request: _Request, payload: Mapping[str, Any] | None
) -> Rollout:
    if payload is not None:
        return decode(payload)
    seed = derive(settings.seed, "sample", request.group, request.sample, request.problem.id)
    completion = await parts.sampler.sample(request.prompt_ids, settings.sampling, seed=seed)
    text, char_starts = align(completion.ids, parts.tokenizer)
    rollout = Rollout(
        id=request.id,
        problem=request.problem,
        group=request.group,
        sample=request.sample,
        text=text,
        prompt_ids=request.prompt_ids,
        completion_ids=completion.ids,
        char_starts=char_starts,
        sampler_logprobs=completion.logprobs,
        finish=completion.finish,
        policy=completion.policy,
    )
    folder.ledger.put(STAGE, request.id, encode(rollout))
    return rollout


def round_digest(rollouts: list[Rollout]) -> str:
    """Digest of a round's tokens: equal digests mean equal training data."""
    return digest([(r.id, np.asarray(r.completion_ids)) for r in rollouts])
