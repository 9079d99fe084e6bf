"""`stepcredit credit --compare`: rollouts that are there already under several credit rules, side by side."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, final

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
from stepcredit.recipes.xray.recorded import OURS, TextSettings, is_log, read_judged, read_logged, read_recorded
from stepcredit.recipes.xray.results import XRAY, payload_of, report_of
from stepcredit.recipes.xray.values import VALUES, value_lines, with_continued, with_values_of
from stepcredit.report import ReportData
from stepcredit.report.progress import Progress, SilentProgress
from stepcredit.store.files import FileWriter
from stepcredit.store.run_folder import read_manifest

TruthBy = Literal["auto", "labels", "verdicts"]
"""Whose truth signs are compared with: labels where there are any, else verdicts; or one of these alone."""

MANIFEST = "manifest.json"
_NAMED = 4


@final
@dataclass(frozen=True)
class XraySettings:
    """What is compared, and how.

    Args:
        out: folder of the result: `report.html`, `xray.json`, and `values.jsonl` if values are taken; `None` writes
            nothing.
        compare: rules, as `rules_of` takes them; none compares all.
        overrides: `RULE.setting=value` for rules; `steps.`, `checker.` and `judge.` keys for recorded text.
        values: file of values; goes before those of the rollouts' own file.
        continuations: K of values by continuation.
        truth: whose truth signs are compared with.
        arm: of a run of demo or train.
        seed: of it.
        round: of it, from 0.
        problems: takes the first so many problems; `None` all.
        show: solutions that the page shows side by side.
        text: how recorded text is read.

    Raises:
        UsageError: for counts below 1, or values from two places.
    """

    out: Path | None = None
    compare: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    values: Path | None = None
    continuations: int | None = None
    truth: TruthBy = "auto"
    arm: str | None = None
    seed: int | None = None
    round: int | None = None
    problems: int | None = None
    show: int = 12
    text: TextSettings = field(default_factory=TextSettings)

    def __post_init__(self) -> None:
        for name in ("continuations", "problems"):
            given = getattr(self, name)
            if given is not None and given < 1:
                raise UsageError(f"{name} must be at least 1, got {given}")
        if self.values is not None and self.continuations is not None:
            raise UsageError("values come from --values or from --continuations; leave one out")


@final
@dataclass(frozen=True)
class CreditXray:
    """What the X-ray gave.

    Args:
        rules: figures of each rule that could pay.
        left_out: rules that could not, and what is missing.
        payload: all of it as JSON-able mapping, as in `xray.json`.
        data: what the report shows.
        page: `report.html`, `None` if nothing was written.
    """

    rules: tuple[RuleXray, ...]
    left_out: Mapping[str, str]
    payload: dict[str, Any]
    data: ReportData
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
    sections, rule_keys = _parted(settings.overrides)
    rules = rules_of(settings.compare, rule_keys)
    _refuse_out(settings.out)
    batch = _read(path, settings, sections, screen)
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
    payload = payload_of(batch, rules, paid, figures, truth_by=by)
    data = report_of(batch, paid, figures, payload, gains=_shown_gains(batch), truth=truth, show=settings.show)
    taken = batch if settings.continuations is not None else None
    page = None if settings.out is None else _written(settings.out, payload, data, taken=taken)
    return CreditXray(figures, paid.left_out, payload, data, page)


def json_of(payload: Mapping[str, Any]) -> bytes:
    """The figures as JSON; numbers that are not finite are null."""
    return orjson.dumps(dict(payload), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _parted(overrides: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Overrides of recorded text, and those of rules."""
    mine = tuple(text for text in overrides if text.split(".")[0].strip() in OURS)
    return mine, tuple(text for text in overrides if text not in mine)


def _refuse_out(out: Path | None) -> None:
    """Refuse a folder that holds something else than an earlier X-ray."""
    if out is None or not out.exists():
        return
    if not out.is_dir():
        raise UsageError("--out must be a folder, and this is a file", item=str(out))
    if (out / MANIFEST).exists() or (any(out.iterdir()) and not (out / XRAY).exists()):
        raise UsageError("the folder holds something else; give --out a folder of its own", item=str(out))


def _read(path: Path, settings: XraySettings, sections: tuple[str, ...], screen: Progress) -> XrayBatch:
    text = replace(settings.text, overrides=(*settings.text.overrides, *sections))
    if not path.exists():
        raise UsageError("there is no such file or folder", item=str(path))
    if path.is_dir() and (path / MANIFEST).exists():
        manifest = read_manifest(path)
        if manifest.get("verb") in ("judge", "run"):
            _refuse_arm(path, settings)
            return _some(read_judged(path, text), settings)
        return _trained(path, settings, manifest)
    _refuse_arm(path, settings)
    if is_log(path):
        return _some(read_logged(path, text), settings)
    if path.is_dir():
        wanted = "a run folder of demo, train, judge or run, or the log of a TRL or verl run"
        raise UsageError(f"the folder holds neither: {wanted}", item=str(path))
    return _some(read_recorded(path, text, screen), settings)


def _trained(path: Path, settings: XraySettings, manifest: Mapping[str, Any]) -> XrayBatch:
    from stepcredit.recipes.xray.trained import arm_run, is_trained, read_trained  # noqa: PLC0415 -- loads torch

    if not is_trained(manifest):
        verb = manifest.get("verb", "another verb")
        raise UsageError(f"a run of {verb} keeps no rollouts; wanted one of demo, train, judge or run", item=str(path))
    run = arm_run(path, arm=settings.arm, seed=settings.seed)
    return read_trained(run, round_index=settings.round, problems=settings.problems)


def _refuse_arm(path: Path, settings: XraySettings) -> None:
    for name in ("arm", "seed", "round"):
        if getattr(settings, name) is not None:
            raise UsageError(f"--{name} is of a run of demo or train, and this is none; leave it out", item=str(path))


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


def _written(out: Path, payload: Mapping[str, Any], data: ReportData, *, taken: XrayBatch | None) -> Path:
    """Write the result, and the values of a batch whose values were taken now."""
    files = FileWriter(out)
    if taken is not None:
        files.write(VALUES, b"".join(value_lines(taken)))
    save_report(out, data)
    files.write(XRAY, json_of(payload))
    return out / PAGE
