"""The text markers of the intrinsic judge against 80 responses that were read and annotated step by step.

    python benchmarks/markers_read.py draw [--data DIR]
    python benchmarks/markers_read.py show ID ... [--data DIR]

`draw` chose the responses, once, and wrote annotations/drawn.jsonl: 40 right and 40 wrong ones of the long_cot files,
by a seeded hash of file and id, in turn over the files and, inside a file, over its models; a problem comes a second
time in a half only where a file has no other left. In the pool are finished responses of `SHORTEST` to `LONGEST`
characters with an answer block, whose recorded grade is that of our checker. Steps are those of the recorded recipe
(`recorded.toml`) with bytes for tokens. `show` prints a response with its step numbers, to annotate it.
"""

import argparse
import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from stepcredit.core.records import Outcome, Steps
from stepcredit.core.seeds import derive
from stepcredit.engines.byte_tokenizer import ByteTokenizer
from stepcredit.recipes.recorded.plan import splitter_of
from stepcredit.recipes.recorded.rollouts import RolloutMaker, cut
from stepcredit.recipes.recorded.settings import load_recorded
from stepcredit.tasks.checking import MathChecker
from stepcredit.tasks.jsonl import RecordedResponse, read_objects, read_responses

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ANNOTATIONS = Path(__file__).parent / "annotations"
FILES = (
    "long_cot_mip/gsm8k.jsonl.gz",
    "long_cot_mip/math.jsonl.gz",
    "long_cot_skyt1/aime24.jsonl.gz",
    "long_cot_skyt1/amc23.jsonl.gz",
    "long_cot_skyt1/math500.jsonl.gz",
)
SEED, HALF, SHORTEST, LONGEST = 4, 40, 3_000, 14_000


def steps_of(file: str, item: RecordedResponse, *, correct: bool) -> Steps:
    """The response along the path to its steps, with the recorded grade as its outcome."""
    rollout = RolloutMaker(ByteTokenizer(), file).make(item, group=item.id, sample=0)
    outcome = Outcome(rollout, status="right" if correct else "wrong")
    return cut(outcome, splitter_of(load_recorded().steps), steps=item.steps, place=f"{file}:{item.line}")


def candidates(data: Path) -> Iterator[tuple[str, RecordedResponse, bool]]:
    """(file, response, recorded grade) of every response that is finished, graded and of a readable length."""
    for file in FILES:
        rows = [row for _, row in read_objects(data / file)]
        for row, item in zip(rows, read_responses(data / file), strict=True):
            fits = SHORTEST <= len(item.response) <= LONGEST and item.finish == "stop" and row.get("finished", True)
            if fits and row["correct"] is not None:
                yield file, item, row["correct"]


async def pool(data: Path) -> list[tuple[str, Steps]]:
    """(file, steps) of the candidates with an answer block whose recorded grade is that of our checker."""
    cut_all = [(file, steps_of(file, item, correct=right)) for file, item, right in candidates(data)]
    closed = [(file, steps) for file, steps in cut_all if steps.closed]
    with MathChecker() as checker:
        found = await asyncio.gather(*(checker.check(steps.rollout) for _, steps in closed))
    return [pair for pair, ours in zip(closed, found, strict=True) if ours.status == pair[1].outcome.status]


def in_turn(drawn: Sequence[tuple[str, Steps]]) -> list[tuple[str, Steps]]:
    """One file's responses in the order of the draw: its models in turn, new problems before known ones."""
    queues: defaultdict[str, list[tuple[str, Steps]]] = defaultdict(list)
    for file, steps in sorted(drawn, key=lambda pair: derive(SEED, "response", pair[0], pair[1].rollout.id)):
        queues[steps.rollout.policy].append((file, steps))
    models = sorted(queues, key=lambda model: derive(SEED, "model", model))
    order: list[tuple[str, Steps]] = []
    known: set[str] = set()
    while any(queues.values()):
        for model in models:
            if queues[model]:
                fresh = (k for k, (_, steps) in enumerate(queues[model]) if steps.rollout.problem.text not in known)
                order.append(queues[model].pop(next(fresh, 0)))
                known.add(order[-1][1].rollout.problem.text)
    return order


def half(found: Sequence[tuple[str, Steps]], status: str) -> list[tuple[str, Steps]]:
    """`HALF` responses of one grade: the files in turn until there are enough."""
    orders = [
        in_turn([(name, steps) for name, steps in found if name == file and steps.outcome.status == status])
        for file in FILES
    ]
    longest = max(map(len, orders))
    taken = [order[k] for k in range(longest) for order in orders if k < len(order)][:HALF]
    return sorted(taken, key=lambda pair: (pair[0], derive(SEED, "response", pair[0], pair[1].rollout.id)))


def drawn_line(file: str, steps: Steps) -> dict[str, Any]:
    """What is committed of one drawn response: no text."""
    return {
        "file": file,
        "id": steps.rollout.id,
        "sha256": text_hash(steps),
        "correct": steps.outcome.status == "right",
        "steps": len(steps.texts),
    }


def text_hash(steps: Steps) -> str:
    """sha256 of the response's text."""
    return sha256(steps.rollout.text.encode()).hexdigest()


def draw(data: Path) -> None:
    """Write drawn.jsonl."""
    found = asyncio.run(pool(data))
    lines = [drawn_line(*pair) for status in ("right", "wrong") for pair in half(found, status)]
    ANNOTATIONS.mkdir(exist_ok=True)
    write_lines(ANNOTATIONS / "drawn.jsonl", lines)


def write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of annotations."""
    return [row for _, row in read_objects(path)]


def drawn_steps(data: Path, lines: Sequence[dict[str, Any]]) -> list[Steps]:
    """Steps of drawn responses, in their order."""
    wanted = {line["file"] for line in lines}
    items = {(file, item.id): item for file in wanted for item in read_responses(data / file)}
    return [steps_of(line["file"], items[line["file"], line["id"]], correct=line["correct"]) for line in lines]


def show(data: Path, ids: Sequence[str]) -> None:
    """Print responses with their step numbers; `A` marks steps of the answer block."""
    lines = [line for line in read_lines(ANNOTATIONS / "drawn.jsonl") if line["id"] in ids]
    for line, steps in zip(lines, drawn_steps(data, lines), strict=True):
        print(f"=== {line['id']} ({'right' if line['correct'] else 'wrong'}, {line['steps']} steps)")
        print(f"problem: {steps.rollout.problem.text}\nreference: {steps.rollout.problem.answer}")
        for index, text in enumerate(steps.texts):
            print(f"[{index}{'A' if steps.in_answer[index] else ''}] {text.strip()}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("draw", "show"))
    parser.add_argument("ids", nargs="*")
    parser.add_argument("--data", type=Path, default=DATA)
    asked = parser.parse_args(arguments)
    draw(asked.data) if asked.verb == "draw" else show(asked.data, asked.ids)


if __name__ == "__main__":
    main()
