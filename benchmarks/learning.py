"""How many sampled rollouts each credit method needs: every arm, several checkpoints and seeds, paired with GRPO.

    python benchmarks/learning.py tune                      learning rates, on the tuning checkpoint and seeds
    python benchmarks/learning.py run [--task reflection]   the reported runs; may be stopped and started again
    python benchmarks/learning.py table                     tables from the stored results, into docs/learning.md

Settings stand in learning.toml; raw results are appended to results/learning_*.jsonl, one line a run. Results do not
depend on how many runs share the machine; the seconds do.
"""

import argparse
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from world_runs import HERE, Run, Study

from stepcredit.evaluation.crossing import paired_speedup, rollouts_to
from stepcredit.evaluation.intervals import over_runs

PAGE = HERE.parent / "docs" / "learning.md"
SETTINGS = tomllib.loads((HERE / "learning.toml").read_text())
STUDY = Study("learning", SETTINGS)


def ranked(name: str, arm: str) -> list[float]:
    """Learning rates of an arm's tuning runs, best first by mean accuracy over the curve."""
    found: dict[float, list[float]] = {}
    for line in STUDY.stored(name):
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
    STUDY.work(tuning_runs(part, part["learning_rates"]), name="tuning", cache=cache, workers=workers)
    winners = sorted({ranked("tuning", arm)[0] for arm in part["arms"]})
    STUDY.work(tuning_runs(part["final"], winners), name="tuning_final", cache=cache, workers=workers)
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
        Run(task, arm, checkpoint, seed, chosen[arm], part["rounds"])
        for seed in part["seeds"]
        for checkpoint in part["checkpoints"]
        for arm in arms
    ]
    STUDY.work(runs, name=task, cache=cache, workers=workers)


def crossing(line: Mapping[str, Any], figure: str, level: float) -> float | None:
    """Sampled rollouts of one run to a level of a figure."""
    return rollouts_to(np.array(line["rollouts"], float), np.array(line[figure], float), level)


def levels(task: str) -> list[tuple[str, float | str]]:
    """Figures and levels that rollouts are counted to; `final` is the accuracy that the paired GRPO run ended at."""
    return [*((figure, level) for figure, level in SETTINGS["tasks"][task]["levels"]), ("accuracy", "final")]


def table(task: str) -> str:
    """Markdown table of one task: paired speed-ups over GRPO and final figures, with two-level 95% intervals."""
    lines = {(x["arm"], x["checkpoint"], x["seed"]): x for x in STUDY.stored(task)}
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
    final = over_runs(finals, seed=0)
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
        if STUDY.stored(task) and begin in text:
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
