"""VinePPO's continuations beside the sampler alone: tokens a second of the same requests through the same engine.

    OMP_NUM_THREADS=1 python benchmarks/vine_speed.py [--problems 2] [--completions 9] [--repeats 7]

A small policy of world E is fine-tuned for a moment, so that lengths are those of the task, and writes groups of
rollouts. Then two ways to write the very same continuations take turns in the same engine: `values` asks
`MonteCarloValues` for every node of every rollout, checker and text included; `sampler` only sends the requests that
`values` sent, in their order, and drops the answers. Each ratio is of neighbours in time. Writes
results/vine_speed.json and vine_speed.md.
"""

import argparse
import asyncio
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stepcredit.core.protocols import Completion, Sampling
from stepcredit.core.records import Rollout, Steps
from stepcredit.core.seeds import derive
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.learner import LearnerSettings, TorchLearner
from stepcredit.judges.montecarlo import MonteCarloSettings, MonteCarloValues
from stepcredit.recipes.demo_settings import WorldPart
from stepcredit.recipes.pretraining import demonstrations_pack
from stepcredit.recipes.world import WorldTask
from stepcredit.steps import align

RESULTS = Path(__file__).parent / "results"
SEED = 0

Request = tuple[np.ndarray, Sampling, int]


@dataclass(frozen=True)
class Rates:
    """What one way took: tokens, and seconds of the clock, of this process, and of its event loop alone."""

    tokens: int
    wall_s: float
    cpu_s: float
    loop_s: float

    @property
    def wall(self) -> float:
        """Tokens a second."""
        return self.tokens / self.wall_s

    @property
    def cpu(self) -> float:
        """Tokens a CPU second, engine and event loop together."""
        return self.tokens / self.cpu_s


class Clock:
    """Seconds since it was made, as `Rates` has them; made and read in the event loop's thread."""

    def __init__(self) -> None:
        self._start = self._now()

    def rates(self, tokens: int) -> Rates:
        """What was taken since."""
        return Rates(tokens, *(now - start for now, start in zip(self._now(), self._start, strict=True)))

    @staticmethod
    def _now() -> tuple[float, float, float]:
        return time.perf_counter(), time.process_time(), time.thread_time()


class Recorded:
    """The engine, and every request that passed through."""

    def __init__(self, engine: EmbeddedSampler) -> None:
        self.engine = engine
        self.asked: list[Request] = []

    @property
    def fingerprint(self) -> str:
        """The engine's."""
        return self.engine.fingerprint

    async def sample(self, prompt_ids: np.ndarray, sampling: Sampling, *, seed: int) -> Completion:
        """The engine's answer."""
        self.asked.append((prompt_ids, sampling, seed))
        return await self.engine.sample(prompt_ids, sampling, seed=seed)


def policy_of(task: WorldTask, updates: int) -> CausalLM:
    """A policy after a little supervised fine-tuning on solutions of full length."""
    model = CausalLM(ModelConfig(vocab_size=len(task.world.words)), seed=SEED)
    settings = LearnerSettings(3e-3, optimiser="muon", matrix_learning_rate=0.03)
    learner = TorchLearner(model, settings)
    for index in range(updates):
        learner.imitate(demonstrations_pack(task, 32, length=task.part.length, seed=derive(SEED, "batch", index)))
    return model


async def rollouts_of(task: WorldTask, sampler: EmbeddedSampler, problems: int, group_size: int) -> list[Steps]:
    """Groups of cut rollouts."""

    async def one(place: int, sample: int) -> Steps:
        problem = asked[place]
        prompt = task.tokenizer.encode(problem.text)
        done = await sampler.sample(prompt, task.sampling(), seed=derive(SEED, "rollout", place, sample))
        text, starts = align(done.ids, task.tokenizer)
        name = f"g{place}-s{sample}"
        rollout = Rollout(
            name, problem, f"g{place}", sample, text, prompt, done.ids, starts, done.logprobs, done.finish
        )
        return task.splitter.split(task.checker.outcome(rollout))

    asked = task.problems(problems, seed=SEED)
    return list(await asyncio.gather(*(one(p, s) for p in range(problems) for s in range(group_size))))


async def by_values(task: WorldTask, sampler: Any, cuts: Sequence[Steps], completions: int) -> Rates:
    """All nodes of all rollouts."""
    settings = MonteCarloSettings(task.sampling(), completions=completions, seed=SEED)
    values = MonteCarloValues(sampler, task.tokenizer, task.checker, settings, align=align)
    clock = Clock()
    await asyncio.gather(*(values.values(steps) for steps in cuts))
    return clock.rates(values.spending.tokens)


async def by_sampler(sampler: EmbeddedSampler, asked: Sequence[Request]) -> Rates:
    """The same requests, sent at once."""
    clock = Clock()
    done = await asyncio.gather(*(sampler.sample(prompt, sampling, seed=seed) for prompt, sampling, seed in asked))
    return clock.rates(sum(len(completion.ids) for completion in done))


async def measured(options: argparse.Namespace) -> dict[str, Any]:
    """The report."""
    task = WorldTask(WorldPart())
    model = policy_of(task, options.updates)
    pairs: list[tuple[Rates, Rates]] = []
    async with EmbeddedSampler(model, slots=options.slots, capacity=task.capacity) as sampler:
        cuts = await rollouts_of(task, sampler, options.problems, options.group_size)
        recorded = Recorded(sampler)
        first = await by_values(task, recorded, cuts, options.completions)
        await by_sampler(sampler, recorded.asked)
        started = time.perf_counter()
        for turn in range(options.repeats):
            if turn >= 3 and time.perf_counter() - started > options.seconds:
                break
            if turn % 2:
                alone = await by_sampler(sampler, recorded.asked)
                valued = await by_values(task, sampler, cuts, options.completions)
            else:
                valued = await by_values(task, sampler, cuts, options.completions)
                alone = await by_sampler(sampler, recorded.asked)
            if {alone.tokens, valued.tokens} != {first.tokens}:
                raise SystemExit(f"{alone.tokens} tokens, {valued.tokens} and {first.tokens}: not the same requests")
            pairs.append((valued, alone))
    return {
        "facts": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "slots": options.slots,
            "repeats": len(pairs),
        },
        "rollouts": len(cuts),
        "steps": sum(len(steps) for steps in cuts),
        "prefixes": len(recorded.asked) // options.completions,
        "continuations": len(recorded.asked),
        "tokens": first.tokens,
        "wall": compared([(one.wall, other.wall) for one, other in pairs]),
        "cpu": compared([(one.cpu, other.cpu) for one, other in pairs]),
        "event_loop_s": [figures([way[index].loop_s for way in pairs]) for index in (0, 1)],
    }


def compared(pairs: Sequence[tuple[float, float]]) -> dict[str, dict[str, float]]:
    """Figures of both ways, and of their ratio turn by turn."""
    return {
        "values": figures([one for one, _ in pairs]),
        "sampler": figures([other for _, other in pairs]),
        "share": figures([one / other for one, other in pairs]),
    }


def figures(found: Sequence[float]) -> dict[str, float]:
    """Median and range, and two order statistics around the median: from six turns on 95% or more (sign test)."""
    ranked, n = sorted(found), len(found)
    outside = [k for k in range(n // 2) if sum(comb(n, j) for j in range(k + 1)) <= 0.025 * 2**n]
    inner = max(outside, default=0)
    from_, to = ranked[inner], ranked[n - 1 - inner]
    return {"median": float(np.median(found)), "low": ranked[0], "high": ranked[-1], "from": from_, "to": to}


def ranged(found: Mapping[str, float], form: str) -> str:
    """Median and range as text."""
    return f"{found['median']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"


def markdown(report: Mapping[str, Any]) -> str:
    """The table."""
    lines = ["# Continuations for values beside the sampler alone\n"]
    lines.append(", ".join(f"{name} {value}" for name, value in report["facts"].items()) + "\n")
    counts = ("rollouts", "steps", "prefixes", "continuations", "tokens")
    lines.append(", ".join(f"{report[name]:,} {name}" for name in counts) + "\n")
    lines += ["| | values | sampler alone | values / sampler, turn by turn |", "| --- | --- | --- | --- |"]
    for name, told in (("wall", "tokens a second"), ("cpu", "tokens a CPU second")):
        values, alone = (ranged(report[name][way], ",.0f") for way in ("values", "sampler"))
        share = report[name]["share"]
        told_share = f"{ranged(share, '.3f')}; median in [{share['from']:.3f}, {share['to']:.3f}]"
        lines.append(f"| {told} | {values} | {alone} | {told_share} |")
    values, alone = (ranged(one, ".3f") for one in report["event_loop_s"])
    lines.append(f"| event loop's CPU seconds | {values} | {alone} | |")
    lines.append("\nMedian [range] of turns; the interval of the median has 95% or more from six turns on (sign test).")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, store and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=2)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--completions", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--updates", type=int, default=120, help="supervised updates of the policy")
    parser.add_argument("--seconds", type=float, default=70.0, help="no new turn after so long, but three in any case")
    parser.add_argument("--slots", type=int, default=256)
    report = asyncio.run(measured(parser.parse_args()))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "vine_speed.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "vine_speed.md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
