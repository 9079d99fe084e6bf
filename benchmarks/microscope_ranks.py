"""Whether what the microscope sees of a rule says how well it trains: rank correlations, with exact p-values."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FIGURES = ("cosine", "one_group", "noise", "advantages")
"""What is held against the trained comparison. Less noise is better: its correlation should be negative."""

OUTCOMES = ("final accuracy", "mean of the curve")
ENOUGH = 4
"""Fewer rules than these are not compared: no order of three is rare."""

EXACT = 14
"""Up to so many rules the permutations are counted, not drawn."""


EARLIER = {
    "grpo": "grpo",
    "adaptive_2": "tp_grpo",
    "fixed_2": "tp_grpo_fixed",
    "oracle_1": "tp_grpo_oracle",
    "correct_only": "tp_grpo_correct",
    "step_level": "tp_grpo_step",
    "flipped": "tp_grpo_flipped_markers",
    "shuffled": "tp_grpo_shuffled",
}
"""Arms of docs/learning.md -> the same arms in the world part."""

NAMED = {"fixed_2": "tp_grpo_fixed", "fixed_2_shuffled": "tp_grpo_shuffled", "tp_taught": "tp_grpo_oracle"}
"""Arms of the comparison whose names differ; its taught judge is read as the oracle that it was taught by."""

LEARNING = "docs/learning.md"


def ranks(values: Sequence[float]) -> np.ndarray:
    """[n] twice the rank of each value, from 2, ties at their mean: integers.

    >>> ranks([0.5, 0.1, 0.5])
    array([5, 2, 5])
    """
    column = np.asarray(values, float)
    below = (column[:, None] > column).sum(1)
    return 2 * below + (column[:, None] == column).sum(1) + 1


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Correlation of the ranks; NaN if one side is all ties.

    >>> spearman([1.0, 2.0, 3.0], [1.0, 4.0, 9.0])
    1.0
    """
    x, y = ranks(one) - len(one) - 1.0, ranks(other) - len(other) - 1.0
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size else float("nan")


def p_value(one: Sequence[float], other: Sequence[float]) -> float:
    """Share of all pairings of the two sides whose rank correlation is at least as far from 0 as this one.

    All n! are counted up to 14 rules, by the set of partners that are taken; above that 100,000 are drawn.

    >>> p_value([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]) * 24
    2.0
    """
    x, y = ranks(one), ranks(other)
    middle = float(x.sum() * y.sum()) / len(x)
    far = abs(float(x @ y) - middle) - 1e-9
    if len(x) > EXACT:
        rng = np.random.default_rng(0)
        sums = np.array([x @ rng.permutation(y) for _ in range(100_000)])
        return float((1 + (np.abs(sums - middle) >= far).sum()) / (len(sums) + 1))
    counts = sums_of_pairings(x, y)
    return float(counts[np.abs(np.arange(len(counts)) - middle) >= far].sum() / counts.sum())


def sums_of_pairings(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[largest sum + 1] number of pairings of x with y by the sum of their products.

    >>> sums_of_pairings(np.array([1, 2]), np.array([1, 2]))
    array([0., 0., 0., 0., 1., 1.])
    """
    longest = int(np.sort(x) @ np.sort(y)) + 1
    level = {0: np.eye(1, longest)[0]}
    for own in x.tolist():
        following: dict[int, np.ndarray] = {}
        for taken, counts in level.items():
            for place, partner in enumerate(y.tolist()):
                if not taken >> place & 1:
                    key, step = taken | 1 << place, own * partner
                    total = following.setdefault(key, np.zeros(longest))
                    total[step:] += counts[: longest - step]
        level = following
    return level[(1 << len(y)) - 1]


def trained(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Task -> arm -> means over its runs: final accuracy, and mean of the curve.

    Read from results/credit_comparison_TASK.jsonl, and from the runs of docs/learning.md as `TASK, docs/learning.md`.
    """
    runs: dict[str, dict[str, list[tuple[float, float]]]] = {}
    earlier = [folder / f"learning_{task}.jsonl" for task in ("reflection", "chain")]
    reported = sorted(path for path in folder.glob("credit_comparison_*.jsonl") if "_tuning_" not in path.name)
    for path in [*reported, *(path for path in earlier if path.exists())]:
        for line in path.read_text(encoding="utf-8").splitlines():
            told: dict[str, Any] = json.loads(line)
            task, arm = str(told.get("task", path.stem)), told.get("arm")
            if path in earlier:
                task, arm = f"{task}, {LEARNING}", EARLIER.get(str(arm))
            else:
                arm = NAMED.get(str(arm), arm)
            if arm is not None and "final_accuracy" in told and told.get("accuracy"):
                found = (float(told["final_accuracy"]), float(np.mean(told["accuracy"])))
                runs.setdefault(task, {}).setdefault(arm, []).append(found)
    return {
        task: {arm: dict(zip(OUTCOMES, np.mean(found, axis=0).tolist(), strict=True)) for arm, found in arms.items()}
        for task, arms in runs.items()
    }


def compared(
    stages: Sequence[Mapping[str, Any]], arms: Mapping[str, Mapping[str, float]]
) -> list[dict[str, float | int | str]]:
    """A line for each stage, figure and outcome: rank correlation over the rules that both sides know."""
    found: list[dict[str, float | int | str]] = []
    for stage in stages:
        for figure in FIGURES:
            seen = {name: told[figure] for name, told in stage["rules"].items() if np.isfinite(told[figure])}
            both = sorted(set(seen) & set(arms))
            if len(both) < ENOUGH:
                continue
            for outcome in OUTCOMES:
                pair = [seen[name] for name in both], [arms[name][outcome] for name in both]
                line = {"updates": stage["updates"], "figure": figure, "outcome": outcome, "rules": len(both)}
                found.append(line | {"spearman": spearman(*pair), "p": p_value(*pair)})
    return found
