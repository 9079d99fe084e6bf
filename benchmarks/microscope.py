"""The microscope: bias and variance of every rule's policy gradient, beside the true one, at three stages of training.

    python benchmarks/microscope.py tabular      a small world in which everything is enumerated; a minute or two
    python benchmarks/microscope.py world --checkpoint runs/learning/reflection-0     the embedded world; minutes
    python benchmarks/microscope.py table        results/microscope.md and the tables of docs/microscope.md again

Each call also holds the figures against the trained comparison, results/credit_comparison_TASK.jsonl, if that is there,
and against the runs of docs/learning.md.
"""

import argparse
import asyncio
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from microscope_ranks import LEARNING, OUTCOMES, compared, trained
from microscope_rules import ROWS
from microscope_tabular import EASE, ETA, GROUP_SIZE, RATE
from microscope_tabular import measured as measured_tabular
from microscope_world import ARMS, Sizes
from microscope_world import measured as measured_world

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "microscope.md"
UPDATES = (0, 5, 20)

TABULAR = """
One line a rule; the three numbers of a cell are the three stages. *cosine*: of the expected estimate with the true
gradient over all problems (1 is no bias but scale); *off*: the share of the expected estimate's length that lies across
the true gradient; *on each problem*: mean cosine problem by problem; *scale*: its part along the true gradient, over
that; *noise*: variance of one group's estimate over the squared length of its mean; *one group*: mean cosine of a
single group's estimate (0 for a group that says nothing); *advantages*: correlation of a token's credit with its true
advantage.
"""

TABULAR_FIGURES = {
    "cosine": ("cosine", 4),
    "off": ("off", 3),
    "within": ("on each problem", 4),
    "scale": ("scale", 2),
    "noise": ("noise", 1),
    "one_group": ("one group", 2),
    "advantages": ("advantages", 2),
}
PAGE_FIGURES = {name: TABULAR_FIGURES[name] for name in ("cosine", "scale", "noise", "one_group", "advantages")}

WORLD = """
*cosine*: of the arm's gradient with the true one, corrected for the noise in both (it may pass 1), with a jackknife
standard error in brackets; *raw*: without the correction, to be read beside the ceiling; *noise*: variance of one block
(a group of each problem) over the squared length of the mean; *one block*: mean raw cosine of a single block;
*advantages*: correlation of a step's mean credit with its true advantage. A dash is what noise leaves unknown.
"""


RANKED = {
    "one_group": "*one block* or *one group*",
    "noise": "*noise*",
    "cosine": "*cosine*",
    "advantages": "*advantages*",
}
"""Figures of the page's table of rank correlations."""

Ranked = tuple[str, str, list[dict[str, Any]]]
"""Where something was seen, what was trained, and a line for each stage, figure and outcome."""


def stored() -> dict[str, Any]:
    """What was measured so far."""
    path = RESULTS / "microscope.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"tabular": None, "world": {}}


def store(report: Mapping[str, Any]) -> None:
    """Write the results, their page, and the tables of docs/microscope.md between its marks."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "microscope.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    ranks = rank_lines(report)
    (RESULTS / "microscope.md").write_text(markdown(report, ranks), encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    tables = {name: world_table(told["stages"]) for name, told in report["world"].items()}
    if report["tabular"] is not None:
        tables["enumerated"] = tabular_table(report["tabular"]["stages"], PAGE_FIGURES)
    tables["ranks"] = ranks_table(ranks)
    for name, table in tables.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if begin in text:
            head, _, rest = text.partition(begin)
            text = f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    PAGE.write_text(text, encoding="utf-8")


def tabular(options: argparse.Namespace) -> None:
    """The tabular part."""
    spent = time.process_time()
    stages = measured_tabular(ROWS, updates=UPDATES, draws=options.draws, seed=options.seed)
    facts = {"seed": options.seed, "group_size": GROUP_SIZE, "eta": ETA, "ease": EASE, "rate": RATE}
    facts |= {"draws": options.draws, "numpy": np.__version__, "cpu_s": round(time.process_time() - spent, 1)}
    store(stored() | {"tabular": {"facts": facts, "stages": stages}})


def world(options: argparse.Namespace) -> None:
    """The world part, of one checkpoint; each stage is stored as soon as it is done."""
    torch.set_num_threads(1)
    sizes = Sizes(
        problems=options.problems,
        groups=options.groups,
        valued=options.valued,
        truth=options.truth,
        looked=options.looked,
        completions=options.completions,
    )
    facts = {"seed": options.seed, **asdict(sizes), "machine": platform.machine(), "torch": torch.__version__}

    def keep(stages: list[dict[str, Any]]) -> None:
        report = stored()
        report["world"][options.checkpoint.name] = {"facts": facts, "stages": stages}
        store(report)

    asyncio.run(
        measured_world(
            options.checkpoint,
            updates=options.updates,
            sizes=sizes,
            seed=options.seed,
            minutes=options.minutes,
            keep=keep,
        )
    )


def number(value: float, digits: int) -> str:
    """A cell; a dash for what is unknown."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def cells(stages: Sequence[Mapping[str, Any]], name: str, figure: str, digits: int = 2) -> str:
    """One figure of a rule at every stage."""
    return " / ".join(number(stage["rules"][name].get(figure, math.nan), digits) for stage in stages)


def tabular_table(stages: Sequence[Mapping[str, Any]], shown: Mapping[str, tuple[str, int]]) -> str:
    """One line a rule: its signal, some figures at every stage, and what theory says."""
    head = ("rule", "signal", *(title for title, _ in shown.values()), "theory")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name, row in ROWS.items():
        if name in stages[0]["rules"]:
            parts = [cells(stages, name, figure, digits) for figure, (_, digits) in shown.items()]
            drawn = " (drawn)" if row.drawn else ""
            lines.append("| " + " | ".join([f"`{name}`", row.told + drawn, *parts, row.theory]) + " |")
    return "\n".join(lines)


def tabular_text(report: Mapping[str, Any]) -> str:
    """Tables of the tabular part."""
    stages, facts = report["stages"], report["facts"]
    told = "; ".join(
        f"{stage['updates']} updates: " + ", ".join(f"{right:.2f}" for right in stage["accuracy"]) for stage in stages
    )
    lines = [f"## Enumerated\n\nAccuracy of the {len(EASE)} problems after {told}. Groups of {facts['group_size']}."]
    lines += [f"Measured in {facts['cpu_s']:.0f} s of CPU.\n{TABULAR}"]
    lines.append(tabular_table(stages, TABULAR_FIGURES))
    lines += ["\nPRL's process part alone against the gradient of its KL cost, from the second stage on:\n"]
    lines += ["| own step | cosine |", "| --- | --- |"]
    for name in stages[-1]["kl"]:
        lines.append(
            f"| `{name}` | " + " / ".join(number(stage["kl"][name], 4) for stage in stages if stage["kl"]) + " |"
        )
    return "\n".join(lines) + "\n"


def world_text(name: str, report: Mapping[str, Any]) -> str:
    """Tables of one checkpoint."""
    stages, facts = report["stages"], report["facts"]
    lines = [f"## {name}\n", ", ".join(f"{key} {value}" for key, value in facts.items()) + "\n"]
    head = ("updates", "accuracy of the problems", "cosine of the halves", "ceiling of raw cosines")
    head += ("steps looked at", "ceiling of advantages", "CPU s so far")
    lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for stage in stages:
        right = ", ".join(f"{share:.2f}" for share in stage["accuracy"])
        figures = [number(stage[key], 2) for key in ("halves", "ceiling")]
        figures += [str(stage["steps"]), number(stage["advantage_ceiling"], 2), f"{stage['cpu_s']:.0f}"]
        lines.append("| " + " | ".join([str(stage["updates"]), right, *figures]) + " |")
    lines += [WORLD, world_table(stages)]
    return "\n".join(lines) + "\n"


def world_table(stages: Sequence[Mapping[str, Any]]) -> str:
    """One line an arm."""
    head = ("rule", "paid", "cosine", "raw", "noise", "one block", "advantages")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for arm in stages[0]["rules"]:
        told = [stage["rules"][arm] for stage in stages]
        corrected = " / ".join(f"{number(one['cosine'], 2)} ({number(one['error'], 2)})" for one in told)
        parts = [cells(stages, arm, figure) for figure in ("raw", "noise", "one_group", "advantages")]
        title = ARMS[arm].title if arm in ARMS else "as rloo"
        lines.append("| " + " | ".join([f"`{arm}`", title, corrected, *parts]) + " |")
    return "\n".join(lines)


def ranks_text(ranks: Sequence[Ranked]) -> str:
    """Rank correlations with the trained comparison, or that it is not there."""
    lines = ["## Against the trained comparison\n"]
    runs = trained(RESULTS)
    if not any(LEARNING not in task for task in runs):
        lines += [
            "No benchmarks/results/credit_comparison_*.jsonl: the trained comparison of all rules is not there yet.\n"
        ]
    lines += [
        "Spearman's correlation over rules, with the share of all pairings at least as far from 0. Many lines, few"
    ]
    lines += ["rules: a p of .05 is expected once in twenty lines by chance. Good noise correlates negatively.\n"]
    head = ("seen in", "trained on", "updates", "figure", "outcome", "rules", "Spearman", "p")
    lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for side, task, found in ranks:
        for line in found:
            figures = [str(line[key]) for key in ("updates", "figure", "outcome", "rules")]
            figures += [number(float(line["spearman"]), 2), number(float(line["p"]), 4)]
            lines.append("| " + " | ".join([side, task, *figures]) + " |")
    return "\n".join(lines) + "\n"


def rank_lines(report: Mapping[str, Any]) -> list[Ranked]:
    """Where something was seen, what was trained, and its lines; a checkpoint is held against its own task."""
    runs, out = trained(RESULTS), list[Ranked]()
    for side, told in {"enumerated": report["tabular"], **report["world"]}.items():
        for task, arms in runs.items():
            named = task if side == "enumerated" else task.partition(", ")[0]
            if told is None or LEARNING in named or (side != "enumerated" and side.rpartition("-")[0] != named):
                continue
            out.append((side, task, compared(told["stages"], arms)))
    return out


def ranks_table(ranks: Sequence[Ranked]) -> str:
    """One line for what was seen, trained and reached: each figure's correlation and p at every stage."""
    head = ("seen in", "trained on", "reached", "rules", *RANKED.values())
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for side, task, found in ranks:
        for outcome in OUTCOMES:
            mine = [line for line in found if line["outcome"] == outcome]
            rules = sorted({int(line["rules"]) for line in mine})
            row = [
                side,
                task.replace(LEARNING, "learning"),
                outcome,
                " to ".join(str(n) for n in rules[:: len(rules) - 1 or 1]),
            ]
            for figure in RANKED:
                told = [line for line in mine if line["figure"] == figure]
                row.append(" / ".join(f"{line['spearman']:.2f} ({line['p']:.2g})" for line in told))
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def markdown(report: Mapping[str, Any], ranks: Sequence[Ranked]) -> str:
    """The whole page."""
    parts = ["# Rules under the microscope\n"]
    if report["tabular"] is not None:
        parts.append(tabular_text(report["tabular"]))
    parts += [world_text(name, told) for name, told in sorted(report["world"].items())]
    return "\n".join([*parts, ranks_text(ranks)])


def main() -> None:
    """Measure what is asked, store it with what was there, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["tabular", "world", "table"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=40_000, help="groups drawn where the signal is random")
    parser.add_argument("--checkpoint", type=Path, help="folder TASK-SEED of a fine-tuned policy, only read")
    parser.add_argument("--minutes", type=float, default=15.0, help="CPU minutes after which no stage is begun")
    parser.add_argument("--updates", type=int, nargs="+", default=[0, 10, 25], help="stages of the training")
    parser.add_argument("--problems", type=int, default=3)
    parser.add_argument("--groups", type=int, default=16, help="measured, a problem")
    parser.add_argument("--valued", type=int, default=4, help="those with values for vineppo")
    parser.add_argument("--truth", type=int, default=384, help="rollouts a problem of the true gradient")
    parser.add_argument("--looked", type=int, default=1, help="rollouts a problem whose true advantages are taken")
    parser.add_argument("--completions", type=int, default=256, help="continuations of each of their prefixes")
    options = parser.parse_args()
    if options.part == "world" and options.checkpoint is None:
        parser.error("world needs --checkpoint")
    if options.part == "tabular":
        tabular(options)
    elif options.part == "world":
        world(options)
    else:
        store(stored())
    print((RESULTS / "microscope.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
