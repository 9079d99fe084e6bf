"""Plots of credit.py from its stored lines: learning curves of the comparison; what a study's arms do on the way."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from credit_tables import Line, by_place, compute, sampled
from matplotlib import rc_context
from matplotlib.figure import Figure

COLOURS = 10
"""Colours of matplotlib's cycle."""
STYLES = ("-", "--", ":")
"""Lines of the first ten arms, of the next ten, and of the rest."""
ALONG = {
    "accuracy": "accuracy, held out",
    "sampling_entropy": "entropy, nats a token",
    "start_kl_k1": "KL to the start, nats a token",
}
"""What a study draws round by round, each with its label."""


def learning_curves(lines: Sequence[Line], titles: Mapping[str, str], path: Path) -> None:
    """Mean curves over sampled tokens and over compute, side by side, as an SVG file."""
    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    shown = [arm for arm in titles if by_place(lines, arm)]
    axes = (
        (panels[0], sampled, "sampled tokens, millions", False),
        (panels[1], compute, "forward tokens, all, millions, from the first round on", True),
    )
    for panel, axis, name, log in axes:  # the dearest arm spends ten times the compute of the cheapest
        for place, arm in enumerate(shown):
            mine = list(by_place(lines, arm).values())
            ends = min(float(axis(line)[-1]) for line in mine)
            start = max(float(axis(line)[1]) for line in mine)
            grid = np.geomspace(start, ends, 50) if log else np.linspace(0.0, ends, 50)
            curves = np.array([np.interp(grid, axis(line), np.array(line["accuracy"], float)) for line in mine])
            style = STYLES[min(place // COLOURS, len(STYLES) - 1)]
            width = 3.0 if arm == "grpo" else 1.6
            colour = "black" if arm == "grpo" else f"C{place % COLOURS}"
            panel.plot(grid / 1e6, curves.mean(0), style, label=titles[arm], color=colour, lw=width)
        if log:
            panel.set_xscale("log")
            panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlabel(name)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy on 128 held-out problems")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    _save(figure, path)


def along_the_rounds(
    lines: Sequence[Line], arms: Mapping[str, Mapping[str, Any]], path: Path, *, along: Mapping[str, str] = ALONG
) -> None:
    """One row a question, one column a figure of `along`: means over runs, with the range of the runs, as an SVG file.

    Arms that others stand beside are in their row too. Arms of a length of their own (`rounds`) are left out.
    """
    drawn = {arm: part for arm, part in arms.items() if "rounds" not in part and by_place(lines, arm)}
    asked = list(dict.fromkeys(str(part["question"]) for part in drawn.values() if part["question"] != "all"))
    if not asked:
        return
    figure = Figure(figsize=(12.5, 2.6 * len(asked)), layout="constrained")
    grid = figure.subplots(len(asked), len(along), squeeze=False)
    for question, row in zip(asked, grid, strict=True):
        beside = {part.get("beside") for part in drawn.values() if part["question"] == question}
        shown = {arm: part for arm, part in drawn.items() if part["question"] in ("all", question) or arm in beside}
        for (name, label), panel in zip(along.items(), row, strict=True):
            for place, (arm, part) in enumerate(shown.items()):
                runs = list(by_place(lines, arm).values())
                rollouts = np.array(runs[0]["rollouts"], float) / 1e3
                curves = np.array([[np.nan if x is None else x for x in line[name]] for line in runs], float)
                known = ~np.isnan(curves).any(axis=0)
                colour = "black" if part["question"] == "all" else f"C{place % COLOURS}"
                panel.plot(rollouts[known], curves[:, known].mean(0), color=colour, label=str(part["title"]), lw=1.6)
                low, high = curves[:, known].min(0), curves[:, known].max(0)
                panel.fill_between(rollouts[known], low, high, color=colour, alpha=0.12, lw=0)
            panel.set_ylabel(label, fontsize=8)
            panel.tick_params(labelsize=8)
            panel.grid(alpha=0.3)
            panel.spines[["top", "right"]].set_visible(False)
        row[0].set_title(question, loc="left", fontsize=9)
        row[-1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for panel in grid[-1]:
        panel.set_xlabel("rollouts, thousands", fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """The same figure gives the same bytes."""
    with rc_context({"svg.hashsalt": path.name}):
        figure.savefig(path, metadata={"Date": None})
