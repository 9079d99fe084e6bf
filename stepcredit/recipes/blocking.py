"""Waiting for asynchronous work from synchronous code, in scripts and in notebooks."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar, final

T = TypeVar("T")


@final
class Turns:
    """Hears when the event loop begins to wait and when it goes on.

    Attributes:
        tell: called with True and False; does nothing until it is set.
    """

    def __init__(self) -> None:
        self.tell: Callable[[bool], None] = lambda _waits: None


@final
class _Selector(selectors.DefaultSelector):
    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        self._turns.tell(True)
        try:
            return super().select(timeout)
        finally:
            self._turns.tell(False)


def _loop(turns: Turns) -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(_Selector(turns))


def wait_for(work: Callable[[], Coroutine[Any, Any, T]], turns: Turns | None = None) -> T:
    """Run asynchronous work to its end.

    A notebook has a running event loop already, in which nothing can be waited for: there the work gets a loop of its
    own on a thread of its own.

    Args:
        work: makes the coroutine; called once, in the loop that runs it.
        turns: hears when the loop waits.

    Returns:
        What the coroutine returned.

    >>> async def answer() -> int:
    ...     return 42
    >>> wait_for(answer)
    42
    """
    found: list[T] = []

    async def keep() -> None:
        # The runner writes out its task's result when it restores the signal handler: minutes for large records.
        found.append(await work())

    def run() -> None:
        factory = None if turns is None else partial(_loop, turns)
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(keep())

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        run()
        return found[0]
    with ThreadPoolExecutor(1, thread_name_prefix="stepcredit") as thread:
        thread.submit(copy_context().run, run).result()
    return found[0]
