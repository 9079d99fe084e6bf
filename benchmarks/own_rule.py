"""Witness credit (docs/own_rule.md): chosen on task E, frozen, then reported once on a task made afterwards.

    python benchmarks/own_rule.py tune      the candidates of own_rule.toml, on task E; may be stopped and started again
    python benchmarks/own_rule.py freeze    writes the choice to results/own_rule_frozen.json, once; commit it
    python benchmarks/own_rule.py report    own_rule_report.toml: GRPO, fixed 2, the frozen rule, and it shuffled
    python benchmarks/own_rule.py table     the tables of docs/own_rule.md, and its plot

`report` refuses to run before the choice is committed, and `freeze` to choose again. Raw results are appended to
results/own_rule_*.jsonl, one line a run.
"""

import argparse
import json
import subprocess
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from credit_plots import along_the_rounds
from world_runs import HERE, RESULTS, Run, Study

from stepcredit.evaluation.crossing import paired_speedup, rollouts_to
from stepcredit.evaluation.intervals import over_runs

PAGE = HERE.parent / "docs" / "own_rule.md"
IMAGE = HERE.parent / "docs" / "images" / "own_rule.svg"
FROZEN = RESULTS / "own_rule_frozen.json"
TASK = HERE / "own_rule_report.toml"
# Shorter curves than learning.py's while tuning: what is compared is their mean.
TUNING = ("measure.problems=128", "measure.pass_problems=8", "measure.final_problems=512", "monitors.act=false")
OURS, SHUFFLED = "witness", "shuffled"
DRAWN = {"accuracy": "accuracy, held out", "first_guess": "first guesses right", "catch": "wrong ones caught"}

Line = Mapping[str, Any]


def tuning() -> Study:
    """The candidates."""
    return Study("own_rule", tomllib.loads((HERE / "own_rule.toml").read_text()), TUNING)


def ranked() -> list[tuple[str, float]]:
    """(Candidate, learning rate) that ran from every tuning checkpoint and seed, best mean of the curve first."""
    part, found = tuning().settings["tuning"], dict[tuple[str, float], list[float]]()
    for line in tuning().stored("tuning"):
        found.setdefault((line["arm"], line["learning_rate"]), []).append(float(np.mean(line["accuracy"][1:])))
    whole = [key for key, means in found.items() if len(means) == len(part["checkpoints"]) * len(part["seeds"])]
    return sorted(whole, key=lambda key: -float(np.mean(found[key])))


def tune(arms: Sequence[str], cache: Path, workers: int) -> None:
    """The candidates at every rate of theirs, checkpoint by checkpoint."""
    study = tuning()
    part = study.settings["tuning"]
    runs = [
        Run("reflection", arm, checkpoint, seed, rate, part["rounds"])
        for checkpoint in part["checkpoints"]
        for seed in part["seeds"]
        for arm in arms or study.arms
        for rate in part["learning_rates"]
    ]
    study.work(runs, name="tuning", cache=cache, workers=workers)
    print("ranked:", ranked())


def freeze() -> None:
    """Write the best candidate down, once.

    Raises:
        SystemExit: if a choice is frozen already, or the report task exists before it.
    """
    if FROZEN.exists():
        raise SystemExit(f"{FROZEN.name} is there: the choice is frozen")
    if TASK.exists():
        raise SystemExit(f"{TASK.name} is there: the task may not be made before the choice is frozen")
    arm, rate = ranked()[0]
    chosen = {"candidate": arm, "learning_rate": rate, "arm": tuning().arms[arm]}
    FROZEN.write_text(json.dumps(chosen, indent=2) + "\n")
    print(f"frozen: {arm} at {rate:g}; commit {FROZEN.name} before the report task is made")


def reporting() -> Study:
    """The report task with its arms: the baselines, the frozen rule, and its shuffled control.

    Raises:
        SystemExit: if the choice is not frozen, or not committed as it stands.
    """
    if not FROZEN.exists() or _git("status", "--porcelain", "--", str(FROZEN)):
        raise SystemExit(f"freeze first, and commit {FROZEN.name}: the choice must stand before the report")
    settings = tomllib.loads(TASK.read_text())
    own = json.loads(FROZEN.read_text())["arm"]
    shuffled = {**own, "title": f"{own['title']}, shuffled", "shuffled": True}
    return Study("own_rule", {**settings, "arms": {**settings["arms"], OURS: own, SHUFFLED: shuffled}})


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HERE, check=True, capture_output=True, text=True).stdout


def report(cache: Path, workers: int) -> None:
    """The reported runs, seed by seed, so that a stop leaves whole seeds."""
    study = reporting()
    part = study.settings["report"]
    frozen = float(json.loads(FROZEN.read_text())["learning_rate"])
    rates = {**part["learning_rates"], OURS: frozen, SHUFFLED: frozen}
    runs = [
        Run(part["task"], arm, checkpoint, seed, rates[arm], part["rounds"])
        for seed in part["seeds"]
        for checkpoint in part["checkpoints"]
        for arm in study.arms
    ]
    study.work(runs, name="report", cache=cache, workers=workers)


def by_checkpoint(found: Mapping[tuple[int, int], Any], of: Callable[[Any], Any]) -> list[list[Any]]:
    """Figures of the places, one list a checkpoint."""
    checkpoints = sorted({checkpoint for checkpoint, _ in found})
    return [[of(found[place]) for place in sorted(found) if place[0] == one] for one in checkpoints]


def table(study: Study, base: str) -> str:
    """Markdown: rollouts of `base` over those of each arm, and what the arms end at; paired by checkpoint and seed."""
    part = study.settings["report"]
    lines = {(x["arm"], x["checkpoint"], x["seed"]): x for x in study.stored("report")}
    crossings = [f"to {figure} {level}" for figure, level in part["levels"]]
    head = ["method", "runs", "final accuracy", "final catch rate", *crossings, "never"]
    rows = [[word.replace("_", " ") for word in head], ["---"] * len(head)]
    for arm, written in study.arms.items():
        places = [(c, s) for name, c, s in lines if name == arm and (base, c, s) in lines]
        if not places:
            continue
        pairs = {place: (lines[base, *place], lines[arm, *place]) for place in places}
        cells, never = [_mean(pairs, "final_accuracy"), _mean(pairs, "catch")], list[str]()
        for figure, level in part["levels"]:
            crossed = by_checkpoint(pairs, lambda pair, f=figure, x=level: tuple(_crossing(run, f, x) for run in pair))
            speed = paired_speedup(crossed, budget=float(next(iter(pairs.values()))[1]["rollouts"][-1]), seed=0)
            cells.append(f"{speed.ratio.value:.2f} [{speed.ratio.low:.2f}, {speed.ratio.high:.2f}]")
            never.append(f"{speed.method_censored}/{speed.baseline_censored}")
        rows.append([written["title"], str(len(places)), *cells, ", ".join(never)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _mean(pairs: Mapping[tuple[int, int], tuple[Line, Line]], figure: str) -> str:
    """Mean of the arm's figure (the last one of a curve) with its 95% interval over runs."""

    def last(pair: tuple[Line, Line]) -> float:
        value = pair[1][figure]
        return float(value[-1] if isinstance(value, list) else value)

    found = over_runs([np.array(one) for one in by_checkpoint(pairs, last)], seed=0)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _crossing(line: Line, figure: str, level: float) -> float | None:
    return rollouts_to(np.array(line["rollouts"], float), np.array(line[figure], float), level)


def tuning_table() -> str:
    """Markdown: the candidates' curves."""
    head = ["candidate", "rate", "checkpoint", "accuracy, round by round", "first guess", "catch", "final accuracy"]
    rows = [head, ["---"] * len(head)]
    for line in tuning().stored("tuning"):
        curve = " ".join(f"{x:.2f}" for x in line["accuracy"])
        ends = [f"{line[name][-1]:.2f}" for name in ("first_guess", "catch")]
        rate, final = f"{line['learning_rate']:g}", f"{line['final_accuracy']:.3f}"
        rows.append([line["arm"], rate, str(line["checkpoint"]), curve, *ends, final])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def write_tables() -> None:
    """Tables of what is stored, into docs/own_rule.md between their marks."""
    text = PAGE.read_text()
    found = {"tuning": tuning_table()}
    if TASK.exists():
        study = reporting()
        found |= {base: table(study, base) for base in ("grpo", "fixed_2")}
        shown = {
            arm: {**part, "question": "all" if arm == "grpo" else "four divisions"} for arm, part in study.arms.items()
        }
        along_the_rounds(study.stored("report"), shown, IMAGE, along=DRAWN)
    for name, rows in found.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        head, _, rest = text.partition(begin)
        text = f"{head}{begin}\n{rows}\n{end}{rest.partition(end)[2]}"
        print(f"{name}\n{rows}\n")
    PAGE.write_text(text)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["tune", "freeze", "report", "table"])
    parser.add_argument("--arms", default="", help="of tune: only these candidates")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("runs/learning"))
    asked = parser.parse_args()
    if asked.verb == "tune":
        tune([name for name in asked.arms.split(",") if name], asked.cache, asked.workers)
    elif asked.verb == "freeze":
        freeze()
    elif asked.verb == "report":
        report(asked.cache, asked.workers)
    else:
        write_tables()


if __name__ == "__main__":
    main()
