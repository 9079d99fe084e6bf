"""How good the embedded task's judges are on a policy's rollouts, at the start of training and at its end.

    python benchmarks/judges.py [--checkpoints 0,2] [--cache runs/learning]

For each checkpoint of learning.toml, one arm is trained, and all rollouts of its first and last round are judged: share
parsed, agreement with markers for each protocol, precision and recall against exact truth. The checkpoints are those of
learning.py and share its cache; no setting of a judge was chosen on them. Writes results/judges.json and judges.md.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from learning import HERE, SETTINGS, STUDY, rates

from stepcredit.recipes.arms import ArmJob, run_arm
from stepcredit.recipes.judge_figures import COLUMNS, Figures, measure_judges, recorded_outcomes
from stepcredit.recipes.world import WorldTask
from stepcredit.store.run_folder import LEDGER

ARM, JUDGES = "adaptive_2", ("generative", "markers", "taught")


def measured(checkpoint: int, cache: Path) -> dict[str, dict[str, Figures]]:
    """Judge -> round -> figures, for one checkpoint."""
    folder = cache / f"reflection-{checkpoint}"
    if not STUDY.prepare("reflection", checkpoint, folder, ("generative", "taught")):
        raise SystemExit(f"checkpoint {checkpoint} missed its gate")
    recipe = STUDY.recipe_of("reflection", checkpoint, rounds=SETTINGS["report"]["rounds"])
    arms = {ARM: recipe.arms[ARM].model_copy(update={"learning_rate": rates()[ARM]})}
    out = cache / f"judges-{checkpoint}"
    run_arm(ArmJob(recipe.model_copy(update={"arms": arms}), ARM, 0, folder, out))
    ends = (0, recipe.rounds.rounds - 1)
    rounds = asyncio.run(recorded_outcomes(WorldTask(recipe.world), out / LEDGER, ends))
    return measure_judges(recipe, folder, rounds, judges=JUDGES)


def table(found: dict[str, dict[str, dict[str, Figures]]]) -> str:
    """Markdown table, one row a judge, round and checkpoint."""
    head = ["judge", "policy", "checkpoint", *COLUMNS.values()]
    rows = [head, ["---"] * len(head)]
    for judge in JUDGES:
        for when in found[next(iter(found))][judge]:
            for checkpoint, judges in found.items():
                rows.append([judge, when, checkpoint, *(cell(key, judges[judge][when].get(key)) for key in COLUMNS)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def cell(key: str, value: float | None) -> str:
    """One figure as text."""
    if value is None:
        return "–"
    return str(int(value)) if key == "solutions" else f"{value:.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", default=",".join(map(str, SETTINGS["report"]["checkpoints"])))
    parser.add_argument("--cache", type=Path, default=Path("runs/learning"))
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found: dict[str, Any] = {name: measured(int(name), asked.cache) for name in asked.checkpoints.split(",")}
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "judges.json").write_text(json.dumps(found, indent=1) + "\n")
    (results / "judges.md").write_text(f"# Judges on policy rollouts\n\n{table(found)}\n")
    print(table(found))


if __name__ == "__main__":
    main()
