"""What a judge call costs on our side: client overhead and memory.

    python benchmarks/judge_throughput.py [--calls 2000]

Against a scripted server that answers at once, in a process of its own: CPU and wall time of this process a call, and
its memory after a quarter of the calls and at the end. Writes results/judge_throughput.json and judge_throughput.md.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent), str(HERE.parent / "tests" / "recipes")]

from recorded_cases import RIGHT  # noqa: E402
from writing_cases import model_folder, served  # noqa: E402

from stepcredit.core.protocols import Judge  # noqa: E402
from stepcredit.core.records import Outcome, Problem, Rollout, Steps  # noqa: E402
from stepcredit.engines.chat_template import ChatTemplate  # noqa: E402
from stepcredit.engines.server import ServerClient, ServerSettings  # noqa: E402
from stepcredit.engines.tokenizer import FileTokenizer  # noqa: E402
from stepcredit.judges import CriticJudge, GenPrmJudge, ThinkPRMJudge  # noqa: E402
from stepcredit.testing import ScriptedServer  # noqa: E402

IN_FLIGHT = 32


def scripted(kind: str, folder: str, pipe: Connection) -> None:
    """The process of the scripted server."""
    server = ScriptedServer(reply=lambda _: "\\boxed{-1}") if kind == "critic" else served(Path(folder), kind)
    with server:
        pipe.send(server.url)
        pipe.recv()


def solution(number: int) -> Steps:
    """A solution of four steps; no two are equal."""
    texts = [*(f"{part}\n\n" for part in RIGHT.split("\n\n")[:3]), f"So {number}."]
    starts = np.cumsum([0, *map(len, texts)])[: len(texts)]
    ids = np.arange(len(texts))
    rollout = Rollout(f"r{number}", Problem("p", "How many?", "19"), "g", 0, "".join(texts), np.zeros(1), ids, starts)
    return Steps(Outcome(rollout, "right"), ids, "paragraph", np.zeros(len(texts), bool), closed=False)


JUDGES: dict[str, tuple[int, Callable[[ServerClient, FileTokenizer, ChatTemplate], Judge]]] = {
    "critic": (1, lambda client, _tokenizer, _chat: CriticJudge(client)),
    "thinkprm": (2, ThinkPRMJudge),
    "genprm": (8, GenPrmJudge),
}
"""Judge -> calls a solution of four steps, and how it is made."""


async def overhead(kind: str, url: str, folder: Path, calls: int) -> dict[str, float]:
    """Costs of this process for so many calls of a judge."""
    each, make = JUDGES[kind]
    count = calls // each
    async with ServerClient(ServerSettings(url, max_in_flight=IN_FLIGHT, key_variable="NO_SUCH_KEY")) as client:
        judge = make(client, FileTokenizer.load(folder), ChatTemplate.load(folder))
        await _many(judge, range(-2 * IN_FLIGHT, 0))
        memory: list[int] = []
        cpu, wall = time.process_time(), time.perf_counter()
        for part in range(4):
            await _many(judge, range(part * count // 4, (part + 1) * count // 4))
            memory.append(_resident_bytes())
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    made = count * each
    return {
        "calls": made,
        "client_cpu_ms_a_call": 1000 * cpu / made,
        "wall_ms_a_call": 1000 * wall / made,
        "memory_after_a_quarter_mb": memory[0] / 2**20,
        "memory_at_the_end_mb": memory[-1] / 2**20,
        "growth_bytes_a_call": (memory[-1] - memory[0]) / (0.75 * made),
    }


async def _many(judge: Judge, numbers: range) -> None:
    left = iter(numbers)

    async def work() -> None:
        for number in left:
            for verdict in await judge.judge(solution(number)):
                if verdict.score is None:
                    raise SystemExit(f"a verdict is unknown: {verdict.reason}")

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def beside_scripted(calls: int) -> dict[str, dict[str, float]]:
    """Each judge against a scripted server of its own."""
    context, found = get_context("spawn"), dict[str, dict[str, float]]()
    with tempfile.TemporaryDirectory() as name:
        folder = model_folder(Path(name))
        for kind in JUDGES:
            ours, theirs = context.Pipe()
            process = context.Process(target=scripted, args=(kind, name, theirs))
            process.start()
            try:
                found[kind] = asyncio.run(overhead(kind, ours.recv(), folder, calls))
                ours.send(None)
            finally:
                process.join(5)
                process.terminate()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args(arguments)
    result: dict[str, Any] = {"machine": platform.machine(), "cpus": os.cpu_count(), "in_flight": IN_FLIGHT}
    result["scripted"] = beside_scripted(options.calls)
    (HERE / "results" / "judge_throughput.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (HERE / "results" / "judge_throughput.md").write_text(page(result), encoding="utf-8")


def page(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["# Judge calls", "", f"Made by `benchmarks/judge_throughput.py` on {result['cpus']} cores.", ""]
    names = list(next(iter(result["scripted"].values())))
    lines += [f"| judge | {' | '.join(name.replace('_', ' ') for name in names)} |", "| --- " * (len(names) + 1) + "|"]
    for kind, row in result["scripted"].items():
        lines.append(f"| {kind} | " + " | ".join(f"{row[name]:,.2f}" for name in names) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
