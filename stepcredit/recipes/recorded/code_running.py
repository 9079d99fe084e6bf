"""Recipe section `[sandbox]`: whether and where the code that a judge writes is run."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from stepcredit.core.code import CodeRunner, SessionMode
from stepcredit.core.errors import MachineError, UsageError
from stepcredit.recipes.loading import Section
from stepcredit.report.progress import Progress

RUNS_CODE = ("genprm",)
"""Judges that write code and are told what it printed."""


class SandboxPart(Section):
    """`[sandbox]`: `off` runs nothing; `auto` chooses `wasm` or `bwrap` by what a program imports, or refuses it.

    `rlimit` confines nothing and wants `accept_unsafe_exec`. `session`: `solution` keeps variables from step to step,
    as the released GenPRM does; `step` starts every block fresh. `workers`: programs at a time; `wall_s`: bound on one.
    `battery = false` leaves out the few hostile programs that are tried before a run, and refuse it where one gets out.
    """

    engine: Literal["off", "auto", "wasm", "bwrap", "rlimit"] = "off"
    session: SessionMode = "solution"
    workers: int = Field(ge=1, default=2)
    wall_s: float = Field(gt=0, default=5.0)
    accept_unsafe_exec: bool = False
    battery: bool = True


def check_sandbox(judge: str, part: SandboxPart) -> None:
    """Refuse a sandbox for a judge that runs no code, one without consent, and consent that nothing asks for.

    Raises:
        UsageError: naming the mend.

    >>> check_sandbox("genprm", SandboxPart(engine="auto"))
    """
    if part.engine != "off" and judge not in RUNS_CODE:
        raise UsageError(f"judge {judge} runs no code; leave --sandbox out, or give --judge {' or '.join(RUNS_CODE)}")
    if part.engine == "rlimit" and not part.accept_unsafe_exec:
        mend = "take --sandbox auto, or consent with --i-accept-unsafe-exec"
        raise UsageError(f"--sandbox rlimit runs a model's code with your rights and confines nothing; {mend}")
    if part.accept_unsafe_exec and part.engine != "rlimit":
        raise UsageError(f"--i-accept-unsafe-exec is for --sandbox rlimit, not {part.engine}; leave it out")


UNSAFE = "UNSAFE: sandbox rlimit confines nothing: a model's code runs here with your rights, files and network"
"""What the page and the terminal say of such a run."""

TRIED = "sandbox.json"
"""File of a run: what the programs of the battery did in each engine at the start of the last session."""


def unsafe_badge(part: SandboxPart) -> str:
    """What is said of a run whose sandbox confines nothing, empty for others.

    >>> unsafe_badge(SandboxPart(engine="auto"))
    ''
    """
    return UNSAFE if part.engine == "rlimit" else ""


def say_unsafe(part: SandboxPart, screen: Progress) -> None:
    """Say before anything else that the sandbox confines nothing, if it was consented to."""
    if part.accept_unsafe_exec and unsafe_badge(part):
        screen.say(f"WARNING: {UNSAFE}")


def try_sandbox(part: SandboxPart) -> dict[str, Any]:
    """Try the engines that a run may use with a few hostile programs and a benign one, before it runs any code.

    Returns:
        How each program ended, by engine; nothing for a sandbox that is off, or whose battery is.

    Raises:
        MachineError: if a program was not contained, or the benign one did not work.

    Source: reliability.md A4. Differs: an engine that cannot run here is for `opened_runner` to name.
    """
    if part.engine == "off" or not part.battery:
        return {}
    from stepcredit.sandbox import SAFE  # noqa: PLC0415 -- loads the engines
    from stepcredit.sandbox.battery.start import try_engine  # noqa: PLC0415

    tried = [try_engine(name) for name in (SAFE if part.engine == "auto" else (part.engine,))]
    for found in tried:
        if found.faults:
            told = "; ".join(f"{name}: {fault}" for name, fault in found.faults.items())
            mend = "stepcredit doctor shows more; --set sandbox.battery=false runs without this trial"
            raise MachineError(f"sandbox {found.engine} does not hold here, so no model's code is run ({told}); {mend}")
    return {found.engine: found.programs for found in tried if not found.missing}


def sandbox_settings(part: SandboxPart) -> dict[str, Any]:
    """What manifest and report say of it, unsafe runs by that word."""
    if part.engine == "off":
        return {"sandbox": "off"}
    name = "rlimit (UNSAFE: confines nothing)" if part.engine == "rlimit" else part.engine
    return {"sandbox": name, "sandbox_session": part.session, "sandbox_wall_s": part.wall_s}


@contextmanager
def opened_runner(part: SandboxPart) -> Generator[CodeRunner | None]:
    """The runner of a judge's code, `None` where none is wanted.

    Raises:
        MachineError: if no engine that was asked for can run here.
        UsageError: for `rlimit` without consent.
    """
    if part.engine == "off":
        yield None
        return
    from stepcredit.sandbox import Limits, Sandbox, SandboxSettings  # noqa: PLC0415 -- loads the engines

    settings = SandboxSettings(
        part.engine,
        part.session,
        Limits(wall_s=part.wall_s, cpu_s=part.wall_s),
        workers=part.workers,
        accept_unsafe_exec=part.accept_unsafe_exec,
    )
    with Sandbox(settings) as sandbox:
        yield sandbox
