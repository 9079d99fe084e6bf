"""Recipe section `[sandbox]`: whether and where the code that a judge writes is run."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from stepcredit.core.code import CodeRunner, SessionMode
from stepcredit.core.errors import UsageError
from stepcredit.recipes.loading import Section

RUNS_CODE = ("genprm",)
"""Judges that write code and are told what it printed."""


class SandboxPart(Section):
    """`[sandbox]`: `off` runs nothing; `auto` chooses `wasm` or `bwrap` by what a program imports, or refuses it.

    `rlimit` confines nothing and wants `accept_unsafe_exec`. `session`: `solution` keeps variables from step to step,
    as the released GenPRM does; `step` starts every block fresh. `workers`: programs at a time; `wall_s`: bound on one.
    """

    engine: Literal["off", "auto", "wasm", "bwrap", "rlimit"] = "off"
    session: SessionMode = "solution"
    workers: int = Field(ge=1, default=2)
    wall_s: float = Field(gt=0, default=5.0)
    accept_unsafe_exec: bool = False


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
