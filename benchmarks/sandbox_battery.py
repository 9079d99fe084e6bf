"""The hostile programs of reliability.md A5 in each engine: contained or refused, how, how long; then at random.

    python benchmarks/sandbox_battery.py [--repeats 1000] [--minutes 25] [--engines wasm bwrap] [--seed 0]

Each program once, then `--repeats` drawn at random, a benign program behind each, in a process for each engine. The
draws end early after `--minutes`; the page says how many there were. A failure of any is shown and ends with code 1.
Programs during which the whole process stood still for seconds (a machine that was suspended) are run again.
Writes results/sandbox_battery.json and sandbox_battery.md. The engine `rlimit` confines nothing and is left out: for it
see tests/sandbox, which run it inside an outer cage.
"""

import argparse
import json
import os
import platform
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from stepcredit.core.errors import MachineError
from stepcredit.core.seeds import derive
from stepcredit.sandbox import ENGINES, Engine, Limits, SandboxSettings
from stepcredit.sandbox.battery import ALL, HOSTILE, Program, Trial, World, run_battery

RESULTS = Path(__file__).parent / "results"
LIMITS = Limits(wall_s=4.0, cpu_s=1.0)
SLACK_S = 10.0
"""Allowed beyond the deadline: the machine may be busy."""

BATCH, STILL_S = 10, 2.5

STOPPED = {"wall": "time limit", "cpu": "processor limit", "memory": "memory limit", "output": "output limit"}
STOPPED |= {"trap": "trap", "died": "worker ended", "lost": "worker lost"}


def outcome(trial: Trial) -> tuple[str, str]:
    """What became of a program, and how.

    >>> from stepcredit.sandbox.battery import BENIGN
    >>> outcome(Trial(HOSTILE[0], "wasm", "cpu", 1.0, ()))
    ('contained', 'processor limit')
    >>> outcome(Trial(BENIGN[2], "wasm", "raised", 0.1, (), False, "ModuleNotFoundError: No module named 'numpy'"))
    ('unsupported', 'ModuleNotFoundError')
    """
    kind = re.match(r"[A-Za-z_.]+", trial.error)
    raised = kind[0].rstrip(".") if kind else trial.exit
    if not trial.passed:
        return "FAILED", f"{trial.exit}: {'; '.join(trial.faults)}"
    if not trial.program.hostile:
        return ("right", "") if trial.supported else ("unsupported", raised)
    if trial.exit == "raised":
        return "refused", raised
    return "contained", STOPPED.get(trial.exit, "got nothing" if trial.exit == "ended" else trial.exit)


def of_engine(name: str, repeats: int, minutes: float, seed: int) -> dict[str, Any]:
    """Both parts in one engine, or why it does not run here."""
    try:
        engine = ENGINES[name](SandboxSettings(engine=name, limits=LIMITS))  # type: ignore[arg-type]
    except MachineError as error:
        return {"engine": name, "missing": str(error)}
    try:
        began = time.monotonic()
        parts = (trials(engine, ALL[start : start + BATCH]) for start in range(0, len(ALL), BATCH))
        table = [shown(trial) for part in parts for trial in part]
        seconds = time.monotonic() - began
        drawn = at_random(engine, repeats, minutes, seed)
        return {"engine": name, "version": engine.version, "table": table, "table_seconds": seconds, **drawn}
    finally:
        engine.close()


def trials(engine: Engine, programs: Sequence[Program]) -> tuple[Trial, ...]:
    """Programs one after another, in a world of their own; again if the process stood still meanwhile."""
    for _ in range(20):
        with World() as world, Watch() as watch:
            found = run_battery(engine, programs, limits=LIMITS, world=world, slack_s=SLACK_S)
        if watch.longest_s < STILL_S:
            return found
        print(f"{engine.name}: stood still for {watch.longest_s:.0f} s; again", file=sys.stderr, flush=True)
    sys.exit("the machine stands still again and again: nothing can be told")


class Watch:
    """The longest that this process stood still inside the block."""

    def __init__(self) -> None:
        self.longest_s, self._ended = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(0.2):
            now = time.monotonic()
            self.longest_s, before = max(self.longest_s, now - before), now


def at_random(engine: Engine, repeats: int, minutes: float, seed: int) -> dict[str, Any]:
    """Programs drawn at random until there were so many, or the time is over."""
    draws, began = random.Random(derive(seed, "battery", engine.name)), time.monotonic()
    outcomes, failed, slowest = Counter[str](), list[dict[str, Any]](), 0.0
    while (left := repeats - outcomes.total()) > 0 and time.monotonic() - began < 60 * minutes:
        for trial in trials(engine, draws.choices(HOSTILE, k=min(left, BATCH))):
            outcomes[outcome(trial)[0]] += 1
            slowest = max(slowest, trial.seconds)
            failed += [] if trial.passed else [shown(trial)]
    found = {"asked": repeats, "drawn": outcomes.total(), "outcomes": dict(outcomes), "failed": failed}
    return {"random": {**found, "seed": seed, "slowest_s": slowest, "seconds": time.monotonic() - began}}


def shown(trial: Trial) -> dict[str, Any]:
    """A trial as the results keep it."""
    what, how = outcome(trial)
    program = trial.program
    return {"number": program.number, "program": program.name, "outcome": what, "how": how, "seconds": trial.seconds}


def page(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    found = [one for one in result["engines"] if "table" in one]
    lines = ["# Hostile and benign programs in each engine", "", f"{result['machine']}; load at the end"]
    lines[-1] += f" {result['load']:.1f}. Limits: {LIMITS.wall_s:g} s, of that {LIMITS.cpu_s:g} s of processor time."
    lines += ["", "Made by `benchmarks/sandbox_battery.py`. *contained*: ended by a limit, or got nothing of what it"]
    lines += ["wanted; *refused*: ended by the exception named. A benign program was right after each.", ""]
    lines += [f"Left out: {one['engine']}: {one['missing']}" for one in result["engines"] if "missing" in one]
    names = [one["engine"] for one in found]
    lines += [f"| # | program | {' | '.join(names)} |", "| --- " * (len(names) + 2) + "|"]
    for rows in zip(*(one["table"] for one in found), strict=True):
        cells = [
            f"{one['outcome']}{f' ({told})' if (told := one['how']) else ''}, {one['seconds']:.2f} s" for one in rows
        ]
        number = rows[0]["number"] if rows[0]["number"] > 0 else "benign"
        lines.append(f"| {number} | {rows[0]['program']} | {' | '.join(cells)} |")
    lines += ["", "Drawn at random:", "", "| engine | asked for | run | contained | refused | failed | slowest | all |"]
    lines.append("| --- " * 8 + "|")
    for one in found:
        drawn, outcomes = one["random"], one["random"]["outcomes"]
        lines.append(
            f"| {one['engine']} | {drawn['asked']:,} | {drawn['drawn']:,} | {outcomes.get('contained', 0):,}"
            f" | {outcomes.get('refused', 0):,} | {len(drawn['failed'])} | {drawn['slowest_s']:.1f} s"
            f" | {drawn['seconds']:.0f} s |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--engines", nargs="+", default=["wasm", "bwrap"], choices=["wasm", "bwrap"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    with get_context("spawn").Pool(len(options.engines)) as pool:
        given = [(name, options.repeats, options.minutes, options.seed) for name in options.engines]
        engines = pool.starmap(of_engine, given, chunksize=1)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    result = {"machine": machine, "load": os.getloadavg()[0], "engines": engines}
    text = page(result)
    sys.stdout.write(text)
    (options.out / "sandbox_battery.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.out / "sandbox_battery.md").write_text(text, encoding="utf-8")
    rows = [row for one in engines for row in one.get("table", ())]
    if any(row["outcome"] == "FAILED" for row in rows) or any(
        one["random"]["failed"] for one in engines if "random" in one
    ):
        sys.exit(1)


if __name__ == "__main__":
    main()
