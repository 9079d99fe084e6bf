"""`stepcredit report`: the page of a run folder, rendered from the views that its program saved."""

from pathlib import Path

from rich.console import RenderableType

from stepcredit.core.errors import MachineError, UsageError
from stepcredit.report import ReportData, dump_report, load_report, terminal_report, write_report
from stepcredit.store.files import FileWriter
from stepcredit.store.run_folder import read_json, read_manifest

SAVED, PAGE = "report.zst", "report.html"


def save_report(run: Path, data: ReportData) -> Path:
    """Save a run's views and write its page.

    Args:
        run: the run folder.
        data: what the report shows.

    Returns:
        Path of `report.html`.

    Raises:
        StoreError, MachineError: if the folder cannot be written.
    """
    files = FileWriter(run)
    files.write(SAVED, dump_report(data))
    return files.write(PAGE, write_report(data))


def report_run(run: Path) -> Path:
    """Render a run's page again, from what was saved; no model is called.

    Args:
        run: the run folder.

    Returns:
        Path of `report.html`.

    Raises:
        UsageError: if the folder holds no run, or one that has shown nothing yet.
        StoreError: if what it saved is damaged.
        MachineError: if the page cannot be written there.
    """
    page = write_report(saved_views(run))
    try:
        return FileWriter(run).write(PAGE, page)
    except MachineError:
        raise MachineError(f"{PAGE} cannot be written here; --terminal shows it without", item=str(run)) from None


def token_credit(run: Path) -> Path | None:
    """File of the run's last token credit, `None` if it gave none; docs/guide/token_credit.md says how to read it."""
    told = read_json(run, "summary.json") or {}
    shard = (told.get("credit") or {}).get("shard")
    return None if shard is None else run / "shards" / shard


def show_run(run: Path, *, limit: int | None = None) -> RenderableType:
    """The same for the terminal: tables, then at most `limit` solutions step by step."""
    return terminal_report(saved_views(run), limit=limit)


def saved_views(run: Path) -> ReportData:
    """What a run's program saved with `save_report`.

    Raises:
        UsageError: if there is no such folder, it holds no run, or its run has shown nothing yet.
    """
    if not run.is_dir():
        raise UsageError("no such run folder; `--out` of judge, run or demo names it", item=str(run))
    try:
        return load_report((run / SAVED).read_bytes())
    except FileNotFoundError:
        read_manifest(run)
        mend = "let the run come to its end (the same command goes on), then ask again"
        raise UsageError(f"nothing to report yet (no {SAVED}); {mend}", item=str(run)) from None
