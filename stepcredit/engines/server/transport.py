"""Calls: a request asked again until a good answer came, within deadline, budget and the server's patience."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast, final

import orjson

from stepcredit.core.digests import digest
from stepcredit.core.errors import BudgetError, EngineError, StepcreditError
from stepcredit.engines.server.answers import Body, GarbageError, Usage, usage_of
from stepcredit.engines.server.budget import Budget
from stepcredit.engines.server.limiter import Limiter
from stepcredit.engines.server.refusals import is_asked_again, out_of_quota, refusal, server_text
from stepcredit.engines.server.settings import ServerSettings, base_url, shown_url
from stepcredit.engines.server.waiting import backoff_seconds, retry_after_seconds, spread_seconds
from stepcredit.engines.server.wire import Wire, WireAnswer, WireError
from stepcredit.store.attempts import AttemptRecord

T = TypeVar("T")

OnAttempt = Callable[[AttemptRecord], None]

_GARBAGE_TRIES = 3
_LOOK_TRIES = 3
_TOO_BUSY = frozenset({429, 503})


@final
@dataclass(frozen=True)
class _Good(Generic[T]):
    value: T


@final
@dataclass(frozen=True)
class _Bad:
    """A try that may be followed by another.

    Args:
        kind: class of the failure, as in the attempts table.
        said: the failure in words.
        seconds: how long the try took; waiting for a place among the requests under way does not count.
        asked_wait_s: the wait that the server asked for, if it did.
    """

    kind: str
    said: str
    seconds: float
    asked_wait_s: float | None = None


@final
class Transport:
    """Asks one server, for one event loop.

    Args:
        settings: address, limits and waits.
        budget: counted and obeyed at each request.
        on_attempt: gets a record of each request, answered or not.

    Attributes:
        lost_contact: set when a connection was refused or broke; whoever reads it clears it.
    """

    def __init__(self, settings: ServerSettings, *, budget: Budget, on_attempt: OnAttempt | None) -> None:
        self._settings, self._budget = settings, budget
        self._on_attempt = on_attempt or _forget
        self._secret = os.environ.get(settings.key_variable, "").strip()
        self._wire = Wire(settings, secret=self._secret)
        self._limiter = Limiter(settings.max_in_flight)
        self.url = shown_url(base_url(settings.url))
        self.lost_contact = False

    @property
    def limit(self) -> float:
        """Requests allowed at once now."""
        return self._limiter.limit

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def ask(
        self, route: str, body: dict[str, Any] | None, *, read: Callable[[Body], T], first: bool = False
    ) -> T:
        """One call.

        Args:
            route: path after `/v1/`.
            body: JSON body, `None` for a GET.
            read: makes the answer from a body; raises GarbageError for one that is no answer.
            first: go before requests that wait for a place.

        Raises:
            EngineError: if no good answer came within tries and deadline, or `read` raised it.
            UsageError: if the server refuses the request as such; it is not asked again.
            BudgetError: if a limit on calls or cost is reached.
        """
        call = call_id(route, body)
        spent, garbage, stale, number = 0.0, 0, 0, 0
        fresh = False
        while True:
            left_s = self._settings.deadline_s - spent
            result = await self._try(
                route, body, read=read, number=number, left_s=left_s, first=first or fresh, fresh=fresh
            )
            if isinstance(result, _Good):
                return result.value
            number += 1
            garbage += result.kind == "garbage"
            spent += result.seconds
            fresh = result.kind == "stale"
            if fresh:  # as good as not sent: no try, and nothing to wait for
                stale += 1
                continue
            wait = self._wait(result, call=call, number=number - 1)
            if (
                number - stale >= self._settings.max_tries
                or garbage >= _GARBAGE_TRIES
                or spent + wait >= self._settings.deadline_s
            ):
                said = f"no good answer to {route} in {number} tries and {spent:.1f} s; the last: {result.said}"
                raise EngineError(said, item=self.url)
            await asyncio.sleep(wait)
            spent += wait

    async def look(self, route: str, body: dict[str, Any] | None) -> tuple[int, Body | None]:
        """Status and body of one question about what the server can do; a refusal is an answer.

        Raises:
            EngineError: if no answer came in a few tries.
            UsageError: if the server refuses the key.
        """
        number = 0
        while True:
            async with self._limiter.slot() as begun:
                self._budget.admit()
                try:
                    answer = await self._wire.send(route, body, left_s=self._settings.first_byte_s)
                except WireError as error:
                    self._note(route, body, number=number, status=None, begun=begun, error=error.kind)
                    if number + 1 >= _LOOK_TRIES:
                        raise EngineError(str(error), item=self.url) from error
                    bad = _Bad(error.kind, str(error), 0.0)
                else:
                    usage, found = self._parsed(answer)
                    error = "" if answer.status == 200 else f"http_{answer.status}"
                    self._note(route, body, number=number, status=answer.status, begun=begun, error=error, usage=usage)
                    if answer.status in (401, 403):
                        raise self._refusal(route, body, answer)
                    if answer.status not in _TOO_BUSY or number + 1 >= self._settings.max_tries:
                        return answer.status, found
                    bad = self._bad(answer, begun=begun)
            await asyncio.sleep(self._wait(bad, call=call_id(route, body), number=number))
            number += 1

    async def _try(
        self,
        route: str,
        body: dict[str, Any] | None,
        *,
        read: Callable[[Body], T],
        number: int,
        left_s: float,
        first: bool,
        fresh: bool,
    ) -> "_Good[T] | _Bad":
        async with self._limiter.slot(first=first) as begun:
            self._budget.admit()
            status: int | None = None
            usage = Usage(None, None)
            kind = "cancelled"
            try:
                answer = await self._wire.send(route, body, left_s=left_s, fresh=fresh)
                status = answer.status
                kind = f"http_{status}" if status != 200 else "garbage"
                if status != 200:
                    return self._not_good(route, body, answer, begun=begun)
                usage, found = self._parsed(answer)
                if found is None:
                    return _Bad("garbage", "the answer is not a JSON object", time.monotonic() - begun)
                value = read(found)
                kind = ""
                self._limiter.speed_up()
                return _Good(value)
            except WireError as error:
                kind = error.kind
                self.lost_contact |= error.kind in ("connect", "stale", "cut")  # whoever answers next may be another
                return _Bad(error.kind, str(error), time.monotonic() - begun)
            except GarbageError as error:
                return _Bad("garbage", str(error), time.monotonic() - begun)
            except StepcreditError:
                kind = "ignored" if status == 200 else kind
                raise
            finally:
                self._note(route, body, number=number, status=status, begun=begun, error=kind, usage=usage)

    def _not_good(self, route: str, body: dict[str, Any] | None, answer: WireAnswer, *, begun: float) -> _Bad:
        if answer.status in _TOO_BUSY:
            self._limiter.slow_down(begun)
        if answer.status == 429 and out_of_quota(answer.body):
            raise BudgetError("the account with the server's provider is out of quota", item=self.url)
        if is_asked_again(answer.status):
            return self._bad(answer, begun=begun)
        raise self._refusal(route, body, answer)

    def _bad(self, answer: WireAnswer, *, begun: float) -> _Bad:
        said = server_text(answer.body, secret=self._secret)
        cap = self._settings.retry_after_cap_s
        wait = retry_after_seconds(answer.retry_after, now=datetime.now(UTC), cap_s=cap)
        said = f"status {answer.status} {said}".rstrip()
        return _Bad(f"http_{answer.status}", said, time.monotonic() - begun, wait)

    def _refusal(self, route: str, body: dict[str, Any] | None, answer: WireAnswer) -> StepcreditError:
        model = str((body or {}).get("model", ""))
        return refusal(answer.status, answer.body, url=self.url, route=route, model=model, secret=self._secret)

    def _wait(self, bad: _Bad, *, call: str, number: int) -> float:
        seed = self._settings.seed
        if bad.asked_wait_s is not None:
            return spread_seconds(bad.asked_wait_s, seed=seed, call=call, number=number)
        first, cap = self._settings.backoff_s, self._settings.backoff_cap_s
        return backoff_seconds(number, first_s=first, cap_s=cap, seed=seed, call=call)

    @staticmethod
    def _parsed(answer: WireAnswer) -> tuple[Usage, Body | None]:
        try:
            found = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            return Usage(None, None), None
        if not isinstance(found, dict):
            return Usage(None, None), None
        body = cast("Body", found)
        return usage_of(body), body

    def _note(
        self,
        route: str,
        body: dict[str, Any] | None,
        *,
        number: int,
        status: int | None,
        begun: float,
        error: str,
        usage: Usage = Usage(None, None),  # noqa: B008 -- frozen
    ) -> None:
        priced = status == 200 and route in ("chat/completions", "completions")
        cost: float | None = None
        try:
            cost = self._budget.spend(usage.input_tokens, usage.output_tokens) if priced else None
        finally:
            record = AttemptRecord(
                call=call_id(route, body),
                route=route,
                number=number,
                status=status,
                seconds=time.monotonic() - begun,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cost=cost,
                error=error,
                time_s=time.time(),
            )
            self._on_attempt(record)


def call_id(route: str, body: dict[str, Any] | None) -> str:
    """Id of a call by what it asks, so that the same question has the same id in every run.

    >>> call_id("completions", {"seed": 1}) == call_id("completions", {"seed": 1})
    True
    """
    return digest(route, orjson.dumps(body, option=orjson.OPT_SORT_KEYS))[:16]


def _forget(_: AttemptRecord) -> None:
    """Where nobody wants the records."""
