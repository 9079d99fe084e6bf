"""`stepcredit evaluate`: a judge on step-labelled solutions, scored, in a resumable folder."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from stepcredit.core.errors import BudgetError, DrainedError, PartialError, UsageError
from stepcredit.core.protocols import Judge
from stepcredit.engines.byte_tokenizer import ByteTokenizer
from stepcredit.evaluation.named_sets import LabelledSet, read_set
from stepcredit.judges.cache import CachedJudge
from stepcredit.recipes.blocking import Turns, wait_for
from stepcredit.recipes.draining import Drain, draining
from stepcredit.recipes.evaluating.calibrating import Fitted, fit_on
from stepcredit.recipes.evaluating.comparing import VERB, check_comparable, compare_runs, write_predictions
from stepcredit.recipes.evaluating.figures import measure
from stepcredit.recipes.evaluating.judges import JudgeRequest, NamedJudge, judge_named
from stepcredit.recipes.evaluating.problem_sets import PROBLEM_SETS
from stepcredit.recipes.evaluating.reading import THRESHOLDS, Reading, read_verdicts
from stepcredit.recipes.evaluating.results import Evaluated, closing_of, coverage_of, report_of, summary_of
from stepcredit.recipes.evaluating.settings import EvaluateRecipe, EvaluateSettings, load_evaluate
from stepcredit.recipes.evaluating.solutions import GivenOutcome, GivenSteps, placed
from stepcredit.recipes.evaluating.walking import refuse_holes, walk_items
from stepcredit.recipes.recorded.code_running import TRIED, say_unsafe, unsafe_badge
from stepcredit.recipes.recorded.judges import CallLog
from stepcredit.recipes.recorded.limits import Quarantine, UnknownGuard
from stepcredit.recipes.recorded.meeting import same_model
from stepcredit.recipes.recorded.plan import JUDGE_VERSION, SAID
from stepcredit.recipes.recorded.results import coverage_line, shown_places
from stepcredit.recipes.recorded.rollouts import RolloutMaker
from stepcredit.recipes.recorded.walk import Walked, WalkParts
from stepcredit.recipes.recorded.wrapping import (
    CALIBRATION,
    calibration_fact,
    calibration_text,
    check_budget,
    check_probabilities,
    limited,
    read_calibration,
)
from stepcredit.recipes.report_run import save_report
from stepcredit.recipes.session import Session, session
from stepcredit.report.page import package_version
from stepcredit.report.progress import Progress, SilentProgress
from stepcredit.store.run_folder import RunFolder

CHANGED = {**SAID, "input.sha256": "the labelled solutions have changed since this run was made"}


@final
@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation gave.

    Args:
        summary: as in `summary.json`.
        closing: the official figure in one sentence.
        folder: the run folder, with `report.html` and `predictions.jsonl`.
    """

    summary: dict[str, Any]
    closing: str
    folder: Path


@final
@dataclass(frozen=True)
class _Plan:
    """An evaluation that was checked as far as it can be before any work; `whole` is the set before `--limit`."""

    settings: EvaluateSettings
    recipe: EvaluateRecipe
    judge: NamedJudge
    whole: LabelledSet
    labelled: LabelledSet

    @property
    def asks_for_model(self) -> bool:
        """True if only the server can tell which model judges."""
        return self.judge.asks and not self.settings.model


def run_evaluation(what: str, settings: EvaluateSettings, *, progress: Progress | None = None) -> EvaluationResult:
    """Judge labelled solutions and score the judge, or go on where the folder stands.

    What was judged is kept one by one: the same call goes on after an interruption and asks nothing twice. `limit`,
    `threshold_from`, `compare` and `[metrics]` may change in one folder: only what is missing is asked.

    Args:
        what: name of a set (`evaluation.named_sets`), or a file: `problem`, `steps`, `label` (index of the first
            wrong step, -1 if there is none), optional `id`, `error_steps`, `split`, `generator`.
        settings: what to do.
        progress: who is told; nobody by default.

    Raises:
        UsageError: for a set, file, recipe key or choice that cannot be used, or the folder of another run.
        MachineError: if there is no server, or the folder cannot be written.
        ChangedModelError: if another model answers than in this run before.
        BudgetError: if a limit on calls or cost is reached; the same call with a higher limit goes on.
        DrainedError: if it was interrupted once and has saved what was under way; the same call goes on.
        PartialError: if the judge failed on some solutions (the same call asks for these again), some are in
            quarantine, or too many replies could not be read.

    Source: genprm.md 9 and the papers of the sets. Differs: see `docs/papers.md`.
    """
    screen = progress or SilentProgress()
    recipe = load_evaluate(settings.overrides, settings.recipe)
    say_unsafe(recipe.sandbox, screen)
    judge = judge_named(settings.judge, server=settings.server, model=settings.model, tokenizer=settings.tokenizer)
    judge.settings(recipe)
    check_budget(recipe.budget, name=settings.judge, asks=judge.asks and settings.server is not None)
    with draining(screen.say) as drain:
        if what in PROBLEM_SETS:
            raise UsageError("a set of problems: give recorded attempts at them with --responses FILE", item=what)
        whole = read_set(what, settings.data)
        _refuse_fitted(recipe, settings, whole)
        if settings.compare is not None:
            check_comparable(settings.compare, whole.sha256)
        plan = _Plan(settings, recipe, judge, whole, whole.limited(settings.limit))
        turns = Turns()
        return wait_for(lambda: _evaluate(plan, screen, drain, turns), turns)


def _refuse_fitted(recipe: EvaluateRecipe, settings: EvaluateSettings, whole: LabelledSet) -> None:
    """Refuse to measure a calibration on the labels that it was fitted on."""
    file = recipe.calibration.file
    if file is None:
        return
    if settings.calibrate_from is not None:
        raise UsageError("--calibration corrects the scores that --calibrate-from would fit; leave one of them out")
    found = read_calibration(Path(file))
    if found.sha256 == whole.sha256:
        mend = f"--calibrate-from {found.split} measures it on the other splits"
        raise UsageError(f"this calibration was fitted on labels of the same set ({found.told}); {mend}", item=file)


async def _evaluate(plan: _Plan, screen: Progress, drain: Drain, turns: Turns) -> EvaluationResult:
    settings = plan.settings
    request = JudgeRequest(
        plan.recipe,
        {solution.id: solution for solution in plan.whole.solutions},
        settings.server,
        settings.model,
        settings.max_calls,
        settings.max_cost,
        settings.tokenizer,
    )
    async with plan.judge.opened(request) as (judge, calls):
        if settings.calibrate_from is not None:
            check_probabilities(judge, settings.judge)
        drain.then(calls.drain)
        opened = RunFolder.create_or_open(settings.out, _manifest(plan, judge), later=JUDGE_VERSION, said=CHANGED)
        with opened as folder, session(folder) as note:
            calls.open(folder.ledger.attempt, spent=folder.ledger.attempt_totals())
            if calls.sandbox:
                folder.write_json(TRIED, calls.sandbox)
            if plan.asks_for_model:
                await calls.look()
            folder.settle(JUDGE_VERSION, judge.fingerprint, said=CHANGED[JUDGE_VERSION])
            for line in folder.notes:
                screen.say(line)
            return await _Running(plan, folder, note, screen, drain, turns, judge, calls).evaluate()


def _manifest(plan: _Plan, judge: Judge) -> dict[str, Any]:
    """What every kept verdict depends on; what people can read comes first."""
    settings = plan.settings
    return {
        "verb": VERB,
        "input": {"name": plan.whole.name, "sha256": plan.whole.sha256},
        "judge": {
            "name": settings.judge,
            "model": settings.model or "",
            "server": settings.server or "",
            **plan.judge.settings(plan.recipe),
            **calibration_fact(plan.recipe.calibration),
            "version": None if plan.asks_for_model else judge.fingerprint,
        },
        "versions": {"stepcredit": package_version()},
        "machine": {"python": platform.python_version(), "system": platform.platform()},
    }


@final
@dataclass(frozen=True)
class _Running:
    """An evaluation in its open folder."""

    plan: _Plan
    folder: RunFolder
    note: Session
    screen: Progress
    drain: Drain
    turns: Turns
    judge: Judge
    calls: CallLog

    async def evaluate(self) -> EvaluationResult:
        """Judge, score and report."""
        plan, seconds = self.plan, dict[str, float]()
        began = time.perf_counter()
        readings, shown = await self._judge_all()
        seconds["judge"] = time.perf_counter() - began
        began = time.perf_counter()
        self.screen.say("scoring: intervals by bootstrap")
        settings, part = plan.settings, plan.recipe.metrics
        figures = measure(
            plan.labelled,
            readings,
            part,
            scale=self.judge.scale,
            threshold=self._threshold,
            threshold_from=settings.threshold_from,
            leave_out=settings.calibrate_from,
        )
        fitted = self._fitted(readings)
        write_predictions(self.folder, figures.rows)
        compared = None
        if settings.compare is not None:
            compared = compare_runs(figures, settings.compare, part, judge=settings.judge)
        seconds["score"] = time.perf_counter() - began
        totals = self.folder.ledger.attempt_totals()
        found = Evaluated(plan.labelled, readings, figures, compared, shown, self.judge.scale, totals, seconds, fitted)
        return self._close(found)

    def _fitted(self, readings: tuple[Reading, ...]) -> Fitted | None:
        """A temperature by the split that was named for it, written down for `--calibration`."""
        plan, split = self.plan, self.plan.settings.calibrate_from
        if split is None:
            return None
        fitted = fit_on(plan.labelled, readings, split, plan.recipe.metrics)
        if fitted.warning:
            self.screen.say(fitted.warning)
        judge, model = plan.settings.judge, plan.settings.model or ""
        saved = fitted.saved(plan.whole, judge=judge, model=model, settings=plan.judge.settings(plan.recipe))
        self.folder.write_text(CALIBRATION, calibration_text(saved))
        return fitted

    @property
    def _threshold(self) -> float:
        given = self.plan.recipe.metrics.threshold
        return THRESHOLDS[self.judge.scale] if given is None else given

    async def _judge_all(self) -> tuple[tuple[Reading, ...], dict[int, Walked]]:
        """What the judge said of each solution, and the solutions for the viewer."""
        plan, solutions = self.plan, self.plan.labelled.solutions
        guard, quarantine = UnknownGuard(plan.recipe.limits), Quarantine(self.folder, limit=plan.recipe.limits.deaths)
        characters = sum(len(step) for solution in solutions for step in solution.steps)
        places = frozenset(shown_places(len(solutions), characters, plan.recipe.report))
        readings, shown = dict[int, Reading](), dict[int, Walked]()
        task = self.screen.start(f"judge {plan.settings.judge}", total=len(solutions), unit="solutions")

        def take(place: int, item: Walked) -> None:
            found = read_verdicts(item, len(solutions[place].steps), self._threshold)
            readings[place] = found
            if place in places:
                shown[place] = item
            task.advance(unknown=found.status != "answered")
            quarantine.heard(item)
            try:
                guard.heard(item)
            except PartialError:
                self.calls.drain()
                raise

        try:
            await self._walk(quarantine, take)
        except (BudgetError, DrainedError, PartialError):
            self._cover(tuple(readings.values()), ended=False)
            raise
        finally:
            task.finish()
            for item, reason in quarantine.close().items():
                self.screen.say(f"{item} is left out from now on: {reason}")
            if guard.warning:
                self.screen.say(guard.warning)
        ordered = tuple(readings[place] for place in range(len(solutions)))
        self._cover(ordered, ended=True)
        return ordered, shown

    async def _walk(self, quarantine: Quarantine, take: Callable[[int, Walked], None]) -> None:
        """Walk all solutions."""
        known = {solution.id: solution for solution in self.plan.labelled.solutions}
        name = self.plan.labelled.name
        parts = WalkParts(
            RolloutMaker(ByteTokenizer(), name),
            GivenOutcome(known),
            GivenSteps(known),
            await self._asked(quarantine),
            self.folder.ledger,
            name,
            quarantine,
        )
        self.turns.tell = self.folder.under_way.idle
        items = tuple(placed(self.plan.labelled.solutions, name))
        await walk_items(parts, items, quarantine=quarantine, take=take, drain=self.drain)

    async def _asked(self, quarantine: Quarantine) -> Judge:
        """The judge behind its cache; after a death its server is met now, so that this is no solution's time."""
        if not self.plan.judge.asks:
            return self.judge
        budget = self.plan.recipe.budget
        same = same_model(self.judge, self.calls.look, self.folder.ledger)
        if quarantine.any_suspect:
            await same.meet()
        return CachedJudge(limited(same, self.calls.meter, budget), self.folder.cache)

    def _cover(self, readings: tuple[Reading, ...], *, ended: bool) -> None:
        """Keep coverage for `status`, and say it unless all solutions have an answer or a reason for none."""
        coverage, asked = coverage_of(readings), len(self.plan.labelled.solutions)
        self.note.cover({**coverage, "asked": asked, "not yet": asked - len(readings)})
        if not ended or coverage["failed"] or coverage["quarantined"]:
            self.screen.say(coverage_line(coverage, asked=asked))

    def _close(self, found: Evaluated) -> EvaluationResult:
        """Write summary and report.

        Raises:
            PartialError: if solutions are missing.
        """
        settings = self.plan.settings
        facts = _facts(self.plan, self.folder.manifest)
        title = f"stepcredit {VERB} {found.labelled.name}"
        data = report_of(found, title=title, facts=facts)
        save_report(self.folder.path, replace(data, badge=unsafe_badge(self.plan.recipe.sandbox)))
        told = summary_of(found, dict(facts))
        self.folder.write_json("summary.json", told)
        refuse_holes(found.coverage["failed"], found.coverage["quarantined"], what="solutions")
        self.folder.mark_done("judge", f"all/{settings.limit or ''}")
        return EvaluationResult(told, closing_of(found), self.folder.path)


def _facts(plan: _Plan, manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """How the run was made, as names and values."""
    settings, part = plan.settings, plan.recipe.metrics
    named = {
        "set": plan.whole.name,
        "judge": settings.judge,
        "model": settings.model or "",
        "sandbox": manifest["judge"].get("sandbox", ""),
        "limit": "" if settings.limit is None else str(settings.limit),
        "threshold_from": settings.threshold_from or "",
        "calibrate_from": settings.calibrate_from or "",
        "calibration": manifest["judge"].get("calibration", ""),
        "compared with": "" if settings.compare is None else settings.compare.name,
        "seed": str(part.seed),
        "resamples": str(part.resamples),
        "stepcredit": manifest["versions"]["stepcredit"],
    }
    return [(name, value) for name, value in named.items() if value]
