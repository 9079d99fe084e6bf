"""Waiting for asynchronous work from synchronous code, in scripts and in notebooks."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


def wait_for(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run asynchronous work to its end.

    A notebook has a running event loop already, in which nothing can be waited for: there the work gets a loop of its
    own on a thread of its own.

    Args:
        work: makes the coroutine; called once, in the loop that runs it.

    Returns:
        What the coroutine returned.

    >>> async def answer() -> int:
    ...     return 42
    >>> wait_for(answer)
    42
    """
    found: list[T] = []

    async def keep() -> None:
        # asyncio.run writes out its task's result when it restores the signal handler: minutes for large records.
        found.append(await work())

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(keep())
        return found[0]
    with ThreadPoolExecutor(1, thread_name_prefix="stepcredit") as thread:
        thread.submit(copy_context().run, lambda: asyncio.run(keep())).result()
    return found[0]
