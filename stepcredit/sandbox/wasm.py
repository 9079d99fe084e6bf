"""Engine `wasm`: CPython as a WebAssembly component, with nothing of the machine granted to it."""

import os
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import final

from stepcredit.sandbox.component import build_component
from stepcredit.sandbox.limits import Limits
from stepcredit.sandbox.worker import Job, Reply, Worker

_INSIDE = Path(__file__).parent / "inside"


@final
class WasmEngine:
    """Programs in fresh instances of one component, hosted by a worker process that is killed where it hangs.

    The standard library, sympy and mpmath are there; files, network, environment, processes and threads are not.
    Hash seed and the state of `random` are the same in every instance.

    Args:
        limits: on one block; `cpu_s` is applied where a thread's processor time can be read (not on macOS, Windows).
        folder: where the component is kept, `None` = the user's cache.

    Raises:
        MachineError: if a package is missing or the component cannot be built (`build_component`).

    Source: reliability.md A1, A2.8. Differs: one program at a time in a worker, which looks at the clocks
    every 10 ms and moves the epoch once, instead of ticking it.
    """

    name = "wasm"
    safe = True

    def __init__(self, limits: Limits, *, folder: Path | None = None) -> None:
        self.limits = limits
        self._path = build_component(folder)
        command = [sys.executable, "-I", str(_INSIDE / "wasm.py"), str(self._path)]
        env = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
        self._worker = Worker(command, boot={"limits": asdict(limits)}, env=env)

    @property
    def version(self) -> str:
        """The host, the packages, and the component."""
        found = " ".join(f"{name} {version(name)}" for name in ("wasmtime", "componentize-py", "sympy", "mpmath"))
        return f"{found} component {self._path.stem[:12]}"

    @property
    def pid(self) -> int | None:
        """Of the worker."""
        return self._worker.pid

    def run(self, job: Job) -> Reply:
        """Run one block; blocks until it ends or is killed.

        Raises:
            EngineError: if the worker itself failed.
        """
        return self._worker.run(job, self.limits)

    def close(self) -> None:
        """End the worker."""
        self._worker.close()
