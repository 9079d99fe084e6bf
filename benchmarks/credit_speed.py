"""Time of every credit rule and operation on 1,000,000 tokens, in milliseconds and in memory copies.

    OMP_NUM_THREADS=1 python benchmarks/credit_speed.py [--tokens 1000000] [--rollouts 10000] [--json FILE]

A memory copy is `numpy.copyto` of one float32 column of that many tokens: the least that any rule could take, since it
has to write one. Every figure is the fastest of the repeats.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import (
    gae,
    log_mean_exp,
    pooled,
    softmin,
    spread,
    standardise,
    sum_by_step,
    to_go,
    whiten,
)
from stepcredit.credit.grpo import GrpoSettings, grpo
from stepcredit.credit.grpo_ps import GrpoPsSettings, grpo_ps
from stepcredit.credit.keep import keep_rollouts
from stepcredit.credit.shuffled import ShuffledSettings, shuffled
from stepcredit.credit.tp_grpo import TpGrpoSettings, tp_grpo

GROUP_SIZE = 8
STEPS_A_ROLLOUT = 10


def cut(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """[parts] random positive lengths that add up to `total`."""
    inner = np.sort(rng.choice(np.arange(1, total), parts - 1, replace=False))
    return np.diff(np.concatenate([[0], inner, [total]]))


def batch(tokens: int, rollouts: int, rng: np.random.Generator) -> Layout:
    """A Layout of uneven steps, ten a rollout on average, and groups of eight."""
    steps = STEPS_A_ROLLOUT * rollouts
    step_of_token = np.repeat(np.arange(steps), cut(tokens, steps, rng))
    rollout_of_step = np.repeat(np.arange(rollouts), cut(steps, rollouts, rng))
    layout = Layout(step_of_token, rollout_of_step, np.arange(rollouts) // GROUP_SIZE)
    for name in ("rollout_of_token", "group_of_step", "tokens_of_rollout", "token_starts", "step_starts"):
        getattr(layout, name)
    return layout


def cases(layout: Layout, rng: np.random.Generator) -> dict[str, Callable[[], object]]:
    """Everything that is timed, by name."""
    rewards = rng.choice([-1.0, 1.0], layout.rollouts)
    flags = rng.integers(0, 2, layout.steps).astype(np.float32)
    scores = rng.normal(size=layout.steps)
    tokens = rng.normal(size=layout.tokens)
    values = rng.normal(size=layout.steps + layout.rollouts)
    outcome = grpo(layout, rewards, settings=GrpoSettings())
    credit = tp_grpo(layout, rewards, flags, settings=TpGrpoSettings())
    columns = (layout.step_of_token, layout.rollout_of_step, layout.group_of_rollout)
    return {
        "rule grpo": lambda: grpo(layout, rewards, settings=GrpoSettings()),
        "rule grpo_ps": lambda: grpo_ps(layout, scores, settings=GrpoPsSettings()),
        "rule tp_grpo": lambda: tp_grpo(layout, rewards, flags, settings=TpGrpoSettings()),
        "rule tp_grpo, unit step": lambda: tp_grpo(layout, rewards, flags, settings=TpGrpoSettings(unit="step")),
        "control shuffled": lambda: shuffled(layout, credit, outcome, settings=ShuffledSettings(0)),
        "keep nonzero_process": lambda: keep_rollouts(layout, credit, outcome, keep="nonzero_process"),
        "standardise": lambda: standardise(rewards, layout),
        "pooled": lambda: pooled(scores, layout),
        "spread, steps": lambda: spread(scores, layout),
        "sum_by_step": lambda: sum_by_step(tokens, layout),
        "to_go, tokens": lambda: to_go(tokens, layout),
        "to_go, steps": lambda: to_go(scores, layout, site="step"),
        "gae": lambda: gae(scores, values, layout, gamma=0.99, lam=0.95),
        "softmin": lambda: softmin(scores, layout),
        "whiten": lambda: whiten(tokens),
        "log_mean_exp": lambda: log_mean_exp(tokens, layout.step_of_token, count=layout.steps, eta=1.0),
        "Layout, from columns": lambda: Layout(*columns).rollout_of_token,
    }


def fastest_ms(call: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the fastest of the repeats."""
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def main() -> None:
    """Time everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--rollouts", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    layout = batch(options.tokens, options.rollouts, rng)
    column, target = np.ones(layout.tokens, np.float32), np.empty(layout.tokens, np.float32)
    copy = fastest_ms(lambda: np.copyto(target, column), 5 * options.repeats)
    figures = {name: fastest_ms(call, options.repeats) for name, call in cases(layout, rng).items()}
    print(f"{layout.tokens:,} tokens, {layout.steps:,} steps, {layout.rollouts:,} rollouts, {layout.groups:,} groups;")
    print(f"longest rollout {layout.tokens_of_rollout.max():,} tokens; {platform.machine()}, numpy {np.__version__}")
    print(f"{'':26}{'ms':>8}{'copies':>9}")
    print(f"{'one memory copy':26}{copy:8.2f}{1:9.1f}")
    for name, spent in figures.items():
        print(f"{name:26}{spent:8.2f}{spent / copy:9.1f}")
    if options.json:
        report = {"tokens": layout.tokens, "rollouts": layout.rollouts, "copy_ms": copy, "ms": figures}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
