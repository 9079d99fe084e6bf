"""`stepcredit credit --compare`: rollouts that are there already under several credit rules, side by side."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import orjson
from jaxtyping import Float64

from stepcredit.core.errors import UsageError
from stepcredit.core.records import Credit
from stepcredit.credit.batch import assign
from stepcredit.credit.rule import Need
from stepcredit.credit.vineppo import VineppoSettings
from stepcredit.evaluation.credit_xray import RuleXray, credit_xray, value_gains
from stepcredit.recipes.report_run import PAGE, save_report
from stepcredit.recipes.xray.batch import XrayBatch
from stepcredit.recipes.xray.paying import ComparedRule, PaidRules, pay, rules_of
from stepcredit.recipes.xray.recorded import is_log, read_judged, read_logged, read_recorded
from stepcredit.recipes.xray.results import XRAY, payload_of, report_of
from stepcredit.recipes.xray.settings import TruthBy, XraySettings, refuse_unread
from stepcredit.recipes.xray.values import VALUES, value_lines, with_continued, with_values_of
from stepcredit.report import ReportData
from stepcredit.report.progress import Progress, SilentProgress
from stepcredit.store.files import FileWriter
from stepcredit.store.run_folder import read_json, read_manifest

MANIFEST = "manifest.json"
_NAMED = 4


@final
@dataclass(frozen=True)
class CreditXray:
    """What the X-ray gave.

    Args:
        rules: figures of each rule that could pay.
        left_out: rules that could not, and what is missing.
        payload: all of it as JSON-able mapping, as in `xray.json`.
        data: what the report shows.
        warning: what is to be feared of the outcomes; empty if nothing is.
        page: `report.html`, `None` if nothing was written.
    """

    rules: tuple[RuleXray, ...]
    left_out: Mapping[str, str]
    payload: dict[str, Any]
    data: ReportData
    warning: str
    page: Path | None


def run_xray(path: Path, settings: XraySettings, progress: Progress | None = None) -> CreditXray:
    """Pay rollouts that are there already by several rules, and compare what these pay.

    Args:
        path: run folder of `demo`, `train`, `judge` or `run`, a JSONL file that `judge` reads, or the log of a TRL or
            verl run.
        settings: what and how.
        progress: who is told; nobody by default.

    Raises:
        UsageError: for a path, rule, setting or signal that cannot be used, or where no rule can pay.
        MachineError: if a package is missing, or the folder cannot be written.
        StoreError: if the run folder is damaged.

    Source: own; credit.md 3 and the microscope's figures. Differs: none.
    """
    screen = progress or SilentProgress()
    rules = rules_of(settings.compare, [text for text in settings.overrides if text not in settings.of_text])
    _refuse_out(settings.out, path)
    batch = _read(path, settings, screen)
    if settings.values is not None:
        batch = with_values_of(batch, settings.values)
    elif settings.continuations is not None:
        batch = with_continued(batch, settings.continuations, screen)
    batch = _with_made(batch, rules)
    paid = pay(batch, rules)
    if not paid.credits:
        raise UsageError(f"no rule can pay these rollouts: {_lacking(paid)}", item=str(path))
    by, truth = _truth(batch, settings.truth)
    gains = _gains(batch)
    figures = credit_xray(batch.layout, paid.advantages, truth=truth, gains=gains)
    payload = payload_of(batch, rules, paid, figures, truth_by=by, source=_source(path))
    data = report_of(batch, paid, figures, payload, gains=_shown_gains(batch), truth=truth, show=settings.show)
    page = None if settings.out is None else _written(settings.out, settings, payload, data, batch=batch)
    return CreditXray(figures, paid.left_out, payload, data, batch.warning, page)


def json_of(payload: Mapping[str, Any]) -> bytes:
    """The figures as JSON; numbers that are not finite are null."""
    return orjson.dumps(dict(payload), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _source(path: Path) -> str:
    return str(path.resolve())


def _refuse_out(out: Path | None, path: Path) -> None:
    """Refuse a folder that holds something else than an earlier X-ray of the same input."""
    if out is None or not out.exists():
        return
    if not out.is_dir():
        raise UsageError("--out must be a folder, and this is a file", item=str(out))
    if (out / MANIFEST).exists() or (any(out.iterdir()) and not (out / XRAY).exists()):
        raise UsageError("the folder holds something else; give --out a folder of its own", item=str(out))
    if not (out / XRAY).exists():
        return
    there = read_json(out, XRAY)
    held = there.get("source") if isinstance(there, dict) else None
    if held != _source(path):
        of = "another input" if held is None else str(held)
        raise UsageError(f"the folder holds the X-ray of {of}; give --out a folder of its own", item=str(out))


def _read(path: Path, settings: XraySettings, screen: Progress) -> XrayBatch:
    text = replace(settings.text, overrides=(*settings.text.overrides, *settings.of_text))
    if not path.exists():
        raise UsageError("there is no such file or folder", item=str(path))
    if path.is_dir() and (path / MANIFEST).exists():
        manifest = read_manifest(path)
        if manifest.get("verb") in ("judge", "run"):
            refuse_unread(settings, "judged", item=str(path))
            return _some(read_judged(path, text), settings)
        return _trained(path, settings, manifest)
    if is_log(path):
        refuse_unread(settings, "log", item=str(path))
        return _some(read_logged(path, text), settings)
    if path.is_dir():
        wanted = "a run folder of demo, train, judge or run, or the log of a TRL or verl run"
        raise UsageError(f"the folder holds neither: {wanted}", item=str(path))
    refuse_unread(settings, "file", item=str(path))
    return _some(read_recorded(path, text, screen), settings)


def _trained(path: Path, settings: XraySettings, manifest: Mapping[str, Any]) -> XrayBatch:
    from stepcredit.recipes.xray.trained import arm_run, is_trained, read_trained  # noqa: PLC0415 -- loads torch

    if not is_trained(manifest):
        verb = manifest.get("verb", "another verb")
        raise UsageError(f"a run of {verb} keeps no rollouts; wanted one of demo, train, judge or run", item=str(path))
    refuse_unread(settings, "trained", item=str(path))
    run = arm_run(path, arm=settings.arm, seed=settings.seed)
    return read_trained(run, round_index=settings.round, problems=settings.problems)


def _some(batch: XrayBatch, settings: XraySettings) -> XrayBatch:
    """The first problems of the batch."""
    if settings.problems is None or settings.problems >= len(batch.groups):
        return batch
    groups = batch.groups[: settings.problems]
    kept = sum(len(group.outcomes) for group in groups)
    return replace(batch, groups=groups, cuts=batch.cuts[:kept])


def _with_made(batch: XrayBatch, rules: tuple[ComparedRule, ...]) -> XrayBatch:
    """The batch with the signals that a rule reads and that can be computed."""
    asked = {need for compared in rules for need in compared.rule.wanted(compared.settings)}
    for need, maker in batch.makers.items():
        if need in asked and need not in batch.signals:
            batch = batch.with_signal(need, maker(batch.steps), batch.sources[need])
    return batch


def _lacking(paid: PaidRules) -> str:
    told = [f"{label}: {why}" for label, why in paid.left_out.items()]
    return "; ".join(told[:_NAMED]) + (f"; and {len(told) - _NAMED} more" if len(told) > _NAMED else "")


def _truth(batch: XrayBatch, by: TruthBy) -> tuple[str, Float64[np.ndarray, " S"] | None]:
    """Whose truth it is, in words, and the truth.

    Raises:
        UsageError: if that one is asked for and says nothing.
    """
    words = {"labels": batch.labels_by, "verdicts": f"the verdicts of judge {batch.judge}"}
    for source in ("labels", "verdicts") if by == "auto" else (by,):
        column = batch.truth(source)
        if column is not None:
            return words[source], column
    if by != "auto":
        raise UsageError(f"--truth {by}: there are none for these rollouts", item=batch.name)
    return "", None


def _gains(batch: XrayBatch) -> Float64[np.ndarray, " S"] | None:
    if Need.VALUES not in batch.signals:
        return None
    return value_gains(batch.layout, batch.rewards, batch.column(Need.VALUES))


def _shown_gains(batch: XrayBatch) -> tuple[Credit, ...]:
    """The gains as a credit of each rollout, for the page; empty without values."""
    if Need.VALUES not in batch.signals:
        return ()
    settings = VineppoSettings(whiten=False)
    signals = {Need.VALUES: batch.column(Need.VALUES)}
    credited, _ = assign(batch.groups, batch.cuts, rule="vineppo", settings=settings, keep="all", signals=signals)
    return credited


def _written(
    out: Path, settings: XraySettings, payload: Mapping[str, Any], data: ReportData, *, batch: XrayBatch
) -> Path:
    """Write the result, and values that were taken now; those of an earlier X-ray stay only if they were read."""
    files = FileWriter(out)
    if settings.continuations is not None:
        files.write(VALUES, b"".join(value_lines(batch)))
    elif settings.values is None or settings.values.resolve() != (out / VALUES).resolve():
        (out / VALUES).unlink(missing_ok=True)
    save_report(out, data)
    files.write(XRAY, json_of(payload))
    return out / PAGE
