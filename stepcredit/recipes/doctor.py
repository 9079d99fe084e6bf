"""`stepcredit doctor`: what this machine can run, and the line that mends what it cannot."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, final

from stepcredit.core.errors import EngineError, MachineError, StepcreditError
from stepcredit.recipes.extras import EXTRAS, missing_modules
from stepcredit.report import TableView
from stepcredit.sandbox import ENGINES, SAFE, Limits, SandboxSettings
from stepcredit.sandbox.battery import SHORT, Trial, World, run_battery
from stepcredit.sandbox.component import component_path
from stepcredit.store.files import FileWriter
from stepcredit.store.filesystem import journal_of

Health = Literal["ok", "absent", "bad"]
_NEEDED = ("numpy", "pydantic", "typer", "rich", "httpx2", "orjson", "zstandard", "tokenizers", "jinja2", "jaxtyping")
_LITTLE_GB = 2.0
_TRIAL = Limits(wall_s=10.0, cpu_s=1.0)
_SLACK_S = 10.0  # a busy machine is late; that is no leak


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


def examine_sandbox(*, build: bool) -> tuple[tuple[Finding, ...], tuple[Trial, ...]]:
    """Try the engines that run a model's code: eight hostile programs and four benign ones in each.

    Args:
        build: make the WebAssembly component if it is not there; half a minute.

    Returns:
        A finding for each safe engine, and what every program did. An engine that contained less than all is `bad`:
        it must not be used here.
    """
    findings: list[Finding] = []
    trials: list[Trial] = []
    with World() as world:
        for name in SAFE:
            finding, done = _engine(name, world, build=build)
            findings.append(finding)
            trials += done
    return tuple(findings), tuple(trials)


def trials_table(trials: Sequence[Trial]) -> TableView:
    """Programs of the battery, a column an engine."""
    engines = list(dict.fromkeys(trial.engine for trial in trials))
    cells = {(trial.program.name, trial.engine): _told(trial) for trial in trials}
    names = dict.fromkeys(trial.program.name for trial in trials)
    rows = tuple((name, *(cells[name, engine] for engine in engines)) for name in names)
    return TableView("sandbox", ("program", *engines), rows)


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


def _engine(name: str, world: World, *, build: bool) -> tuple[Finding, tuple[Trial, ...]]:
    what = f"sandbox {name}"
    try:
        if name == "wasm" and not build and not component_path().is_file():
            return Finding(what, "absent", "its component is not built", "stepcredit doctor --build"), ()
        if find_spec("sympy") is None:
            return Finding(what, "absent", "its trial needs sympy", "pip install 'stepcredit[sandbox]'"), ()
        engine = ENGINES[name](SandboxSettings(limits=_TRIAL))
    except MachineError as error:
        return Finding(what, "absent", str(error)), ()
    try:
        trials = run_battery(engine, SHORT, limits=_TRIAL, world=world, slack_s=_SLACK_S)
    except EngineError as error:
        return Finding(what, "absent", str(error)), ()
    finally:
        engine.close()
    failed = [trial for trial in trials if not trial.passed]
    if failed:
        said = "; ".join(f"{trial.program.name}: {trial.faults[0]}" for trial in failed)
        return Finding(what, "bad", said, f"do not run a model's code with {name!r} here"), trials
    return Finding(what, "ok", f"{len(trials)} of {len(SHORT)} programs as they should; {engine.version}"), trials


def _told(trial: Trial) -> str:
    if not trial.passed:
        return "; ".join(trial.faults)
    if trial.program.hostile:
        return f"contained: {trial.exit}"
    return "right" if trial.supported else "not there, and says so"


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
