"""Draining: the first Ctrl-C (or SIGTERM) ends a run softly, the second at once; both leave a run that goes on."""

import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import final

GRACE_S = 8.0
"""Time that work under way has to end once a run was asked to stop; saving what it gave takes the rest of 10 s."""

TOLD = "stopping: what is under way ends and is saved, nothing new is asked (Ctrl-C again stops at once)"


@final
class Drain:
    """Whether a run was asked to stop; safe to read and to ask from any thread and from signal handlers.

    Args:
        grace_s: time that work under way has to end.

    >>> drain = Drain()
    >>> drain.asked, drain.late
    (False, False)
    >>> drain.ask()
    >>> drain.asked, drain.late
    (True, False)
    """

    def __init__(self, *, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._since: float | None = None
        self._told: list[Callable[[], None]] = []

    @property
    def asked(self) -> bool:
        """True once the run takes on no new work."""
        return self._since is not None

    @property
    def late(self) -> bool:
        """True once work under way is no longer waited for."""
        return self._since is not None and time.monotonic() - self._since > self._grace_s

    def ask(self) -> None:
        """Ask the run to stop; asking twice is harmless."""
        if self._since is None:
            self._since = time.monotonic()
            for tell in self._told:
                tell()

    def then(self, tell: Callable[[], None]) -> None:
        """Call this when the run is asked to stop, or now if it was already."""
        self._told.append(tell)
        if self.asked:
            tell()


@contextmanager
def draining(say: Callable[[str], None]) -> Generator[Drain]:
    """A drain that the first SIGINT or SIGTERM asks; the second raises KeyboardInterrupt.

    Signals that somebody else handles already (a web server, a notebook's kernel) are left alone, and so are all of
    them outside the main thread; the drain is then asked by nobody.

    Args:
        say: told in one line when the drain begins; called from the signal handler.
    """
    drain = Drain()

    def hear(_number: int, _frame: FrameType | None) -> None:
        if drain.asked:
            raise KeyboardInterrupt
        drain.ask()
        say(TOLD)

    before: dict[signal.Signals, object] = {}
    if threading.current_thread() is threading.main_thread():
        for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) is usual:
                before[number] = signal.signal(number, hear)
    try:
        yield drain
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
