"""The outcome checker against recorded grades: `python benchmarks/checker.py [--data DIR] [--out FILE.json]`.

Every response under the data folder with a recorded grade that is not derived from a comparison of answers (`correct`
not null, `correct_source` not `derived...`) is checked anew. Prints a confusion table a file and every disagreement.

Two things that were recorded are not clean, and are counted apart by rules that do not look at our grade:
- a damaged reference: not the one that MATH-500 itself gives for the problem (`math500/test.jsonl.gz`);
- a grade without an explicit answer in the text (box, mark, statement), which rests on the last number somewhere in it.
"""

import argparse
import asyncio
import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepcredit.tasks.answers import read_answer
from stepcredit.tasks.checking import Grade, MathChecker
from stepcredit.tasks.equivalence import is_choice, normalise

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def graded(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file, row) of every response with a recorded grade."""
    for path in sorted([*folder.rglob("*.jsonl"), *folder.rglob("*.jsonl.gz")]):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                derived = str(row.get("correct_source", "")).startswith("derived")
                if row.get("correct") is not None and "response" in row and not derived:
                    yield str(path.relative_to(folder)), row


def references(folder: Path) -> dict[str, str]:
    """Problem text -> reference answer of MATH-500."""
    with gzip.open(folder / "math500" / "test.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {row["problem"]: row["gold"] for row in map(json.loads, lines)}


async def check_all(rows: list[dict[str, Any]]) -> list[Grade]:
    """Our grades."""
    with MathChecker() as checker:
        return await asyncio.gather(*(checker.grade(row["response"], row["gold"]) for row in rows))


def kind_of(row: dict[str, Any], known: dict[str, str]) -> str:
    """Whether what was recorded is clean."""
    if normalise(known.get(row["problem"], row["gold"])) != normalise(row["gold"]):
        return "damaged reference"
    answer = read_answer(row["response"], letters=is_choice(row["gold"]))
    return "clean" if answer is not None and answer.explicit else "no explicit answer"


def main() -> None:
    """Check, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    items = list(graded(options.data))
    known = references(options.data)
    start = time.perf_counter()
    grades = asyncio.run(check_all([row for _, row in items]))
    seconds = time.perf_counter() - start

    table: dict[str, Counter[str]] = {}
    differ: list[dict[str, Any]] = []
    for (file, row), grade in zip(items, grades, strict=True):
        kind = kind_of(row, known)
        recorded = "right" if row["correct"] else "wrong"
        for name in (file, f"all: {kind}", "all"):
            table.setdefault(name, Counter())[f"{recorded}/{grade.status}"] += 1
        if recorded != grade.status:
            differ.append(
                {
                    "file": file,
                    "id": row["id"],
                    "kind": kind,
                    "recorded": recorded,
                    "ours": grade.status,
                    "gold": row["gold"],
                    "answer": grade.answer,
                    "recorded_answer": row.get("pred"),
                    "reason": grade.reason,
                    "end": row["response"][-160:],
                }
            )
    show(table, differ)
    print(f"{len(items)} responses in {seconds:.1f} s")
    if options.out:
        options.out.write_text(json.dumps({"table": table, "disagreements": differ}, indent=1), encoding="utf-8")


def show(table: dict[str, Counter[str]], differ: list[dict[str, Any]]) -> None:
    """The confusion table and the list of disagreements."""
    cells = [f"{recorded}/{ours}" for recorded in ("right", "wrong") for ours in ("right", "wrong", "unscorable")]
    print(f"{'recorded/ours':38}" + "".join(f"{cell:>18}" for cell in cells) + f"{'agree':>9}")
    for name, counts in sorted(table.items(), key=lambda item: (item[0].startswith("all"), item[0])):
        total = sum(counts.values())
        agree = (counts["right/right"] + counts["wrong/wrong"]) / total
        print(f"{name:38}" + "".join(f"{counts[cell]:>18}" for cell in cells) + f"{agree:>9.4f}")
    print()
    for item in sorted(differ, key=lambda item: item["kind"]):
        print(
            f"{item['kind']}: {item['id']}: recorded {item['recorded']} ({str(item['recorded_answer'])[:60]!r}),"
            f" ours {item['ours']} ({str(item['answer'])[:80]!r} {item['reason']}), reference {item['gold']!r}"
        )


if __name__ == "__main__":
    main()
