"""Many solutions through the walk, and what it costs: `python benchmarks/soak.py [--count N] [--judge critic]`.

Prints one JSON object: resident memory at the start, along the way and at the end, and time a solution. `critic` asks a
scripted server in a process of its own that answers after a millisecond; `markers` needs none. The promise
(docs/reliability.md): memory flat, less than 200 MB over the start at 100,000, and less than 5 ms a call.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from stepcredit.recipes.recorded import RecordedSettings, run_recorded
from stepcredit.report.progress import SilentTask
from stepcredit.testing import Manners, ScriptedServer


def resident_mb() -> float:
    """Resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def write_input(path: Path, count: int) -> Path:
    """Solutions of three steps that all differ."""
    with path.open("w", encoding="utf-8") as file:
        for k in range(count):
            steps = [f"First, {k} plus 2 is {k + 2}, as anybody can see at once.", f"Then {k + 2} minus 1 is {k + 1}."]
            text = "\n\n".join([*steps, f"The answer is \\boxed{{{k + 1}}}."])
            row = {"id": f"s{k}", "problem": f"What is {k} + 2 - 1?", "answer": str(k + 1), "completion": text}
            file.write(json.dumps(row) + "\n")
    return path


class Memory(SilentTask):
    """A task that looks at the memory a hundred times."""

    def __init__(self, count: int) -> None:
        self.every, self.done = max(1, count // 100), 0
        self.seen: list[float] = []

    def advance(self, amount: int = 1, **_more: object) -> None:
        """One more is done."""
        self.done += amount
        if self.done % self.every == 0:
            self.seen.append(resident_mb())


class Screen:
    """A progress whose only task is the one given."""

    def __init__(self, task: Memory) -> None:
        self.task = task

    def say(self, line: str) -> None:
        """Show a line."""
        print(line)

    def start(self, name: str, *, total: int | None = None, unit: str = "") -> Memory:  # noqa: ARG002
        """The task."""
        return self.task


def serve(connection: Connection) -> None:
    """A server until the other end says so."""
    with ScriptedServer(reply=lambda _: "All is well. \\boxed{-1}", manners=Manners(delay_s=0.001)) as server:
        connection.send(server.url)
        connection.recv()


@contextmanager
def server_of(judge: str) -> Generator[dict[str, Any]]:
    """Settings of the judge, with its server for as long as the block lasts."""
    if judge == "markers":
        yield {}
        return
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,))
    process.start()
    try:
        yield {"judge": "critic", "server": here.recv(), "model": "scripted"}
        here.send("end")
    finally:
        process.join(timeout=10)
        process.kill()


def soak(count: int, judge: str, folder: Path) -> dict[str, object]:
    """Walk so many solutions; figures of memory and time."""
    file, memory = write_input(folder / "input.jsonl", count), Memory(count)
    with server_of(judge) as chosen:
        settings = RecordedSettings(
            folder / "run", until="judge", overrides=("checker.mode=string", "report.solutions=200"), **chosen
        )
        before, began, cpu = resident_mb(), time.monotonic(), time.process_time()
        told = run_recorded(file, settings, verb="judge", progress=Screen(memory)).summary
        wall_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    if told["coverage"]["answered"] != count:
        raise SystemExit(f"not all were answered: {told['coverage']}")
    return {
        "judge": judge,
        "count": count,
        "start_mb": round(before, 1),
        "tenth_mb": round(memory.seen[9], 1),
        "half_mb": round(memory.seen[49], 1),
        "last_mb": round(memory.seen[-1], 1),
        "most_mb": round(max(memory.seen), 1),
        "end_mb": round(resident_mb(), 1),
        "wall_s": round(wall_s, 1),
        "cpu_ms_each": round(cpu_s / count * 1e3, 3),
        "ledger_mb": round((folder / "run" / "ledger.sqlite").stat().st_size / 2**20, 1),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--judge", choices=("markers", "critic"), default="markers")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(soak(asked.count, asked.judge, Path(folder))))


if __name__ == "__main__":
    main()
