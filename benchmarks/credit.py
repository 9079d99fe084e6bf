"""Credit rules trained from the same checkpoints: at equal sampled tokens, and at equal total compute.

    python benchmarks/credit.py tune [--task chain]     each arm's learning rate, from one small grid for all
    python benchmarks/credit.py run [--task chain]      the reported runs; may be stopped and started again
    python benchmarks/credit.py table                   tables and plots, into docs/credit_comparison.md

`--study` names the settings: credit_comparison.toml (every rule), credit_prl.toml (the questions of PRL),
credit_tp_grpo.toml (those of TP-GRPO). Raw results are appended to results/credit_STUDY_TASK.jsonl, one line a run.
Tables: credit_tables.py; plots: credit_plots.py.
"""

import argparse
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from credit_plots import along_the_rounds, learning_curves
from credit_tables import comparison, questions
from world_runs import HERE, Run, Study

PAGE = HERE.parent / "docs" / "credit_comparison.md"
IMAGES = HERE.parent / "docs" / "images"
STUDIES = ("comparison", "prl", "tp_grpo")
TUNED = "comparison"
"""The study whose tuning runs the others take their learning rates from."""

# Shorter curves than learning.py's: the figures that are compared at the end are the larger ones.
CHANGES = (
    "measure.reference_kl=true",
    "measure.problems=128",
    "measure.final_problems=512",
    "measure.pass_problems=128",
    "monitors.act=false",
    'rounds.old_logprobs="sampler"',
)


def study(name: str) -> Study:
    """A study by its name."""
    settings = tomllib.loads((HERE / f"credit_{name}.toml").read_text())
    return Study(f"credit_{name}", settings, (*CHANGES, *settings.get("changes", ())))


def ranked(task: str, arm: str) -> list[float]:
    """Learning rates of an arm's tuning runs on a task, best first by mean accuracy over the curve."""
    found: dict[float, list[float]] = {}
    asked = study(TUNED)
    grid = asked.settings["tuning"]["learning_rates"]
    for line in asked.stored(f"tuning_{task}"):
        if line["arm"] == arm and line["learning_rate"] in grid:
            found.setdefault(line["learning_rate"], []).append(float(np.mean(line["accuracy"][1:])))
    return sorted(found, key=lambda rate: -float(np.mean(found[rate])))


def rate_of(asked: Study, task: str, arm: str) -> float:
    """The tuned learning rate of an arm, or of the one that it names.

    Raises:
        SystemExit: if that was not tuned yet.
    """
    family = str(asked.arms[arm].get("rate_of", arm))
    found = ranked(task, family)
    if not found:
        raise SystemExit(
            f"no tuning run of {family} on {task}: run `credit.py tune --task {task} --arms {family}` first"
        )
    return found[0]


def tune(task: str, arms: Sequence[str], cache: Path, workers: int) -> None:
    """Every arm at every rate, over the whole length of a reported run."""
    asked = study(TUNED)
    part = asked.settings["tuning"]
    runs = [
        Run(task, arm, checkpoint, seed, rate, asked.settings["report"]["rounds"])
        for checkpoint in part["checkpoints"]
        for seed in part["seeds"]
        for arm in arms
        for rate in part["learning_rates"]
    ]
    asked.work(runs, name=f"tuning_{task}", cache=cache, workers=workers)
    print("chosen:", {arm: ranked(task, arm)[0] for arm in arms})


def report(asked: Study, task: str, arms: Sequence[str], cache: Path, workers: int) -> None:
    """The reported runs, seed by seed, so that a stop leaves whole seeds."""
    part = asked.settings["report"]
    runs = [
        Run(task, arm, checkpoint, seed, rate_of(asked, task, arm), asked.arms[arm].get("rounds", part["rounds"]))
        for seed in part["seeds"]
        for checkpoint in part["checkpoints"]
        for arm in arms
    ]
    asked.work(runs, name=task, cache=cache, workers=workers)


def write_tables() -> None:
    """Tables of all stored lines into the page, between its marks; plots of the comparison beside it."""
    text = PAGE.read_text()
    for name in STUDIES:
        asked = study(name)
        for task in asked.settings["tasks"]:
            lines = asked.stored(task)
            mark = f"{name}-{task}"
            begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
            if not lines or begin not in text:
                continue
            titles = {arm: str(part["title"]) for arm, part in asked.arms.items()}
            table = comparison(lines, titles) if name == TUNED else questions(lines, asked.arms)
            head, _, rest = text.partition(begin)
            text = f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
            print(f"{mark}\n{table}\n")
            if name == TUNED:
                learning_curves(lines, titles, IMAGES / f"credit_{task}.svg")
            else:
                along_the_rounds(lines, asked.arms, IMAGES / f"credit_{name}_{task}.svg")
    PAGE.write_text(text)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["tune", "run", "table"])
    parser.add_argument("--study", default=TUNED, choices=STUDIES)
    parser.add_argument("--task", default="chain")
    parser.add_argument("--arms", help="default: all of the study")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache", type=Path, default=Path("runs/learning"))
    asked = parser.parse_args()
    chosen = study(asked.study)
    arms = asked.arms.split(",") if asked.arms else list(chosen.arms)
    if asked.verb == "tune":
        tune(asked.task, arms, asked.cache, asked.workers)
    elif asked.verb == "run":
        report(chosen, asked.task, arms, asked.cache, asked.workers)
    else:
        write_tables()


if __name__ == "__main__":
    main()
