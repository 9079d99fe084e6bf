"""One event loop on a thread of its own, for as long as it is needed: judges keep their connections open on it."""

import asyncio
from collections.abc import Coroutine
from threading import Thread
from typing import Any, TypeVar, final

T = TypeVar("T")


@final
class Loop:
    """Runs coroutines from synchronous code, in scripts, in notebooks and inside other loops.

    The thread starts with the first call and ends with the process.

    >>> async def answer() -> int:
    ...     return 42
    >>> Loop().run(answer())
    42
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns; an interrupt while waiting cancels it."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            Thread(target=self._loop.run_forever, name="stepcredit-adapter", daemon=True).start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
