"""The command line as a real process, for faults that come from outside: signals, a full disk, a second writer."""

import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from killing import FAULTS

ROOT = FAULTS.parents[1]
# A shell lets its background jobs ignore SIGINT, and we leave ignored what we find ignored: begin as usual.
MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from stepcredit.cli import main; main()"
)
WITHIN_S = 240.0
_HEARD: dict[int, str] = {}


def started(*words: object, at: Path) -> "subprocess.Popen[str]":
    """`stepcredit WORDS` in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, words)],
        cwd=at,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextmanager
def running(*words: object, at: Path) -> Generator["subprocess.Popen[str]"]:
    """The same, ended with the block however that ends."""
    process = started(*words, at=at)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def heard(process: "subprocess.Popen[str]", beginning: str) -> None:
    """Wait until a line of standard error begins so; what was read goes to `end_of`."""
    assert process.stderr is not None
    said = b""
    while not any(line.startswith(beginning.encode()) for line in said.split(b"\n")[:-1]):
        assert select.select([process.stderr], [], [], WITHIN_S)[0], "waited too long"
        more = os.read(process.stderr.fileno(), 65536)  # past the file object, as `communicate` reads
        assert more, f"it ended without saying {beginning!r}: {said.decode()}"
        said += more
    _HEARD[process.pid] = _HEARD.get(process.pid, "") + said.decode()


def end_of(process: "subprocess.Popen[str]") -> tuple[int, list[str], str]:
    """Exit code, lines of standard error, standard output."""
    out, err = process.communicate(timeout=WITHIN_S)
    return process.returncode, (_HEARD.pop(process.pid, "") + err).splitlines(), out


def ran(*words: object, at: Path) -> tuple[int, list[str], str]:
    """Run to the end."""
    with running(*words, at=at) as process:
        return end_of(process)


def words_of(command: str) -> list[str]:
    """Words after `stepcredit` of a printed command."""
    words = shlex.split(command)
    assert words[0] == "stepcredit"
    return words[1:]


class Gate:
    """A place in a script that is passed so often and then holds until it is opened: no machine is too fast or slow.

    It holds the scripted server as a whole, so what is under way stays so. Opened, it lets all pass.

    Args:
        passes: how often it is passed before it holds.
    """

    def __init__(self, passes: int) -> None:
        self._left, self._open = passes, threading.Event()
        self.holds = False

    def pass_(self) -> None:
        """Go by, or wait."""
        self._left -= 1
        if self._left < 0 and not self._open.is_set():
            self.holds = True
            self._open.wait(WITHIN_S)

    def open(self) -> None:
        """Let all pass from now on."""
        self._open.set()


def until(condition: object, *, within_s: float = WITHIN_S) -> None:
    """Wait until a function says yes."""
    end = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)
