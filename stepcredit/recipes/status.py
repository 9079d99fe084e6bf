"""`stepcredit status`: where a run stands, whether somebody writes to it, and the command to go on."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from stepcredit.core.errors import UsageError
from stepcredit.report import TableView
from stepcredit.store.filesystem import journal_of
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import read_json, read_manifest, read_metrics

State = Literal["running", "stopped", "complete"]


@final
@dataclass(frozen=True)
class RunStatus:
    """Where a run stands.

    Args:
        run: the folder.
        state: `complete` once `summary.json` is there; `running` while a process holds the lock.
        stages: name and number of the ledger's records.
        calls: model calls that were answered, with tokens and cost, empty if none were made.
        metrics: number of rows of `metrics.jsonl`.
        command: the command that made the run; giving it again goes on. Empty if the manifest names none.
        summary: what `summary.json` holds, `None` before the end.
    """

    run: Path
    state: State
    stages: tuple[tuple[str, int], ...]
    calls: tuple[tuple[str, str], ...]
    metrics: int
    command: str
    summary: dict[str, Any] | None

    @property
    def next_step(self) -> str:
        """One sentence: what to do now."""
        if self.state == "running":
            return "a process is working on it; ask again later"
        if self.state == "complete":
            return f"complete; look at it with: stepcredit report {self.run}"
        return f"stopped; go on with: {self.command or 'the command that started it'}"

    def table(self) -> TableView:
        """The status as rows of name and value."""
        rows = [("state", self.state), *((f"{name} records", f"{count:,}") for name, count in self.stages)]
        rows += [*self.calls, ("metrics rows", f"{self.metrics:,}")]
        rows += [(name, _short(value)) for name, value in (self.summary or {}).items()]
        return TableView(str(self.run), ("what", "value"), tuple(rows))


def run_status(run: Path) -> RunStatus:
    """Read where a run stands, without touching it.

    Raises:
        UsageError: if the folder holds no run.
        StoreError: if its ledger is damaged.
    """
    if not run.is_dir():
        raise UsageError("no such run folder", item=str(run))
    manifest = read_manifest(run)
    summary = read_json(run, "summary.json")
    running = _held(run / "lock")
    state: State = "running" if running else "stopped" if summary is None else "complete"
    stages, calls = _ledger(run)
    metrics = sum(1 for _ in read_metrics(run))
    return RunStatus(run, state, stages, calls, metrics, _command(manifest, run), summary)


def _command(manifest: dict[str, Any], run: Path) -> str:
    """The command that made the run: the manifest's `command`, or one made from its `verb`."""
    verb = manifest.get("verb")
    made = "" if verb is None else f"stepcredit {verb} --out {run} and the same other options"
    return str(manifest.get("command", made))


def _ledger(run: Path) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, str], ...]]:
    path = run / "ledger.sqlite"
    if not path.exists():
        return (), ()
    with Ledger(path, journal=journal_of(run)) as ledger:
        totals = ledger.attempt_totals()
        stages = tuple(sorted(ledger.stages().items()))
    if not totals.calls:
        return stages, ()
    known = {"input tokens": totals.input_tokens, "output tokens": totals.output_tokens, "cost": totals.cost}
    words = tuple((name, "unknown" if value is None else f"{value:,}") for name, value in known.items())
    return stages, (("model calls", f"{totals.calls:,}"), ("failed attempts", f"{totals.failed:,}"), *words)


def _held(path: Path) -> bool:
    """True if a living process holds the run's lock."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(inner)}" for name, inner in list(value.items())[:6])  # pyright: ignore[reportUnknownVariableType]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
