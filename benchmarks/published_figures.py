"""Our metrics on published accuracies and recorded grades, beside the figures that were published with them.

    python benchmarks/published_figures.py [--data ../shared/data]

ProcessBench: the F1 of every pair of published accuracies beside the published one; and counts of solutions are looked
for, in splits of the official size, of which `first_error_f1` gives all three as printed. MR-GSM8K: `mr_score` of
labels with the counts behind the published shares; where only the parts were published, their weighted sum. Recorded
replies of judges on MR-GSM8K: reasons as people and GPT-4 graded them. Published numbers: published_figures.json.
Writes results/published_figures.md; what does not follow is listed there, and the code is then still 0.
"""

import argparse
import gzip
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepcredit.core.records import Label
from stepcredit.evaluation.first_error import first_error_f1, harmonic_mean
from stepcredit.evaluation.intervals import wilson
from stepcredit.evaluation.mr_score import MR_WEIGHTS, MrScore, mr_score
from stepcredit.judges.agreement import kappa
from stepcredit.judges.stated import read_decision, read_reason, read_stated

HERE = Path(__file__).resolve().parent
PUBLISHED = HERE / "published_figures.json"
TOLD_AS = {"claude-2": "Claude2", "gpt-3.5": "GPT3-5", "llama2-70b-mr-gsm8k-ft": "llama2-70B-diag"}
"""Judges whose replies are recorded, as the published table calls them; metamath-70b has too few."""

ROUNDING = "Within rounding: inputs that are printed as these are can give it."
MARKS = """Ours / published; `*` within rounding, **!** does not follow. `=`: there are numbers of solutions in splits
of the official size of which our metric gives both accuracies and the F1 as printed; a mean over passes has none."""
SLIPS = """Slips that the notes name: the paper's size table has 81.0 for GenPRM-1.5B Maj@8 on GSM8K, where the main
table's 51.3 follows. Of two more the notes lack the accuracies, so they are not checked here: RLHFlow-Deepseek-8B on
Omni (16.9 published, 18.0 follows) and Skywork-PRM-7B on MATH (53.6 published, 51.4 follows)."""
GRADED = """Replies that name the right step (development half). Share of reasons called right, 95% Wilson interval;
published: step and reason accuracy over step accuracy, on the whole set."""


@dataclass(frozen=True)
class Cell:
    """One published figure and ours.

    Args:
        what: model and column.
        ours: unrounded, in the unit of the published one.
        published: as printed.
        digits: digits behind its point.
        low: least value that what we computed from can have had before it was rounded.
        high: largest such value.
        counts: True if there are whole numbers of solutions of which our metric gives all that was printed.
    """

    what: str
    ours: float
    published: float
    digits: int
    low: float
    high: float
    counts: bool = False

    @property
    def verdict(self) -> str:
        """`digit`: the printed digits; `rounding`: what was printed follows from unrounded inputs; else `no`."""
        half = 0.5 * 10.0**-self.digits + 1e-9
        if printed(self.ours, self.digits) == self.published:
            return "digit"
        return "rounding" if self.low - half <= self.published <= self.high + half else "no"


def printed(value: float, digits: int = 1) -> float:
    """As tables print it, halves up."""
    return math.floor(value * 10**digits + 0.5 + 1e-9) / 10**digits


def counts_behind(percent: float, size: int) -> list[int]:
    """Whole numbers of solutions that are printed as this percentage; none for a mean over several passes."""
    near = round(percent * size / 100)
    return [k for k in range(max(near - 2, 0), min(near + 3, size + 1)) if printed(100 * k / size) == percent]


def processbench(told: dict[str, Any]) -> Iterator[tuple[str, list[Cell]]]:
    """For each model of 8.2 its four F1, and the average of ours."""
    for model, pairs in told["accuracies"].items():
        f1, cells = told["f1"][model], list[Cell]()
        sizes = zip(told["splits"], told["with_error"], told["error_free"], strict=True)
        for (split, errors, clean), (error, correct), wanted in zip(sizes, pairs, f1[:4], strict=True):
            low, ours, high = (100 * harmonic_mean((error + d) / 100, (correct + d) / 100) for d in (-0.05, 0, 0.05))
            cells.append(
                Cell(
                    f"{model}, {split}", ours, wanted, 1, low, high, counted((error, correct), (errors, clean), wanted)
                )
            )
        ours, low, high = (math.fsum(getattr(cell, side) for cell in cells) / 4 for side in ("ours", "low", "high"))
        yield model, [*cells, Cell(f"{model}, average", ours, f1[4], 1, low, high)]


def counted(accuracies: tuple[float, float], sizes: tuple[int, int], wanted: float) -> bool:
    """True if there are solutions, located and kept, of which `first_error_f1` gives all three printed figures."""
    every = [(a, b) for a in counts_behind(accuracies[0], sizes[0]) for b in counts_behind(accuracies[1], sizes[1])]
    labels = [1] * sizes[0] + [-1] * sizes[1]
    for found, kept in every:
        said = [1] * found + [0] * (sizes[0] - found) + [-1] * kept + [0] * (sizes[1] - kept)
        score = first_error_f1(labels, said, seed=0, resamples=1)
        figures = [score.error_accuracy, score.correct_accuracy, score.f1]
        if [printed(100 * one.value) for one in figures if one is not None] == [*accuracies, wanted]:
            return True
    return False


def averages(told: dict[str, Any]) -> Iterator[Cell]:
    """The plain mean of the four printed F1 of every row, those without accuracies too."""
    for model, (*splits, average) in {**told["f1"], **told["f1_elsewhere"]}.items():
        mean = math.fsum(splits) / len(splits)
        yield Cell(f"{model}, average of the printed", mean, average, 1, mean - 0.05, mean + 0.05)


def mr_gsm8k(told: dict[str, Any]) -> Iterator[tuple[str, list[Cell]]]:
    """For each model its correlation and its MR-Scores, from counts; then MR-Scores of which only parts are known."""
    for model, row in told["january"].items():
        kept, found, correlation, step, reason, by_people, by_model = row
        score = _mr_score(told, kept, found, step, reason)
        if score.score is None:
            raise ValueError(f"no MR-Score of {model}")
        del by_model  # its reasons were not printed
        slack = _weighted_slack(0.0005, 0.005, 0.005, unit=1.0)
        cells = [
            Cell(
                f"{model}, correlation",
                score.correlation.value,
                correlation,
                3,
                *_around(score.correlation.value, 3e-4),
            ),
            Cell(f"{model}, MR-Score", score.score.value, by_people, 3, *_around(score.score.value, slack)),
        ]
        yield model, cells
    for model, (correlation, step, reason, wanted) in told["later"].items():
        parts = max(0.0, correlation), step, reason
        ours = math.fsum(weight * part for weight, part in zip(MR_WEIGHTS, parts, strict=True))
        yield model, [Cell(f"{model}, MR-Score", ours, wanted, 1, *_around(ours, 0.05))]


def graded(told: dict[str, Any], data: Path) -> dict[str, Any]:
    """Recorded reasons: what our parsers read, what people and GPT-4 say of them, and the published shares."""
    lines = gzip.decompress((data / "judge_mr_gsm8k" / "outputs.jsonl.gz").read_bytes()).decode().splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    judges: dict[str, dict[str, Any]] = {}
    misses: list[str] = []
    people: list[Label | None] = []
    model: list[Label | None] = []
    for row in rows:
        stated, reason = read_stated(row["response"]), read_reason(row["response"])
        decision = read_decision(row["reason_grader"]["response"])
        theirs = row["upstream_parsed"]
        step = None if stated is None or stated.first_error is None else str(stated.first_error + 1)
        if step != theirs["error_step"].split()[-1] or reason != theirs["error_reason"].strip():
            misses.append(row["id"])
        of = judges.setdefault(row["judge"], {"replies": 0, "by people": 0, "by GPT-4": 0, "ungraded": 0})
        of["replies"] += 1
        of["by people"] += row["reason_judged"] == "correct"
        of["by GPT-4"] += decision is True
        of["ungraded"] += decision is None
        people.append(Label.CORRECT if row["reason_judged"] == "correct" else Label.INCORRECT)
        model.append(None if decision is None else Label.CORRECT if decision else Label.INCORRECT)
    for name, of in judges.items():
        january = told["january"].get(TOLD_AS.get(name, ""))
        of["interval"] = wilson(of["by people"], of["replies"])
        of["published"] = None if january is None else january[4] / january[3]
    return {
        "judges": judges,
        "misses": misses,
        "pairs": Counter(zip(people, model, strict=True)),
        "kappa": kappa(people, model),
    }


def page(told: dict[str, Any], data: Path | None) -> str:
    """The results as Markdown."""
    bench, reasoning = told["processbench"], told["mr_gsm8k"]
    models = dict(processbench(bench))
    means, scores = list(averages(bench)), dict(mr_gsm8k(reasoning))
    every = [cell for cells in (*models.values(), means, *scores.values()) for cell in cells]
    lines = ["# Published figures, computed again", "", "Made by `benchmarks/published_figures.py`.", ""]
    lines += [
        f"{len(every)} figures: {_tally(every)} {ROUNDING}",
        "",
        "## ProcessBench F1 from error and correct accuracies",
        "",
        f"{bench['source']}. {MARKS}",
        "",
        f"| model | {' | '.join(bench['splits'])} | average |",
        f"| --- |{' --- |' * 5}",
    ]
    lines += [f"| {model} | {' | '.join(map(_shown, cells))} |" for model, cells in models.items()]
    lines += ["", f"Averages of {len(means)} rows from their four printed F1 (8.1, 8.3 to 8.5): {_tally(means)}"]
    lines += [
        "",
        "## MR-GSM8K",
        "",
        f"{reasoning['source']}.",
        "",
        "| model | correlation | MR-Score |",
        "| --- | --- | --- |",
    ]
    for model, cells in scores.items():
        shown = [_shown(cell) for cell in cells]
        lines.append(f"| {model} | {shown[0] if len(shown) > 1 else '–'} | {shown[-1]} |")
    lines += ["", "## Figures that do not follow", ""]
    lines += [
        f"- {cell.what}: published {cell.published:g}, ours {cell.ours:.{cell.digits + 1}f}"
        for cell in every
        if cell.verdict == "no"
    ] or ["- none"]
    lines += ["", SLIPS]
    lines += [] if data is None else _graded_lines(graded(reasoning, data))
    return "\n".join(lines) + "\n"


def _graded_lines(found: dict[str, Any]) -> list[str]:
    judges, pairs = found["judges"], found["pairs"]
    lines = ["", "## Recorded reasons on MR-GSM8K", ""]
    lines += [
        GRADED,
        "",
        "| judge | replies | right, by people | right, by GPT-4 | grade not read | published, by people |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, of in judges.items():
        people, published = of["interval"], of["published"]
        share = f"{people.value:.3f} [{people.low:.3f}, {people.high:.3f}]"
        told = "–" if published is None else f"{published:.3f}"
        by_model = f"{of['by GPT-4'] / of['replies']:.3f}"
        lines.append(f"| {name} | {of['replies']} | {share} | {by_model} | {of['ungraded']} | {told} |")
    right, wrong = Label.CORRECT, Label.INCORRECT
    agreed = pairs[right, right] + pairs[wrong, wrong]
    lines += [
        "",
        f"People and GPT-4 agree on {agreed} of {pairs.total()} reasons, kappa {found['kappa']:.3f}.",
        f"GPT-4 alone calls {pairs[wrong, right]} right, people alone {pairs[right, wrong]}.",
        f"Step and reason are read as upstream read them in all replies but {len(found['misses'])}.",
    ]
    lines += [f"- `{name}`" for name in found["misses"]]
    return lines


def _mr_score(told: dict[str, Any], kept: float, found: float, step: float, reason: float) -> MrScore:
    """`mr_score` of labels with the counts behind the published percentages."""
    wrong, right = told["wrong"], told["right"]
    called, located, reasoned = (round(share * wrong / 100) for share in (found, step, reason))
    clean = round(kept * right / 100)
    labels = [1] * wrong + [-1] * right
    predictions = (
        [1] * located + [0] * (called - located) + [-1] * (wrong - called) + [-1] * clean + [0] * (right - clean)
    )
    reasons = [True] * reasoned + [False] * (wrong + right - reasoned)
    return mr_score(labels, predictions, reasons, seed=0, resamples=1)


def _weighted_slack(correlation: float, step: float, reason: float, *, unit: float) -> float:
    parts = (correlation, step / 100, reason / 100)
    return unit * math.fsum(weight * part for weight, part in zip(MR_WEIGHTS, parts, strict=True))


def _around(value: float, slack: float) -> tuple[float, float]:
    return value - slack, value + slack


def _shown(cell: Cell) -> str:
    mark = {"digit": "", "rounding": " `*`", "no": " **!**"}[cell.verdict]
    known = " `=`" if cell.counts else ""
    return f"{printed(cell.ours, cell.digits):.{cell.digits}f} / {cell.published:.{cell.digits}f}{mark}{known}"


def _tally(cells: Sequence[Cell]) -> str:
    found = Counter(cell.verdict for cell in cells)
    return f"{found['digit']} to the digit, {found['rounding']} within rounding, {found['no']} that do not follow."


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "published_figures.md")
    options = parser.parse_args(arguments)
    told = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    options.out.write_text(page(told, options.data if options.data.is_dir() else None), encoding="utf-8")


if __name__ == "__main__":
    main()
