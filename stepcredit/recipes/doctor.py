"""`stepcredit doctor`: what this machine can run, and the line that mends what it cannot."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, final

from stepcredit.core.errors import StepcreditError
from stepcredit.recipes.extras import EXTRAS, missing_modules
from stepcredit.report import TableView
from stepcredit.store.files import FileWriter
from stepcredit.store.filesystem import journal_of

Health = Literal["ok", "absent", "bad"]
_NEEDED = ("numpy", "pydantic", "typer", "rich", "httpx2", "orjson", "zstandard", "tokenizers", "jinja2", "jaxtyping")
_LITTLE_GB = 2.0


@final
@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Args:
        what: what was looked at.
        health: `ok`; `absent` for something optional; `bad` for something that every verb needs.
        detail: what was found.
        mend: how to mend it, empty if there is nothing to mend.
    """

    what: str
    health: Health
    detail: str
    mend: str = ""


def examine(folder: Path) -> tuple[Finding, ...]:
    """Look at Python, packages, extras, the machine, and the folder that runs would go to.

    Args:
        folder: where runs would be written; it need not exist.

    Returns:
        Findings in reading order; the machine can run stepcredit if none is `bad`.
    """
    looks: tuple[Callable[[], Finding], ...] = (
        _python,
        _packages,
        _cores,
        lambda: _disk(folder),
        lambda: _write(folder),
    )
    return (*(look() for look in looks), *(_extra(name) for name in EXTRAS))


def findings_table(findings: tuple[Finding, ...]) -> TableView:
    """Findings as a table."""
    rows = tuple((finding.what, finding.health, finding.detail, finding.mend) for finding in findings)
    return TableView("doctor", ("what", "state", "found", "mend"), rows)


def _python() -> Finding:
    found = platform.python_version()
    good = sys.version_info >= (3, 11)
    return Finding("Python", "ok" if good else "bad", found, "" if good else "install Python 3.11 or newer")


def _packages() -> Finding:
    missing = [name for name in _NEEDED if _version(name) is None]
    if missing:
        return Finding("packages", "bad", f"missing: {', '.join(missing)}", "pip install stepcredit")
    return Finding("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in _NEEDED[:1] + _NEEDED[7:8]))


def _cores() -> Finding:
    cores = os.cpu_count()
    return Finding("cores", "ok", "unknown" if cores is None else str(cores))


def _disk(folder: Path) -> Finding:
    there = _existing(folder)
    free_gb = shutil.disk_usage(there).free / 1e9
    little = free_gb < _LITTLE_GB
    mend = "free some space, or choose another disk with --out" if little else ""
    return Finding("disk", "bad" if little else "ok", f"{free_gb:.1f} GB free at {there}", mend)


def _write(folder: Path) -> Finding:
    there = _existing(folder)
    place = folder.absolute()
    first = next(step for step in (place, *place.parents) if os.path.lexists(step))
    if first != there:
        said = f"a file stands where a folder is needed: {first}"
        return Finding("writing", "bad", said, "choose another folder with --out")
    try:
        with tempfile.TemporaryDirectory(dir=there) as trial:
            FileWriter(Path(trial)).write("trial", b"trial")
    except (OSError, StepcreditError) as error:
        return Finding("writing", "bad", str(error), "choose another folder with --out")
    return Finding("writing", "ok", f"{there}, ledger journal {journal_of(there)}")


def _extra(name: str) -> Finding:
    missing = missing_modules(name)
    if missing:
        return Finding(f"extra {name}", "absent", f"missing: {', '.join(missing)}", f"pip install 'stepcredit[{name}]'")
    return Finding(f"extra {name}", "ok", ", ".join(EXTRAS[name]))


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
