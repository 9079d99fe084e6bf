"""One HTTP request and its whole answer, or a named failure; nothing is asked twice here."""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any, Literal, final
from urllib.parse import urlsplit

import httpx2
import orjson

from stepcredit.core.errors import UsageError
from stepcredit.engines.server.settings import ServerSettings, base_url

WireFailure = Literal["connect", "first_byte", "idle", "deadline", "stale", "cut", "too_large"]

_SAID: dict[WireFailure, str] = {
    "connect": "no connection",
    "first_byte": "no answer began in time (server.first_byte_s)",
    "idle": "the answer stopped in its middle (server.idle_s)",
    "deadline": "the answer was not whole in time (server.deadline_s)",
    "stale": "the server had closed the connection that was kept for the next request",
    "cut": "the connection broke before the answer was whole",
    "too_large": "the answer is larger than server.max_answer_bytes",
}

# Servers close connections that carry nothing for a while, uvicorn (so vLLM) after 5 s: ours are given up well before,
# so that few requests are sent on one that is just being closed.
_KEPT_S = 2.0

# The HTTP client looks at every connection of its pool twice a request: a third of what a call cost at 64 in flight.
_POOL = 8


@final
class WireError(Exception):
    """No whole answer came.

    Args:
        kind: what went wrong.
    """

    def __init__(self, kind: WireFailure) -> None:
        super().__init__(_SAID[kind])
        self.kind = kind


@final
@dataclass(frozen=True)
class WireAnswer:
    """A whole answer: status, the Retry-After header if there was one, and the body."""

    status: int
    retry_after: str | None
    body: bytes


@final
class Wire:
    """Sends requests to one server; for one event loop.

    Args:
        settings: address and time limits.
        secret: the key, empty if none is used.
    """

    def __init__(self, settings: ServerSettings, *, secret: str) -> None:
        if any(ord(letter) < 33 or ord(letter) > 126 for letter in secret):
            raise UsageError("the key holds a blank or a letter outside ASCII; set its environment variable again")
        self._settings = settings
        self._base = base_url(settings.url)
        self._root = self._base.removesuffix("/v1")
        self._headers = {"Content-Type": "application/json"}
        if secret:
            self._headers["Authorization"] = f"Bearer {secret}"
        self._pools: list[_Pool] = []
        self._single: _Pool | None = None
        self._certificates: ssl.SSLContext | None = None

    async def send(self, route: str, body: dict[str, Any] | None, *, left_s: float, fresh: bool = False) -> WireAnswer:
        """Ask a route: GET without a body, POST with one.

        Args:
            route: path after `/v1/`; one that begins with `/` stands at the server's root.
            body: JSON-able.
            left_s: most time for the whole answer.
            fresh: open a connection for this request alone.

        Raises:
            WireError: if no whole answer came; kind `stale` if none began and the connection had carried a request
                before: as a rule the server had closed it, and did not read this one.
        """
        url = f"{self._root}{route}" if route.startswith("/") else f"{self._base}/{route}"
        data = None if body is None else orjson.dumps(body)
        began, opened = False, _Opened()
        pool = self._pool(fresh=fresh)
        pool.busy += 1
        total, piece = asyncio.timeout(left_s), asyncio.timeout(self._settings.first_byte_s)
        try:
            async with total, piece:
                method = "GET" if data is None else "POST"
                more: dict[str, Any] = {"headers": self._headers, "extensions": {"trace": opened.see}}
                async with pool.http.stream(method, url, content=data, **more) as response:
                    began = True
                    whole = bytearray()
                    piece.reschedule(self._soon())
                    async for chunk in response.aiter_bytes():
                        piece.reschedule(self._soon())
                        whole += chunk
                        if len(whole) > self._settings.max_answer_bytes:
                            raise WireError("too_large")
            return WireAnswer(response.status_code, response.headers.get("retry-after"), bytes(whole))
        except TimeoutError as error:
            raise WireError("deadline" if total.expired() else "idle" if began else "first_byte") from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise WireError("connect") from error
        except httpx2.RequestError as error:
            raise WireError("cut" if began or opened.anew else "stale") from error
        finally:
            pool.busy -= 1

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        pools, self._pools = self._pools, []
        single, self._single = self._single, None
        for pool in (*pools, *([] if single is None else [single])):
            await pool.http.aclose()

    def _soon(self) -> float:
        return asyncio.get_running_loop().time() + self._settings.idle_s

    def _pool(self, *, fresh: bool) -> "_Pool":
        if fresh:
            if self._single is None:
                self._single = self._opened(most=self._settings.max_in_flight, kept=0)
            return self._single
        found = next((pool for pool in self._pools if pool.busy < _POOL), None)
        if found is None:
            found = self._opened(most=_POOL, kept=_POOL)
            self._pools.append(found)
        return found

    def _opened(self, *, most: int, kept: int) -> "_Pool":
        address = urlsplit(self._base)
        local = address.hostname in ("localhost", "127.0.0.1", "::1")
        if address.scheme == "https" and self._certificates is None:
            self._certificates = httpx2.create_ssl_context()  # they take long to load, and plain http has none
        limits = httpx2.Limits(max_connections=most, max_keepalive_connections=kept, keepalive_expiry=_KEPT_S)
        return _Pool(
            httpx2.AsyncClient(
                timeout=httpx2.Timeout(None, connect=self._settings.connect_s),
                limits=limits,
                verify=self._certificates or False,
                trust_env=not local,  # a proxy of the environment cannot reach this machine's own servers
            )
        )


@dataclass
class _Pool:
    """An HTTP client of few connections, and the requests that it is serving."""

    http: httpx2.AsyncClient
    busy: int = 0


@final
class _Opened:
    """Whether a request opened a connection of its own, told by the events of the HTTP client."""

    def __init__(self) -> None:
        self.anew = False

    async def see(self, event: str, _told: Any) -> None:
        self.anew |= event.startswith("connection.")
