"""Every recorded trace file along the path to token credit: `python benchmarks/recorded.py [--data DIR] [--out FILE]`.

Runs `stepcredit run` on each file of `FILES` with the Qwen2.5 tokenizer, into fresh folders, and prints a line a file:
what the judge could read, how often labels are not all one, how the checker agrees with the recorded grade, seconds.
Every response must be accounted for and every completion partitioned by its steps, or it stops with an error.
`--group-by problem` compares across models, so that more groups have two scorable members.
"""

import argparse
import gzip
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepcredit.core.records import Judgement
from stepcredit.recipes.recorded import run_recorded
from stepcredit.recipes.recorded.settings import RecordedSettings

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = (
    "long_cot_mip/gsm8k",
    "long_cot_mip/math",
    "long_cot_mip/math_ill_posed",
    "long_cot_skyt1/aime24",
    "long_cot_skyt1/amc23",
    "long_cot_skyt1/math500",
    "short_cot/short_math500",
    "short_cot/short_aime24",
    "gsm8k_model_solutions/test",
)
SHOWN = (
    "responses",
    "judged",
    "unknown",
    "right",
    "wrong",
    "unscorable",
    "steps",
    "thoughts",
    "groups",
    "credited",
    "sound",
    "judged_share",
    "varied_share",
    "agreement",
    "wall_s",
    "cpu_s",
)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The file's lines."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def check_accounted(told: dict[str, Any], judgements: Sequence[Judgement], rows: list[dict[str, Any]]) -> None:
    """Stop if a response is missing, a completion is not partitioned, or a text was lost."""
    if not len(rows) == told["responses"] == told["judged"] + told["unknown"] == sum(told["checker"].values()):
        raise SystemExit(f"responses not accounted for: {len(rows)} lines, {told}")
    for row, judgement in zip(rows, judgements, strict=True):
        steps = judgement.steps
        covered = [token for start, end in steps.spans for token in range(start, end)]
        if covered != list(range(len(steps.rollout.completion_ids))) or "".join(steps.texts) != steps.rollout.text:
            raise SystemExit(f"{row['id']}: steps do not partition the completion")
        if len(steps.rollout.text) == 0 and row["response"]:
            raise SystemExit(f"{row['id']}: the text was lost")


def agreement(judgements: Sequence[Judgement], rows: list[dict[str, Any]]) -> tuple[float | None, dict[str, int]]:
    """Share of recorded grades that the checker gives too, and the confusion table.

    Left out are grades that were derived by comparing answers, and those of unfinished texts, which rest on the last
    number somewhere in them (`benchmarks/checker.py` lists every disagreement).
    """
    table: Counter[str] = Counter()
    for row, judgement in zip(rows, judgements, strict=True):
        derived = str(row.get("correct_source", "")).startswith("derived")
        finished = judgement.steps.rollout.finish == "stop"
        if row.get("correct") is not None and finished and not derived:
            table[f"{'right' if row['correct'] else 'wrong'}/{judgement.steps.outcome.status}"] += 1
    total = sum(table.values())
    same = table["right/right"] + table["wrong/wrong"]
    return (same / total if total else None), dict(table)


def measure(path: Path, tokenizer: Path, group_by: Any) -> dict[str, Any]:
    """Walk one file in a folder of its own."""
    rows = rows_of(path)
    with tempfile.TemporaryDirectory() as folder:
        settings = RecordedSettings(Path(folder) / "run", tokenizer=tokenizer, group_by=group_by)
        wall, cpu = time.perf_counter(), time.process_time()
        result = run_recorded(path, settings)
        seconds = {"wall_s": round(time.perf_counter() - wall, 1), "cpu_s": round(time.process_time() - cpu, 1)}
        judgements = result.judgements
    told = result.summary
    check_accounted(told, judgements, rows)
    share, table = agreement(judgements, rows)
    credited = [] if result.credited is None else result.credited.credits
    return {
        **{name: told[name] for name in ("responses", "judged", "unknown", "steps", "thoughts", "groups", "tokens")},
        **told["checker"],
        "unknown_reasons": told["unknown_reasons"],
        "unscorable_reasons": told["unscorable_reasons"],
        "labels": told["labels"],
        "sound": told["finished_closed_checkable"],
        "judged_share": told["judged_share"],
        "varied_share": told["varied_share"],
        "agreement": share,
        "confusion": table,
        "credited": sum(bool(np.isfinite(credit.advantages).all()) for credit in credited),
        "credit": told["credit"],
        **seconds,
    }


def shown(value: Any) -> str:
    """A figure for the table."""
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) and value <= 1 else str(value)


def main() -> None:
    """Walk, check, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--group-by", choices=("problem-and-model", "problem"), default="problem-and-model")
    parser.add_argument("--only", default="", help="part of a file's name")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    print(f"{'file':28}" + "".join(f"{name:>13}" for name in SHOWN), flush=True)
    for name in FILES:
        if options.only in name:
            path = options.data / f"{name}.jsonl.gz"
            figures[name] = measure(path, options.data / "tokenizer_qwen2_5", options.group_by)
            print(f"{name:28}" + "".join(f"{shown(figures[name][key]):>13}" for key in SHOWN), flush=True)
    for name, found in figures.items():
        print(f"{name}: unknown {found['unknown_reasons']}; unscorable {found['unscorable_reasons']}")
        print(f"{name}: recorded/ours {found['confusion']}; labels {found['labels']}; credit {found['credit']}")
    wall, cpu = (sum(found[key] for found in figures.values()) for key in ("wall_s", "cpu_s"))
    print(
        f"{sum(f['responses'] for f in figures.values())} responses in {wall:.0f} s, {cpu:.0f} s of this process's CPU"
    )
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
