"""math-verify in killable processes: one hard time limit an item, a memory limit, no signal handlers in our process."""

import importlib
import importlib.util
import logging
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from threading import Lock
from typing import Any, Self, final

from stepcredit.core.errors import MachineError

_NEEDED = ("math_verify", "pebble")


def require_math() -> None:
    """Refuse early where the extra is missing.

    Raises:
        MachineError: if math-verify or pebble is not installed.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(name.replace("_", "-") for name in missing)
        raise MachineError(f"{names} missing: pip install 'stepcredit[math]', or ask for the checker's string mode")


@final
class MathPool:
    """Processes that compare two answers with math-verify; started at the first item, shared by checkers.

    Close it (or use `with`): no worker stays behind. math-verify's own time limits rest on alarm signals, which neither
    work in threads nor stop a computation before memory runs out; here they are off, and a process that takes too long
    is killed.

    Scripts that use it need the usual `if __name__ == "__main__":`, as for every Python process pool.

    Args:
        workers: processes.
        timeout_s: hard limit for one item.
        memory_bytes: address-space limit of a process, where the system has one.

    Raises:
        MachineError: if the extra `stepcredit[math]` is not installed.

    Source: engines.md 6. Differs: none.
    """

    def __init__(self, workers: int = 1, *, timeout_s: float = 5.0, memory_bytes: int = 2 << 30) -> None:
        require_math()
        self.timeout_s = timeout_s
        self._workers = workers
        self._memory_bytes = memory_bytes
        self._pool: Any = None
        self._lock = Lock()

    def submit(self, reference: str, answer: str) -> "Future[bool | None]":
        """Compare one answer; the result is `None` where math-verify cannot read the reference."""
        with self._lock:
            if self._pool is None:
                self._pool = self._start()
            return self._pool.schedule(_equal, args=(reference, answer), timeout=self.timeout_s)

    def close(self) -> None:
        """Stop all processes and wait for their end; waiting items are cancelled."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            pool.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> Any:
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(method)
        context.set_forkserver_preload(["math_verify"])
        pebble = importlib.import_module("pebble")
        return pebble.ProcessPool(
            max_workers=self._workers,
            max_tasks=2000,  # sympy's caches only grow
            initializer=_prepare,
            initargs=[self._memory_bytes],
            context=context,
        )


def failure_of(error: BaseException) -> str:
    """Why an item has no verdict, in a few words.

    Raises:
        MachineError: if the error is not about the item: the processes could not start.

    >>> failure_of(TimeoutError())
    'timeout'
    """
    if isinstance(error, BrokenProcessPool):
        raise MachineError(
            "math-verify's processes could not start; a script must keep its work under `if __name__ == '__main__':`"
            " and be a file, or ask for the checker's string mode"
        ) from error
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, MemoryError):
        return "memory limit"
    return f"comparison failed: {type(error).__name__}"


def _prepare(memory_bytes: int) -> None:
    if importlib.util.find_spec("resource") is not None:
        resource: Any = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    _equal(r"\frac{x}{2}+\sqrt{3}", "x+1")  # loads grammars now, so that no item's time limit pays for it


def _equal(reference: str, answer: str) -> bool | None:
    library: Any = importlib.import_module("math_verify")
    wanted: Sequence[Any] = library.parse(f"${reference}$", parsing_timeout=None)
    if not wanted:
        return None
    got: Sequence[Any] = library.parse(f"${answer}$", parsing_timeout=None)
    return bool(got) and bool(library.verify(wanted, got, timeout_seconds=None))
