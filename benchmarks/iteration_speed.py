"""One iteration of GRPO with the embedded engine and the learner, its clock, and where its time goes.

    python benchmarks/iteration_speed.py      the shares of the time; beside TRL: beside_trl.py

Lengths: `task`, as the embedded task's solutions, and `traces`, as recorded reasoning traces, shrunk to the context.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._C._profiler import _ExperimentalConfig  # pyright: ignore[reportPrivateUsage]
from torch.profiler import ProfilerActivity, profile

from stepcredit.core.pack import Pack
from stepcredit.core.protocols import Completion, Sampling
from stepcredit.engines.embedded.checkpoint import load_checkpoint, save_checkpoint
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.learner import LearnerSettings, TorchLearner
from stepcredit.engines.learner.packing import demonstration_pack
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.tasks.reflection_world import ReflectionWorld

GROUP_SIZE = 8
ROLLOUTS = 256
CONTEXT = 512

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "attention": ("scaled_dot_product", "_softmax", "flash_attention"),
    "gather, scatter, copy": ("index", "gather", "scatter", "copy_", "aten::cat", "take", "embedding"),
    "norm, activation, elementwise": ("norm", "silu", "mul", "add", "sub", "div", "exp", "log", "pow", "sum", "where"),
    "random numbers, search": ("exponential", "random", "uniform", "cumsum", "searchsorted", "argmax"),
}
"""Kinds of work -> parts of the names of torch operators; the first that fits counts."""

EVERY_THREAD = _ExperimentalConfig(profile_all_threads=True)
"""The sampler works in a thread of its own."""

QUANTILES = {
    "task": (32, 86, 96, 102, 108, 114, 124, 130, 141, 150, 150),
    "traces": (1, 7, 12, 16, 19, 24, 31, 43, 54, 115, 480),
}
"""Completion lengths in tokens at the quantiles 0, .1 ... 1: of the demo's first round; of 2,000 recorded long
reasoning traces (43 to 32,769 tokens, mean 4,326), divided by 68.3 so that the longest fits the context."""


@dataclass
class Clock:
    """Seconds of one side, one entry an iteration."""

    sample: list[float] = field(default_factory=list)
    update: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def lengths(kind: str, count: int, *, seed: int) -> np.ndarray:
    """[count] completion lengths in tokens, drawn from the quantiles."""
    points = np.array(QUANTILES[kind], float)
    places = np.random.default_rng(seed).random(count) * (len(points) - 1)
    return np.interp(places, np.arange(len(points)), points).round().astype(int)


class Ours:
    """One iteration with the embedded engine and the learner."""

    def __init__(self, checkpoint: Path, prompts: Sequence[np.ndarray]) -> None:
        self.model = load_checkpoint(checkpoint)
        self.prompts = [prompt for prompt in prompts for _ in range(GROUP_SIZE)]
        self.learner = TorchLearner(self.model, LearnerSettings(learning_rate=1e-6))
        self.clock = Clock()
        self.tokens = 0

    def parts(self, ends: np.ndarray) -> dict[str, Callable[[], object]]:
        """The two halves of one iteration, to be called in this order."""
        completions: list[Completion] = []
        return {
            "sample": lambda: completions.extend(asyncio.run(self._sample(ends))),
            "update": lambda: self.learner.update(self._packed(completions)),
        }

    def iterate(self, ends: np.ndarray) -> None:
        """Sample and take one update."""
        halves = self.parts(ends)
        began = time.perf_counter()
        halves["sample"]()
        sampled = time.perf_counter()
        halves["update"]()
        done = time.perf_counter()
        self.clock.sample.append(sampled - began)
        self.clock.update.append(done - sampled)
        self.clock.whole.append(done - began)

    def _packed(self, completions: Sequence[Completion]) -> Pack:
        """Group-normalised advantages; old logprobs are the sampler's, since TRL recomputes none for one update."""
        pack = demonstration_pack([(p, c.ids) for p, c in zip(self.prompts, completions, strict=True)])
        rewards = np.resize([0.0, 1.0], len(completions))
        counts = [len(p) + len(c.ids) for p, c in zip(self.prompts, completions, strict=True)]
        advantages = np.repeat((rewards - 0.5) / 0.5, counts).astype(np.float32)
        self.tokens = len(pack.ids)
        old = np.full(len(pack.ids), np.nan, np.float32)
        old[pack.trained] = np.concatenate([c.logprobs for c in completions if c.logprobs is not None])
        return Pack(pack.ids, pack.positions, pack.starts, pack.trained, advantages, old)

    async def _sample(self, ends: np.ndarray) -> list[Completion]:
        async with EmbeddedSampler(self.model, slots=len(ends), capacity=CONTEXT) as sampler:
            asked = [
                sampler.sample(prompt, Sampling(int(end), temperature=1.0, stop_ids=()), seed=place)
                for place, (prompt, end) in enumerate(zip(self.prompts, ends, strict=True))
            ]
            return list(await asyncio.gather(*asked))


def alternating(completions: Sequence[Any], **_: Any) -> list[float]:
    """Rewards 0, 1, 0, 1 ...: a signal in every group, and no grading to pay for."""
    return [float(place % 2) for place in range(len(completions))]


def gflop(model: CausalLM, tokens: int) -> float:
    """GFLOP of one iteration's matrix products, attention left out: 2 a weight and token to sample, 6 to update."""
    weights = model.n_params - model.model.embed_tokens.weight.numel()
    return 8 * weights * tokens / 1e9


def where_it_goes(kind: str) -> dict[str, dict[str, float]]:
    """Share of one of our iterations in each kind of work, sampling and update apart, from torch's profiler.

    Operators are counted by their own time; what no operator takes is Python and the profiler itself.
    """
    world = ReflectionWorld()
    tokenizer = FileTokenizer.from_words(world.words)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = save_checkpoint(
            CausalLM(ModelConfig(vocab_size=tokenizer.size, max_positions=CONTEXT)), folder, tokenizer=tokenizer
        )
        problems = world.problems(ROLLOUTS // GROUP_SIZE, seed=0)
        ours = Ours(checkpoint, [tokenizer.encode(problem.text) for problem in problems])
    ours.iterate(lengths(kind, ROLLOUTS, seed=0))
    found: dict[str, dict[str, float]] = {}
    for part, call in ours.parts(lengths(kind, ROLLOUTS, seed=1)).items():
        with profile(activities=[ProfilerActivity.CPU], experimental_config=EVERY_THREAD) as seen:
            began = time.perf_counter()
            call()
            wall = time.perf_counter() - began
        shares = dict.fromkeys((*KINDS, "other operators"), 0.0)
        for event in seen.key_averages():
            name = next((kind for kind, marks in KINDS.items() if any(mark in event.key for mark in marks)), None)
            shares[name or "other operators"] += event.self_cpu_time_total / 1e6 / wall
        found[part] = shares | {"Python": 1 - sum(shares.values())}
    return found


def profile_table(profiles: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """One row a kind of work, one column a half of an iteration."""
    columns = [(f"{kind}, {part}", shares) for kind, parts in profiles.items() for part, shares in parts.items()]
    lines = ["\nWhere our time goes (share of the wall time, one thread; `torch.profiler`):\n"]
    lines += [f"| | {' | '.join(name for name, _ in columns)} |", "| --- |" + " --- |" * len(columns)]
    for kind in columns[0][1]:
        lines.append(f"| {kind} | {' | '.join(f'{shares[kind]:.0%}' for _, shares in columns)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the shares."""
    torch.set_num_threads(1)
    print(profile_table({kind: where_it_goes(kind) for kind in QUANTILES}))


if __name__ == "__main__":
    main()
