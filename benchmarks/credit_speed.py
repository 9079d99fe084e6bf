"""Time of every credit rule and operation on 1,000,000 tokens, in milliseconds and in memory copies.

    OMP_NUM_THREADS=1 python benchmarks/credit_speed.py [--tokens 1000000] [--rollouts 10000] [--work 1,2,4]

A memory copy is `numpy.copyto` of one float32 column of that many tokens: the least that any rule could take, since it
has to write one. Each repeat times the call and, right before it, the copy; figures are medians over the repeats, with
the range of the ratio. Writes results/credit_speed.json and credit_speed.md.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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

RESULTS = Path(__file__).parent / "results"
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


def timed_ms(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def measured(layout: Layout, rng: np.random.Generator, repeats: int) -> dict[str, dict[str, Any]]:
    """Name -> median milliseconds, median copies and their range."""
    column, target = np.ones(layout.tokens, np.float32), np.empty(layout.tokens, np.float32)

    def copy() -> float:
        return float(np.median([timed_ms(lambda: np.copyto(target, column)) for _ in range(5)]))

    found: dict[str, dict[str, Any]] = {}
    for name, call in {"one memory copy": lambda: np.copyto(target, column), **cases(layout, rng)}.items():
        call()
        pairs = [(copy(), timed_ms(call)) for _ in range(repeats)]
        ratios = [spent / base for base, spent in pairs]
        found[name] = {
            "ms": round(float(np.median([spent for _, spent in pairs])), 3),
            "copies": round(float(np.median(ratios)), 2),
            "copies_range": [round(min(ratios), 2), round(max(ratios), 2)],
        }
    return found


def markdown(report: Mapping[str, Any]) -> str:
    """The table: one row a case, one column an amount of work."""
    sizes = report["sizes"]
    head = [f"{size['tokens']:,} tokens, {size['rollouts']:,} rollouts" for size in sizes]
    lines = ["# Credit beside a memory copy\n", ", ".join(f"{k} {v}" for k, v in report["facts"].items()) + "\n"]
    lines += [f"| | {' | '.join(head)} |", "| --- |" + " --- |" * len(head)]
    for name in sizes[0]["figures"]:
        cells: list[str] = []
        for size in sizes:
            one = size["figures"][name]
            low, high = one["copies_range"]
            cells.append(f"{one['ms']:.2f} ms = {one['copies']:.1f} [{low:.1f}, {high:.1f}] copies")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Time everything, store it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--rollouts", type=int, default=10_000)
    parser.add_argument("--work", default="1,2,4", help="multiples of tokens and rollouts")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    sizes: list[dict[str, Any]] = []
    for times in map(int, options.work.split(",")):
        layout = batch(times * options.tokens, times * options.rollouts, rng)
        figures = measured(layout, rng, options.repeats)
        sizes.append({"tokens": layout.tokens, "rollouts": layout.rollouts, "steps": layout.steps, "figures": figures})
    facts = {"machine": platform.machine(), "numpy": np.__version__, "repeats": options.repeats}
    report = {"facts": facts, "sizes": sizes}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "credit_speed.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "credit_speed.md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
