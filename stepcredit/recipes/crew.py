"""A crew of worker processes with one thread each, and what they tell of their progress while they work.

On small models two processes with one thread beat one process with two.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from queue import Empty
from threading import Event, Thread
from typing import Any, ParamSpec, Protocol, Self, TypeVar, final

from stepcredit.engines.threads import use_threads
from stepcredit.report.progress import Progress, Task

P = ParamSpec("P")
R = TypeVar("R")


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
class Crew:
    """Workers behind one queue of jobs, first in, first out; use it with `with`.

    Args:
        workers: processes side by side.
        screen: who hears of progress.
    """

    def __init__(self, workers: int, screen: Progress) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, mp_context=context, initializer=use_threads, initargs=(1,))
        self._manager = context.Manager()
        self._heard = self._manager.Queue()
        self._screen, self._done = screen, Event()
        self._tasks: dict[str, Task] = {}
        self._watcher = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)
        self._done.set()
        self._watcher.join()
        self._manager.shutdown()

    @property
    def teller(self) -> Teller:
        """What jobs take as an argument to tell of their progress."""
        return self._heard

    def submit(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Give the crew a job: a function of a module, with arguments that can be pickled."""
        return self._pool.submit(job, *args, **kwargs)

    def _watch(self) -> None:
        while not (self._done.is_set() and self._heard.empty()):
            try:
                self._show(self._heard.get(timeout=0.2))
            except Empty:
                continue

    def _show(self, heard: Any) -> None:
        if heard.name not in self._tasks:
            self._tasks[heard.name] = self._screen.start(heard.name, total=heard.total, unit=heard.unit)
        self._tasks[heard.name].advance(heard.done, note=heard.note)
        if heard.last:
            self._tasks.pop(heard.name).finish(heard.note)
