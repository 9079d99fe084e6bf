"""A crew of worker processes with one thread each, and what they tell of their progress while they work.

On small models two processes with one thread beat one process with two. Workers end with the process that made them,
however it ends: a killed run leaves nobody behind that holds its folders.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.synchronize import Event as ProcessEvent
from queue import Empty
from threading import Event, Thread
from typing import Any, ParamSpec, Protocol, Self, TypeVar, final

from stepcredit.core.errors import DrainedError, MachineError, StepcreditError
from stepcredit.engines.threads import collect_garbage_rarely, keep_freed_memory, use_threads
from stepcredit.recipes.draining import GRACE_S, Drain
from stepcredit.report.progress import Progress, Task

P = ParamSpec("P")
R = TypeVar("R")

_LOOK_S = 0.2


@final
@dataclass(frozen=True)
class Heard:
    """What a worker tells: so many units of a named piece of work are done.

    Args:
        name: the piece of work, unique among those that run.
        done: units done since the last time.
        total: units there are, `None` if that is unknown.
        unit: what is counted.
        note: a few words, such as the accuracy now.
        last: True closes the bar.
    """

    name: str
    done: int
    total: int | None = None
    unit: str = ""
    note: str = ""
    last: bool = False


class Teller(Protocol):
    """Where workers put what they tell; travels to them with their arguments."""

    def put(self, item: Heard, /) -> None:
        """Tell one thing."""
        ...


@final
@dataclass(frozen=True)
class _Lines:
    """What joins a worker with its crew; workers get it when they are started."""

    heard: Any
    stop: ProcessEvent
    die: ProcessEvent


_joined: list[_Lines] = []
"""In a worker the lines to its crew; empty elsewhere."""


@final
@dataclass(frozen=True)
class _WorkersTeller:
    """Tells the crew of the worker that it is used in."""

    def put(self, item: Heard, /) -> None:
        for lines in _joined:
            lines.heard.put(item)


def asked_to_stop() -> bool:
    """True in a worker whose crew was asked to stop: its job should end at its next safe point."""
    return any(lines.stop.is_set() for lines in _joined)


@final
class Crew:
    """Workers behind one queue of jobs, first in, first out; use it with `with`.

    Jobs ask `asked_to_stop`. When the drain is asked, or the block ends with an error, they have the drain's grace to
    end by themselves; then, and at once after a second Ctrl-C, the workers are ended as by a kill.

    Args:
        workers: processes side by side.
        screen: who hears of progress.
        drain: asked when the run is to stop; `None` never.
    """

    def __init__(self, workers: int, screen: Progress, drain: Drain | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._lines = _Lines(context.Queue(), context.Event(), context.Event())
        self._pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_join, initargs=(self._lines,))
        self._drain = drain or Drain()
        self._drain.then(self._lines.stop.set)
        self._screen, self._done = screen, Event()
        self._jobs: list[Future[Any]] = []
        self._tasks: dict[str, Task] = {}
        self._watcher = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is not None:
                self._lines.stop.set()
                for job in self._jobs:
                    job.cancel()
                if kind is not KeyboardInterrupt:
                    self._wait_for_the_last()
                self._lines.die.set()
        except BaseException:
            self._lines.die.set()
            raise
        finally:
            self._pool.shutdown(cancel_futures=kind is not None)
            self._done.set()
            self._watcher.join()
            self._lines.heard.close()

    @property
    def teller(self) -> Teller:
        """What jobs take as an argument to tell of their progress."""
        return _WorkersTeller()

    def submit(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Give the crew a job: a function of a module, with arguments that can be pickled."""
        future = self._pool.submit(job, *args, **kwargs)
        self._jobs.append(future)
        return future

    def result(self, future: "Future[R]") -> R:
        """What a job gave.

        Raises:
            DrainedError: if the run was asked to stop and the job did, or has had its time.
            MachineError: if a worker was killed, as systems do that run out of memory.
            StepcreditError: what the job raised.
        """
        while not future.done():
            wait((future,), timeout=_LOOK_S)
            if self._drain.late:
                raise DrainedError("stopped as asked; what was recorded is kept, the rest will be done again")
        try:
            return future.result()
        except BrokenProcessPool as error:
            mend = "give it more memory or fewer workers; the same command goes on from what was saved"
            raise MachineError(f"a worker process was killed; {mend}") from error
        except StepcreditError as error:
            if self._drain.asked:
                raise DrainedError("stopped as asked, with everything saved") from error
            raise

    def _wait_for_the_last(self) -> None:
        """Running jobs end at their next safe point, or have had their time."""
        running = [job for job in self._jobs if not job.done()]
        for _ in range(int(GRACE_S / _LOOK_S)):
            if not running or self._drain.late:
                break
            running = list(wait(running, timeout=_LOOK_S).not_done)

    def _watch(self) -> None:
        while not self._done.is_set():
            self._hear(_LOOK_S)
        while self._hear(0.0):
            pass

    def _hear(self, timeout_s: float) -> bool:
        try:
            self._show(self._lines.heard.get(timeout=timeout_s))
        except Empty:
            return False
        return True

    def _show(self, heard: Any) -> None:
        if heard.name not in self._tasks:
            self._tasks[heard.name] = self._screen.start(heard.name, total=heard.total, unit=heard.unit)
        self._tasks[heard.name].advance(heard.done, note=heard.note)
        if heard.last:
            self._tasks.pop(heard.name).finish(heard.note)


def _join(lines: _Lines) -> None:
    """Make a fresh process a worker of the crew."""
    use_threads(1)
    keep_freed_memory()
    collect_garbage_rarely()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the crew's process answers for them
    _joined.append(lines)
    Thread(target=_end_with_the_crew, args=(lines,), daemon=True).start()


def _end_with_the_crew(lines: _Lines) -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    while not lines.die.is_set() and not wait_for_any([parent.sentinel], timeout=_LOOK_S):
        pass
    os._exit(1)
