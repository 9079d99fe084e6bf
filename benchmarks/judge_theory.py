"""`stepcredit evaluate` with judges of which theory knows the figures, on every step-labelled set.

    python benchmarks/judge_theory.py [--data DIR] [--sets a,b] [--limit N] [--resamples N] [--out FOLDER]

Each judge is evaluated by the verb's own program; each figure is set beside what follows from the labels alone.
`perfect`, `constant-right` and `constant-wrong` must give it exactly; `random` (a uniform probability a step) within
four standard errors; `markers`, which reads no truth but the outcome, within bounds. Anything else ends with code 1.
Writes judge_theory.json and judge_theory.md to FOLDER.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stepcredit.evaluation.first_error import harmonic_mean
from stepcredit.evaluation.judge_sets import LabelledSolution
from stepcredit.evaluation.named_sets import LabelledSet, read_set
from stepcredit.judges.intrinsic.text_markers import TextGrammar
from stepcredit.recipes.evaluating import EvaluateSettings, run_evaluation
from stepcredit.recipes.evaluating.figures import PRMBENCH_CLASSES

HERE = Path(__file__).parent
DATA = HERE.resolve().parents[1] / "shared" / "data"
SETS = ("processbench", "prmbench", "mr-gsm8k", "mr-ben", "bigbench-mistake", "prm800k_sample/raw_records.jsonl")
JUDGES = ("perfect", "constant-right", "constant-wrong", "random", "markers")
BINS = 10


@dataclass(frozen=True)
class Line:
    """One figure: what was measured, and what theory says: a value, or bounds."""

    set: str
    judge: str
    figure: str
    measured: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """True if the figure is where theory wants it; floating point may round."""
        return self.low - 1e-9 <= self.measured <= self.high + 1e-9


def lines_of(name: str, judge: str, labelled: LabelledSet, told: dict[str, Any]) -> Iterator[Line]:
    """Every figure of the summary that theory knows."""
    groups: dict[str, list[LabelledSolution]] = {}
    for solution in labelled.solutions:
        groups.setdefault(labelled.split_of(solution), []).append(solution)
    for split, mine in groups.items():
        score = told["first_error"]["splits"][split]
        errors = [s for s in mine if s.label != -1]
        clean = [s for s in mine if s.label == -1]
        for figure, rows, side in (("error_accuracy", errors, True), ("correct_accuracy", clean, False)):
            if rows:
                chances = [chance(judge, s, error=side) for s in rows]
                yield line(name, judge, f"{split} {figure}", score[figure]["value"], chances)
        if errors and clean:
            parts = [score[part]["value"] for part in ("error_accuracy", "correct_accuracy")]
            yield Line(name, judge, f"{split} f1", score["f1"]["value"], *[harmonic_mean(*parts)] * 2)
        if judge != "random":
            yield binary(name, judge, split, told, len(clean), len(errors))
    yield from steps_of(name, judge, labelled, told)
    yield from own_metric(name, judge, groups, told)


def chance(judge: str, solution: LabelledSolution, *, error: bool) -> float:
    """Probability that the judge names the first wrong step, or clears a solution without one."""
    label = -1 if solution.label is None else solution.label
    draws = 2.0 ** -(label + 1) if error else 2.0 ** -len(solution.steps)
    certain = {"perfect": True, "constant-right": not error, "constant-wrong": error and label == 0}
    return float(certain[judge]) if judge in certain else draws


def line(name: str, judge: str, figure: str, measured: float, chances: Sequence[float]) -> Line:
    """The mean of independent events, four standard errors wide."""
    mean = sum(chances) / len(chances)
    error = math.sqrt(sum(p * (1 - p) for p in chances)) / len(chances)
    return Line(name, judge, figure, measured, mean - 4 * error, mean + 4 * error)


def binary(name: str, judge: str, split: str, told: dict[str, Any], clean: int, errors: int) -> Line:
    """2 TP / (2 TP + FP + FN) of clean solutions."""
    want = {"perfect": float(clean > 0), "constant-right": 2 * clean / (2 * clean + errors), "constant-wrong": 0.0}
    return Line(name, judge, f"{split} binary f1", told["binary_f1"][split]["f1"]["value"], *[want[judge]] * 2)


def steps_of(name: str, judge: str, labelled: LabelledSet, told: dict[str, Any]) -> Iterator[Line]:
    """Calibration, and PRMScore over all steps together."""
    truth = [right for solution in labelled.solutions for right in solution.step_truth if right is not None]
    share, n = sum(truth) / len(truth), len(truth)
    middle = [abs(share - (b + 0.5) / BINS) / BINS for b in range(BINS)]
    ece = {"perfect": 0.0, "constant-right": 1 - share, "constant-wrong": share, "random": sum(middle)}[judge]
    brier = {"perfect": 0.0, "constant-right": 1 - share, "constant-wrong": share, "random": 1 / 3}[judge]
    slack = 4 / math.sqrt(n) if judge == "random" else 0.0
    for figure, want in (("ece", ece), ("brier", brier)):
        yield Line(name, judge, figure, told["calibration"][figure]["value"], want - slack, want + slack)
    if told["prm_score"] is None:
        return
    whole = [s for s in labelled.solutions if s.error_steps is not None]
    mine = [s for s in whole if labelled.metric != "prm-score" or s.kind in PRMBENCH_CLASSES]
    flat = [bool(right) for solution in mine for right in solution.step_truth]
    right, wrong = sum(flat), len(flat) - sum(flat)
    p = 0.5 if judge == "random" else float(judge == "constant-right")
    f_right = 2 * p * right / max(p * (right + wrong) + right, 1)
    f_wrong = 2 * (1 - p) * wrong / max((1 - p) * (right + wrong) + wrong, 1)
    want = 1.0 if judge == "perfect" else (f_right + f_wrong) / 2
    score = told["prm_score"]["pooled"]["score"]
    width = 4 * (score["high"] - score["low"]) / 3.92 if judge == "random" else 0.0
    yield Line(name, judge, "PRMScore", score["value"], want - width, want + width)


def own_metric(
    name: str, judge: str, groups: dict[str, list[LabelledSolution]], told: dict[str, Any]
) -> Iterator[Line]:
    """MR-Score's parts and the accuracy of BIG-Bench Mistake, where the set has them."""
    every = {**groups, "all": [s for mine in groups.values() for s in mine]}
    for split, score in (told["mr_score"] or {}).items():
        errors = [s for s in every[split] if s.label != -1]
        chances = [chance(judge, s, error=True) for s in errors]
        yield line(name, judge, f"{split} step accuracy", score["step_accuracy"]["value"], chances)
        if judge != "random":
            want = float(judge == "perfect" and len(errors) < len(every[split]))
            yield Line(name, judge, f"{split} correlation", score["correlation"]["value"], want, want)
    for split, score in (told["mistake"] or {}).items():
        chances = [chance(judge, s, error=s.label != -1) for s in every[split]]
        yield line(name, judge, f"{split} accuracy", score["accuracy"]["value"], chances)


def markers_of(name: str, labelled: LabelledSet, told: dict[str, Any], run: Path) -> Iterator[Line]:
    """Markers reads the outcome and the solution's own words: no outcome, no verdict; no reflection, all clean."""
    rows = [json.loads(row) for row in (run / "predictions.jsonl").read_text().splitlines()]
    said = {row["id"]: row for row in rows}
    grammar = TextGrammar()
    silent = [s for s in labelled.solutions if s.final_answer_right is None]
    right = [s for s in labelled.solutions if s.final_answer_right]
    plain = [s for s in right if not grammar.reflections(s.steps)]
    share = lambda ids, key, value: sum(said[s.id][key] == value for s in ids) / len(ids)  # noqa: E731
    if silent:
        yield Line(name, "markers", "unknown without outcome", share(silent, "status", "unknown"), 1.0, 1.0)
    if right:
        yield Line(name, "markers", "answered if right", share(right, "status", "answered"), 1.0, 1.0)
    if plain:
        yield Line(name, "markers", "clean without a reflection", share(plain, "predicted", -1), 1.0, 1.0)
    clean = [s for s in labelled.solutions if s.label == -1]
    if clean:
        low = sum(s.label == -1 for s in plain) / len(clean)
        high = sum(s.final_answer_right is not None for s in clean) / len(clean)
        yield Line(name, "markers", "correct_accuracy of all", share(clean, "predicted", -1), low, high)
    allowed = ("the outcome is unscorable", "no think tags, and no ending")
    odd = sum(number for reason, number in told["unknown_reasons"].items() if not reason.startswith(allowed))
    yield Line(name, "markers", "unknown for other reasons", float(odd), 0.0, 0.0)


def measured(name: str, options: argparse.Namespace) -> Iterator[Line]:
    """All judges on one set."""
    what = str(options.data / name) if name.endswith(".jsonl") else name
    labelled = read_set(what, options.data).limited(options.limit)
    for judge in JUDGES:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            overrides = (f"metrics.resamples={options.resamples}", f"metrics.bins={BINS}")
            settings = EvaluateSettings(run, judge, data=options.data, limit=options.limit, overrides=overrides)
            told = run_evaluation(what, settings).summary
            short = name.rpartition("/")[2].split(".")[0]
            if judge == "markers":
                yield from markers_of(short, labelled, told, run)
            else:
                yield from lines_of(short, judge, labelled, told)


def table(lines: Sequence[Line]) -> str:
    """Markdown table, one row a figure."""
    rows = ["| set | judge | figure | measured | theory |", "| --- | --- | --- | --- | --- |"]
    for one in lines:
        theory = f"{one.low:.4f}" if one.low == one.high else f"{one.low:.4f} to {one.high:.4f}"
        rows.append(f"| {one.set} | {one.judge} | {one.figure} | {one.measured:.4f} | {theory} |")
    return "\n".join(rows)


def main() -> None:
    """Evaluate, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    lines = [line for name in options.sets.split(",") for line in measured(name, options)]
    print(table(lines))
    wrong = [one for one in lines if not one.holds]
    for one in wrong:
        print(f"NOT AS THEORY SAYS: {one}", file=sys.stderr)
    print(f"{len(lines)} figures, {len(wrong)} not as theory says")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        found = [{**asdict(one), "holds": one.holds} for one in lines]
        (options.out / "judge_theory.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        told = f"{len(lines)} figures, {len(wrong)} not as theory says."
        head = f"# Judges of which theory knows the figures\n\n{told} Bounds: four standard errors.\n"
        (options.out / "judge_theory.md").write_text(f"{head}\n{table(lines)}\n", encoding="utf-8")
    sys.exit(int(bool(wrong)))


if __name__ == "__main__":
    main()
