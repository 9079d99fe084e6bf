"""The battery at the start of a run: a handful of programs in each engine, in a process of its own.

A world watches and ends all processes below its own, and puts a secret into the environment: not in a process that
belongs to somebody else.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from stepcredit.core.errors import EngineError, MachineError
from stepcredit.sandbox.battery import ALL
from stepcredit.sandbox.battery.program import Program
from stepcredit.sandbox.battery.run import run_battery
from stepcredit.sandbox.battery.world import World
from stepcredit.sandbox.limits import Limits
from stepcredit.sandbox.sandbox import ENGINES, SandboxSettings

PLAIN = Program(
    0, "the next benign program", "import math\nprint(sum(range(101)), math.sqrt(16), len([1, 2]))", "5050 4.0 2\n"
)
"""Run after each program: as `NEXT`, without a package that may not be installed."""

START: dict[str, tuple[int, ...]] = {
    "wasm": (11, 18, 32, 39, 48, -1),
    "bwrap": (11, 18, 32, 39, 48, -1),
    "rlimit": (11, 35, 48, -1),
}
"""Numbers of the programs, by engine: memory, processes, files, network, the next block; and one that must work.

`rlimit` is tried only with what limits and a clean environment can hold.
"""

_LIMITS = Limits(wall_s=10.0, cpu_s=1.0)
_SLACK_S = 20.0  # a busy machine is late; that is no leak
_WHOLE_S = 240.0


@final
@dataclass(frozen=True)
class Started:
    """What an engine did at the start of a run.

    Args:
        engine: its name.
        programs: how each program ended, by name.
        faults: what went wrong, by name of the program; empty if the engine may be used.
        missing: why the engine cannot run here, empty if it can.
    """

    engine: str
    programs: dict[str, str]
    faults: dict[str, str]
    missing: str = ""


def try_engine(name: str) -> Started:
    """Run an engine's programs of `START`, in a new process.

    Args:
        name: `wasm`, `bwrap` or `rlimit`; the last is tried without asking for consent, with our own programs.

    Raises:
        MachineError: if that process cannot be started, or gives no answer.

    Source: reliability.md A4 (the short form at the start of a pipeline). Differs: six programs, not twelve.
    """
    here = str(Path(__file__).parents[3])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    numbers = [str(number) for number in START[name]]
    try:
        done = subprocess.run(  # noqa: S603 -- ourselves
            [sys.executable, "-m", __name__, name, *numbers],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WHOLE_S,
            check=False,
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise MachineError(f"sandbox {name} could not be tried: {type(error).__name__}: {error}") from error
    return Started(name, found["programs"], found["faults"], found["missing"])


def tried_here(name: str, numbers: Sequence[int]) -> Started:
    """The same in this process; for one that has no other work."""
    programs = [program for number in numbers for program in ALL if program.number == number]
    with World() as world:
        try:
            engine = ENGINES[name](SandboxSettings(limits=_LIMITS, accept_unsafe_exec=True))
        except MachineError as error:
            return Started(name, {}, {}, str(error))
        try:
            trials = run_battery(engine, programs, limits=_LIMITS, world=world, slack_s=_SLACK_S, after=PLAIN)
        except EngineError as error:
            return Started(name, {}, {"its start": str(error)})
        finally:
            engine.close()
    faults = {trial.program.name: trial.faults[0] for trial in trials if not trial.passed}
    return Started(name, {trial.program.name: trial.exit for trial in trials}, faults)


def main() -> None:
    """`python -m stepcredit.sandbox.battery.start ENGINE NUMBER ...`: prints what it found as JSON."""
    name, *numbers = sys.argv[1:]
    found = tried_here(name, [int(number) for number in numbers])
    told = {"programs": found.programs, "faults": found.faults, "missing": found.missing}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
