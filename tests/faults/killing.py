"""Kill -9 again and again: a zygote that forks sessions of a program, kills them at seeded moments, and tells.

`python killing.py CASE JSON` is the zygote: a process without threads that has imported everything, so that a session
costs milliseconds and not the second that Python's imports take. Each session is a process of its own, in a session
group of its own, killed by SIGKILL.
"""

import json
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Say = Callable[[str], None]
Session = Callable[[Path, Say], None]
"""One session on a run folder; says `at STAGE` when it enters one, and returns when the run is complete."""

FAULTS = Path(__file__).resolve().parent
KILLS = 10
"""Kills of each stage in `make test`; `make faults` does fifty."""


@dataclass
class Killed:
    """What a loop of kills did.

    Args:
        runs: folders of runs that came to their end, each after some kills.
        kills: kills by the stage that they fell into.
        kills_of_run: kills of each of the runs.
        failures: what went wrong in a session, as tracebacks.
        lines: what sessions said, other than stages.
    """

    runs: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    kills_of_run: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def kill_again(
    session: Session, root: Path, *, stage: str, kills: int, seed: int, spread_s: tuple[float, float]
) -> Killed:
    """Run and kill sessions until a stage was killed so often and the last run is complete.

    Args:
        session: what runs; called in a fresh process each time.
        root: folder of the runs' folders.
        stage: the stage that kills are aimed at.
        kills: kills that must fall into it.
        seed: of the moments.
        spread_s: a kill falls so long after the stage began, drawn evenly.
    """
    told, moments, done = Killed(), random.Random(seed), True
    for _ in range(60 * kills + 60):
        if done:
            if told.runs and (told.kills[stage] >= kills or told.failures):
                break
            told.runs.append(str(root / f"run{len(told.runs):03d}"))
            told.kills_of_run.append(0)
        # The last run is led to its end undisturbed.
        delay = None if told.kills[stage] >= kills else moments.uniform(*spread_s)
        died_in, done = _one_session(session, Path(told.runs[-1]), told, stage=stage, delay_s=delay)
        if died_in is not None:
            told.kills[died_in] += 1
            told.kills_of_run[-1] += 1
        if told.failures:
            break
    return told


def _one_session(
    session: Session, folder: Path, told: Killed, *, stage: str, delay_s: float | None
) -> tuple[str | None, bool]:
    """The stage in which it was killed (`None` if it ended first), and whether the run is complete."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(session, folder, writer)
    os.close(writer)
    lines = _Lines(reader)
    if delay_s is not None and lines.until(f"at {stage}"):
        lines.wait(delay_s)
    killed = delay_s is not None and not lines.ended
    if killed:
        os.killpg(pid, signal.SIGKILL)
    lines.rest()
    _, status = os.waitpid(pid, 0)
    os.close(reader)
    told.lines += [line for line in lines.seen if not line.startswith("at ")]
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        told.failures.append("\n".join(lines.seen[-60:]))
    places = [line.removeprefix("at ") for line in lines.seen if line.startswith("at ")]
    return (places[-1] if places else "start") if code == -signal.SIGKILL else None, code == 0


def _child(session: Session, folder: Path, writer: int) -> None:
    os.setsid()
    code = 1
    try:
        session(folder, lambda text: os.write(writer, f"{text}\n".encode()) and None)
        code = 0
    except BaseException:  # noqa: BLE001 -- the parent tells
        os.write(writer, traceback.format_exc().encode())
    finally:
        os._exit(code)


class _Lines:
    """Lines of a session as they come."""

    def __init__(self, reader: int) -> None:
        self._reader, self._open = reader, b""
        self.seen: list[str] = []
        self.ended = False

    def until(self, line: str) -> bool:
        """Wait for a line; False if the session ended before."""
        while line not in self.seen and not self.ended:
            self._read(None)
        return line in self.seen

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the session ends."""
        end = time.monotonic() + seconds
        while not self.ended and (left := end - time.monotonic()) > 0:
            self._read(left)

    def rest(self) -> None:
        """Wait for the end."""
        while not self.ended:
            self._read(None)

    def _read(self, timeout: float | None) -> None:
        if not select.select([self._reader], [], [], timeout)[0]:
            return
        data = os.read(self._reader, 65536)
        self.ended = not data
        *whole, self._open = (self._open + data).split(b"\n")
        self.seen += [line.decode() for line in whole]


def in_a_zygote(
    case: str, root: Path, *, stages: Mapping[str, tuple[float, float]], kills: int, **settings: Any
) -> dict[str, Killed]:
    """Start the zygote of a case of `kill_cases` and wait for what it tells, by stage.

    Args:
        case: `walk`, `tabular` or `embedded`.
        root: folder of the runs' folders.
        stages: stages that kills are aimed at, and when after their beginning they fall, in seconds.
        kills: kills of each stage.
        settings: of the case.
    """
    settings |= {"stages": stages, "kills": kills}
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment = {**os.environ, **one, "PYTHONPATH": str(FAULTS.parents[1])}
    command = [sys.executable, "-W", "error", str(FAULTS / "kill_cases.py"), case, str(root), json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True) as zygote:
        try:
            out, _ = zygote.communicate(timeout=600)
        finally:
            if zygote.poll() is None:
                os.killpg(zygote.pid, signal.SIGKILL)
    assert zygote.returncode == 0, f"the zygote ended with {zygote.returncode}"
    found = json.loads(out.splitlines()[-1])
    return {stage: Killed(**{**one, "kills": Counter(one["kills"])}) for stage, one in found.items()}


def rows_of(folder: Path, *stages: str) -> dict[str, bytes]:
    """Payloads of a run's ledger, as they are stored, by `stage key`; attempts and wall times are no part of it."""
    db = sqlite3.connect(folder / "ledger.sqlite")
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        marks = ",".join("?" for _ in stages)
        found = db.execute(f"SELECT stage || ' ' || key, payload FROM records WHERE stage IN ({marks})", stages)
        rows = found.fetchall()
        cached = db.execute("SELECT 'cache ' || key, value FROM cache").fetchall()
    finally:
        db.close()
    assert len({key for key, _ in rows}) == len(rows)
    return dict(rows) | dict(cached)


def files_of(folder: Path, *patterns: str) -> dict[str, bytes]:
    """Contents of a run's files by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for name in patterns for path in folder.glob(name)}


def show(line: str) -> None:
    """A figure of a test: `pytest -rP` shows it."""
    sys.stdout.write(f"{line}\n")


def answer(told: Mapping[str, Killed]) -> None:
    """The zygote's last line."""
    sys.stdout.write(json.dumps({stage: vars(one) for stage, one in told.items()}) + "\n")
