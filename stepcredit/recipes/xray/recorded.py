"""Recorded solutions as the X-ray looks at them: a JSONL file, the run folder of its judge, the log of TRL or verl."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import file_digest
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from stepcredit.adapters.judging import judge_all
from stepcredit.adapters.logged import RIGHT_ABOVE, LoggedRollout, outcomes_of, read_log, threshold_warning
from stepcredit.adapters.logged.signals import brought_by
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Scale, Tokenizer
from stepcredit.core.records import Group, Judgement, Outcome, Steps
from stepcredit.credit.rule import Need
from stepcredit.engines.byte_tokenizer import ByteTokenizer
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.recipes.recorded.judges import checker_of, opened_judge
from stepcredit.recipes.recorded.plan import splitter_of
from stepcredit.recipes.recorded.rollouts import RolloutMaker, cut, grouped
from stepcredit.recipes.recorded.settings import RECIPE, GroupBy, RecordedRecipe, load_recorded
from stepcredit.recipes.recorded.walk import (
    OUTCOMES,
    PROPOSALS,
    VERDICTS,
    Walked,
    WalkParts,
    outcome_key,
    verdict_key,
    walk,
)
from stepcredit.recipes.report_run import SAVED
from stepcredit.recipes.session import read_session
from stepcredit.recipes.status import readable
from stepcredit.recipes.xray.batch import Cut, XrayBatch, with_brought, with_lengths
from stepcredit.report import load_report
from stepcredit.report.progress import Progress
from stepcredit.steps import Whole, apply_ranges
from stepcredit.store.codec import decode
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import LEDGER
from stepcredit.store.shapes import JUDGED, read_shaped
from stepcredit.tasks.jsonl import RecordedResponse, read_objects, read_responses

XrayJudge = Literal["markers", "none"]
"""Who gives verdicts on text that has none: judges that ask a model have a verb of their own."""

NO_POLICY = "recorded text has no policy that could go on with it"
UNREAD = {
    Need.TESTIMONY: "claims are read by the grammar of the embedded worlds; in written text nothing here reads them"
}
OURS = ("steps", "checker", "judge")
"""Sections of `recorded.toml` that are read here."""


@final
@dataclass(frozen=True)
class TextSettings:
    """How recorded text is read.

    Args:
        judge: who gives verdicts where none are kept; `None` takes markers.
        tokenizer: folder or file of the policy's tokenizer; without it a token is a byte.
        group_by: which solutions are compared with one another; `None` takes those of one problem and model.
        outcome: column of a log with the outcome's number.
        group_size: completions of each prompt of a log.
        right_above: a reward of a log above it is right, else wrong; `None` takes `RIGHT_ABOVE`.
        input: file of a judge's run, where its folder does not lead there.
        recipe: TOML file of the judge's run.
        overrides: `steps.key=value`, `checker.key=value` and `judge.key=value`.
    """

    judge: XrayJudge | None = None
    tokenizer: Path | None = None
    group_by: GroupBy | None = None
    outcome: str | None = None
    group_size: int | None = None
    right_above: float | None = None
    input: Path | None = None
    recipe: Path = RECIPE
    overrides: tuple[str, ...] = ()

    @property
    def judged_by(self) -> XrayJudge:
        """The judge."""
        return self.judge or "markers"

    @property
    def grouping(self) -> GroupBy:
        """The grouping."""
        return self.group_by or "problem-and-model"

    @property
    def threshold(self) -> float:
        """Where rewards are cut."""
        return RIGHT_ABOVE if self.right_above is None else self.right_above

    @property
    def tokens(self) -> Tokenizer:
        """The tokenizer."""
        return ByteTokenizer() if self.tokenizer is None else FileTokenizer.load(self.tokenizer)

    @property
    def loaded(self) -> RecordedRecipe:
        """The recipe with its overrides."""
        return load_recorded(self.overrides, self.recipe)


def read_recorded(file: Path, settings: TextSettings, progress: Progress) -> XrayBatch:
    """Solutions of a JSONL file, checked, cut and judged now.

    Args:
        file: as `judge` takes it; its lines may bring signals, and with `steps` the truth of these in `labels`.
        settings: how.
        progress: who is told.

    Raises:
        UsageError: for a file or line that cannot be used.
    """
    recorded = read_responses(file)
    walked = asyncio.run(_walked(recorded, str(file), settings, progress))
    batch = _of_walked(walked, file.name, kind=f"{len(recorded)} recorded solutions", settings=settings)
    if settings.judged_by != "none":
        batch = replace(batch, judge=settings.judged_by, scale=Scale.BINARY)
    return _with_lines(batch, file, recorded)


def read_judged(folder: Path, settings: TextSettings) -> XrayBatch:
    """The run folder of `judge` or `run`: what it kept of outcomes and verdicts, on the text of its file.

    Args:
        folder: the run folder.
        settings: how; `input`, `recipe` and `overrides` only where the folder does not say.

    Raises:
        UsageError: if the file is not there or has changed, or is cut otherwise than in the run.
        StoreError: if the folder is damaged.
    """
    manifest = read_shaped(folder, JUDGED)
    file = _file_of(folder, manifest, settings.input)
    settings = _as_the_run(folder, settings)
    recipe, recorded = settings.loaded, read_responses(file)
    whole = manifest["judge"]["name"] in ("think-rm", "spct")
    if whole and settings.group_by is not None:
        told = "judges of whole solutions compare those of a problem: leave --group-by out"
        raise UsageError(told, item=str(folder))
    splitter = Whole() if whole else splitter_of(recipe.steps)
    if str(splitter) != manifest["steps"]:
        mend = "give the same --recipe and --set steps.... as the run was given"
        raise UsageError(f"the run cut by {manifest['steps']}, this is {splitter}; {mend}", item=str(folder))
    maker = RolloutMaker(settings.tokens, file)
    grouping = grouped(recorded, "problem" if whole else settings.grouping)
    judge = manifest["judge"]["version"] or ""
    walked: list[Walked] = []
    with readable(folder / LEDGER) as place, Ledger(place, journal=None) as ledger:
        proposes = ledger.count(PROPOSALS) > 0
        for number, line in enumerate(recorded):
            rollout = maker.make(line, group=grouping.names[number], sample=grouping.samples[number])
            kept = ledger.get(OUTCOMES, outcome_key(rollout, manifest["checker"]))
            if kept is None:
                outcome = Outcome(rollout, "unscorable", reason="the run did not come to it")
            else:
                outcome = decode(kept, resolve=lambda _kind, _name, found=rollout: found)
            given = None if whole else line.steps
            steps = cut(outcome, splitter, steps=given, place=f"{file}:{line.line}")
            walked.append(_kept(ledger, steps, judge, proposes=proposes))
    if all(item.judgement is None for item in walked):
        raise UsageError("the run kept no verdicts; let it go on first (stepcredit status names the command)",
                         item=str(folder))  # fmt: skip
    name = manifest["judge"]["name"]
    kind = f"{len(recorded)} solutions judged by {name}"
    batch = _of_walked(walked, folder.name, kind=kind, settings=settings)
    batch = _scored(batch, name) if whole else replace(batch, judge=name, scale=_scale_of(folder))
    return _with_lines(batch, file, recorded)


def read_logged(path: Path, settings: TextSettings) -> XrayBatch:
    """The log of a TRL or verl run.

    Args:
        path: a file, or a folder of them; of TRL also its output folder.
        settings: how.

    Raises:
        UsageError: for a log that cannot be used.
        MachineError: if a parquet file is to be read and pyarrow is not installed.
    """
    inner = path / "completions"
    rows = read_log(inner if inner.is_dir() else path, outcome=settings.outcome, group_size=settings.group_size)
    outcomes = outcomes_of(rows, tokenizer=settings.tokens, right_above=settings.threshold)
    cuts = asyncio.run(_judged_rows(outcomes, settings))
    names = [outcome.rollout.id for outcome in outcomes]
    batch = XrayBatch(
        name=path.name,
        kind=f"{len(rows)} logged rollouts",
        groups=_groups(outcomes),
        cuts=tuple(cuts),
        judge="" if settings.judged_by == "none" else settings.judged_by,
        scale=None if settings.judged_by == "none" else Scale.BINARY,
        lacking=UNREAD,
        right_above=settings.threshold,
        warning=threshold_warning(rows, settings.threshold),
        logged=_logged(names, rows),
        facts=_facts(settings),
        no_policy=NO_POLICY,
    )
    places = {name: row.place for name, row in zip(names, rows, strict=True)}
    brought = {name: row.brought for name, row in zip(names, rows, strict=True)}
    return with_brought(with_lengths(batch, answers=False), brought, places)


def is_log(path: Path) -> bool:
    """True if the first row of a file, or of the first file of a folder, has the columns of TRL or verl."""
    inner = path / "completions" if (path / "completions").is_dir() else path
    files = [inner] if inner.is_file() else sorted([*inner.glob("*.parquet"), *inner.glob("*.jsonl")])
    if not files:
        return False
    if files[0].suffix == ".parquet":
        return True
    _, row = next(iter(read_objects(files[0], bare_nan=True)))
    return {"input", "output", "step"} <= row.keys() or {"prompt", "completion", "step"} <= row.keys()


async def _walked(
    recorded: Sequence[RecordedResponse], source: str, settings: TextSettings, progress: Progress
) -> tuple[Walked, ...]:
    recipe = settings.loaded
    checker, pool = checker_of(recipe.checker)
    task = progress.start("reading", total=len(recorded), unit="solutions")
    try:
        async with opened_judge("markers", recipe, server=None, model=None) as (markers, _):
            judge = None if settings.judged_by == "none" else markers
            maker = RolloutMaker(settings.tokens, source)
            parts = WalkParts(maker, checker, splitter_of(recipe.steps), judge, ledger=None, source=source)
            return await walk(parts, recorded, grouping=grouped(recorded, settings.grouping), task=task)
    finally:
        task.finish()
        if pool is not None:
            pool.close()


async def _judged_rows(outcomes: Sequence[Outcome], settings: TextSettings) -> list[Cut]:
    recipe = settings.loaded
    async with opened_judge("markers", recipe, server=None, model=None) as (markers, _):
        judge = None if settings.judged_by == "none" else markers
        found = await judge_all(outcomes, splitter_of(recipe.steps), judge, judging=64, timeout_s=None)
    return list(found)


def _kept(ledger: Ledger, steps: Steps, judge: str, *, proposes: bool) -> Walked:
    """What the run kept of a solution; its steps alone where that is no verdict."""
    if proposes:
        kept = ledger.get(PROPOSALS, verdict_key(steps, judge))
        ranges = [(k, k + 1) for k in range(len(steps))] if kept is None else kept["ranges"]
        steps = apply_ranges(steps, [(int(first), int(last)) for first, last in ranges])
    said = ledger.get(VERDICTS, verdict_key(steps, judge))
    return Walked(steps, None if said is None else decode(said, resolve=lambda _kind, _name: steps))


def _scored(batch: XrayBatch, judge: str) -> XrayBatch:
    """The batch of a judge of whole solutions: its scores are no verdicts on steps."""
    scores = {
        cut.steps.rollout.id: np.array([cut.verdicts[0].score])
        for cut in batch.cuts
        if isinstance(cut, Judgement) and len(cut.verdicts) == 1 and cut.verdicts[0].score is not None
    }
    bare = replace(batch, cuts=tuple(batch.steps))
    return bare.with_signal(Need.OUTCOME_SCORES, scores, f"scores of judge {judge}") if scores else bare


def _of_walked(walked: Sequence[Walked], name: str, *, kind: str, settings: TextSettings) -> XrayBatch:
    """The batch in the order of groups and samples."""
    groups = _groups([item.outcome for item in walked])
    cuts: dict[str, Cut] = {item.rollout.id: item.judgement or item.steps for item in walked}
    ordered = tuple(cuts[outcome.rollout.id] for group in groups for outcome in group.outcomes)
    batch = XrayBatch(name, kind, groups, ordered, lacking=UNREAD, facts=_facts(settings), no_policy=NO_POLICY)
    return with_lengths(batch)


def _groups(outcomes: Sequence[Outcome]) -> tuple[Group, ...]:
    members: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        members.setdefault(outcome.rollout.group, []).append(outcome)
    return tuple(
        Group(name, tuple(sorted(found, key=lambda outcome: outcome.rollout.sample))) for name, found in members.items()
    )


def _with_lines(batch: XrayBatch, file: Path, recorded: Sequence[RecordedResponse]) -> XrayBatch:
    """The batch with what the lines of the file bring: signals, and labels of the steps that they bring."""
    rows = dict(read_objects(file))
    places = {item.id: f"{file}:{item.line}" for item in recorded}
    brought = {item.id: brought_by(rows[places[item.id]], places[item.id]) for item in recorded}
    batch = with_brought(batch, {name: found for name, found in brought.items() if found.any}, places)
    given = {item.id: item.steps for item in recorded}
    labels: dict[str, tuple[bool | None, ...]] = {}
    for steps in batch.steps:
        name = steps.rollout.id
        found = _labels(rows[places[name]], given[name], places[name])
        if found is None or steps.unit == "proposed":
            continue
        if len(found) != len(steps):
            told = f"{len(found)} labels, and the line's steps make {len(steps)} (an empty one is none)"
            raise UsageError(told, item=places[name])
        labels[name] = found
    return replace(batch, labels=labels, labels_by="the labels of the file" if labels else "")


def _labels(row: Mapping[str, Any], steps: Sequence[str] | None, place: str) -> tuple[bool | None, ...] | None:
    """Truth of the steps that a line brings: `labels`, one a step, or `label`, the first wrong one (-1: none)."""
    listed, first = row.get("labels"), row.get("label")
    if steps is None:
        if listed is not None:
            raise UsageError(
                "`labels` need `steps`, the texts that they are of; give both, or leave them out", item=place
            )
        return None
    if listed is not None:
        if not isinstance(listed, list) or not all(value in (True, False, None) for value in listed):
            raise UsageError(f"`labels` must be a list of true, false (or 1, 0) and null, got {listed!r}", item=place)
        if len(listed) != len(steps):
            raise UsageError(f"`labels` has {len(listed)} entries for the line's {len(steps)} steps", item=place)
        return tuple(None if value is None else bool(value) for value in listed)
    if first is None:
        return None
    if isinstance(first, bool) or not isinstance(first, int) or not -1 <= first < len(steps):
        raise UsageError(f"`label` must be the number of the first wrong step, or -1, got {first!r}", item=place)
    if first == -1:
        return (True,) * len(steps)
    return (*(True,) * first, False, *(None,) * (len(steps) - first - 1))


def _file_of(folder: Path, manifest: Mapping[str, Any], named: Path | None) -> Path:
    """The file that the run judged, by name, and by digest where it is found."""
    note = read_session(folder)
    words = [] if note is None else [word.partition("=")[2] or word for word in note.command]
    name = manifest["input"]["name"]
    places = [named] if named else [Path(word) for word in words if Path(word).name == name]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        told = f"{named} is not there" if named else f"the file {name} of this run is not where it was"
        raise UsageError(f"{told}; name it with --input FILE", item=str(folder))
    with file.open("rb") as opened:
        if file_digest(opened, "sha256").hexdigest() != manifest["input"]["sha256"]:
            raise UsageError(f"{file} is not the file that was judged: it has changed since", item=str(folder))
    return file


def _as_the_run(folder: Path, settings: TextSettings) -> TextSettings:
    """The settings with the recipe and the `--set` of the run's own command, which those given now go before."""
    note = read_session(folder)
    words = [] if note is None else [part for word in note.command for part in _parted(word)]
    told = [(name, value) for name, value in pairwise(words) if name in ("--set", "--recipe")]
    sets = tuple(value for name, value in told if name == "--set" and value.split(".")[0] in OURS)
    recipes = [Path(value) for name, value in told if name == "--recipe"]
    recipe = recipes[-1] if recipes and settings.recipe == RECIPE else settings.recipe
    return replace(settings, recipe=recipe, overrides=(*sets, *settings.overrides))


def _parted(word: str) -> list[str]:
    """`--set=VALUE` as two words."""
    return word.split("=", 1) if word.startswith(("--set=", "--recipe=")) else [word]


def _scale_of(folder: Path) -> Scale | None:
    """What the judge's scores mean, as the run's own report says it."""
    try:
        shown = load_report((folder / SAVED).read_bytes()).solutions
    except FileNotFoundError:
        return None
    return next((view.scale for view in shown if view.scale is not None), None)


def _logged(names: Sequence[str], rows: Sequence[LoggedRollout]) -> dict[str, float | None]:
    if all(row.advantage is None for row in rows):
        return {}
    return {name: row.advantage for name, row in zip(names, rows, strict=True)}


def _facts(settings: TextSettings) -> tuple[tuple[str, str], ...]:
    tokenizer = "bytes (none was named)" if settings.tokenizer is None else settings.tokenizer.name
    return (("splitter", str(splitter_of(settings.loaded.steps))), ("tokenizer", tokenizer))
