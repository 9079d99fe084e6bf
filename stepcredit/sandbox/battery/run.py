"""Running the battery against one engine, a program at a time, with the next benign program after each."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.errors import EngineError
from stepcredit.sandbox.battery.program import NEXT, Program
from stepcredit.sandbox.battery.world import World
from stepcredit.sandbox.limits import GRACE_S, Limits
from stepcredit.sandbox.sandbox import Engine
from stepcredit.sandbox.worker import Job, Reply


@final
@dataclass(frozen=True)
class Trial:
    """What one program did in one engine.

    Args:
        program: that was run.
        engine: its name.
        exit: how it ended, in the engine's words.
        seconds: until the engine answered.
        faults: what it did that it should not have been able to do, or failed to do; empty = contained, or right.
        supported: False if the engine rightly lacks what a benign program needs.
        error: beginning of the exception that ended it; written by the program, so for people only.
    """

    program: Program
    engine: str
    exit: str
    seconds: float
    faults: tuple[str, ...]
    supported: bool = True
    error: str = ""

    @property
    def passed(self) -> bool:
        """True if a hostile program was contained, or a benign one right."""
        return not self.faults


def run_battery(
    engine: Engine,
    programs: Sequence[Program],
    *,
    limits: Limits,
    world: World,
    slack_s: float = 0.0,
    after: Program = NEXT,
) -> tuple[Trial, ...]:
    """Run programs one after another.

    Args:
        engine: made with the limits, inside the world; is not closed.
        programs: what to run.
        limits: the engine's.
        world: what is watched.
        slack_s: allowed beyond the deadline and a second more, for a machine that is busy.
        after: the benign program that is run after each.

    Returns:
        A trial each, in order. A hostile program is contained if it ends inside the deadline and a second more, gets
        nothing that it wanted, leaves no process, file or connection, lets our memory grow by less than 100 MB, and the
        next benign program is right.

    Source: reliability.md A4 (promise), A5. Differs: killing is tried with signal 0, so that a battery is safe to run.
    """
    engine.run(Job(after.source))  # the first one starts the worker
    given = _Given(limits, world, world.tree(engine.pid), slack_s, after)
    return tuple(_trial(engine, program, given) for program in programs)


@final
@dataclass(frozen=True)
class _Given:
    """What all trials of a battery share."""

    limits: Limits
    world: World
    tree: int
    slack_s: float
    after: Program


def _trial(engine: Engine, program: Program, given: _Given) -> Trial:
    limits, world = given.limits, given.world
    began = time.monotonic()
    reply, faults = _run(engine, world.filled(program))
    seconds = time.monotonic() - began
    faults += world.faults(reply, limits=limits) if program.hostile else []
    if program.hostile and seconds > limits.wall_s + GRACE_S + given.slack_s:
        faults.append(f"it took {seconds:.1f} s")
    supported = engine.name not in program.unsupported
    if not program.hostile:
        faults += _wrong(program, reply, supported=supported)
    after, more = _run(engine, given.after.source)
    faults += more + [f"then {fault}" for fault in _wrong(given.after, after, supported=True)]
    left = world.survivors(engine.pid, given.tree)
    if left:
        faults.append(f"it left {left} processes")
    error = reply.error.decode("utf-8", "replace")[:80]
    return Trial(program, engine.name, reply.exit, seconds, tuple(faults), supported, error)


def _run(engine: Engine, source: str) -> tuple[Reply, list[str]]:
    try:
        return engine.run(Job(source)), []
    except EngineError as error:
        return Reply("broken"), [f"the engine failed: {error}"]


def _wrong(program: Program, reply: Reply, *, supported: bool) -> list[str]:
    """What is wrong with a benign program's end; an engine that lacks something must say so by an exception."""
    if not supported:
        return [] if reply.exit == "raised" else [f"{program.name} ended with {reply.exit} where it cannot work"]
    if (reply.exit, reply.out.decode("utf-8", "replace")) == ("ended", program.expected):
        return []
    said = (reply.error or reply.out).decode("utf-8", "replace")[:80]
    return [f"{program.name} ended with {reply.exit}: {said!r}"]
