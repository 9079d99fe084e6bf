"""math-verify in killable processes: one hard time limit an item, a memory limit, no signal handlers in our process."""

import importlib
import importlib.util
import logging
import multiprocessing
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from threading import Lock, RLock
from typing import Any, Literal, Self, final

from stepcredit.core.errors import MachineError

_NEEDED = ("math_verify", "pebble")
Match = Literal["equal", "different", "reference not readable", "answer not readable"]
"""What math-verify says of two answers."""

RETRY_TIMEOUT_S = 20.0
"""Limit of a second try, unless another is given."""


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
@dataclass(frozen=True, eq=False)
class _Item:
    """Two answers to compare, and who waits for the verdict."""

    reference: str
    answer: str
    verdict: "Future[Match]" = field(default_factory=Future)


@final
class _Turns:
    """Whose turn it is: items run side by side, those that took too long once more, each alone, when no other waits.

    Args:
        pool: the processes.
        timeout_s: limit of the first try.
        retry_timeout_s: limit of the second, 0 for none.
    """

    def __init__(self, pool: Any, timeout_s: float, retry_timeout_s: float) -> None:
        self._pool, self._timeout_s, self._retry_timeout_s = pool, timeout_s, retry_timeout_s
        self._waiting, self._again = deque[_Item](), deque[_Item]()
        self._running, self._alone, self._closed = 0, False, False
        self._lock = RLock()

    def add(self, item: _Item) -> None:
        """Compare it when its turn comes."""
        with self._lock:
            self._waiting.append(item)
            self._go_on()

    def close(self) -> None:
        """Cancel what waits and stop the processes."""
        with self._lock:
            self._closed = True
            left = [*self._waiting, *self._again]
            self._waiting.clear()
            self._again.clear()
        for item in left:
            item.verdict.cancel()
        self._pool.stop()
        self._pool.join()

    def _go_on(self) -> None:
        """Begin what may run now; the lock is held."""
        while self._waiting and not self._alone:
            self._begin(self._waiting.popleft(), self._timeout_s)
        if self._again and not self._running:
            self._alone = True
            self._begin(self._again.popleft(), self._retry_timeout_s)

    def _begin(self, item: _Item, timeout_s: float) -> None:
        self._running += 1
        try:
            trial: Future[Match] = self._pool.schedule(_match, args=(item.reference, item.answer), timeout=timeout_s)
        except RuntimeError as error:  # the processes are gone
            trial = Future()
            trial.set_exception(BrokenProcessPool(str(error)))
        item.verdict.add_done_callback(lambda verdict: verdict.cancelled() and trial.cancel())
        trial.add_done_callback(partial(self._ended, item))

    def _ended(self, item: _Item, trial: "Future[Match]") -> None:
        error = None if trial.cancelled() else trial.exception()
        with self._lock:
            self._running -= 1
            second, self._alone = self._alone, False
            again = isinstance(error, TimeoutError) and not second and self._retry_timeout_s > 0
            if again and not (self._closed or item.verdict.cancelled()):
                self._again.append(item)
                self._go_on()
                return
            self._go_on()
        if trial.cancelled():
            item.verdict.cancel()
        elif item.verdict.set_running_or_notify_cancel():
            if error is None:
                item.verdict.set_result(trial.result())
            else:
                item.verdict.set_exception(error)


@final
class MathPool:
    """Processes that compare two answers with math-verify; started at the first item, shared by checkers.

    Close it (or use `with`): no worker stays behind. math-verify's own time limits rest on alarm signals, which neither
    work in threads nor stop a computation before memory runs out; here they are off, and a process that takes too long
    is killed.

    Scripts that use it need the usual `if __name__ == "__main__":`, as for every Python process pool.

    The limits are wall time, and a busy machine may use them up: an item that reached the first is tried once more
    with the second, alone, so that no other item takes its time; only then is it a timeout.

    Args:
        workers: processes.
        timeout_s: hard limit for one item.
        retry_timeout_s: that of its second try; 0 for no second try.
        memory_bytes: address-space limit of a process, where the system has one.

    Raises:
        MachineError: if the extra `stepcredit[math]` is not installed.

    Source: engines.md 6. Differs: none.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        timeout_s: float = 5.0,
        retry_timeout_s: float = RETRY_TIMEOUT_S,
        memory_bytes: int = 2 << 30,
    ) -> None:
        require_math()
        self.timeout_s = timeout_s
        self.retry_timeout_s = retry_timeout_s
        self._workers = workers
        self._memory_bytes = memory_bytes
        self._turns: _Turns | None = None
        self._lock = Lock()

    def submit(self, reference: str, answer: str) -> "Future[Match]":
        """Compare one answer."""
        item = _Item(reference, answer)
        with self._lock:
            if self._turns is None:
                self._turns = _Turns(self._start(), self.timeout_s, self.retry_timeout_s)
            turns = self._turns
        turns.add(item)
        return item.verdict

    def close(self) -> None:
        """Stop all processes and wait for their end; waiting items are cancelled."""
        with self._lock:
            turns, self._turns = self._turns, None
        if turns is not None:
            turns.close()

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
    _match(r"\frac{x}{2}+\sqrt{3}", "x+1")  # loads grammars now, so that no item's time limit pays for it


def _match(reference: str, answer: str) -> Match:
    library: Any = importlib.import_module("math_verify")
    wanted: Sequence[Any] = library.parse(f"${reference}$", parsing_timeout=None)
    if not wanted:
        return "reference not readable"
    got: Sequence[Any] = library.parse(f"${answer}$", parsing_timeout=None)
    if got and library.verify(wanted, got, timeout_seconds=None):
        return "equal"
    # What math-verify cannot parse it gives back as text.
    return "answer not readable" if all(isinstance(part, str) for part in got) else "different"
