"""Full pass of alignment and splitting over recorded responses: crashes, forms, and MB/s beside the tokenizer's own.

    python benchmarks/steps_speed.py [--data ../shared/data] [--tokenizer tokenizer_qwen2_5] [--every 8,4,2]

Times are CPU seconds of this process, so a busy machine does not change them much; MB are UTF-8 bytes of text. The work
is every eighth, every fourth and every second response; the spread is over the files. Writes results/steps_speed.json
and steps_speed.md.
"""

import argparse
import gzip
import json
import platform
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tokenizers import Tokenizer

from stepcredit.core.records import Outcome, Problem, Rollout
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.steps import SPLITTERS, align, splitter

RESULTS = Path(__file__).parent / "results"
DECODE = "decode (library)"
PACKED = "tokenizer.json.gz"
FILES = ("long_cot_mip/*.gz", "long_cot_skyt1/*.gz", "short_cot/*.gz", "gsm8k_model_solutions/*.gz")
ANSWER = TypeVar("ANSWER")


class Clock:
    """CPU seconds by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def time(self, name: str, call: Callable[[], ANSWER]) -> ANSWER:
        """Run and add the time to `name`."""
        start = time.process_time()
        answer = call()
        self.seconds[name] += time.process_time() - start
        return answer


def one(row: dict[str, Any], tokenizer: FileTokenizer, library: Tokenizer, clock: Clock) -> tuple[str, bool, int, int]:
    """Form, closed, paragraphs and bytes of one response; raises if any splitter's steps are no partition."""
    ids = clock.time("encode", lambda: tokenizer.encode(row["response"]))
    numbers = ids.tolist()
    decoded = clock.time(DECODE, lambda: library.decode(numbers, skip_special_tokens=False))
    text, starts = clock.time("align", lambda: align(ids, tokenizer))
    if text != decoded:
        raise SystemExit(f"{row['id']}: alignment and decode disagree")
    problem = Problem(str(row["id"]), row["problem"], None)
    rollout = Rollout(str(row["id"]), problem, "g", 0, text, np.zeros(0), ids, starts, retokenised=True)
    outcome = Outcome(rollout, "unscorable", reason="not checked here")
    form, closed, count = "", False, 0
    for name in SPLITTERS:
        steps = clock.time(name, lambda name=name: splitter(name).split(outcome))
        if "".join(steps.texts) != text:
            raise SystemExit(f"{row['id']}: {name} steps do not tile the text")
        if name == "paragraph":
            form, closed, count = steps.form, steps.closed, len(steps)
    return form, closed, count, len(text.encode())


def walk(file: Path, tokenizer: FileTokenizer, library: Tokenizer, every: int) -> dict[str, Any]:
    """Facts of one file, and the seconds of each stage."""
    clock = Clock()
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()[::every]]
    found = [one(row, tokenizer, library, clock) for row in rows]
    forms, closed = Counter(form for form, *_ in found), Counter(form for form, done, *_ in found if done)
    return {
        "file": f"{file.parent.name}/{file.name.split('.')[0]}",
        "responses": len(rows),
        "closed": {form: [closed[form], count] for form, count in forms.items()},
        "paragraphs": round(float(np.mean([count for _, _, count, _ in found])), 1),
        "bytes": sum(size for *_, size in found),
        "seconds": {name: round(spent, 4) for name, spent in clock.seconds.items()},
    }


def ratio(seconds: Mapping[str, float], names: Sequence[str]) -> float:
    """Time of some stages as a multiple of the tokenizer's own decode."""
    return sum(seconds[name] for name in names) / seconds[DECODE]


def summary(files: Sequence[Mapping[str, Any]], every: int) -> dict[str, Any]:
    """MB/s of each stage over all files, and the time beside the tokenizer's decode, with the range over the files."""
    size = sum(file["bytes"] for file in files) / 1e6
    names = list(files[0]["seconds"])
    total = {name: sum(file["seconds"][name] for file in files) for name in names}
    stages = {name: [name] for name in names} | {"align + paragraph": ["align", "paragraph"]}
    figures: dict[str, Any] = {}
    for name, parts in stages.items():
        over = [ratio(file["seconds"], parts) for file in files]
        spent = sum(total[part] for part in parts)
        figures[name] = {
            "cpu_s": round(spent, 2),
            "mb_per_s": round(size / spent, 1),
            "decodes": round(ratio(total, parts), 2),
            "decodes_range": [round(min(over), 2), round(max(over), 2)],
        }
    return {"every": every, "responses": sum(file["responses"] for file in files), "mb": round(size, 1), "of": figures}


def markdown(report: Mapping[str, Any]) -> str:
    """Two tables: the files, and the stages at each amount of work."""
    lines = ["# Alignment and splitting beside the tokenizer's decode\n", f"{report['machine']}\n"]
    lines += ["| file | responses | closed / found, by form | paragraphs a response |", "| --- | --- | --- | --- |"]
    for file in report["files"]:
        shares = ", ".join(f"{form} {done}/{count}" for form, (done, count) in file["closed"].items())
        lines.append(f"| {file['file']} | {file['responses']} | {shares} | {file['paragraphs']} |")
    work = report["work"]
    head = [f"{one['responses']:,} responses, {one['mb']} MB" for one in work]
    lines += ["", f"| stage | {' | '.join(head)} |", "| --- |" + " --- |" * len(head)]
    for name in work[0]["of"]:
        cells: list[str] = []
        for one in work:
            figure = one["of"][name]
            low, high = figure["decodes_range"]
            cells.append(f"{figure['mb_per_s']} MB/s, {figure['decodes']} [{low}, {high}] decodes")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Walk the files, store the figures and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[1].parent / "shared" / "data")
    parser.add_argument("--tokenizer", default="tokenizer_qwen2_5")
    parser.add_argument("--every", default="8,4,2", help="one response in this many, for each amount of work")
    settings = parser.parse_args()
    tokenizer = FileTokenizer.load(settings.data / settings.tokenizer)
    library = Tokenizer.from_str(gzip.decompress((settings.data / settings.tokenizer / PACKED).read_bytes()).decode())
    tokenizer.pieces([0])
    places = sorted(file for pattern in FILES for file in settings.data.glob(pattern))
    files: list[dict[str, Any]] = []
    work: list[dict[str, Any]] = []
    for every in map(int, settings.every.split(",")):
        files = [walk(file, tokenizer, library, every) for file in places]
        work.append(summary(files, every))
        print(json.dumps(work[-1]["of"]["align + paragraph"]), flush=True)
    report = {"machine": platform.machine(), "files": files, "work": work}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "steps_speed.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "steps_speed.md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
