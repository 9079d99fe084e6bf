"""How many sampled rollouts each credit method needs: every arm, several checkpoints and seeds, paired with GRPO.

    python benchmarks/learning.py tune                      learning rates, on the tuning checkpoint and seeds
    python benchmarks/learning.py run [--task reflection]   the reported runs; may be stopped and started again
    python benchmarks/learning.py table                     tables from the stored results, into docs/learning.md

Settings stand in learning.toml; raw results are appended to results/learning_*.jsonl, one line a run. Results do not
depend on how many runs share the machine; the seconds do.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stepcredit.core.errors import PartialError
from stepcredit.evaluation.crossing import paired_speedup, rollouts_to
from stepcredit.evaluation.intervals import two_level_bootstrap
from stepcredit.recipes.arms import ArmJob, ArmResult, run_arm
from stepcredit.recipes.demo_settings import RECIPE, ArmPart, DemoRecipe, load_demo
from stepcredit.recipes.pretraining import pretrain_to_gate
from stepcredit.recipes.teaching import teach_generative, teach_taught

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "learning.md"
SETTINGS = tomllib.loads((HERE / "learning.toml").read_text())
NO_OVERRIDE = ("starts_from", "levels")
TEACHERS = {"generative": teach_generative, "taught": teach_taught}


@dataclass(frozen=True)
class Run:
    """One line of the results: which arm, where from, with what."""

    task: str
    arm: str
    checkpoint: int
    seed: int
    learning_rate: float
    rounds: int = SETTINGS["report"]["rounds"]

    @property
    def key(self) -> str:
        """Name of the run."""
        return f"{self.task}/{self.arm}/c{self.checkpoint}/s{self.seed}/lr{self.learning_rate:g}"


def recipe_of(task: str, checkpoint: int, *, rounds: int = SETTINGS["report"]["rounds"]) -> DemoRecipe:
    """The demo recipe, changed into a task, with one task table and pretraining seed a checkpoint."""
    part = SETTINGS["tasks"][task]
    changes = [f"{key}={json.dumps(value)}" for key, value in part.items() if key not in NO_OVERRIDE]
    seeds = (f"world.task_seed={checkpoint}", f"pretrain.seed={checkpoint}", f"rounds.rounds={rounds}")
    arms = {name: ArmPart(**arm) for name, arm in SETTINGS["arms"].items()}
    # Longer curves than the demo's; and a firing must not change what is compared.
    fixed = ("measure.problems=256", "measure.pass_problems=64", "monitors.act=false")
    return load_demo(RECIPE, overrides=(*seeds, *fixed, *changes)).model_copy(update={"arms": arms})


def place_of(cache: Path, task: str, checkpoint: int) -> Path:
    """Where a task's checkpoint and its judges lie."""
    return cache / f"{SETTINGS['tasks'][task].get('starts_from', task)}-{checkpoint}"


def prepare(task: str, checkpoint: int, folder: Path, judges: Sequence[str]) -> tuple[str, int, bool]:
    """Fine-tune a checkpoint to its gate and teach the judges; what is there is kept. Runs in a worker."""
    torch.set_num_threads(1)
    recipe = recipe_of(task, checkpoint)
    try:
        pretrain_to_gate(recipe, folder)
    except PartialError as error:
        print(f"{task} checkpoint {checkpoint}: {error}", flush=True)
        return task, checkpoint, False
    for name in judges:
        if not (folder / f"judge-{name}").exists():
            TEACHERS[name](recipe, folder)
    return task, checkpoint, True


def execute(run: Run, checkpoint: Path) -> dict[str, Any]:
    """Train one arm once; returns its line of the results. Runs in a worker."""
    torch.set_num_threads(1)
    recipe = recipe_of(run.task, run.checkpoint, rounds=run.rounds)
    arms = {name: arm.model_copy(update={"learning_rate": run.learning_rate}) for name, arm in recipe.arms.items()}
    out = Path(tempfile.mkdtemp(prefix="stepcredit-learning-"))
    try:
        result = run_arm(ArmJob(recipe.model_copy(update={"arms": arms}), run.arm, run.seed, checkpoint, out / "run"))
    finally:
        shutil.rmtree(out)
    return line_of(run, result)


def line_of(run: Run, result: ArmResult) -> dict[str, Any]:
    """One JSON line: the curve and the final figures."""
    rows = [row for row in result.rows if row.accuracy is not None]
    return {
        "key": run.key,
        "task": run.task,
        "arm": run.arm,
        "checkpoint": run.checkpoint,
        "seed": run.seed,
        "learning_rate": run.learning_rate,
        "rollouts": [row.rollouts for row in rows],
        "accuracy": [row.accuracy for row in rows],
        "first_guess": [round(row.figures.get("first_guess", float("nan")), 4) for row in rows],
        "catch": [round(row.figures.get("catch", float("nan")), 4) for row in rows],
        "tokens": [round(row.figures.get("tokens", float("nan")), 1) for row in rows],
        "kept": [row.kept for row in rows],
        "final_accuracy": sum(result.final_right) / len(result.final_right),
        "pass_at_8": sum(result.pass_at_8) / len(result.pass_at_8),
        "judge_tokens": result.judge_tokens,
        "fired": sorted({firing.monitor for firing in result.firings}),
        "cpu_seconds": round(result.cpu_seconds, 1),
    }


def stored(name: str) -> list[dict[str, Any]]:
    """Lines of a results file, in order."""
    path = RESULTS / f"learning_{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def store(name: str, line: Mapping[str, Any]) -> None:
    """Append one line to a results file."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"learning_{name}.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def work(runs: Sequence[Run], *, name: str, cache: Path, workers: int) -> None:
    """Execute all runs that are not stored yet, as checkpoints become ready."""
    done = {line["key"] for line in stored(name)}
    left = [run for run in runs if run.key not in done]
    judges = {arm: SETTINGS["arms"][arm].get("judge", "none") for arm in SETTINGS["arms"]}
    places = sorted({(run.task, run.checkpoint) for run in left})
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        ready = {}
        for task, checkpoint in places:
            named = {judges[run.arm] for run in left if (run.task, run.checkpoint) == (task, checkpoint)}
            folder = place_of(cache, task, checkpoint)
            wanted = sorted(named & TEACHERS.keys())
            ready[task, checkpoint] = pool.submit(prepare, task, checkpoint, folder, wanted)
        passed = {place for place, future in ready.items() if future.result()[2]}
        futures = {
            pool.submit(execute, run, place_of(cache, run.task, run.checkpoint)): run
            for run in left
            if (run.task, run.checkpoint) in passed
        }
        for future in as_completed(futures):
            line = future.result()
            store(name, line)
            print(f"{line['key']}: final {line['final_accuracy']:.3f}, {line['cpu_seconds']:.0f} CPU s", flush=True)


def ranked(name: str, arm: str) -> list[float]:
    """Learning rates of an arm's tuning runs, best first by mean accuracy over the curve."""
    found: dict[float, list[float]] = {}
    for line in stored(name):
        if line["arm"] == arm:
            found.setdefault(line["learning_rate"], []).append(float(np.mean(line["accuracy"])))
    return sorted(found, key=lambda rate: -float(np.mean(found[rate])))


def rates() -> dict[str, float]:
    """Learning rate of each arm: the tuned one of its family, over the whole length of a run."""
    best = {arm: found[0] for arm in SETTINGS["tuning"]["arms"] if (found := ranked("tuning_final", arm))}
    family = {"generative_2": "adaptive_2", "correct_only": "adaptive_2", "flipped": "adaptive_2"}
    family |= {"step_level": "adaptive_2", "shuffled": "fixed_2", "taught_1": "oracle_1"}
    return {arm: best[family.get(arm, arm)] for arm in SETTINGS["arms"] if family.get(arm, arm) in best}


def tune(cache: Path, workers: int) -> None:
    """Every tuned arm at every rate over a few rounds, then at the winners' rates over the whole length."""
    part = SETTINGS["tuning"]
    work(tuning_runs(part, part["learning_rates"]), name="tuning", cache=cache, workers=workers)
    winners = sorted({ranked("tuning", arm)[0] for arm in part["arms"]})
    work(tuning_runs(part["final"], winners), name="tuning_final", cache=cache, workers=workers)
    print("chosen:", rates())


def tuning_runs(stage: Mapping[str, Any], learning_rates: Sequence[float]) -> list[Run]:
    """Runs of one stage: every tuned arm at every rate, on the stage's checkpoints and seeds."""
    return [
        Run("reflection", arm, checkpoint, seed, rate, stage["rounds"])
        for seed in stage["seeds"]
        for checkpoint in stage["checkpoints"]
        for arm in SETTINGS["tuning"]["arms"]
        for rate in learning_rates
    ]


def report(task: str, arms: Sequence[str], cache: Path, workers: int) -> None:
    """The reported runs, seed by seed, so that a stop leaves whole seeds."""
    part, chosen = SETTINGS["report"], rates()
    runs = [
        Run(task, arm, checkpoint, seed, chosen[arm])
        for seed in part["seeds"]
        for checkpoint in part["checkpoints"]
        for arm in arms
    ]
    work(runs, name=task, cache=cache, workers=workers)


def crossing(line: Mapping[str, Any], figure: str, level: float) -> float | None:
    """Sampled rollouts of one run to a level of a figure."""
    return rollouts_to(np.array(line["rollouts"], float), np.array(line[figure], float), level)


def levels(task: str) -> list[tuple[str, float | str]]:
    """Figures and levels that rollouts are counted to; `final` is the accuracy that the paired GRPO run ended at."""
    return [*((figure, level) for figure, level in SETTINGS["tasks"][task]["levels"]), ("accuracy", "final")]


def table(task: str) -> str:
    """Markdown table of one task: paired speed-ups over GRPO and final figures, with two-level 95% intervals."""
    lines = {(x["arm"], x["checkpoint"], x["seed"]): x for x in stored(task)}
    places = sorted({(c, s) for arm, c, s in lines if arm == "grpo"})
    names = [
        "to " + f"{figure} {level}".replace("accuracy final", "GRPO's final").replace("_", " ")
        for figure, level in levels(task)
    ]
    head = ["method", "runs", "final accuracy", *names, "never"]
    rows = [head, ["---"] * len(head)]
    for arm, part in SETTINGS["arms"].items():
        mine = [place for place in places if (arm, *place) in lines]
        if mine:
            rows.append([part["title"], str(len(mine)), *cells(lines, arm, mine, task=task)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def cells(
    lines: Mapping[tuple[str, int, int], Mapping[str, Any]], arm: str, places: Sequence[tuple[int, int]], *, task: str
) -> list[str]:
    """Cells of one arm."""
    checkpoints = sorted({checkpoint for checkpoint, _ in places})
    finals = [np.array([lines[arm, c, s]["final_accuracy"] for c, s in places if c == k]) for k in checkpoints]
    final = two_level_bootstrap(finals, lambda sample: float(sample.mean()), seed=0)
    found = [f"{final.value:.3f} [{final.low:.3f}, {final.high:.3f}]"]
    never: list[str] = []
    for figure, level in levels(task):
        pairs = [
            [pair(lines, arm, place, figure, level) for place in places if place[0] == checkpoint]
            for checkpoint in checkpoints
        ]
        budget = float(lines[arm, *places[0]]["rollouts"][-1])
        speed = paired_speedup(pairs, budget=budget, seed=0)
        found.append(f"{speed.ratio.value:.2f} [{speed.ratio.low:.2f}, {speed.ratio.high:.2f}]")
        never.append(f"{speed.method_censored}/{speed.baseline_censored}")
    return [*found, ", ".join(never)]


def pair(
    lines: Mapping[tuple[str, int, int], Mapping[str, Any]],
    arm: str,
    place: tuple[int, int],
    figure: str,
    level: float | str,
) -> tuple[float | None, float | None]:
    """(GRPO, arm) rollouts to a level; `final` is the paired GRPO run's accuracy at its last evaluation."""
    base, mine = lines["grpo", *place], lines[arm, *place]
    bound = float(base["accuracy"][-1]) if level == "final" else float(level)
    return crossing(base, figure, bound), crossing(mine, figure, bound)


def write_tables() -> None:
    """Every task's table, into docs/learning.md between its marks."""
    text = PAGE.read_text()
    for task in SETTINGS["tasks"]:
        begin, end = f"<!-- {task}:begin -->", f"<!-- {task}:end -->"
        if stored(task) and begin in text:
            head, _, rest = text.partition(begin)
            text = f"{head}{begin}\n{table(task)}\n{end}{rest.partition(end)[2]}"
            print(f"{task}\n{table(task)}\n")
    PAGE.write_text(text)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["tune", "run", "table"])
    parser.add_argument("--task", default="reflection", choices=list(SETTINGS["tasks"]))
    parser.add_argument("--arms", default=",".join(SETTINGS["arms"]))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache", type=Path, default=Path("runs/learning"))
    asked = parser.parse_args()
    if asked.verb == "tune":
        tune(asked.cache, asked.workers)
    elif asked.verb == "run":
        report(asked.task, asked.arms.split(","), asked.cache, asked.workers)
    else:
        write_tables()


if __name__ == "__main__":
    main()
