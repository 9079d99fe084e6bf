"""Tables and plots of credit.py from its stored lines: equal sampled tokens, equal compute, pass@8 at equal avg@8.

Compute is counted in forward passes of the policy over one token: 1 for a sampled token, 3 for a trained one (forward
and backward), 1 for a token that a judge read or wrote (the judges here have the policy's shape), that a reference read
or that a continuation wrote. Fine-tuning of the policy and of judges is not counted.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from stepcredit.evaluation.intervals import Interval, two_level_bootstrap

TRAINED_COST = 3.0
Line = Mapping[str, Any]
Place = tuple[int, int]


def sampled(line: Line) -> np.ndarray:
    """Tokens sampled for training up to each point of the curve."""
    return np.array(line["spent"]["sampled"], float)


def compute(line: Line) -> np.ndarray:
    """Forward passes over one token up to each point of the curve."""
    spent = {kind: np.array(tokens, float) for kind, tokens in line["spent"].items()}
    return spent["sampled"] + TRAINED_COST * spent["trained"] + spent["judge"] + spent["signal"]


def at(line: Line, axis: Callable[[Line], np.ndarray], budget: float, figure: str = "accuracy") -> float:
    """A figure of the curve at a budget, interpolated; its last value where the run ended below the budget."""
    return float(np.interp(budget, axis(line), np.array(line[figure], float)))


def by_place(lines: Sequence[Line], arm: str) -> dict[Place, Line]:
    """Runs of one arm by (checkpoint, seed)."""
    return {(line["checkpoint"], line["seed"]): line for line in lines if line["arm"] == arm}


def interval(values: Mapping[Place, float]) -> Interval:
    """Mean over runs, resampled by checkpoint, then by seed."""
    clusters = [np.array([x for (c, _), x in values.items() if c == k]) for k in sorted({c for c, _ in values})]
    return two_level_bootstrap(clusters, lambda sample: float(sample.mean()), seed=0)


def text_of(found: Interval, *, signed: bool = False) -> str:
    """`.123 [.100, .150]`."""
    sign = "+" if signed else ""
    return f"{found.value:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def compared(mine: Mapping[Place, Line], base: Mapping[Place, Line], value: Callable[[Line], float]) -> tuple[str, str]:
    """(mean with interval, difference from the paired baseline with interval)."""
    both = [place for place in mine if place in base]
    mean = interval({place: value(mine[place]) for place in mine})
    if not both or all(mine[place] is base[place] for place in both):
        return text_of(mean), "–"
    paired = interval({place: value(mine[place]) - value(base[place]) for place in both})
    return text_of(mean), text_of(paired, signed=True)


def pass_at_equal_average(mine: Line, base: Line) -> float | None:
    """Pass@8 of a run less that of its paired baseline, where both have the same avg@8; `None` if they never have.

    The point is the lower of the two highest averages; each curve is walked to where it first reaches it.
    """
    point = min(max(mine["hard_avg_at_8"]), max(base["hard_avg_at_8"]))
    found = [_first(line["hard_avg_at_8"], line["hard_pass_at_8"], point) for line in (mine, base)]
    if found[0] is None or found[1] is None:
        return None
    return found[0] - found[1]


def _first(average: Sequence[float], passed: Sequence[float], point: float) -> float | None:
    reached = np.flatnonzero(np.array(average) >= point)
    if not len(reached):
        return None
    i = int(reached[0])
    if i == 0:
        return float(passed[0])
    share = (point - average[i - 1]) / (average[i] - average[i - 1])
    return float(passed[i - 1] + share * (passed[i] - passed[i - 1]))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first its head."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]))


def comparison(lines: Sequence[Line], titles: Mapping[str, str]) -> str:
    """One task: every arm at the sampled tokens and at the compute that all have spent, beside GRPO."""
    base = by_place(lines, "grpo")
    tokens = min(float(sampled(line)[-1]) for line in lines)
    forward = min(float(compute(line)[-1]) for line in base.values())
    head = [
        "rule", "runs", "learning rate", f"accuracy at {tokens / 1e3:.0f}k sampled tokens", "against GRPO",
        f"accuracy at {forward / 1e6:.2f}M forward tokens", "against GRPO", "mean@8", "pass@8", "compute / GRPO's",
        "CPU s",
    ]  # fmt: skip
    rows = [head]
    for arm, title in titles.items():
        mine = by_place(lines, arm)
        if not mine:
            continue
        cost = np.mean([compute(line)[-1] for line in mine.values()]) / np.mean([compute(x)[-1] for x in base.values()])
        rate = next(iter(mine.values()))["learning_rate"]
        rows.append([
            title, str(len(mine)), f"{rate:g}",
            *compared(mine, base, lambda line: at(line, sampled, tokens)),
            *compared(mine, base, lambda line: at(line, compute, forward)),
            compared(mine, base, lambda line: float(line["avg_at_8"]))[0],
            compared(mine, base, lambda line: float(line["pass_at_8"]))[0],
            f"{cost:.2f}", f"{np.mean([line['cpu_seconds'] for line in mine.values()]):.0f}",
        ])  # fmt: skip
    return markdown(rows)


def plot(lines: Sequence[Line], titles: Mapping[str, str], path: Path) -> None:
    """Mean curves over sampled tokens and over compute, side by side, as an SVG file."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    colours = _colours(len(titles))
    for axis, name, panel in ((sampled, "sampled tokens", panels[0]), (compute, "forward tokens, all", panels[1])):
        for (arm, title), colour in zip(titles.items(), colours, strict=True):
            mine = list(by_place(lines, arm).values())
            if not mine:
                continue
            ends = min(float(axis(line)[-1]) for line in mine)
            grid = np.linspace(0.0, ends, 50)
            curves = np.array([np.interp(grid, axis(line), np.array(line["accuracy"], float)) for line in mine])
            panel.plot(grid, curves.mean(0), label=title, color=colour, lw=2.4 if arm == "grpo" else 1.3)
        panel.set_xlabel(name)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy on 128 held-out problems")
    panels[1].set_xscale("symlog", linthresh=1e5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def _colours(count: int) -> list[Any]:
    return [colormaps["turbo"](0.05 + 0.9 * i / max(count - 1, 1)) for i in range(count)]
