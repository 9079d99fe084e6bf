"""`stepcredit run`: recorded solutions through check, split, judge, thoughts and credit, in a resumable folder."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from stepcredit.core.errors import BudgetError, DrainedError, PartialError
from stepcredit.core.protocols import Judge
from stepcredit.core.records import Judgement
from stepcredit.engines.byte_tokenizer import ByteTokenizer
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.cache import CachedJudge
from stepcredit.recipes.blocking import Turns, wait_for
from stepcredit.recipes.draining import Drain, draining
from stepcredit.recipes.recorded.code_running import TRIED, say_unsafe, unsafe_badge
from stepcredit.recipes.recorded.credit import Credited, credit_all
from stepcredit.recipes.recorded.input import read_input
from stepcredit.recipes.recorded.judges import TEXT_ONLY, CallLog, checker_of, opened_judge
from stepcredit.recipes.recorded.limits import Quarantine, Turn, UnknownGuard
from stepcredit.recipes.recorded.meeting import same_model
from stepcredit.recipes.recorded.outcome_judges import opened_outcome
from stepcredit.recipes.recorded.outcome_results import SCORES, Scores
from stepcredit.recipes.recorded.plan import JUDGE_VERSION, SAID, Plan, facts_of, manifest_of, splitter_of
from stepcredit.recipes.recorded.rationales import told_of
from stepcredit.recipes.recorded.reading import ReadingCounts, ReadingJudge
from stepcredit.recipes.recorded.results import (
    WalkResult,
    closing_of,
    coverage_line,
    report_of,
    shown_places,
    summary_of,
)
from stepcredit.recipes.recorded.settings import (
    ASKS_MODEL,
    RecordedSettings,
    Stage,
    load_recorded,
    rule_settings,
)
from stepcredit.recipes.recorded.signatures import keeper, signature_warnings, summed
from stepcredit.recipes.recorded.tally import Counts, Tally
from stepcredit.recipes.recorded.walk import Propose, Walked, WalkParts, recall, walk_each
from stepcredit.recipes.recorded.wrapping import check_budget, limited
from stepcredit.recipes.report_run import save_report
from stepcredit.recipes.session import Session, session
from stepcredit.report.progress import Progress, SilentProgress, Task
from stepcredit.steps import Whole
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import LEDGER, RunFolder
from stepcredit.tasks.checking import MathChecker

ALONE = (
    "no group has two scorable solutions of one model, so there is nothing to compare and no credit;"
    " --group-by problem compares those of different models"
)
"""Said where no group can be credited."""


@final
@dataclass(frozen=True)
class RecordedResult:
    """What a walk gave.

    Args:
        summary: as in `summary.json`.
        closing: how much of the file the judge could read.
        folder: the run folder, with `report.html`.
        recalled: gives the judgements; see `judgements`.
        credited: token credit and the shard that holds it; `None` if the walk stopped before.
    """

    summary: dict[str, Any]
    closing: str
    folder: Path
    recalled: Callable[[], tuple[Judgement, ...]]
    credited: Credited | None

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """One a solution in the file's order, read again from the folder at each call; empty if no judge was asked.

        A walk does not hold them: their number has no bound.
        """
        return self.recalled()


def run_recorded(
    file: Path, settings: RecordedSettings, *, verb: str = "run", progress: Progress | None = None
) -> RecordedResult:
    """Walk recorded solutions to a stage, or go on where the folder stands.

    What was checked and judged is kept one by one: the same call goes on after an interruption and asks no judge
    twice. A walk that stopped early can be taken further in the same folder, and credited by several rules. The file
    is read as a stream and solutions are forgotten once they are kept, except for the viewer's and for credit, which
    compares them all.

    Args:
        file: JSONL, plain or packed: `problem`, `gold` or `answer` (null: none known), `response` or `completion` or
            `steps`; optional `id`, `model`, `finished`.
        settings: what to do.
        verb: the command, for the manifest.
        progress: who is told; nobody by default.

    Raises:
        UsageError: for a file, recipe key, tokenizer or choice that cannot be used, or the folder of another run.
        MachineError: if there is no server, or the folder cannot be written.
        ChangedModelError: if another model answers than in this run before.
        BudgetError: if a limit on calls or cost is reached; the same call with a higher limit goes on.
        DrainedError: if it was interrupted once and has saved what was under way; the same call goes on.
        PartialError: if the judge failed on some solutions (the same call asks for these again), some are in
            quarantine, or too many replies could not be read.

    Source: tp_grpo.md 1.1-1.6 on recorded text. Differs: ids are made by re-tokenising, so nothing is trained on them.
    """
    screen = progress or SilentProgress()
    recipe = load_recorded(settings.overrides, settings.recipe)
    asks = settings.judge in ASKS_MODEL or settings.server is not None
    check_budget(recipe.budget, name=settings.judge, asks=asks and settings.reaches("judge"))
    say_unsafe(recipe.sandbox, screen)
    with draining(screen.say) as drain:
        plan = Plan(
            input=read_input(
                file, group_by=settings.grouped_by, skip_bad=settings.skip_bad, whole=settings.scores_whole
            ),
            settings=settings,
            recipe=recipe,
            verb=verb,
            tokenizer=ByteTokenizer() if settings.tokenizer is None else FileTokenizer.load(settings.tokenizer),
            splitter=Whole() if settings.scores_whole else splitter_of(recipe.steps),
            rule=rule_settings(settings.credit, recipe.credit) if settings.reaches("credit") else None,
        )
        turns = Turns()
        return wait_for(lambda: _walk(plan, screen, drain, turns), turns)


async def _walk(plan: Plan, screen: Progress, drain: Drain, turns: Turns) -> RecordedResult:
    settings = plan.settings
    checker, pool = checker_of(plan.recipe.checker)
    try:
        async with _opened(plan) as (judge, calls):
            drain.then(calls.drain)
            manifest = manifest_of(plan, checker=checker, judge=judge)
            opened = RunFolder.create_or_open(settings.out, manifest, later=JUDGE_VERSION, said=SAID)
            with opened as folder, session(folder) as note:
                calls.open(folder.ledger.attempt, spent=folder.ledger.attempt_totals())
                calls.on_tally = keeper(folder.ledger)
                calls.readings.open(folder.ledger)
                calls.cache = folder.cache
                if calls.sandbox:
                    folder.write_json(TRIED, calls.sandbox)
                if plan.asks_for_model:
                    await calls.look()
                folder.settle(JUDGE_VERSION, judge.fingerprint, said=SAID[JUDGE_VERSION])
                running = _Running(plan, folder, note, screen, drain, turns, checker, judge, calls)
                return await running.walk()
    finally:
        if pool is not None:
            pool.close()


def _opened(plan: Plan) -> AbstractAsyncContextManager[tuple[Judge, CallLog]]:
    settings = plan.settings
    if settings.scores_whole and settings.reaches("judge"):
        return opened_outcome(settings, plan.recipe, plan.input)
    return opened_judge(
        settings.judge,
        plan.recipe,
        server=settings.server,
        model=settings.model,
        max_calls=settings.max_calls,
        max_cost=settings.max_cost,
        tokenizer=settings.judge_tokenizer,
        ask=False,
    )


@final
@dataclass(frozen=True)
class _Running:
    """A walk in its open folder."""

    plan: Plan
    folder: RunFolder
    note: Session
    screen: Progress
    drain: Drain
    turns: Turns
    checker: MathChecker
    judge: Judge
    calls: CallLog

    async def walk(self) -> RecordedResult:
        """Walk, credit and report."""
        plan, settings, folder = self.plan, self.plan.settings, self.folder
        self._say_first()
        seconds: dict[str, float] = {}
        began = time.perf_counter()
        scores = Scores(self.judge.scale) if settings.scores_whole else None
        tally, kept = await self._walk_all(scores)
        seconds[_DOING[settings.until]] = time.perf_counter() - began
        self._mark(tally)
        credited: Credited | None = None
        if settings.reaches("credit"):
            began = time.perf_counter()
            walked = [kept[place] for place in range(plan.input.number)]
            part = plan.recipe.credit
            credited = credit_all(walked, folder, rule=settings.credit, settings=plan.rule, part=part)
            folder.mark_done("credit", credited.shard.name)
            if credited.summary.short_groups == credited.summary.groups and settings.group_by != "problem":
                self.screen.say(ALONE)
            seconds["credit"] = time.perf_counter() - began
        scale = self.judge.scale if settings.reaches("judge") else None
        shown = tuple(kept[place] for place in self._shown())
        grouping, skipped = plan.input.grouping, plan.input.skipped
        signatures = summed(folder.ledger)
        for line in signature_warnings(signatures):
            self.screen.say(line)
        totals, read = folder.ledger.attempt_totals(), self._read()
        told = told_of(
            folder.ledger,
            (item.judgement for item in shown),
            characters=plan.recipe.report.rationales,
            writes=settings.judge in ASKS_MODEL,
        )
        found = WalkResult(
            tally, shown, grouping, credited, totals, scale, seconds, skipped, signatures, read, told, scores
        )
        return self._close(found)

    def _read(self) -> ReadingCounts:
        """Parse statistics of the run; says which tasks could too seldom be read."""
        read = self.calls.readings.counts()
        for line in read.below(1.0 - self.plan.recipe.limits.warn_unknown):
            self.screen.say(f"warning: {line}")
        return read

    def _say_first(self) -> None:
        settings, given_in = self.plan.settings, self.plan.input
        for line in (*settings.without_effect, *self.folder.notes):
            self.screen.say(line)
        if "/string/" in self.checker.fingerprint and self.plan.recipe.checker.mode == "auto":
            self.screen.say(TEXT_ONLY)
        if given_in.skipped:
            first = given_in.skipped[0]
            told = f"{len(given_in.skipped)} lines of the file cannot be used and are skipped"
            self.screen.say(f"{told}; the first: {first.place}: {first.reason}")
        if settings.grouped_by == "problem":
            self.screen.say(given_in.grouping.told())

    def _shown(self) -> tuple[int, ...]:
        return shown_places(self.plan.input.number, self.plan.input.characters, self.plan.recipe.report)

    async def _walk_all(self, scores: Scores | None) -> tuple[Tally, dict[int, Walked]]:
        """Walk all solutions; gives the counts, and the solutions that are needed further; scores go to `scores`."""
        plan, settings = self.plan, self.plan.settings
        guard, quarantine = UnknownGuard(plan.recipe.limits), Quarantine(self.folder, limit=plan.recipe.limits.deaths)
        tally, kept = Tally(plan.input.models), dict[int, Walked]()
        shown = frozenset(self._shown())
        task = self.screen.start(_DOING[settings.until], total=plan.input.number, unit="solutions")

        def take(place: int, item: Walked) -> None:
            tally.add(item)
            if scores is not None:
                scores.add(place, item)
            if place in shown or settings.reaches("credit"):
                kept[place] = item
            task.advance(unknown=bool(item.unknown_reason))
            quarantine.heard(item)
            try:
                guard.heard(item)
            except PartialError:
                self.calls.drain()
                raise

        try:
            judge, propose = await self._asked(quarantine)
            parts = plan.parts(self.checker, judge, self.folder.ledger, watch=quarantine, propose=propose)
            self.turns.tell = self.folder.under_way.idle
            order: dict[int, Turn] = {}
            if quarantine.any_suspect:
                order = {place: quarantine.turn(item.id) for place, item in plan.input.items()}
                await self._each(parts, plan.input.turn(order, "first"), take, in_flight=1)
            await self._each(parts, plan.input.turn(order, "beside"), take)
            if order:
                await self._each(parts, plan.input.turn(order, "last"), take, in_flight=1)
        except (BudgetError, DrainedError, PartialError):
            self._cover(tally, ended=False)
            raise
        finally:
            self._end(task, quarantine, guard)
        self._cover(tally, ended=True)
        return tally, kept

    async def _asked(self, quarantine: Quarantine) -> tuple[Judge, Propose | None]:
        """The judge behind its cache, and what cuts its steps.

        After a death its server is met now, so that this is no solution's time.
        """
        budget, meter = self.plan.recipe.budget, self.calls.meter
        if self.plan.settings.judge not in ASKS_MODEL:
            return limited(self.judge, meter, budget), None
        same = same_model(self.judge, self.calls.look, self.folder.ledger)
        asked = limited(same, meter, budget)
        if quarantine.any_suspect and self.plan.settings.reaches("judge"):
            await same.meet()
        if self.plan.settings.scores_whole:
            return asked, None  # a score belongs to its group, not to its text; replies have a cache of their own
        cuts = isinstance(self.judge, ReadingJudge) and self.judge.decompose
        return CachedJudge(asked, self.folder.cache), same.propose if cuts else None

    async def _each(
        self, parts: WalkParts, items: Iterator[Any], take: Callable[[int, Walked], None], **more: int
    ) -> None:
        await walk_each(parts, items, grouping=self.plan.input.grouping, take=take, drain=self.drain, **more)

    def _end(self, task: Task, quarantine: Quarantine, guard: UnknownGuard) -> None:
        task.finish()
        for item, reason in quarantine.close().items():
            self.screen.say(f"{item} is left out from now on: {reason}")
        if guard.warning:
            self.screen.say(guard.warning)

    def _cover(self, tally: Tally, *, ended: bool) -> None:
        """Keep coverage for `status`, and say it unless all solutions have an answer or a reason for none."""
        coverage = tally.counts(split=True, tokenised=False).coverage
        asked = self.plan.input.number
        self.note.cover({**coverage, "asked": asked, "not yet": asked - tally.walked})
        if coverage and (not ended or coverage["failed"] or coverage["quarantined"]):
            self.screen.say(coverage_line(coverage, asked=asked))

    def _mark(self, tally: Tally) -> None:
        """Stage marks: what is complete for all solutions."""
        counts = tally.counts(split=True, tokenised=False)
        stages: tuple[Stage, ...] = ("check", "split", "judge")
        for stage in stages:
            whole = not counts.quarantined and (stage != "judge" or not counts.failed)
            if self.plan.settings.reaches(stage) and whole:
                self.folder.mark_done(stage, "all")

    def _close(self, found: WalkResult) -> RecordedResult:
        """Write summary and report.

        Raises:
            PartialError: if solutions are missing.
        """
        plan, settings, folder = self.plan, self.plan.settings, self.folder
        tokenised, skipped = settings.tokenizer is not None, len(found.skipped)
        counts = found.tally.counts(split=settings.reaches("split"), tokenised=tokenised, skipped=skipped)
        facts = facts_of(plan, folder.manifest)
        began = time.perf_counter()
        title = f"stepcredit {plan.verb} {plan.input.file.name}"
        data = report_of(found, counts, title=title, facts=facts)
        save_report(folder.path, replace(data, badge=unsafe_badge(plan.recipe.sandbox)))
        found = replace(found, seconds={**found.seconds, "report": time.perf_counter() - began})
        told = summary_of(found, counts, settings=dict(facts))
        folder.write_json("summary.json", told)
        if found.scores is not None:
            folder.write_text(SCORES, found.scores.lines())
        _refuse_holes(counts)
        checker, judge = self.checker, self.judge
        return RecordedResult(
            told, closing_of(counts, found.scores), folder.path, lambda: _recalled(plan, checker, judge), found.credited
        )


_DOING: dict[Stage, str] = {
    "check": "check",
    "split": "check, split",
    "judge": "check, split, judge",
    "credit": "check, split, judge",
}


def _refuse_holes(counts: Counts) -> None:
    if counts.failed:
        told = f"the judge failed on {counts.failed} solutions, report.html says why; the same command asks again"
        raise PartialError(told + (f" ({counts.quarantined} more are in quarantine)" if counts.quarantined else ""))
    if counts.quarantined:
        mend = "report.html says why; --set limits.deaths=0 tries them again"
        raise PartialError(f"{counts.quarantined} solutions are in quarantine and were left out; {mend}")


def _recalled(plan: Plan, checker: MathChecker, judge: Judge) -> tuple[Judgement, ...]:
    """Judgements of all solutions, read from the ledger."""
    if not plan.settings.reaches("judge"):
        return ()
    with Ledger(plan.settings.out / LEDGER, journal=None) as ledger:
        parts = plan.parts(checker, judge, ledger, watch=None)
        walked = (recall(parts, item, place=place, grouping=plan.input.grouping) for place, item in plan.input.items())
        return tuple(item.judgement for item in walked if item.judgement is not None)
