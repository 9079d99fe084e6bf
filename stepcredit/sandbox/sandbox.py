"""The runner of code that a model wrote: picks the engine, keeps sessions, cleans what comes back."""

import asyncio
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, Self, final

from stepcredit.core.code import ExecStatus, Executed, Execution, SessionMode
from stepcredit.core.digests import digest
from stepcredit.core.errors import MachineError, UsageError
from stepcredit.sandbox.bwrap import PACKAGES, BwrapEngine
from stepcredit.sandbox.cleaning import cleaned
from stepcredit.sandbox.limits import Limits
from stepcredit.sandbox.rlimit import RlimitEngine
from stepcredit.sandbox.routing import IN_WASM, imports_of
from stepcredit.sandbox.wasm import WasmEngine
from stepcredit.sandbox.worker import Job, Reply

EngineName = Literal["auto", "wasm", "bwrap", "rlimit"]
UNAVAILABLE = "sandbox-unavailable"
"""First word of the reason of a refused block."""


class Engine(Protocol):
    """Runs one block at a time in one worker."""

    @property
    def name(self) -> str:
        """Of the engine."""
        ...

    @property
    def safe(self) -> bool:
        """False if it confines nothing."""
        ...

    @property
    def version(self) -> str:
        """Of engine, interpreter and packages."""
        ...

    @property
    def pid(self) -> int | None:
        """Of the worker, `None` while there is none."""
        ...

    def run(self, job: Job) -> Reply:
        """Run one block; blocks until it ends or is killed.

        Raises:
            EngineError: if the sandbox itself failed; never for what the block does.
        """
        ...

    def close(self) -> None:
        """End the worker; closing twice is harmless."""
        ...


@final
@dataclass(frozen=True)
class SandboxSettings:
    """How code is run.

    Args:
        engine: `auto` (by the program's imports: `wasm`, else `bwrap`, else refused), or the one to use.
        session: `solution` keeps variables from block to block of a session, `step` starts every block fresh.
        limits: on one block.
        workers: programs that run at a time, each engine.
        packages: top-level modules that engine `bwrap` shows.
        accept_unsafe_exec: consent that engine `rlimit` asks for.
        folder: where the WebAssembly component is kept, `None` = the user's cache.

    Raises:
        UsageError: for an engine or a mode that there is not, or no worker.

    Source: reliability.md A0, A4. Differs: none.
    """

    engine: EngineName = "auto"
    session: SessionMode = "solution"
    limits: Limits = field(default_factory=Limits)
    workers: int = 2
    packages: tuple[str, ...] = PACKAGES
    accept_unsafe_exec: bool = False
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.engine not in ("auto", *ENGINES):
            raise UsageError(f"unknown sandbox {self.engine!r}; there are auto, {', '.join(ENGINES)}")
        if self.session not in ("solution", "step"):
            raise UsageError(f"unknown sandbox session {self.session!r}; there are solution, step")
        if self.workers < 1:
            raise UsageError(f"a sandbox needs at least 1 worker, got {self.workers}")


def _bwrap(settings: SandboxSettings) -> Engine:
    engine = BwrapEngine(settings.limits, packages=settings.packages)
    engine.probe()
    return engine


ENGINES: dict[str, Callable[[SandboxSettings], Engine]] = {
    "wasm": lambda settings: WasmEngine(settings.limits, folder=settings.folder),
    "bwrap": _bwrap,
    "rlimit": lambda settings: RlimitEngine(settings.limits, accept_unsafe_exec=settings.accept_unsafe_exec),
}
"""Name -> a new worker of the engine; raises MachineError where it cannot run, UsageError without consent."""

SAFE = ("wasm", "bwrap")
"""Engines that `auto` chooses from, the first that has what the program imports."""


@final
@dataclass
class _Session:
    """Blocks of one session that ended, with their seconds: run again, they give its variables back."""

    blocks: list[tuple[str, float]] = field(default_factory=list)


@final
class Sandbox:
    """Runs blocks, each in a fresh interpreter.

    A session is kept by replay: the blocks that ended by themselves are run again, unseen, before the next one; what
    timed out, was killed or refused is not. So a block finds the variables as the last one left them, whatever worker
    or engine it goes to, and nothing is lost when a worker is killed. Hash seed and random state are the same in every
    interpreter; what reads the clock may differ in a replay. A replay that does not end as it did ends in `killed`.

    Args:
        settings: engine, session, limits.

    Raises:
        MachineError: if the engine cannot run here, or for `auto` none of the safe ones; says why.
        UsageError: if engine `rlimit` was not consented to.

    Source: reliability.md A. Differs: none.
    """

    def __init__(self, settings: SandboxSettings = SandboxSettings()) -> None:
        self._settings = settings
        names = SAFE if settings.engine == "auto" else (settings.engine,)
        self._free: dict[str, queue.LifoQueue[Engine | None]] = {}
        self._engines: list[Engine] = []
        self.missing: dict[str, str] = {}
        """Engine -> why it cannot run here."""
        for name in names:
            try:
                first = ENGINES[name](settings)
            except MachineError as error:
                self.missing[name] = str(error)
                continue
            self._engines.append(first)
            waiting: queue.LifoQueue[Engine | None] = queue.LifoQueue()
            for engine in (*[None] * (settings.workers - 1), first):
                waiting.put(engine)
            self._free[name] = waiting
        if not self._free:
            raise MachineError(f"{UNAVAILABLE}: {'; '.join(self.missing.values())}")
        self._versions = {engine.name: engine.version for engine in self._engines}
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(settings.workers * len(self._free), "sandbox")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of those that run here."""
        return tuple(self._free)

    @property
    def fingerprint(self) -> str:
        """Digest of session mode, limits, engines and their versions."""
        settings = self._settings
        return digest(settings.engine, settings.session, settings.limits, settings.packages, self._versions)[:16]

    async def run(self, code: str, *, session: str) -> Executed:
        """Run one block; never raises for what the code does.

        Raises:
            EngineError, MachineError: if the sandbox itself failed.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.run_now, code, session)

    async def end(self, session: str) -> None:
        """Forget a session; one that never began is no error."""
        self._sessions.pop(session, None)

    def run_now(self, code: str, session: str) -> Executed:
        """As `run`, in this thread."""
        keeps = self._settings.session == "solution"
        kept = self._sessions.setdefault(session, _Session()) if keeps else _Session()
        earlier = tuple(kept.blocks)
        name, reason = self._engine_for([*(source for source, _ in earlier), code])
        if name is None:
            return self._refused(reason)
        replay_s = self._settings.limits.wall_s + 2.0 * sum(seconds for _, seconds in earlier) if earlier else 0.0
        job = Job(code, tuple(source for source, _ in earlier), replay_s)
        reply = self._on(name, job)
        if keeps and reply.exit in ("ended", "raised"):
            kept.blocks.append((code, reply.seconds))
        return self._executed(name, reply, replayed=len(earlier))

    def close(self) -> None:
        """End all workers."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for engine in self._engines:
            engine.close()

    def _on(self, name: str, job: Job) -> Reply:
        """Run on a free worker; a new one is started where none was yet."""
        free = self._free[name]
        engine = free.get()
        try:
            if engine is None:
                engine = ENGINES[name](self._settings)
                with self._lock:
                    self._engines.append(engine)
            return engine.run(job)
        finally:
            free.put(engine)

    def _engine_for(self, sources: Sequence[str]) -> tuple[str | None, str]:
        """The engine's name, or `None` and the reason."""
        if self._settings.engine != "auto":
            return self._settings.engine, ""
        wanted: set[str] = set()
        for source in sources:
            wanted |= imports_of(source)
        has = {"wasm": IN_WASM, "bwrap": frozenset(sys.stdlib_module_names) | set(self._settings.packages)}
        for name in SAFE:
            if wanted <= has[name] and name in self._free:
                return name, ""
        able = next((name for name in SAFE if wanted <= has[name]), None)
        if able is None:
            lacking = wanted - has["wasm"] - has["bwrap"] or wanted - has["wasm"]
            return None, f"{UNAVAILABLE}: no engine has {', '.join(sorted(lacking))}"
        return None, f"{UNAVAILABLE}: {', '.join(sorted(wanted))}: {self.missing.get(able, '')}"

    def _refused(self, reason: str) -> Executed:
        limits = self._settings.limits.fingerprint
        return Executed(
            "refused", error=reason, execution=Execution("", "", limits, self._settings.session, True, "refused", 0.0)
        )

    def _executed(self, name: str, reply: Reply, *, replayed: int) -> Executed:
        limits = self._settings.limits
        out, cut = cleaned(reply.out, limits=limits)
        said, _ = cleaned(reply.error, limits=limits)
        lost = reply.output_bytes is not None and reply.output_bytes > len(reply.out) + len(reply.err)
        execution = Execution(
            name,
            self._versions[name],
            limits.fingerprint,
            self._settings.session,
            name in SAFE,
            reply.exit,
            reply.seconds,
            reply.cpu_s,
            reply.peak_bytes,
            reply.output_bytes,
            cut or lost,
            replayed,
        )
        status = STATUSES.get(reply.exit, "killed")
        return Executed(status, out, said or _why(reply.exit), reply.seconds, execution)


STATUSES: dict[str, ExecStatus] = {"ended": "ok", "raised": "error", "wall": "timeout", "cpu": "timeout"}
"""How it ended -> status; anything else: `killed`."""

_WHY = {
    "ended": "",
    "raised": "Exception: ",
    "wall": "TimeoutError: the time limit was reached",
    "cpu": "TimeoutError: the limit on processor time was reached",
    "died": "SystemError: the worker of the sandbox died",
    "output": "OutputLimit: the program wrote too much",
    "lost": "SessionLost: the session's earlier blocks did not end again as they had",
}


def _why(ended: str) -> str:
    return _WHY.get(ended, f"SystemError: the process ended by {ended}")
