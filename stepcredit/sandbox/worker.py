"""A process on the other side of a pair of pipes: asked one thing at a time, killed when it does not answer."""

import base64
import binascii
import contextlib
import json
import os
import queue
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, final

from stepcredit.core.errors import EngineError
from stepcredit.sandbox.limits import GRACE_S, Limits

HANDLE = "{handle}"
"""Word of a command that stands for the number of its inherited descriptor."""

_LARGEST = 16 << 20
_STARTER = ThreadPoolExecutor(1, "sandbox-starter")
"""Starts all workers: bubblewrap dies with the thread that started it, and this one lives as long as we do."""


@final
@dataclass(frozen=True)
class Job:
    """One block to run.

    Args:
        source: its text.
        earlier: blocks to run unseen before it, so that their variables are there.
        replay_s: time for those.
    """

    source: str
    earlier: tuple[str, ...] = ()
    replay_s: float = 0.0


@final
@dataclass(frozen=True)
class Reply:
    """What an engine saw of one block.

    Args:
        exit: `ended`, `raised`, `exit`, `exit N`, `signal N`, `wall`, `cpu`, `memory`, `output`, `trap`,
            `lost` or `died`.
        error: message of an exception, as bytes that the program chose.
        out: what was kept of its standard output.
        err: what was kept of its standard error.
        seconds: wall-clock time of the block.
        output_bytes: written on both streams, `None` if unknown.
        cpu_s: processor time, `None` if unknown.
        peak_bytes: most memory held, `None` if unknown.
    """

    exit: str
    error: bytes = b""
    out: bytes = b""
    err: bytes = b""
    seconds: float = 0.0
    output_bytes: int | None = None
    cpu_s: float | None = None
    peak_bytes: int | None = None


@final
class Worker:
    """A child process that answers frames: a length of 4 bytes, then JSON.

    A worker that does not answer in time, or ends, is killed; the next question starts another.

    Args:
        command: what to start.
        boot: first frame of every start; answered once.
        env: its whole environment.
        boot_s: time for the first answer.
        handed: what it reads from an inherited descriptor; `HANDLE` in the command stands for its number.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        boot: dict[str, Any],
        env: dict[str, str],
        boot_s: float = 60.0,
        handed: bytes = b"",
    ) -> None:
        self._command, self._boot, self._env = list(command), boot, env
        self._boot_s, self._handed = boot_s, handed
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.booted: dict[str, Any] = {}

    @property
    def pid(self) -> int | None:
        """Of the process, `None` before the first question."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process, if there is none.

        Raises:
            EngineError: if it does not answer the first frame; with what it said.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        handles: list[int] = [_pipe_of(self._handed)] if self._handed else []
        try:
            self._process = _STARTER.submit(
                subprocess.Popen,
                [str(handles[0]) if word == HANDLE else word for word in self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._env,
                pass_fds=handles,
            ).result()
        except OSError as error:
            raise EngineError(f"{self._command[0]} cannot be started: {error.strerror}") from error
        finally:
            for handle in handles:
                os.close(handle)
        self._answers = queue.SimpleQueue()
        told = bytearray()
        for job in ((_read, self._process.stdout, self._answers), (_drain, self._process.stderr, told)):
            threading.Thread(target=job[0], args=job[1:], daemon=True).start()
        found = self._ask(self._boot, self._boot_s)
        if found is None:
            self.close()
            said = " ".join(told.decode("utf-8", "replace").split())[-300:]
            raise EngineError(f"the worker did not start: {said or 'it gave no reason'}")
        self.booted = found

    def ask(self, job: Job, timeout_s: float) -> Reply | None:
        """The answer to a job, `None` if the worker died or was killed over it.

        Raises:
            EngineError: if the worker cannot be started, or answers what it should not.
        """
        self.start()
        asked = {"source": job.source, "earlier": list(job.earlier), "replay_s": job.replay_s}
        found = self._ask(asked, timeout_s)
        if found is None:
            self.close()
            return None
        try:
            texts = {name: base64.b64decode(found.get(name, "")) for name in ("error", "out", "err")}
            rest = {name: found[name] for name in ("seconds", "output_bytes", "cpu_s", "peak_bytes") if name in found}
            reply = Reply(str(found["exit"]), **texts, **rest)
        except (KeyError, TypeError, binascii.Error) as error:
            self.close()
            raise EngineError(f"the worker answered what it should not: {str(found)[:100]}") from error
        if reply.exit == "broken":
            self.close()
            raise EngineError(f"the sandbox could not be set up: {texts['error'].decode('utf-8', 'replace')[:200]}")
        return reply

    def run(self, job: Job, limits: Limits) -> Reply:
        """The answer to a job; `wall` if the worker had to be killed over it, `died` if it was gone before.

        Raises:
            EngineError: as `ask`.
        """
        timeout_s = job.replay_s + limits.wall_s + GRACE_S
        began = time.monotonic()
        reply = self.ask(job, timeout_s)
        if reply is not None:
            return reply
        late = time.monotonic() - began >= timeout_s
        return Reply("wall", seconds=limits.wall_s + GRACE_S) if late else Reply("died")

    def close(self) -> None:
        """Kill the process and what it holds; closing twice is harmless."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                _close(stream)

    def _ask(self, value: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        process = self._process
        if process is None or process.stdin is None:
            return None
        data = json.dumps(value).encode()
        until = time.monotonic() + timeout_s
        try:
            process.stdin.write(struct.pack(">I", len(data)) + data)
            process.stdin.flush()
            return self._answers.get(timeout=max(until - time.monotonic(), 0.001))
        except (OSError, queue.Empty):
            return None


def _pipe_of(content: bytes) -> int:
    """Read end of a pipe that holds the content: at most 64 KB, what a pipe takes without a reader."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return reading


def _read(stream: IO[bytes], answers: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    """Frames of the worker, then `None`; what is no frame ends it."""
    try:
        while len(head := stream.read(4)) == 4:
            size = struct.unpack(">I", head)[0]
            data = stream.read(size) if size <= _LARGEST else b""
            answers.put(json.loads(data))
    except (OSError, ValueError):
        pass
    answers.put(None)


def _drain(stream: IO[bytes], told: bytearray) -> None:
    try:
        while data := stream.read1(4096):  # type: ignore[attr-defined]
            told += data
            del told[:-4096]
    except (OSError, ValueError):
        pass


def _close(stream: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        stream.close()
