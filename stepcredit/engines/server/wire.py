"""One HTTP request and its whole answer, or a named failure; nothing is asked twice here."""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal, final
from urllib.parse import urlsplit

import httpx2
import orjson

from stepcredit.core.errors import UsageError
from stepcredit.engines.server.settings import ServerSettings, base_url

WireFailure = Literal["connect", "first_byte", "idle", "deadline", "cut", "too_large"]

_SAID: dict[WireFailure, str] = {
    "connect": "no connection",
    "first_byte": "no answer began in time (server.first_byte_s)",
    "idle": "the answer stopped in its middle (server.idle_s)",
    "deadline": "the answer was not whole in time (server.deadline_s)",
    "cut": "the connection broke before the answer was whole",
    "too_large": "the answer is larger than server.max_answer_bytes",
}


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
        self._http: httpx2.AsyncClient | None = None

    async def send(self, route: str, body: dict[str, Any] | None, *, left_s: float) -> WireAnswer:
        """Ask a route: GET without a body, POST with one.

        Args:
            route: path after `/v1/`; one that begins with `/` stands at the server's root.
            body: JSON-able.
            left_s: most time for the whole answer.

        Raises:
            WireError: if no whole answer came.
        """
        url = f"{self._root}{route}" if route.startswith("/") else f"{self._base}/{route}"
        data = None if body is None else orjson.dumps(body)
        began = False
        total, piece = asyncio.timeout(left_s), asyncio.timeout(self._settings.first_byte_s)
        try:
            async with total, piece:
                method = "GET" if data is None else "POST"
                async with self._client().stream(method, url, content=data, headers=self._headers) as response:
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
            raise WireError("cut") from error

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def _soon(self) -> float:
        return asyncio.get_running_loop().time() + self._settings.idle_s

    def _client(self) -> httpx2.AsyncClient:
        if self._http is None:
            most = self._settings.max_in_flight
            address = urlsplit(self._base)
            local = address.hostname in ("localhost", "127.0.0.1", "::1")
            self._http = httpx2.AsyncClient(
                timeout=httpx2.Timeout(None, connect=self._settings.connect_s),
                limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
                verify=address.scheme == "https",  # certificates take long to load, and plain http has none
                trust_env=not local,  # a proxy of the environment cannot reach this machine's own servers
            )
        return self._http
