"""`stepcredit status`: what happened to a run, how far it came, and the exact command to go on."""

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from stepcredit.core.errors import UsageError
from stepcredit.recipes.session import SessionNote, read_session
from stepcredit.report import TableView
from stepcredit.store.ledger import Ledger
from stepcredit.store.lock import Owner, is_held, owner_of
from stepcredit.store.run_folder import LEDGER, LOCK, read_json, read_manifest, read_metrics

State = Literal["running", "complete", "interrupted", "budget", "partial", "failed", "crashed"]

_JUDGED = "judgement"
_TOLD = 6


@final
@dataclass(frozen=True)
class RunStatus:
    """Where a run stands.

    Args:
        run: the folder.
        state: `running` while a process holds the lock; `crashed` if the last one died; else how it ended:
            `complete`, `interrupted` (Ctrl-C), `budget`, `partial`, or `failed` by an error.
        why: the error's line, empty if there was none.
        owner: the process that runs, or died; `None` if the run was left in order.
        coverage: what became of the items so far, by name; of a run that died only those that were judged.
        stages: name and number of the ledger's records.
        calls: model calls that were answered, with tokens and cost, empty if none were made.
        metrics: number of rows of `metrics.jsonl`.
        command: the command that goes on; empty if nothing names it.
        summary: what `summary.json` holds, `None` if there is none yet.
    """

    run: Path
    state: State
    why: str
    owner: Owner | None
    coverage: tuple[tuple[str, int], ...]
    stages: tuple[tuple[str, int], ...]
    calls: tuple[tuple[str, str], ...]
    metrics: int
    command: str
    summary: dict[str, Any] | None

    @property
    def next_step(self) -> str:
        """One sentence: what to do now."""
        go_on = f"go on with: {self.command or 'the command that started it'}"
        told = {
            "running": f"{self.owner or 'a process'} is working on it; ask again later",
            "complete": f"complete; look at it with: stepcredit report {self.run}",
            "interrupted": f"interrupted, with everything saved; {go_on}",
            "budget": f"a limit was reached; {go_on}",
            "partial": f"partial: it came to its end with something left out; ask for that again with: {self.command}",
            "failed": f"stopped by an error; once that is mended {go_on}",
            "crashed": f"{self.owner or 'its process'} died; what it had saved is whole; {go_on}",
        }
        return told[self.state]

    def table(self) -> TableView:
        """The status as rows of name and value."""
        rows = [("state", self.state), *([("why", self.why)] if self.why else [])]
        rows += [(name, f"{count:,}") for name, count in self.coverage]
        rows += [(f"{name} records", f"{count:,}") for name, count in self.stages]
        rows += [*self.calls, ("metrics rows", f"{self.metrics:,}")]
        told = self.summary if self.state in ("complete", "partial") else None
        rows += [(name, _short(value)) for name, value in (told or {}).items() if name != "coverage"]
        return TableView(str(self.run), ("what", "value"), tuple(rows))


def run_status(run: Path) -> RunStatus:
    """Read where a run stands, without touching it.

    Raises:
        UsageError: if the folder holds no run.
        StoreError: if its ledger is damaged.
    """
    if not run.is_dir():
        raise UsageError("no such run folder", item=str(run))
    manifest, note, summary = read_manifest(run), read_session(run), read_json(run, "summary.json")
    running, owner = is_held(run / LOCK), owner_of(run / LOCK)
    stages, calls = _ledger(run)
    state = _state(note, summary, running=running, died=owner is not None)
    return RunStatus(
        run=run,
        state=state,
        why="" if note is None or state in ("running", "crashed") else note.why,
        owner=owner,
        coverage=_coverage(note, dict(stages), state),
        stages=stages,
        calls=calls,
        metrics=sum(1 for _ in read_metrics(run)),
        command=_command(manifest, note, run),
        summary=summary,
    )


def _state(note: SessionNote | None, summary: object, *, running: bool, died: bool) -> State:
    if running:
        return "running"
    if died or (note is not None and note.ending == "running"):
        return "crashed"
    if note is None:  # a program that keeps no sessions
        return "interrupted" if summary is None else "complete"
    return note.ending


def _coverage(note: SessionNote | None, stages: dict[str, int], state: State) -> tuple[tuple[str, int], ...]:
    if note is None or state in ("running", "crashed"):
        return (("judged so far", stages[_JUDGED]),) if _JUDGED in stages else ()
    return tuple(note.coverage.items())


def _command(manifest: dict[str, Any], note: SessionNote | None, run: Path) -> str:
    """The command that goes on: the last session's own, or one made from the manifest's verb."""
    if note is not None and note.next_command:
        return note.next_command
    verb = manifest.get("verb")
    made = "" if verb is None else f"stepcredit {verb} --out {run} and the same other options"
    return str(manifest.get("command", made))


def _ledger(run: Path) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, str], ...]]:
    path = run / LEDGER
    if not path.exists():
        return (), ()
    with readable(path) as place, Ledger(place, journal=None) as ledger:
        totals = ledger.attempt_totals()
        stages = tuple(sorted(ledger.stages().items()))
    if not totals.calls:
        return stages, ()
    known = {"input tokens": totals.input_tokens, "output tokens": totals.output_tokens, "cost": totals.cost}
    words = tuple((name, "unknown" if value is None else f"{value:,}") for name, value in known.items())
    return stages, (("model calls", f"{totals.calls:,}"), ("failed attempts", f"{totals.failed:,}"), *words)


@contextmanager
def readable(path: Path) -> Generator[Path]:
    """A ledger, or a copy of it where its folder cannot be written: SQLite makes files beside what it reads."""
    if os.access(path.parent, os.W_OK):
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        for found in path.parent.glob(f"{path.name}*"):
            if not found.name.endswith("-shm"):
                shutil.copyfile(found, Path(scratch) / found.name)
        yield Path(scratch) / path.name


def _short(value: Any) -> str:
    """A value of `summary.json` in words: a dash for null or nothing, the first few of many, a small number as it is.

    >>> _short({"right": 3, "share": 0.123456, "ci": [0.1, None]}), _short(None), _short([])
    ('right 3, share 0.1235, ci (0.1, –)', '–', '–')
    """
    if isinstance(value, dict):
        parts = [f"{name} {_inner(inner)}" for name, inner in value.items()]  # pyright: ignore[reportUnknownVariableType]
    elif isinstance(value, list):
        parts = [_inner(inner) for inner in value]  # pyright: ignore[reportUnknownVariableType]
    else:
        return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    more = f" and {len(parts) - _TOLD} more" if len(parts) > _TOLD else ""
    return ", ".join(parts[:_TOLD]) + more or "–"


def _inner(value: Any) -> str:
    return f"({_short(value)})" if isinstance(value, dict | list) and value else _short(value)
