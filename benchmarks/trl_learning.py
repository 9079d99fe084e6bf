"""What per-token credit does inside TRL: TP-GRPO and TRL's own GRPO on task E, from the same policy, side by side.

    tests/adapters/make_trl_venvs.sh                                  # once: environments with TRL
    .venv-trl-newest/bin/python benchmarks/trl_learning.py run        # may be stopped and started again
    .venv-trl-newest/bin/python benchmarks/trl_learning.py table      # tables from the stored results

Every arm runs the settings of examples/trl_reflection.py: the same start, problems, number of rollouts, loss, optimiser
and, seed by seed, the same problems. `grpo` is TRL's GRPOTrainer as it comes, with the checker as reward function and
scale_rewards="group"; the others are StepCreditGRPOTrainer. Nothing was tuned for any arm: all take each of the RATES.

Raw results are appended to results/trl_learning.jsonl, one line a run; the tables go to results/trl_learning.md and,
between its marks, into docs/guide/trl.md.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false
import argparse
import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl
from transformers import TrainerCallback

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "examples"))
import trl_reflection as example  # noqa: E402 -- the example is the setting

from stepcredit.adapters.trl import StepCredit, StepCreditGRPOTrainer  # noqa: E402
from stepcredit.core.records import Problem  # noqa: E402
from stepcredit.evaluation.crossing import paired_speedup, rollouts_to  # noqa: E402
from stepcredit.evaluation.intervals import bootstrap  # noqa: E402
from stepcredit.recipes.demo_settings import load_demo  # noqa: E402
from stepcredit.recipes.pretraining import pretrain_to_gate  # noqa: E402
from stepcredit.tasks.reflection_world import WORLD_E  # noqa: E402

RESULTS = HERE / "results" / "trl_learning.jsonl"
TABLE = HERE / "results" / "trl_learning.md"
PAGE = HERE.parent / "docs" / "guide" / "trl.md"
BEGIN, END = "<!-- learning:begin -->", "<!-- learning:end -->"

ARMS = {
    "grpo": "TRL's own GRPO",
    "tp_grpo": "TP-GRPO, the paper's formula",
    "fixed_2": "TP-GRPO, fixed scale 2",
    "shuffled": "fixed scale 2, shuffled credit (control)",
}
SEEDS = (0, 1, 2, 3, 4)
RATES = (6e-4, 1e-3)
LEVEL = 0.6


@dataclass(frozen=True)
class Run:
    """One line of the results.

    Args:
        arm: name in `ARMS`.
        seed: of problems and sampling.
        learning_rate: of TRL's AdamW.
        steps: optimiser steps, one a batch.
        batch: completions of a step.
        every: steps between two measurements.
        held_out: problems of a measurement.
    """

    arm: str
    seed: int
    learning_rate: float = RATES[0]
    steps: int = 16
    batch: int = 64
    every: int = 4
    held_out: int = 512

    @property
    def key(self) -> str:
        """Name of the run."""
        return f"{self.arm}/s{self.seed}/lr{self.learning_rate:g}/{self.steps}x{self.batch}"


class Measured(TrainerCallback):
    """Held-out accuracy every few steps."""

    def __init__(self, problems: Sequence[Problem], *, every: int, max_tokens: int) -> None:
        self.problems, self.every, self.max_tokens = problems, every, max_tokens
        self.accuracy: list[float] = []

    def on_train_begin(self, *_: Any, model: Any = None, **__: Any) -> None:
        """The start policy."""
        self._measure(model)

    def on_step_end(self, _args: Any, state: Any, _control: Any, model: Any = None, **_: Any) -> None:
        """After every few steps."""
        if state.global_step % self.every == 0:
            self._measure(model)

    def _measure(self, model: Any) -> None:
        self.accuracy.append(example.accuracy(model, self.problems, max_tokens=self.max_tokens))


def right(
    prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], answer: Sequence[str], **_: Any
) -> list[float]:
    """The checker as a reward function of TRL."""
    problems = [Problem(str(k), *pair) for k, pair in enumerate(zip(prompts, answer, strict=True))]
    rollouts = [example.rollout_of(*pair) for pair in zip(problems, completion_ids, strict=True)]
    return [float(WORLD_E.checker.outcome(rollout).status == "right") for rollout in rollouts]


def credit_of(run: Run) -> StepCredit:
    """How an arm pays its completions."""
    if run.arm == "tp_grpo":
        return example.step_credit()
    settings = replace(example.step_credit().settings, alpha=2.0, scale="fixed")
    fixed = replace(example.step_credit(), settings=settings)
    return replace(fixed, shuffled=run.seed) if run.arm == "shuffled" else fixed


def trainer_of(run: Run, policy: Path, options: argparse.Namespace) -> Any:
    """TRL's trainer, or ours on the same parts."""
    parts = example.parts(policy, options)
    if run.arm == "grpo":
        return trl.GRPOTrainer(reward_funcs=right, args=example.config(options, scale_rewards="group"), **parts)
    return StepCreditGRPOTrainer(credit=credit_of(run), args=example.config(options), **parts)


def execute(run: Run, policy: Path) -> dict[str, Any]:
    """Train one arm once; returns its line of the results."""
    out = Path(tempfile.mkdtemp(prefix="stepcredit-trl-"))
    words = f"--out {out} --seed {run.seed} --steps {run.steps} --batch {run.batch} --learning-rate {run.learning_rate}"
    options = example.parser().parse_args(words.split())
    problems = example.asked(options, run.held_out, "held out")
    began = time.process_time()
    measured = Measured(problems, every=run.every, max_tokens=options.max_tokens)
    try:
        trainer = trainer_of(run, policy, options)
        trainer.add_callback(measured)
        trainer.train()
    finally:
        shutil.rmtree(out)
    sampled = [row for row in trainer.state.log_history if "completions/mean_length" in row]
    return {
        "key": run.key,
        "arm": run.arm,
        "seed": run.seed,
        "learning_rate": run.learning_rate,
        "rollouts": [k * run.every * run.batch for k in range(len(measured.accuracy))],
        "accuracy": measured.accuracy,
        "tokens": round(sum(row["completions/mean_length"] for row in sampled) * run.batch),
        "length": options.length,
        "policy": sha256((policy / "model.safetensors").read_bytes()).hexdigest()[:12],
        "trl": trl.__version__,
        "torch": torch.__version__,
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def stored() -> list[dict[str, Any]]:
    """Lines of the results, in order."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def work(runs: Sequence[Run], policy: Path) -> None:
    """Execute all runs that are not stored yet, one after the other."""
    if not (policy / "model.safetensors").exists():
        pretrain_to_gate(load_demo(), policy)
    done = {line["key"] for line in stored()}
    for run in runs:
        if run.key in done:
            continue
        line = execute(run, policy)
        with RESULTS.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        ends = f"{line['accuracy'][0]:.3f} -> {line['accuracy'][-1]:.3f}"
        sys.stdout.write(f"{run.key}: {ends}, {line['cpu_seconds']:.0f} CPU s\n")
        sys.stdout.flush()


def interval(values: np.ndarray, *, sign: str = "") -> str:
    """Mean over seeds with its 95% bootstrap interval."""
    found = bootstrap(values, lambda sample: float(sample.mean()), seed=0, resamples=10_000)
    return f"{found.value:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def table(rate: float) -> str:
    """All arms at one learning rate: accuracy, and beside TRL's GRPO on the same seed."""
    lines = {(line["arm"], line["seed"]): line for line in stored() if line["learning_rate"] == rate}
    head = ["method", "seeds", "start", "end", "gain", "end over GRPO's", "mean of the curve over GRPO's"]
    head += [f"rollouts to {LEVEL}, GRPO / method", "never, method/GRPO"]
    rows = [head, ["---"] * len(head)]
    for arm, title in ARMS.items():
        seeds = [seed for name, seed in lines if name == arm and ("grpo", seed) in lines]
        if seeds:
            rows.append([title, str(len(seeds)), *cells([(lines["grpo", k], lines[arm, k]) for k in sorted(seeds)])])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def cells(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    """Cells of one arm: (GRPO's line, the arm's line) of each seed."""
    base, mine = (np.array([pair[side]["accuracy"] for pair in pairs]) for side in (0, 1))
    crossings = [(crossing(one), crossing(other)) for one, other in pairs]
    speed = paired_speedup([crossings], budget=float(pairs[0][0]["rollouts"][-1]), seed=0)
    return [
        interval(mine[:, 0]),
        interval(mine[:, -1]),
        interval(mine[:, -1] - mine[:, 0], sign="+"),
        interval(mine[:, -1] - base[:, -1], sign="+"),
        interval(mine.mean(axis=1) - base.mean(axis=1), sign="+"),
        f"{speed.ratio.value:.2f} [{speed.ratio.low:.2f}, {speed.ratio.high:.2f}]",
        f"{speed.method_censored}/{speed.baseline_censored}",
    ]


def crossing(line: dict[str, Any]) -> float | None:
    """Sampled rollouts at which a run first reached the level."""
    return rollouts_to(np.array(line["rollouts"], float), np.array(line["accuracy"], float), LEVEL)


def write_tables() -> None:
    """The tables of every rate that was run, into results/trl_learning.md and the guide."""
    lines = stored()
    first = lines[0]
    versions = sorted({(line["trl"], line["torch"]) for line in lines})
    facts = f"{first['rollouts'][-1]} rollouts a run, problems of {first['length']} divisions, "
    facts += "; ".join(f"TRL {one}, torch {other}" for one, other in versions) + f", {platform.machine()}."
    parts = [
        f"Learning rate {rate:g}:\n\n{table(rate)}" for rate in RATES if any(x["learning_rate"] == rate for x in lines)
    ]
    text = "\n\n".join([facts, *parts])
    TABLE.write_text(f"# TP-GRPO and GRPO inside TRL\n\n{text}\n")
    head, _, rest = PAGE.read_text().partition(BEGIN)
    if rest:
        PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    sys.stdout.write(f"{text}\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["run", "table"])
    parser.add_argument("--policy", type=Path, default=Path("runs/learning/reflection-0"), help="made if not there")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--rates", default=f"{RATES[0]:g}")
    asked = parser.parse_args()
    if asked.verb == "table":
        write_tables()
        return
    torch.set_num_threads(1)
    orders = [(float(rate), int(seed)) for rate in asked.rates.split(",") for seed in asked.seeds.split(",")]
    work([Run(arm, seed, rate) for rate, seed in orders for arm in asked.arms.split(",")], asked.policy)


if __name__ == "__main__":
    main()
