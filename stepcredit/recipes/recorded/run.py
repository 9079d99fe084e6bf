"""`stepcredit run`: recorded solutions through check, split, judge, thoughts and credit, in a resumable folder."""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, final

from stepcredit.core.errors import PartialError
from stepcredit.core.protocols import Judge, Splitter, Tokenizer
from stepcredit.core.records import Judgement
from stepcredit.engines.byte_tokenizer import ByteTokenizer
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.cache import CachedJudge
from stepcredit.recipes.blocking import wait_for
from stepcredit.recipes.recorded.credit import Credited, credit_all
from stepcredit.recipes.recorded.judges import TEXT_ONLY, CallLog, checker_of, opened_judge
from stepcredit.recipes.recorded.results import Counts, WalkResult, closing_of, count, report_of, summary_of
from stepcredit.recipes.recorded.rollouts import RolloutMaker, grouped
from stepcredit.recipes.recorded.settings import (
    RecordedRecipe,
    RecordedSettings,
    Stage,
    StepsPart,
    given,
    load_recorded,
    rule_settings,
)
from stepcredit.recipes.recorded.walk import Walked, WalkParts, walk
from stepcredit.recipes.report_run import save_report
from stepcredit.report.page import package_version
from stepcredit.report.progress import Progress, SilentProgress
from stepcredit.steps import splitter
from stepcredit.store.run_folder import RunFolder
from stepcredit.tasks.checking import MathChecker
from stepcredit.tasks.jsonl import RecordedResponse, read_responses

ALONE = (
    "no group has two scorable solutions of one model, so there is nothing to compare and no credit;"
    " --group-by problem compares those of different models"
)
"""Said where no group can be credited."""

_SAID = ("numpy", "tokenizers", "math-verify")


@final
@dataclass(frozen=True)
class RecordedResult:
    """What a walk gave.

    Args:
        summary: as in `summary.json`.
        closing: how much of the file the judge could read.
        folder: the run folder, with `report.html`.
        judgements: one a solution in the file's order; empty if no judge was asked.
        credited: token credit and the shard that holds it; `None` if the walk stopped before.
    """

    summary: dict[str, Any]
    closing: str
    folder: Path
    judgements: tuple[Judgement, ...]
    credited: Credited | None


@final
@dataclass(frozen=True)
class _Plan:
    """A walk that was checked as far as it can be before any work."""

    file: Path
    settings: RecordedSettings
    recipe: RecordedRecipe
    verb: str
    recorded: tuple[RecordedResponse, ...]
    tokenizer: Tokenizer
    splitter: Splitter
    rule: object


def run_recorded(
    file: Path, settings: RecordedSettings, *, verb: str = "run", progress: Progress | None = None
) -> RecordedResult:
    """Walk recorded solutions to a stage, or go on where the folder stands.

    What was checked and judged is kept one by one: the same call goes on after an interruption and asks no judge
    twice. A walk that stopped early can be taken further in the same folder, and credited by several rules.

    Args:
        file: JSONL, plain or packed: `problem`, `gold` or `answer` (null: none known), `response` or `completion` or
            `steps`; optional `id`, `model`, `finished`.
        settings: what to do.
        verb: the command, for the manifest.
        progress: who is told; nobody by default.

    Raises:
        UsageError: for a file, recipe key, tokenizer or choice that cannot be used, or the folder of another run.
        MachineError: if there is no server, or the folder cannot be written.
        BudgetError: if a limit on calls or cost is reached.
        PartialError: if the judge itself failed on some solutions; the same call asks for these again.

    Source: tp_grpo.md 1.1-1.6 on recorded text. Differs: ids are made by re-tokenising, so nothing is trained on them.
    """
    screen = progress or SilentProgress()
    recipe = load_recorded(settings.overrides)
    plan = _Plan(
        file=file,
        settings=settings,
        recipe=recipe,
        verb=verb,
        recorded=read_responses(file),
        tokenizer=ByteTokenizer() if settings.tokenizer is None else FileTokenizer.load(settings.tokenizer),
        splitter=splitter_of(recipe.steps),
        rule=rule_settings(settings.credit, recipe.credit) if settings.reaches("credit") else None,
    )
    result = wait_for(lambda: _walk(plan, screen))
    if result.summary["judge_failures"]:
        failed = result.summary["judge_failures"]
        raise PartialError(f"the judge failed on {failed} solutions, report.html says why; the same command asks again")
    return result


def splitter_of(part: StepsPart) -> Splitter:
    """The splitter of `[steps]`.

    Raises:
        UsageError: for an unknown one, or a setting that it does not have.
    """
    return splitter(part.splitter, **{name: value for name, value in given(part).items() if name != "splitter"})


async def _walk(plan: _Plan, screen: Progress) -> RecordedResult:
    settings = plan.settings
    checker, pool = checker_of(plan.recipe.checker)
    try:
        async with opened_judge(settings.judge, plan.recipe, server=settings.server, model=settings.model) as (
            judge,
            calls,
        ):
            manifest = _manifest(plan, checker=checker, judge=judge)
            with RunFolder.create_or_open(settings.out, manifest) as folder:
                return await _walk_in(plan, folder, checker=checker, judge=judge, calls=calls, screen=screen)
    finally:
        if pool is not None:
            pool.close()


async def _walk_in(
    plan: _Plan, folder: RunFolder, *, checker: MathChecker, judge: Judge, calls: CallLog, screen: Progress
) -> RecordedResult:
    settings = plan.settings
    seconds: dict[str, float] = {}
    for line in folder.notes:
        screen.say(line)
    if "/string/" in checker.fingerprint and plan.recipe.checker.mode == "auto":
        screen.say(TEXT_ONLY)
    grouping = grouped(plan.recorded, settings.group_by)
    if settings.group_by == "problem":
        screen.say(grouping.told())
    calls.open(folder.ledger.attempt, spent=folder.ledger.attempt_totals())
    asked = CachedJudge(judge, folder.cache) if settings.judge == "critic" else judge
    parts = WalkParts(
        RolloutMaker(plan.tokenizer, plan.file),
        checker,
        plan.splitter if settings.reaches("split") else None,
        asked if settings.reaches("judge") else None,
        folder.ledger,
        str(plan.file),
    )
    began = time.perf_counter()
    task = screen.start(_DOING[settings.until], total=len(plan.recorded), unit="solutions")
    walked = await walk(parts, plan.recorded, grouping=grouping, task=task)
    task.finish()
    _mark(folder, settings, walked)
    seconds[_DOING[settings.until]] = time.perf_counter() - began
    credited: Credited | None = None
    if settings.reaches("credit"):
        began = time.perf_counter()
        keep = plan.recipe.credit.keep
        credited = credit_all(walked, folder, rule=settings.credit, settings=plan.rule, keep=keep)
        folder.mark_done("credit", credited.shard.name)
        if credited.summary.short_groups == credited.summary.groups and settings.group_by != "problem":
            screen.say(ALONE)
        seconds["credit"] = time.perf_counter() - began
    scale = judge.scale if settings.reaches("judge") else None
    found = WalkResult(walked, grouping, credited, folder.ledger.attempt_totals(), scale, seconds)
    return _close(plan, folder, found, manifest=folder.manifest)


_DOING: dict[Stage, str] = {
    "check": "check",
    "split": "check, split",
    "judge": "check, split, judge",
    "credit": "check, split, judge",
}


def _mark(folder: RunFolder, settings: RecordedSettings, walked: Sequence[Walked]) -> None:
    """Stage marks: what is complete for all solutions."""
    stages: tuple[Stage, ...] = ("check", "split", "judge")
    for stage in stages:
        if settings.reaches(stage) and not (stage == "judge" and any(item.failed for item in walked)):
            folder.mark_done(stage, "all")


def _close(plan: _Plan, folder: RunFolder, found: WalkResult, *, manifest: dict[str, Any]) -> RecordedResult:
    """Write summary and report."""
    settings = plan.settings
    counts: Counts = count(found.walked, split=settings.reaches("split"), tokenised=settings.tokenizer is not None)
    facts = _facts(plan, manifest)
    began = time.perf_counter()
    title = f"stepcredit {plan.verb} {plan.file.name}"
    save_report(folder.path, report_of(found, counts, title=title, facts=facts, part=plan.recipe.report))
    found = replace(found, seconds={**found.seconds, "report": time.perf_counter() - began})
    told = summary_of(found, counts, settings=dict(facts))
    folder.write_json("summary.json", told)
    judgements = tuple(item.judgement for item in found.walked if item.judgement is not None)
    return RecordedResult(told, closing_of(counts), folder.path, judgements, found.credited)


def _facts(plan: _Plan, manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """How the run was walked, as names and values."""
    settings = plan.settings
    named = {
        "file": plan.file.name,
        "until": settings.until,
        "judge": settings.judge if settings.reaches("judge") else "",
        "model": settings.model or "",
        "checker": manifest["checker"],
        "splitter": str(plan.splitter),
        "tokenizer": "bytes (none was named)" if settings.tokenizer is None else settings.tokenizer.name,
        "group_by": settings.group_by,
        "credit": settings.credit if plan.rule is not None else "",
        "credit_settings": str(plan.rule) if plan.rule is not None else "",
        "keep": plan.recipe.credit.keep if plan.rule is not None else "",
        "stepcredit": manifest["versions"]["stepcredit"],
    }
    return [(name, value) for name, value in named.items() if value]


def _manifest(plan: _Plan, *, checker: MathChecker, judge: Judge) -> dict[str, Any]:
    """What every kept record depends on. Credit and the last stage are not among it: they may change in one folder."""
    settings = plan.settings
    return {
        "verb": plan.verb,
        "input": {"name": plan.file.name, "sha256": sha256(plan.file.read_bytes()).hexdigest()},
        "tokenizer": plan.tokenizer.fingerprint,
        "steps": str(plan.splitter),
        "checker": checker.fingerprint,
        "judge": {
            "model": settings.model or "",
            "name": settings.judge,
            "server": settings.server or "",
            "version": judge.fingerprint,
        },
        "versions": {"stepcredit": package_version(), **{name: _version(name) for name in _SAID}},
        "machine": {"python": platform.python_version(), "system": platform.platform()},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
