"""What a battery watches: a secret, a file, a listener, the environment, the processes below us, our memory."""

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Self, final

from stepcredit.sandbox.battery.program import ESCAPED, Program
from stepcredit.sandbox.cleaning import cleaned
from stepcredit.sandbox.limits import Limits
from stepcredit.sandbox.worker import Reply
from stepcredit.store.files import FileWriter

_VARIABLE = "STEPCREDIT_BATTERY_SECRET"
_SUBREAPER, _GET_SUBREAPER = 36, 37
_GROWTH_BYTES = 100 << 20
_DYING_S = 2.0
_MARKERS = ("</output>", "<|im_", "\\boxed{Yes}", "```", "[/INST]", "</s>", "\x1b", "\x07")


@final
class World:
    """Things around the sandbox that no program may read, change or leave; made before the engine, watched after.

    While it is open, processes that lose their parent become ours (Linux), so that none is missed.
    """

    def __init__(self) -> None:
        self.token = f"battery-answer-{secrets.token_hex(8)}"
        self._folder = tempfile.TemporaryDirectory(prefix="stepcredit-battery-")
        files = FileWriter(Path(self._folder.name))
        self._secret, self._target = files.write("secret", self.token), files.write("target", "unchanged")
        Path(self._folder.name).chmod(0o755)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._before = os.environ.get(_VARIABLE)
        os.environ[_VARIABLE] = self.token
        self._socket = f"stepcredit-{secrets.token_hex(8)}"
        self._abstract = _abstract(self._socket)
        self._was_subreaper = _subreaper(1)
        self._others: set[int] = set(_below(os.getpid()))
        self._memory = _memory_bytes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        if self._abstract is not None:
            self._abstract.close()
        os.environ.pop(_VARIABLE)
        if self._before is not None:
            os.environ[_VARIABLE] = self._before
        if self._was_subreaper is not None:
            _subreaper(self._was_subreaper)
        self._folder.cleanup()

    def filled(self, program: Program) -> str:
        """The program's text with the places of this world."""
        values = {
            "@SECRET@": str(self._secret),
            "@TARGET@": str(self._target),
            "@PORT@": str(self._listener.getsockname()[1]),
            "@SOCKET@": self._socket,
            "@PARENT@": str(os.getpid()),
        }
        source = program.source
        for place, value in values.items():
            source = source.replace(place, value)
        return source

    def faults(self, reply: Reply, *, limits: Limits) -> list[str]:
        """What a program did that it should not have been able to do; the world is mended after it."""
        said = reply.out + reply.err + reply.error
        text = "".join(cleaned(part, limits=limits)[0] for part in (reply.out, reply.error))
        found = {
            "it got what it wanted": ESCAPED.encode() in said,
            "it read the secret": self.token.encode() in said,
            "it changed a file": self._target.read_text(encoding="utf-8") != "unchanged",
            "it connected": self._was_called(),
            "it wrote too much": (reply.output_bytes or 0) > limits.killed_bytes + (8 << 20),
            "too much output was kept": max(len(reply.out), len(reply.err)) > limits.kept_bytes,
            "its output holds a judge's marker": any(marker in text for marker in _MARKERS),
            "our memory grew": _memory_bytes() - self._memory > _GROWTH_BYTES,
        }
        if found["it changed a file"]:
            FileWriter(self._target.parent).write(self._target.name, "unchanged")
        return [fault for fault, is_so in found.items() if is_so]

    def survivors(self, worker: int | None, tree: int) -> int:
        """Processes that a program left, `tree` being those that its worker has at rest; strays are ended."""
        until = time.monotonic() + _DYING_S
        while (left := self._left(worker, tree)) and time.monotonic() < until:
            time.sleep(0.02)  # what was killed may take a moment to be gone
        for pid in self._strays(worker):
            _end(pid)
        for pid in set(_below(os.getpid(), dead=True)) - {worker}:
            _reap(pid)
        return left

    def tree(self, worker: int | None) -> int:
        """Processes of a worker at rest."""
        return 0 if worker is None else len(_below(worker))

    def _left(self, worker: int | None, tree: int) -> int:
        return len(self._strays(worker)) + max(0, self.tree(worker) - tree)

    def _strays(self, worker: int | None) -> set[int]:
        inside = set[int]() if worker is None else {worker, *_below(worker)}
        return set(_below(os.getpid())) - self._others - inside

    def _was_called(self) -> bool:
        called = False
        for listener in (self._listener, self._abstract):
            try:
                if listener is not None:
                    listener.accept()[0].close()
                    called = True
            except BlockingIOError:
                pass
        return called


def _abstract(name: str) -> socket.socket | None:
    if sys.platform != "linux":
        return None
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")
    listener.listen()
    listener.setblocking(False)
    return listener


def _subreaper(value: int) -> int | None:
    """Whether orphans below us become ours; what it was before, `None` where there is no such thing."""
    if sys.platform != "linux":
        return None
    libc, before = ctypes.CDLL(None), ctypes.c_int(0)
    libc.prctl(_GET_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(_SUBREAPER, value, 0, 0, 0)
    return before.value


def _below(pid: int, *, dead: bool = False) -> list[int]:
    """Living processes below one, or its own dead children that nobody waited for; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            rest = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if (rest[0] in ("Z", "X")) == dead:
            children.setdefault(int(rest[1]), []).append(int(folder.name))
    if dead:
        return children.get(pid, [])
    found, waiting = list[int](), [pid]
    while waiting:
        more = children.get(waiting.pop(), [])
        found += more
        waiting += more
    return found


def _end(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
    _reap(pid)


def _reap(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.waitpid(pid, os.WNOHANG)


def _memory_bytes() -> int:
    """Our resident memory, 0 where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
