"""Screen: progress bars where a person watches, plain lines where a log is written."""

import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from stepcredit.report.progress import Progress, Task

_EVERY_S = 15.0


@contextmanager
def watched() -> Generator[Progress]:
    """Progress on standard error for as long as a verb works."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _LineProgress()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[unit]}[/]"),
        TimeElapsedColumn(),
        TextColumn("[dim]left[/]"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}[/]"),
    )
    with RichProgress(*columns, console=console) as bars:
        yield _BarProgress(bars)


@final
class _Counts:
    """What a task has counted, as words: unknowns and cost only where there are any."""

    def __init__(self) -> None:
        self.done, self.unknown, self.cost, self.note = 0, 0, 0.0, ""
        self.began = time.monotonic()

    def add(self, amount: int, unknown: int, *, cost: float, note: str) -> None:
        self.done += amount
        self.unknown += unknown
        self.cost += cost
        self.note = note or self.note

    @property
    def rate(self) -> float:
        return self.done / max(time.monotonic() - self.began, 1e-9)

    def words(self) -> str:
        parts = [f"{self.rate:.3g}/s"] if self.done else []
        parts += [f"{self.unknown} unknown"] if self.unknown else []
        parts += [f"cost {self.cost:.4f}"] if self.cost else []
        return ", ".join([*parts, self.note] if self.note else parts)


@final
class _BarTask:
    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self._bars, self._task, self._counts = bars, task, _Counts()

    def advance(self, amount: int = 1, *, unknown: int = 0, cost: float = 0.0, note: str = "") -> None:
        self._counts.add(amount, unknown, cost=cost, note=note)
        self._bars.update(self._task, advance=amount, note=self._counts.words())

    def finish(self, note: str = "") -> None:
        self._counts.add(0, 0, cost=0.0, note=note)
        done = max(self._counts.done, 1)
        self._bars.update(self._task, total=done, completed=done, note=self._counts.words())


@final
class _BarProgress:
    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars

    def say(self, line: str) -> None:
        self._bars.console.print(line, markup=False)

    def start(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        return _BarTask(self._bars, self._bars.add_task(name, total=total, unit=unit, note=""))


@final
class _LineTask:
    def __init__(self, name: str, *, total: int | None, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._counts, self._last, self._lock = _Counts(), time.monotonic(), threading.Lock()

    def advance(self, amount: int = 1, *, unknown: int = 0, cost: float = 0.0, note: str = "") -> None:
        with self._lock:
            self._counts.add(amount, unknown, cost=cost, note=note)
            now = time.monotonic()
            due = now - self._last >= _EVERY_S
            if due:
                self._last = now
        if due:
            _line(f"{self._name}: {self._place()} {self._counts.words()}{self._left()}")

    def finish(self, note: str = "") -> None:
        self._counts.add(0, 0, cost=0.0, note=note)
        seconds = time.monotonic() - self._counts.began
        _line(f"{self._name}: {self._counts.done} {self._unit} in {seconds:.1f} s, {self._counts.words()}".rstrip(", "))

    def _place(self) -> str:
        total = "" if self._total is None else f" of {self._total}"
        return f"{self._counts.done}{total} {self._unit},"

    def _left(self) -> str:
        if self._total is None or not self._counts.done:
            return ""
        return f", {max(self._total - self._counts.done, 0) / self._counts.rate:.0f} s left"


@final
class _LineProgress:
    def say(self, line: str) -> None:
        _line(line)

    def start(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        return _LineTask(name, total=total, unit=unit)


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 -- a log line
