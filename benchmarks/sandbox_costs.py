"""What a run of a model's code costs in each engine, beside the figures of reliability.md A3.

    python benchmarks/sandbox_costs.py [--runs 200] [--sessions 5] [--built FOLDER] [--no-battery]

Median and least wall-clock time of `--runs` runs each, every answer compared with the right one; a busy machine moves
the median, hardly the least. Then sessions of 1, 2, 4, 8 and 16 blocks, which are kept by replay. Writes
results/sandbox_costs.json and sandbox_costs.md. The WebAssembly component is built anew
in a folder of its own, unless one that is built is named.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stepcredit.core.errors import MachineError
from stepcredit.sandbox import ENGINES, Engine, Limits, Sandbox, SandboxSettings
from stepcredit.sandbox.battery import ALL, World, run_battery
from stepcredit.sandbox.component import build_component
from stepcredit.sandbox.worker import Job

RESULTS = Path(__file__).parent / "results"
TRIVIAL = ("print(sum(range(101)))", b"5050\n")
SOLVE = ("import sympy\nx = sympy.Symbol('x')\nprint(sympy.solve(x**3 - 6 * x**2 + 11 * x - 6, x))", b"[1, 2, 3]\n")
NUMPY = ("import numpy\nprint(int(numpy.arange(1000).sum()))", b"499500\n")
LOOP = ("t = 0\nfor k in range(2_000_000):\n    t = (t * 31 + k) % 1000003\nprint(t)", b"")
SPEC = {
    ("wasm", "build"): "21-25 s + 5-9 s",
    ("wasm", "start"): "4 ms (load alone)",
    ("wasm", "trivial"): "1.5 ms (1.3)",
    ("wasm", "sympy solve"): "20 ms (19)",
    ("wasm", "loop"): "3.3 times native",
    ("bwrap", "start"): "400-750 ms",
    ("bwrap", "trivial"): "11.8 ms (6.3)",
    ("bwrap", "sympy solve"): "56 ms (40)",
}
"""reliability.md A3: median (least), on its machine."""


def taken(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def times(engine: Engine, program: tuple[str, bytes], runs: int) -> list[float]:
    """Seconds of each run; a wrong answer ends the benchmark."""
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        reply = engine.run(Job(program[0]))
        found.append(time.perf_counter() - began)
        if reply.exit != "ended" or (program[1] and reply.out != program[1]):
            sys.exit(f"{engine.name} answered {reply} where {program[1]!r} is right")
    return found


def row(name: str, what: str, seconds: list[float]) -> dict[str, Any]:
    """A line of the table."""
    median, least = statistics.median(seconds), min(seconds)
    return {"engine": name, "what": what, "median_ms": median * 1e3, "least_ms": least * 1e3, "runs": len(seconds)}


def engine_rows(name: str, runs: int, folder: Path) -> list[dict[str, Any]]:
    """What one engine costs."""
    settings = SandboxSettings(limits=Limits(wall_s=30, cpu_s=30), folder=folder, accept_unsafe_exec=True)
    starts = []
    for _ in range(5):
        engine = ENGINES[name](settings)
        engine.close()
        starts.append(taken(lambda engine=engine: engine.run(Job(TRIVIAL[0]))))
        engine.close()
    engine = ENGINES[name](settings)
    rows = [row(name, "start", starts)]
    jobs = {"trivial": (TRIVIAL, runs), "sympy solve": (SOLVE, max(runs // 5, 5)), "loop": (LOOP, 7)}
    if name == "bwrap":
        jobs["numpy"] = (NUMPY, runs)
    for what, (program, count) in jobs.items():
        times(engine, program, 1)
        rows.append(row(name, what, times(engine, program, count)))
    engine.close()
    return rows


def session_rows(name: str, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Seconds of the last block of a session, as its length grows: what replay costs."""
    block = SOLVE[0] + "\nn = globals().get('n', 0) + 1\nprint(n)"
    rows = []
    with Sandbox(SandboxSettings(name, limits=Limits(wall_s=30), folder=folder, workers=1)) as sandbox:  # type: ignore[arg-type]
        for repeat in range(repeats):
            for length in range(1, 17):
                began = time.perf_counter()
                done = asyncio.run(sandbox.run(block, session=f"s{repeat}"))
                if not done.stdout.endswith(f"\n{length}\n"):
                    sys.exit(f"{name}: block {length} of a session gave {done}")
                if length in (1, 2, 4, 8, 16):
                    rows.append((length, time.perf_counter() - began))
    return [
        row(name, f"block {length} of a session (sympy solve)", [seconds for at, seconds in rows if at == length])
        for length in (1, 2, 4, 8, 16)
        if repeats
    ]


def battery_row(name: str, folder: Path) -> dict[str, Any]:
    """How many of the battery were contained, or right."""
    limits = Limits(wall_s=2.0, cpu_s=1.0)
    with World() as world:
        engine = ENGINES[name](SandboxSettings(limits=limits, folder=folder))
        began = time.perf_counter()
        trials = run_battery(engine, ALL, limits=limits, world=world)
        seconds = time.perf_counter() - began
        engine.close()
    failed = {trial.program.name: trial.faults for trial in trials if not trial.passed}
    latest = max(trial.seconds for trial in trials) - limits.wall_s
    count = len(trials)
    return {"engine": name, "programs": count, "failed": failed, "seconds": seconds, "latest_after_deadline_s": latest}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--sessions", type=int, default=5)
    parser.add_argument("--battery", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--built", type=Path, default=None)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    batteries: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as own:
        folder = options.built or Path(own)
        built = taken(lambda: build_component(folder))
        rows += [] if options.built else [row("wasm", "build", [built])]
        size = build_component(folder).stat().st_size / 1e6
        for name in ("wasm", "bwrap", "rlimit"):
            try:
                rows += engine_rows(name, options.runs, folder)
                if name != "rlimit":
                    rows += session_rows(name, folder, options.sessions)
                    batteries += [battery_row(name, folder)] if options.battery else []
            except MachineError as error:
                print(f"{name} is left out: {error}")
    native = next((one["least_ms"] for one in rows if (one["engine"], one["what"]) == ("rlimit", "loop")), None)
    write(rows, batteries, size, native)


def write(rows: list[dict[str, Any]], batteries: list[dict[str, Any]], size: float, native: float | None) -> None:
    """Both files."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    lines = ["# What a run of a model's code costs", "", f"{machine}; load at the end {os.getloadavg()[0]:.1f}", ""]
    lines += ["| engine | what | median | least | runs | reliability.md A3 |", "| --- | --- | --- | --- | --- | --- |"]
    for one in rows:
        spec = SPEC.get((one["engine"], one["what"]), "")
        lines.append(
            f"| {one['engine']} | {one['what']} | {one['median_ms']:.1f} ms | {one['least_ms']:.1f} ms"
            f" | {one['runs']} | {spec} |"
        )
    loops = {one["engine"]: one["least_ms"] for one in rows if one["what"] == "loop"}
    if native:
        lines += ["", *(f"The loop in {name}: {least / native:.1f} times native." for name, least in loops.items())]
    lines += ["", f"The compiled component: {size:.0f} MB.", ""]
    lines += ["| engine | battery | failed | seconds | latest after the deadline |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {one['engine']} | {one['programs']} | {one['failed'] or 0} | {one['seconds']:.0f} s"
        f" | {one['latest_after_deadline_s']:.2f} s |"
        for one in batteries
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    record = {"machine": machine, "rows": rows, "batteries": batteries, "component_mb": size}
    (RESULTS / "sandbox_costs.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "sandbox_costs.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
