"""An inference server on 127.0.0.1 that speaks the OpenAI-style routes and plays faults from a script.

It runs on a thread of its own, so it serves synchronous and asynchronous tests, and it needs nothing but the
standard library and numpy. What it answers is made by `scripted_answers`.
"""

import asyncio
import json
import math
import threading
from collections import Counter
from dataclasses import replace
from typing import Any, final

from stepcredit.core.digests import digest
from stepcredit.core.protocols import Tokenizer, Writer
from stepcredit.testing.faults import Asked, Fault, Faults, spoilt
from stepcredit.testing.scripted_answers import POLITE, Answers, Manners, ReplyScript, UnanswerableError, echo
from stepcredit.testing.tabular import TabularPolicy

__all__ = ["Asked", "ScriptedServer"]

_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


@final
class ScriptedServer:
    """A server in a `with` block; `url` is where it listens.

    Args:
        reply: the text of a chat answer, from the messages.
        policy: the table that token routes sample from and score with; without one they answer 404.
        tokenizer: turns prompts that are text into ids, and answers `/tokenize`.
        writer: answers the completions route in place of the policy, with the tokenizer, from a script.
        faults: see `Faults`.
        manners: how it behaves towards requests that are not faulted.

    Attributes:
        asked: the requests that came, in order; kept up to `KEEP`.
        counts: number of requests by route and body digest.
        most_at_once: most requests that were being answered together.
    """

    KEEP = 10_000

    def __init__(
        self,
        *,
        reply: ReplyScript = echo,
        policy: TabularPolicy | None = None,
        tokenizer: Tokenizer | None = None,
        writer: Writer | None = None,
        faults: Faults = (),
        manners: Manners = POLITE,
    ) -> None:
        self._answers = Answers(reply, policy, tokenizer, manners, writer)
        self._faults = faults
        self.asked: list[Asked] = []
        self.counts: Counter[str] = Counter()
        self.most_at_once = 0
        self._now = 0
        self._number = 0
        self._port = 0
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="scripted-server", daemon=True)

    def __enter__(self) -> "ScriptedServer":
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """Base address, ending in `/v1`."""
        return f"http://127.0.0.1:{self._port}/v1"

    def rename(self, model: str) -> None:
        """From now on answer under another model name, as a restarted server might."""
        self._answers = replace(self._answers, manners=replace(self._answers.manners, model=model))

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._talk(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(lambda _: writer.close())  # a task that is cancelled before it starts closes nothing

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # closing takes one more turn of the loop

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            before = 0
            while (asked := await self._read(reader, before)) is not None:
                before += 1
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
                try:
                    stays = await self._answer(asked, writer)
                finally:
                    self._now -= 1
                if not stays:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away

    async def _read(self, reader: asyncio.StreamReader, before: int) -> Asked | None:
        keeps_s = self._answers.manners.keeps_s
        try:
            async with asyncio.timeout(keeps_s if before and math.isfinite(keeps_s) else None):
                line = (await reader.readline()).decode("latin-1").split()
        except TimeoutError:
            return None
        if len(line) < 2:
            return None
        headers: dict[str, str] = {}
        while (raw := (await reader.readline()).decode("latin-1").strip()) != "":
            name, _, value = raw.partition(":")
            headers[name.lower()] = value.strip()
        data = await reader.readexactly(int(headers.get("content-length", "0")))
        body: dict[str, Any] = json.loads(data) if data else {}
        route = line[1].removeprefix("/").removeprefix("v1/")
        name = f"{route} {digest(json.dumps(body, sort_keys=True))}"
        key = headers.get("authorization", "").removeprefix("Bearer ")
        asked = Asked(route, body, self._number, self.counts[name], key, before)
        self._number += 1
        self.counts[name] += 1
        if len(self.asked) < self.KEEP:
            self.asked.append(asked)
        return asked

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False if the connection is to be closed."""
        fault = self._fault(asked)
        if fault is not None and fault.kind == "reset":
            writer.transport.abort()
            return False
        if fault is not None and fault.kind == "hang":
            await asyncio.sleep(fault.seconds)
            return False
        if fault is not None and fault.kind in ("status", "body"):
            status = fault.status if fault.kind == "status" else 200
            writer.write(_message(status, fault.body, dict(fault.headers)))
            await writer.drain()
            return True
        await asyncio.sleep(self._answers.manners.delay_s)
        try:
            status, body = 200, await self._answers.body(asked)
            body = spoilt(body, fault)
        except UnanswerableError as error:
            status, body = error.status, {"error": {"message": str(error), "code": error.status}}
        data = _message(status, json.dumps(body).encode(), {})
        if fault is not None and fault.kind == "cut":
            writer.write(data[: len(data) - len(data) // 4])
            await writer.drain()
            return False
        if fault is not None and fault.kind == "drip":
            for place in range(len(data)):
                writer.write(data[place : place + 1])
                await writer.drain()
                await asyncio.sleep(fault.seconds)
            return True
        writer.write(data)
        await writer.drain()
        return True

    def _fault(self, asked: Asked) -> Fault | None:
        if callable(self._faults):
            return self._faults(asked)
        return self._faults[asked.number] if asked.number < len(self._faults) else None


def _message(status: int, body: bytes, headers: dict[str, str]) -> bytes:
    head = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    lines = [f"{name}: {value}" for name, value in head.items()]
    return "\r\n".join([f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", *lines, "", ""]).encode("latin-1") + body
