"""Engine `rlimit`: child processes with limits and a clean environment. It confines nothing; see `safe`."""

import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import final

from stepcredit.core.errors import MachineError, UsageError
from stepcredit.sandbox.limits import PRELOADED, Limits
from stepcredit.sandbox.worker import Job, Reply, Worker

_SERVER = Path(__file__).parent / "inside" / "forks.py"


@final
class RlimitEngine:
    """Programs in forks of one server, with our rights: files, network and other processes are in their reach.

    Args:
        limits: on one block; those of all scratch files together are not applied.
        accept_unsafe_exec: must be True: whoever asks for this engine says so.

    Raises:
        UsageError: without the consent.
        MachineError: on a system without resource limits.

    Source: reliability.md A1, A4. Differs: the process is forked, as under bwrap, not started anew.
    """

    name = "rlimit"
    safe = False

    def __init__(self, limits: Limits, *, accept_unsafe_exec: bool) -> None:
        if not accept_unsafe_exec:
            raise UsageError(
                "engine 'rlimit' runs a model's code with your rights and confines nothing; "
                "choose 'wasm' or 'bwrap', or accept it with accept_unsafe_exec"
            )
        if sys.platform == "win32":
            raise MachineError("engine 'rlimit' needs a system with resource limits; choose 'wasm'")
        self.limits = limits
        self.version = f"Python {sys.version.split()[0]}"
        env = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
        boot = {
            "limits": asdict(limits),
            "filter": None,
            "preload": [name for name in PRELOADED if find_spec(name) is not None],
        }
        self._worker = Worker([sys.executable, "-I", "-B", str(_SERVER)], boot=boot, env=env)

    @property
    def pid(self) -> int | None:
        """Of the worker."""
        return self._worker.pid

    def run(self, job: Job) -> Reply:
        """Run one block; blocks until it ends or is killed.

        Raises:
            EngineError: if a process cannot be started.
        """
        return self._worker.run(job, self.limits)

    def close(self) -> None:
        """End the server; a process that detached itself lives on."""
        self._worker.close()
