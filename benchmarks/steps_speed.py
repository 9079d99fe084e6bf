"""Full pass of alignment and splitting over recorded responses: crashes, forms, and MB/s beside the tokenizer's own.

python benchmarks/steps_speed.py [--data ../shared/data] [--tokenizer tokenizer_qwen2_5] [--every 1]

Times are CPU seconds of this process, so a busy machine does not change them much; MB are UTF-8 bytes of text.
"""

import argparse
import gzip
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stepcredit.core.records import Outcome, Problem, Rollout
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.steps import SPLITTERS, align, splitter

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


def one(row: dict[str, Any], tokenizer: FileTokenizer, clock: Clock) -> tuple[str, bool, int, int]:
    """Form, closed, paragraphs and bytes of one response; raises if any splitter's steps are no partition."""
    ids = clock.time("encode", lambda: tokenizer.encode(row["response"]))
    numbers = ids.tolist()
    raw = tokenizer._tokenizer
    decoded = clock.time("decode (library)", lambda: raw.decode(numbers, skip_special_tokens=False))
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


def main() -> None:
    """Walk the files and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[1].parent / "shared" / "data")
    parser.add_argument("--tokenizer", default="tokenizer_qwen2_5")
    parser.add_argument("--every", type=int, default=1, help="one response in this many")
    settings = parser.parse_args()
    tokenizer = FileTokenizer.load(settings.data / settings.tokenizer)
    tokenizer.pieces([0])
    clock, total = Clock(), 0
    print("| file | responses | closed / found, by form | paragraphs a response |\n|---|---|---|---|")
    for file in sorted(file for pattern in FILES for file in settings.data.glob(pattern)):
        rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()[:: settings.every]]
        found = [one(row, tokenizer, clock) for row in rows]
        forms, closed = Counter(form for form, *_ in found), Counter(form for form, done, *_ in found if done)
        total += sum(size for *_, size in found)
        shares = ", ".join(f"{form} {closed[form]}/{count}" for form, count in forms.items())
        mean = np.mean([count for _, _, count, _ in found])
        print(f"| {file.parent.name}/{file.name.split('.')[0]} | {len(rows)} | {shares} | {mean:.1f} |", flush=True)
    print(f"\n{total / 1e6:.1f} MB\n\n| stage | CPU s | MB/s |\n|---|---|---|")
    for name, seconds in clock.seconds.items():
        print(f"| {name} | {seconds:.2f} | {total / 1e6 / seconds:.1f} |")
    both = clock.seconds["align"] + clock.seconds["paragraph"]
    print(f"| align + paragraph | {both:.2f} | {total / 1e6 / both:.1f} |")


if __name__ == "__main__":
    main()
