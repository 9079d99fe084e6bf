"""The text markers of the intrinsic judge against 80 responses that were read and annotated step by step.

    python benchmarks/markers_read.py draw [--data DIR]
    python benchmarks/markers_read.py show ID ... [--data DIR]
    python benchmarks/markers_read.py measure [--data DIR]

`draw` chose the responses, once, and wrote annotations/drawn.jsonl: 40 right and 40 wrong ones of the long_cot files,
by a seeded hash of file and id, in turn over the files and, inside a file, over its models; a problem comes a second
time in a half only where a file has no other left. In the pool are finished responses of `SHORTEST` to `LONGEST`
characters with an answer block, whose recorded grade is that of our checker. Steps are those of the recorded recipe
(`recorded.toml`) with bytes for tokens. `show` prints a response with its step numbers, to annotate it.
`measure` asks the reader `text_markers` what the judge asks it and compares, in think steps only; intervals are
bootstraps over responses. How the responses were read is in annotations/README.md. Writes results/markers_read.json
and markers_read.md.
"""

import argparse
import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from markers_counts import SEED, Counts, Mark, blame_counts, figure, kappa_of, right_counts, shares, table_of

from stepcredit.core.records import Label, Outcome, Steps
from stepcredit.core.seeds import derive
from stepcredit.engines.byte_tokenizer import ByteTokenizer
from stepcredit.judges.intrinsic.judge import IntrinsicJudge
from stepcredit.judges.intrinsic.markers import text_markers
from stepcredit.judges.intrinsic.parser import parse
from stepcredit.judges.intrinsic.replies import Reject
from stepcredit.judges.intrinsic.tasks import MatchTask, ReflectTask, Task, TraceTask
from stepcredit.recipes.recorded.plan import splitter_of
from stepcredit.recipes.recorded.rollouts import RolloutMaker, cut
from stepcredit.recipes.recorded.settings import load_recorded
from stepcredit.tasks.checking import MathChecker
from stepcredit.tasks.jsonl import RecordedResponse, read_objects, read_responses

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ANNOTATIONS = Path(__file__).parent / "annotations"
RESULTS = Path(__file__).parent / "results"
FILES = (
    "long_cot_mip/gsm8k.jsonl.gz",
    "long_cot_mip/math.jsonl.gz",
    "long_cot_skyt1/aime24.jsonl.gz",
    "long_cot_skyt1/amc23.jsonl.gz",
    "long_cot_skyt1/math500.jsonl.gz",
)
HALF, SHORTEST, LONGEST = 40, 3_000, 14_000
CELLS = ("both", "only read", "only markers", "neither")


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


def read_lines(path: Path) -> list[Mapping[str, Any]]:
    """The objects of a file of annotations."""
    return [row for _, row in read_objects(path)]


def drawn_steps(data: Path, lines: Sequence[Mapping[str, Any]]) -> list[Steps]:
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


async def asked(task: Task) -> Any:
    """What the judge would take from the markers' reply to a task."""
    reply = parse(task, (await text_markers().answer(task, attempt=0, error="")).text)
    if isinstance(reply, Reject):
        raise SystemExit(f"markers wrote what the judge does not take: {reply}")
    return reply


def blocks_texts(steps: Steps) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts of the think block's steps, which come first, and of the answer block's."""
    first = int(steps.in_answer.argmax())
    return steps.texts[:first], steps.texts[first:]


async def found_marks(steps: Steps, read: Sequence[Mark]) -> tuple[list[Mark], dict[int, int | None]]:
    """The marks of the markers, and the sources that they trace for the reflections that were read."""
    problem, think = steps.rollout.problem.text, blocks_texts(steps)[0]
    found = (await asked(ReflectTask(problem, think))).items
    places = {item.step for item in found if item.kind == "error"} | {mark.step for mark in read}
    traced = {k: (await asked(TraceTask(problem, think[: k + 1]))).source for k in sorted(places) if k}
    return [Mark(item.step, item.step, item.kind, traced.get(item.step)) for item in found], traced


async def matched(steps: Steps) -> tuple[bool, ...]:
    """[think steps] what the markers match with the answer block."""
    think, block = blocks_texts(steps)
    return (await asked(MatchTask(steps.rollout.problem.text, think, block))).matched


def marks(line: Mapping[str, Any]) -> list[Mark]:
    """The reflections of one annotated response."""
    return [Mark(**found) for found in line["reflections"]]


def steps_read(data: Path, name: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any], Steps]]:
    """(annotation, line of the draw, steps) of each response of a file of annotations; stops if a text is another."""
    drawn = {line["id"]: line for line in read_lines(ANNOTATIONS / "drawn.jsonl")}
    lines = read_lines(ANNOTATIONS / name)
    places = [drawn[line["id"]] for line in lines]
    found = list(zip(lines, places, drawn_steps(data, places), strict=True))
    for line, place, steps in found:
        if not text_hash(steps) == place["sha256"] == line["sha256"] or len(steps) != place["steps"]:
            raise SystemExit(f"{line['id']}: not the text, or not the steps, that were annotated; see {name}")
    return found


async def right_half(data: Path) -> dict[str, Any]:
    """Figures of the right responses, the reader's second reading included."""
    lines, judge = steps_read(data, "right.jsonl"), IntrinsicJudge(text_markers())
    second = {line["id"]: marks(line) for line in read_lines(ANNOTATIONS / "right_second.jsonl")}
    counts: list[Counts] = []
    tables: list[tuple[int, ...]] = []
    again: list[Counts] = []
    files: dict[str, list[Counts]] = {}
    for line, place, steps in lines:
        read = marks(line)
        found, traced = await found_marks(steps, read)
        taken = [k for k, verdict in enumerate(await judge.judge(steps)) if verdict.label is Label.INCORRECT]
        counts.append(right_counts(read, found, traced) | blame_counts(read, taken))
        files.setdefault(place["file"], []).append(counts[-1])
        every = range(len(blocks_texts(steps)[0]))
        tables.append(table_of(*([k in {m.step for m in listed} for k in every] for listed in (read, found))))
        if line["id"] in second:
            other = second[line["id"]]
            again.append(right_counts(read, other, {mark.step: mark.source for mark in other}))
    return {
        "responses": len(lines),
        "think_steps": sum(map(sum, tables)),
        "figures": shares(counts),
        "kappa": figure(np.array(tables), kappa_of, name="reflects"),
        "files": {name: {key: told["value"] for key, told in shares(some).items()} for name, some in files.items()},
        "second_reading": {"responses": len(again), "figures": shares(again)},
    }


async def wrong_half(data: Path) -> dict[str, Any] | None:
    """Figures of the wrong responses, `None` before they are annotated."""
    if not (ANNOTATIONS / "wrong.jsonl").exists():
        return None
    read = [(line, await matched(steps)) for line, _, steps in steps_read(data, "wrong.jsonl")]
    sure = [(line, found) for line, found in read if not line["unsure"] and not line["reference_doubtful"]]
    second = {line["id"]: line for line in read_lines(ANNOTATIONS / "wrong_second.jsonl")}
    again = [
        match_table(line, [k in second[line["id"]]["matched"] for k in range(len(found))])
        for line, found in read
        if line["id"] in second
    ]
    asked_of = {
        "matched": [match_table(line, found) for line, found in read],
        "matched, without doubtful steps": [match_table(line, found, without=line["doubtful"]) for line, found in read],
        "matched, sure responses": [match_table(line, found) for line, found in sure],
        "matched, second reading instead of markers": again,
        "states the final answer": [match_table(line, found, key="stated") for line, found in read],
    }
    return {
        "responses": len(read),
        "think_steps": sum(len(found) for _, found in read),
        "figures": {
            name: {
                **figure(np.array(tables), kappa_of, name=name),
                **dict(zip(CELLS, np.sum(tables, axis=0).tolist(), strict=True)),
                "responses": len(tables),
            }
            for name, tables in asked_of.items()
        },
    }


def match_table(
    line: Mapping[str, Any], found: Sequence[bool], *, key: str = "matched", without: Sequence[int] = ()
) -> tuple[int, ...]:
    """`table_of` one wrong response's think steps: those that were read, and those that the markers match."""
    kept = [k for k in range(len(found)) if k not in without]
    return table_of([k in line[key] for k in kept], [found[k] for k in kept])


def measure(data: Path) -> None:
    """Write the results."""
    right, wrong = asyncio.run(right_half(data)), asyncio.run(wrong_half(data))
    (RESULTS / "markers_read.json").write_text(json.dumps({"right": right, "wrong": wrong}, indent=1) + "\n")
    text = page(right, wrong)
    (RESULTS / "markers_read.md").write_text(text, encoding="utf-8")
    print(text)


def page(right: dict[str, Any], wrong: dict[str, Any] | None) -> str:
    """The results as a page."""
    again = right["second_reading"]
    rows = [
        [name, shown(told), f"{told['hits']}/{told['cases']}", shown(again["figures"].get(name, UNKNOWN))]
        for name, told in right["figures"].items()
    ]
    files = right["files"]
    picked = [name for name in right["figures"] if name.startswith("place, any, ")]
    by_file = [[name, *(f"{files[file][name]:.3f}" for file in files)] for name in picked]
    parts = [
        "# The markers judge against responses that were read",
        (
            f"Right: {right['responses']} responses, {right['think_steps']} think steps. In brackets the 95% bootstrap"
            f" interval over responses. Last column: {again['responses']} of them read again, by the same reader in the"
            " same sitting: an upper bound."
        ),
        table(["figure", "markers", "cases", "second reading"], rows),
        f"Kappa of reflecting or not, over think steps: {shown(right['kappa'])}.",
        table(["figure", *(Path(file).name.split(".")[0] for file in files)], by_file),
    ]
    if wrong is None:
        parts.append("Wrong: not yet annotated.")
    else:
        parts.append(f"Wrong: {wrong['responses']} responses, {wrong['think_steps']} think steps.")
        head = ["figure", "kappa", *CELLS, "responses"]
        rows = [[name, shown(told), *(str(told[key]) for key in head[2:])] for name, told in wrong["figures"].items()]
        parts.append(table(head, rows))
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


UNKNOWN = {"value": None}


def shown(told: Mapping[str, Any]) -> str:
    """A figure with its interval."""
    if told["value"] is None:
        return "-"
    if told["low"] is None:
        return f"{told['value']:.3f}"
    return f"{told['value']:.3f} [{told['low']:.3f}, {told['high']:.3f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("draw", "show", "measure"))
    parser.add_argument("ids", nargs="*")
    parser.add_argument("--data", type=Path, default=DATA)
    asked = parser.parse_args(arguments)
    if asked.verb == "draw":
        draw(asked.data)
    elif asked.verb == "show":
        show(asked.data, asked.ids)
    else:
        measure(asked.data)


if __name__ == "__main__":
    main()
