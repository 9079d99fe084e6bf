"""How many requests are under way at once: falls when the server says too many, recovers as answers come."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import final


@final
class Limiter:
    """First come, first served, at most `limit` at once; for one event loop.

    The limit halves when the server refuses (once for all requests that were under way then), and grows by one for
    each `limit` answers, up to `most`.

    Args:
        most: most requests at once.
    """

    def __init__(self, most: int) -> None:
        self._most, self._limit = most, float(most)
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._cut_at = -1.0

    @property
    def limit(self) -> float:
        """Requests allowed at once now."""
        return self._limit

    @asynccontextmanager
    async def slot(self, *, first: bool = False) -> AsyncGenerator[float]:
        """Hold one of the places; gives the time it was got, for `slow_down`.

        Args:
            first: go before those that wait already.
        """
        await self._take(first=first)
        try:
            yield time.monotonic()
        finally:
            self._running -= 1
            self._wake()

    def slow_down(self, since: float) -> None:
        """The server refused a request that was begun at `since`."""
        if since > self._cut_at:
            self._limit = max(1.0, self._limit / 2)
            self._cut_at = time.monotonic()

    def speed_up(self) -> None:
        """The server answered a request."""
        self._limit = min(float(self._most), self._limit + 1.0 / self._limit)
        self._wake()

    async def _take(self, *, first: bool) -> None:
        if not self._waiting and self._running < int(self._limit):
            self._running += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(place)
        else:
            self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it was given the place and cannot take it
                self._running -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._running < int(self._limit):
            place = self._waiting.popleft()
            if not place.done():
                self._running += 1
                place.set_result(None)
