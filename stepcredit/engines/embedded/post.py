"""Post: answers on their way from the worker thread to the event loops that wait, all of one turn at once."""

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, final

AnyT = TypeVar("AnyT")

_Letter = tuple["asyncio.Future[Any]", "Future[Any]"]


@final
class Post:
    """Hands a worker thread's answers to event loops, one call a loop and turn.

    Waking a loop takes a system call and the interpreter's lock; `asyncio.wrap_future` does it for every answer. Here
    answers lie until the worker thread, which alone may answer, calls `deliver`.
    """

    def __init__(self) -> None:
        self._letters: dict[asyncio.AbstractEventLoop, list[_Letter]] = {}

    def waiter(self, future: "Future[AnyT]") -> "asyncio.Future[AnyT]":
        """The running loop's future for the result; cancelling it cancels `future`.

        Args:
            future: not yet known to the worker thread, which could answer it before anybody waits.
        """
        waiter: asyncio.Future[AnyT] = asyncio.get_running_loop().create_future()
        future.add_done_callback(partial(self._put, waiter))
        waiter.add_done_callback(lambda done: future.cancel() if done.cancelled() else None)
        return waiter

    def deliver(self) -> None:
        """Hand over what has been answered; a loop that was closed meanwhile waits for nothing."""
        letters, self._letters = self._letters, {}
        for loop, own in letters.items():
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_open, own)

    def _put(self, waiter: "asyncio.Future[Any]", future: "Future[Any]") -> None:
        if not future.cancelled():
            self._letters.setdefault(waiter.get_loop(), []).append((waiter, future))


def _open(letters: list[_Letter]) -> None:
    for waiter, future in letters:
        if waiter.done():
            continue
        error = future.exception()
        if error is None:
            waiter.set_result(future.result())
        else:
            waiter.set_exception(error)
