"""Code that a model wrote: what came of a run, and what every runner owes, above all on failure."""

from dataclasses import dataclass
from typing import Literal, Protocol, final

ExecStatus = Literal["ok", "no_code", "timeout", "error", "killed", "imagined", "refused"]
"""How a block ended; `killed`: its process is gone (memory, exit); `imagined`: never run; `refused`: no engine has
what it needs."""

SessionMode = Literal["solution", "step"]
"""`solution`: variables stay from block to block of one session; `step`: every block starts fresh."""


@final
@dataclass(frozen=True)
class Execution:
    """How a block was run.

    Args:
        engine: name of the engine; empty if the block was refused.
        version: of the engine, its interpreter and packages.
        limits: digest of the limits.
        session: whether variables stay.
        safe: False if the engine confines nothing (subprocess mode).
        exit: how it ended, in the engine's words: `ended`, `raised`, `exit 3`, `signal 9`, `wall`, `memory` ...
        seconds: wall-clock time of the block, without what was replayed before it.
        cpu_s: processor time of the run, `None` if unknown.
        peak_bytes: most memory that the process held at once, interpreter included, `None` if unknown.
        output_bytes: bytes that the block wrote on both streams, `None` if unknown.
        cut: True if the output was shortened.
        replayed: earlier blocks of the session that were run again to have its variables.
    """

    engine: str
    version: str
    limits: str
    session: SessionMode
    safe: bool
    exit: str
    seconds: float
    cpu_s: float | None = None
    peak_bytes: int | None = None
    output_bytes: int | None = None
    cut: bool = False
    replayed: int = 0


@final
@dataclass(frozen=True)
class Executed:
    """What came of one block.

    Args:
        status: how it ended.
        stdout: what it printed; the runner may have cut and cleaned it.
        error: `TypeName: message` of an exception, or why the process was ended or the block refused.
        seconds: wall-clock time of the run.
        execution: how it was run, `None` where nothing was.
    """

    status: ExecStatus
    stdout: str = ""
    error: str = ""
    seconds: float = 0.0
    execution: Execution | None = None


class CodeRunner(Protocol):
    """Runs model-written Python, apart from this process.

    Variables stay from block to block of one session and are never seen in another.
    """

    @property
    def fingerprint(self) -> str:
        """Engine and limits: part of every cache key."""
        ...

    async def run(self, code: str, *, session: str) -> Executed:
        """Run one block; never raises for what the code does.

        Raises:
            EngineError, MachineError: if the runner itself failed.
        """
        ...

    async def end(self, session: str) -> None:
        """Forget a session; one that never began is no error."""
        ...
