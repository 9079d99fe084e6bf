"""Kill -9 exactly before or after each system call of the store's writers: `python kill_points.py CASE ROOT`.

Each point gets a forked process that kills itself there; the zygote then looks at what a reader sees. Prints one JSON
list: a finding a point.
"""

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stepcredit.store.files import FileWriter
from stepcredit.store.run_folder import RunFolder, read_metrics

OLD, NEW = b"old" * 50_000, b"new" * 70_000
CALLS = ("open", "write", "fsync", "close", "ftruncate", "pwrite")


def write_file(root: Path) -> None:
    """Replace a file by a larger one."""
    with FileWriter(root).stream("x") as stream:
        for place in range(0, len(NEW), 50_000):
            stream.write(NEW[place : place + 50_000])


def write_run(root: Path) -> None:
    """A stage of a run: shard, checkpoint, metrics, mark."""
    with RunFolder.create_or_open(root / "run", {"seed": 1}) as folder:
        for index in range(2):
            folder.write_shard("columns", str(index), columns={"ids": np.arange(100 + index)})
            folder.write_checkpoint("learner", f"state {index}".encode() * 100)
            folder.append_metrics({"update": index}, key=f"update/{index}")
            folder.mark_done("stage", str(index))


def see_file(root: Path) -> str:
    """What a reader sees of the file."""
    found = (root / "x").read_bytes()
    return "old" if found == OLD else "new" if found == NEW else f"a mix of {len(found)} bytes"


def see_run(root: Path) -> str:
    """What the next session sees of the run: whatever is marked as done is whole; then it does the rest."""
    list(read_metrics(root / "run"))  # a reader without the lock
    with RunFolder.create_or_open(root / "run", {"seed": 1}) as folder:
        folder.ledger.check()
        done = [index for index in range(2) if folder.stage_done("stage", str(index))]
        for index in done:
            if len(folder.read_shard("columns", str(index))["ids"]) != 100 + index:
                return f"shard {index} is not whole"
        if folder.has_checkpoint("learner"):
            state = folder.read_checkpoint("learner")
            if done and state not in (f"state {k}".encode() * 100 for k in range(done[-1], 2)):
                return "the checkpoint is older than the mark"
        elif done:
            return "a mark without its checkpoint"
        if len(folder.metrics()) < len(done):
            return "a mark without its metrics"
    write_run(root)
    with RunFolder.create_or_open(root / "run", {"seed": 1}) as folder:
        whole = (
            folder.metrics() == [{"update": 0}, {"update": 1}] and folder.read_checkpoint("learner") == b"state 1" * 100
        )
        left = list((root / "run").rglob("*.part"))
    return f"done {len(done)}" if whole and not left else "the run was not led to its end"


CASES: dict[str, tuple[Callable[[Path], None], Callable[[Path], str], int]] = {
    "file": (write_file, see_file, 1),
    "run": (write_run, see_run, 2),
}
"""What is killed, who looks, and 2 where only points before calls are taken, since there are many."""


def main(case: str, root: Path) -> Iterator[tuple[str, str]]:
    """(point, what was seen) for each point, until a process ends by itself."""
    work, see, stride = CASES[case]
    for number in itertools.count(0, stride):
        place = root / str(number)
        place.mkdir(parents=True)
        (place / "x").write_bytes(OLD)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            _kill_at(number, writer)
            work(place)
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(pid, 0)
        point = os.read(reader, 100).decode()
        os.close(reader)
        code = os.waitstatus_to_exitcode(status)
        yield point or "end", see(place)
        if code != -signal.SIGKILL:
            if code:
                yield "end", f"exit {code}"
            return


def _kill_at(number: int, writer: int) -> None:
    """From now on the process kills itself before or after its `number // 2`-th call into the system."""
    count = itertools.count()

    def wrap(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **more: Any) -> Any:
            now = next(count)
            if now == number:
                die(f"before {name}")
            found = call(*args, **more)
            now = next(count)
            if now == number:
                die(f"after {name}")
            return found

        return wrapped

    real_write, real_kill, own = os.write, os.kill, os.getpid()

    def die(point: str) -> None:
        real_write(writer, point.encode())
        real_kill(own, signal.SIGKILL)

    for name in CALLS:
        setattr(os, name, wrap(name, getattr(os, name)))
    Path.replace = wrap("rename", Path.replace)  # type: ignore[method-assign]
    Path.unlink = wrap("unlink", Path.unlink)  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(list(main(sys.argv[1], Path(sys.argv[2])))))
