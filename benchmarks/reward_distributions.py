"""Process and outcome on the same samples: how both parts of each token's advantage are distributed.

    python benchmarks/reward_distributions.py --checkpoint runs/learning/reflection-0 [--arm alpha_2] [--rounds 3]
    python benchmarks/reward_distributions.py --folder runs/demo/arms/tp_grpo_markers-seed0

A question that TP-GRPO leaves open. The first trains a short run of an arm of credit_tp_grpo.toml; the second reads the
folder of an arm that has ended. The outcome part is the rule's advantage at process weight 0, the process part what
weight 1 adds to it, on every completion token of every scorable rollout, before anything is filtered. Steps are those
of the world; positions are quarters of the think block by number of steps, and the answer block. Writes
results/reward_distributions.json and reward_distributions.md.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import credit
import numpy as np
import torch
from world_runs import RESULTS

from stepcredit.core.records import Group, Judgement, Outcome, Steps
from stepcredit.credit import rule_named
from stepcredit.recipes.arm_rules.arm import ArmPart, SchedulePart
from stepcredit.recipes.arm_rules.credit import ArmCredit, settings_of
from stepcredit.recipes.arms import ArmJob, run_arm
from stepcredit.recipes.demo_settings import WorldPart
from stepcredit.recipes.judge_figures import recorded_outcomes
from stepcredit.recipes.world import WorldTask, true_steps
from stepcredit.store.codec import decode
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import LEDGER, read_json
from stepcredit.training.evaluate import STAGE as JUDGEMENTS

POSITIONS = ("1st quarter", "2nd quarter", "3rd quarter", "4th quarter", "answer")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
EDGES = np.linspace(-4.0, 4.0, 33)
"""Bins of the histograms; what lies outside is counted in the first and the last."""

NOTHING = 1e-6
"""An advantage so small is none: float32 sums do not cancel to the last bit."""


@final
@dataclass(frozen=True)
class Tokens:
    """Columns, one entry a completion token.

    Args:
        right: the rollout's outcome.
        position: index of `POSITIONS`.
        truth: 1 where the token's step is truly right, 0 where it is wrong, NaN where nobody can say.
        outcome: advantage by the outcome alone.
        process: what the verdicts add.
    """

    right: np.ndarray
    position: np.ndarray
    truth: np.ndarray
    outcome: np.ndarray
    process: np.ndarray

    def where(self, chosen: np.ndarray) -> "Tokens":
        """The chosen tokens."""
        return Tokens(*(column[chosen] for column in vars(self).values()))

    @staticmethod
    def joined(parts: Sequence["Tokens"]) -> "Tokens":
        """All tokens of several."""
        return Tokens(*(np.concatenate(columns) for columns in zip(*(vars(p).values() for p in parts), strict=True)))


def positions_of(steps: Steps) -> np.ndarray:
    """[T] index of `POSITIONS` of each token."""
    think = int((~steps.in_answer).sum())
    index = [4 if inside else 4 * k // think for k, inside in enumerate(steps.in_answer.tolist())]
    return np.repeat(np.array(index, np.int64), sizes_of(steps))


def truths_of(steps: Steps) -> np.ndarray:
    """[T] exact truth of each token's step."""
    found = [np.nan if value is None else float(value) for value in true_steps(steps)]
    return np.repeat(np.array(found, np.float64), sizes_of(steps))


def sizes_of(steps: Steps) -> np.ndarray:
    """[K] tokens of each step."""
    return np.diff(np.append(steps.starts, len(steps.rollout.completion_ids)))


def tokens_of(arm: ArmPart, groups: Sequence[Group], judgements: Sequence[Judgement], *, seed: int) -> Tokens:
    """Both parts of every token's advantage in one round."""
    rule = ArmCredit(arm, seed)
    whole, plain = (
        rule(groups, judgements, process_weight=weight, round_index=0, signals={}).credits for weight in (1.0, 0.0)
    )
    parts: list[Tokens] = []
    for judgement, full, base in zip(judgements, whole, plain, strict=True):
        steps = judgement.steps
        known = np.isfinite(full.advantages) & np.isfinite(base.advantages)
        found = Tokens(
            np.full(len(known), steps.outcome.status == "right"),
            positions_of(steps),
            truths_of(steps),
            base.advantages.astype(np.float64),
            full.advantages.astype(np.float64) - base.advantages,
        )
        parts.append(found.where(known))
    return Tokens.joined(parts)


async def recorded(folder: Path) -> tuple[ArmPart, dict[int, Tokens], int]:
    """The arm of a folder, both parts of its tokens by round, and its seed.

    Raises:
        SystemExit: if the folder holds no arm, or one whose rule reads what no folder keeps.
    """
    manifest = read_json(folder, "manifest.json")
    if manifest is None or "settings" not in manifest:
        raise SystemExit(f"{folder}: no run folder of an arm; name one like runs/demo/arms/tp_grpo_markers-seed0")
    settings = manifest["settings"]
    arm = ArmPart.model_construct(**{**settings, "schedule": SchedulePart(**settings["schedule"])})
    wanted = rule_named(arm.rule).wanted(settings_of(arm))
    if arm.judge == "none" or wanted:
        reads = ", ".join(wanted) or "no verdicts"
        raise SystemExit(f"{folder}: rule {arm.rule} reads {reads}; take an arm that is paid for verdicts alone")
    task = WorldTask(WorldPart(**manifest["recipe"]["world"]))
    ledger = Ledger(folder / LEDGER, journal=None)
    try:
        said = {key.split("/")[0]: payload for key, payload in ledger.items(JUDGEMENTS)}
    finally:
        ledger.close()
    rounds = sorted({int(name[1 : name.index("-")]) for name in said})
    found: dict[int, Tokens] = {}
    for index, outcomes in (await recorded_outcomes(task, folder / LEDGER, rounds)).items():
        kept = sorted((o for o in outcomes if o.rollout.id in said), key=lambda o: (o.rollout.group, o.rollout.sample))
        by_group: dict[str, list[Outcome]] = {}
        for outcome in kept:
            by_group.setdefault(outcome.rollout.group, []).append(outcome)
        cut = [task.splitter.split(outcome) for outcome in kept]
        judged = [decode(said[c.rollout.id], resolve=lambda _kind, _name, c=c: c) for c in cut]
        groups = [Group(name, tuple(members)) for name, members in by_group.items()]
        found[index] = tokens_of(arm, groups, judged, seed=manifest["seed"])
    return arm, found, manifest["seed"]


def described(values: np.ndarray) -> dict[str, Any]:
    """Quantiles, moments, shares and histogram of one column."""
    if not len(values):
        return {"tokens": 0}
    counts, _ = np.histogram(np.clip(values, EDGES[0], EDGES[-1]), EDGES)
    return {
        "tokens": len(values),
        "mean": round(float(values.mean()), 4),
        "std": round(float(values.std()), 4),
        "quantiles": [round(float(q), 4) for q in np.quantile(values, QUANTILES)],
        "below": round(float((values < -NOTHING).mean()), 4),
        "above": round(float((values > NOTHING).mean()), 4),
        "histogram": counts.tolist(),
    }


def compared(tokens: Tokens) -> dict[str, Any]:
    """Both parts of the same tokens beside one another; shares are of all these tokens."""
    outcome, process = tokens.outcome, tokens.process
    moved, whole = np.abs(process) > NOTHING, outcome + process
    spread = len(outcome) > 0 and outcome.std() > NOTHING and process.std() > NOTHING
    size = float(np.abs(outcome).mean()) if len(outcome) else 0.0
    found: dict[str, Any] = {
        "outcome": described(outcome),
        "process": described(process),
        "sum": described(whole),
        "moved": round(float(moved.mean()), 4) if len(moved) else None,
        "turned": round(float((moved & (outcome * whole < -NOTHING)).mean()), 4) if len(moved) else None,
        "silenced": round(float((moved & (np.abs(whole) <= NOTHING)).mean()), 4) if len(moved) else None,
        "process_alone": round(float((moved & (np.abs(outcome) <= NOTHING)).mean()), 4) if len(moved) else None,
        "size_ratio": round(float(np.abs(process).mean()) / size, 4) if size else None,
        "correlation": round(float(np.corrcoef(outcome, process)[0, 1]), 4) if spread else None,
    }
    for name, side in (("truly_right", 1.0), ("truly_wrong", 0.0)):
        part = process[tokens.truth == side]
        found[f"process_{name}"] = round(float(part.mean()), 4) if len(part) else None
    return found


def figures(rounds: Mapping[int, Tokens]) -> dict[str, Any]:
    """By first, last and all rounds, by side, by position."""
    spans = {f"round {min(rounds) + 1}": [min(rounds)], f"round {max(rounds) + 1}": [max(rounds)]}
    spans["all rounds"] = list(rounds)
    found: dict[str, Any] = {}
    for when, chosen in spans.items():
        tokens = Tokens.joined([rounds[index] for index in chosen])
        for side, right in (("right", True), ("wrong", False)):
            mine = tokens.where(tokens.right == right)
            places = {name: compared(mine.where(mine.position == k)) for k, name in enumerate(POSITIONS)}
            found.setdefault(when, {})[side] = {"all": compared(mine), "positions": places}
    return found


def table(found: Mapping[str, Any]) -> str:
    """Markdown: one row a span, side and position."""
    head = [
        "rounds", "side", "position", "tokens", "outcome 5% / 50% / 95%", "process 5% / 50% / 95%", "process mean",
        "moved", "turned", "silenced", "process alone", "size", "truly right", "truly wrong",
    ]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for when, sides in found.items():
        for side, parts in sides.items():
            for place, one in {"all": parts["all"], **parts["positions"]}.items():
                rows.append([when, side, place, *cells(one)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def cells(one: Mapping[str, Any]) -> list[str]:
    """Cells of one row; a dash where nothing was counted."""
    if not one["outcome"]["tokens"]:
        return ["0", *["-"] * 10]
    spans = [" / ".join(f"{one[part]['quantiles'][k]:.2f}" for k in (0, 2, 4)) for part in ("outcome", "process")]
    names = ("moved", "turned", "silenced", "process_alone", "size_ratio", "process_truly_right", "process_truly_wrong")
    told = ["-" if one[name] is None else f"{one[name]:.3f}" for name in names]
    return [f"{one['outcome']['tokens']:,}", *spans, f"{one['process']['mean']:.3f}", *told]


def page(title: str, found: Mapping[str, Any], *, source: str) -> str:
    """The results page."""
    return (
        f"# Process and outcome on the same samples: {title}\n\n{source}\n\n"
        "Every number counts completion tokens. *Moved*: the process part is not 0. *Turned*: the sum has the other "
        "sign than the outcome part. *Silenced*: the sum is 0. *Process alone*: the outcome part is 0 (a group without "
        "spread). *Size*: mean size of the process part over that of the outcome part. *Truly right*, *truly wrong*: "
        "mean process part on tokens of steps that are truly so. Quarters count steps of the think block.\n\n"
        f"{table(found)}\n\nHistograms and more quantiles: reward_distributions.json.\n"
    )


def trained(checkpoint: Path, arm: str, rounds: int, out: Path) -> None:
    """A short run of an arm of the TP-GRPO study, at the learning rate of the demo."""
    torch.set_num_threads(1)
    recipe = credit.study("tp_grpo").recipe_of("reflection", 0, rounds=rounds)
    if arm not in recipe.arms:
        raise SystemExit(f"credit_tp_grpo.toml has no arm {arm}; it has {', '.join(recipe.arms)}")
    run_arm(ArmJob(recipe, arm, 0, checkpoint, out), lambda row: print(f"round {row.index + 1}: {row.accuracy}"))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="of an arm that has ended; nothing is trained then")
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/learning/reflection-0"))
    parser.add_argument("--arm", default="alpha_2")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stepcredit-rewards-") as place:
        folder = asked.folder or Path(place) / "run"
        if asked.folder is None:
            trained(asked.checkpoint, asked.arm, asked.rounds, folder)
        arm, rounds, seed = asyncio.run(recorded(folder))
    found = figures(rounds)
    source = f"Arm *{arm.title}* (rule {arm.rule}, judge {arm.judge}), seed {seed}, {len(rounds)} rounds."
    told = {"arm": arm.title, "rule": arm.rule, "seed": seed, "rounds": len(rounds), "edges": EDGES.tolist()}
    told |= {"quantiles": list(QUANTILES), "figures": found}
    (RESULTS / "reward_distributions.json").write_text(json.dumps(told, indent=1) + "\n")
    text = page(arm.title, found, source=source)
    (RESULTS / "reward_distributions.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
