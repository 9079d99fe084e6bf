"""`stepcredit evaluate`: a judge on step-labelled solutions, scored, in a resumable folder."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from stepcredit.core.errors import BudgetError, DrainedError, PartialError, UsageError
from stepcredit.core.protocols import Judge
from stepcredit.engines.byte_tokenizer import ByteTokenizer
from stepcredit.evaluation.named_sets import LabelledSet, read_set
from stepcredit.evaluation.problem_sets import PROBLEM_SETS
from stepcredit.judges.cache import CachedJudge
from stepcredit.recipes.blocking import Turns, wait_for
from stepcredit.recipes.draining import Drain, draining
from stepcredit.recipes.evaluating.calibrating import Fitted, fit_on
from stepcredit.recipes.evaluating.comparing import VERB, check_comparable, compare_runs, write_predictions
from stepcredit.recipes.evaluating.figures import measure
from stepcredit.recipes.evaluating.frame import EvaluationResult, Frame, evaluation_manifest, open_frame
from stepcredit.recipes.evaluating.grading import Graded, check_reasons, grade_reasons
from stepcredit.recipes.evaluating.judges import JudgeRequest, NamedJudge, judge_named
from stepcredit.recipes.evaluating.reading import THRESHOLDS, Reading, read_verdicts
from stepcredit.recipes.evaluating.results import Evaluated, closing_of, coverage_of, report_of, summary_of
from stepcredit.recipes.evaluating.settings import EvaluateRecipe, EvaluateSettings, load_evaluate
from stepcredit.recipes.evaluating.solutions import GivenOutcome, GivenSteps, placed
from stepcredit.recipes.evaluating.walking import refuse_holes
from stepcredit.recipes.recorded.code_running import TRIED, say_unsafe, unsafe_badge
from stepcredit.recipes.recorded.judges import CallLog
from stepcredit.recipes.recorded.limits import Quarantine, UnknownGuard
from stepcredit.recipes.recorded.meeting import same_model
from stepcredit.recipes.recorded.plan import JUDGE_VERSION, SAID
from stepcredit.recipes.recorded.rationales import told_of
from stepcredit.recipes.recorded.reading import ReadingCounts
from stepcredit.recipes.recorded.results import shown_places
from stepcredit.recipes.recorded.rollouts import RolloutMaker
from stepcredit.recipes.recorded.settings import ASKS_MODEL, given
from stepcredit.recipes.recorded.signatures import keeper, signature_warnings, summed
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
from stepcredit.report.progress import Progress, SilentProgress
from stepcredit.store.run_folder import RunFolder

CHANGED = {**SAID, "input.sha256": "the labelled solutions have changed since this run was made"}


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
        check_reasons(recipe.reasons, whole, reasons=judge.reasons(recipe))
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
        folder = RunFolder.create_or_open(settings.out, _manifest(plan, judge), later=JUDGE_VERSION, said=CHANGED)
        with open_frame(folder, screen, drain, turns) as frame:
            calls.open(folder.ledger.attempt, spent=folder.ledger.attempt_totals())
            calls.on_tally = keeper(folder.ledger)
            calls.readings.open(folder.ledger)
            if calls.sandbox:
                folder.write_json(TRIED, calls.sandbox)
            if plan.asks_for_model:
                await calls.look()
            folder.settle(JUDGE_VERSION, judge.fingerprint, said=CHANGED[JUDGE_VERSION])
            return await _Running(plan, frame, judge, calls).evaluate()


def _manifest(plan: _Plan, judge: Judge) -> dict[str, Any]:
    settings = plan.settings
    asked = {
        "name": settings.judge,
        "model": settings.model or "",
        "server": settings.server or "",
        **plan.judge.settings(plan.recipe),
        **calibration_fact(plan.recipe.calibration),
        "version": None if plan.asks_for_model else judge.fingerprint,
    }
    return evaluation_manifest({"name": plan.whole.name, "sha256": plan.whole.sha256}, asked)


@final
@dataclass(frozen=True)
class _Running:
    """An evaluation in its open folder."""

    plan: _Plan
    frame: Frame
    judge: Judge
    calls: CallLog

    async def evaluate(self) -> EvaluationResult:
        """Judge, grade the reasons, score and report."""
        plan, frame = self.plan, self.frame
        settings, part = plan.settings, plan.recipe.metrics
        with frame.timed("judge"):
            readings, shown = await self._judge_all()
        graded = await self._grade(readings)
        with frame.timed("score"):
            frame.screen.say("scoring: intervals by bootstrap")
            figures = measure(
                plan.labelled,
                readings,
                part,
                scale=self.judge.scale,
                threshold=self._threshold,
                threshold_from=settings.threshold_from,
                leave_out=settings.calibrate_from,
                reasons=graded.right,
            )
            fitted = self._fitted(readings)
            write_predictions(frame.folder, figures.rows, graded.right or {})
            compared = None
            if settings.compare is not None:
                compared = compare_runs(figures, settings.compare, part, judge=settings.judge)
        totals = frame.folder.ledger.attempt_totals()
        found = Evaluated(
            plan.labelled, readings, figures, graded, compared, shown, self.judge.scale, totals, frame.seconds
        )
        told = told_of(
            frame.folder.ledger,
            (shown[place].judgement for place in sorted(shown)),
            characters=plan.recipe.report.rationales,
            writes=settings.judge in ASKS_MODEL,
        )
        signatures, read = self._did()
        return self._close(replace(found, told=told, signatures=signatures, reading=read, fitted=fitted))

    def _did(self) -> tuple[dict[str, int], ReadingCounts]:
        """What the judge's model did over all sessions; says what speaks against the whole run."""
        signatures, read = summed(self.frame.folder.ledger), self.calls.readings.counts()
        told = (f"warning: {line}" for line in read.below(1.0 - self.plan.recipe.limits.warn_unknown))
        for line in (*signature_warnings(signatures), *told):
            self.frame.screen.say(line)
        return signatures, read

    def _fitted(self, readings: tuple[Reading, ...]) -> Fitted | None:
        """A temperature by the split that was named for it, written down for `--calibration`."""
        plan, split = self.plan, self.plan.settings.calibrate_from
        if split is None:
            return None
        fitted = fit_on(plan.labelled, readings, split, plan.recipe.metrics)
        if fitted.warning:
            self.frame.screen.say(fitted.warning)
        judge, model = plan.settings.judge, plan.settings.model or ""
        saved = fitted.saved(plan.whole, judge=judge, model=model, settings=plan.judge.settings(plan.recipe))
        self.frame.folder.write_text(CALIBRATION, calibration_text(saved))
        return fitted

    @property
    def _threshold(self) -> float:
        chosen = self.plan.recipe.metrics.threshold
        return THRESHOLDS[self.judge.scale] if chosen is None else chosen

    async def _grade(self, readings: tuple[Reading, ...]) -> Graded:
        """What a checker says of the judge's reasons, if one was named."""
        plan, frame = self.plan, self.frame
        if not given(plan.recipe.reasons):
            return Graded()
        with frame.timed("grade"):
            return await grade_reasons(
                plan.recipe,
                plan.labelled,
                readings,
                threshold=self._threshold,
                calls=self.calls,
                ledger=frame.folder.ledger,
                screen=frame.screen,
            )

    async def _judge_all(self) -> tuple[tuple[Reading, ...], dict[int, Walked]]:
        """What the judge said of each solution, and the solutions for the viewer."""
        plan, solutions, folder = self.plan, self.plan.labelled.solutions, self.frame.folder
        guard, quarantine = UnknownGuard(plan.recipe.limits), Quarantine(folder, limit=plan.recipe.limits.deaths)
        reasons, screen = plan.judge.reasons(plan.recipe), self.frame.screen
        characters = sum(len(step) for solution in solutions for step in solution.steps)
        places = frozenset(shown_places(len(solutions), characters, plan.recipe.report))
        readings, shown = dict[int, Reading](), dict[int, Walked]()
        task = screen.start(f"judge {plan.settings.judge}", total=len(solutions), unit="solutions")

        def take(place: int, item: Walked) -> None:
            found = read_verdicts(item, len(solutions[place].steps), self._threshold, reasons=reasons)
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
                screen.say(f"{item} is left out from now on: {reason}")
            if guard.warning:
                screen.say(guard.warning)
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
            self.frame.folder.ledger,
            name,
            quarantine,
        )
        items = tuple(placed(self.plan.labelled.solutions, name))
        await self.frame.walk(parts, items, quarantine=quarantine, take=take)

    async def _asked(self, quarantine: Quarantine) -> Judge:
        """The judge behind its cache; after a death its server is met now, so that this is no solution's time."""
        if not self.plan.judge.asks:
            return self.judge
        budget = self.plan.recipe.budget
        same = same_model(self.judge, self.calls.look, self.frame.folder.ledger)
        if quarantine.any_suspect:
            await same.meet()
        return CachedJudge(limited(same, self.calls.meter, budget), self.frame.folder.cache)

    def _cover(self, readings: tuple[Reading, ...], *, ended: bool) -> None:
        """Keep coverage for `status`, and say it unless all solutions have an answer or a reason for none."""
        coverage, asked = coverage_of(readings), len(self.plan.labelled.solutions)
        say = not ended or bool(coverage["failed"] or coverage["quarantined"])
        self.frame.cover(coverage, asked=asked, say=say)

    def _close(self, found: Evaluated) -> EvaluationResult:
        """Write summary and report.

        Raises:
            PartialError: if solutions or grades are missing.
        """
        settings, folder = self.plan.settings, self.frame.folder
        facts = self._facts(found)
        told = summary_of(found, dict(facts))
        page = report_of(found, title=f"stepcredit {VERB} {found.labelled.name}", facts=facts)
        self.frame.save(replace(page, badge=unsafe_badge(self.plan.recipe.sandbox)), told)
        refuse_holes(found.coverage["failed"], found.coverage["quarantined"], what="solutions")
        if found.graded.failed:
            raise PartialError(f"the checker failed on {found.graded.failed} reasons; the same command asks again")
        folder.mark_done("judge", f"all/{settings.limit or ''}")
        return EvaluationResult(told, closing_of(found), folder.path)

    def _facts(self, found: Evaluated) -> list[tuple[str, str]]:
        """How the run was made, as names and values."""
        settings, part = self.plan.settings, self.plan.recipe.metrics
        judge = self.frame.folder.manifest["judge"]
        named = {
            "set": self.plan.whole.name,
            "judge": settings.judge,
            "model": settings.model,
            "checker": found.graded.checker,
            "sandbox": judge.get("sandbox"),
            "limit": settings.limit,
            "threshold_from": settings.threshold_from,
            "calibrate_from": settings.calibrate_from,
            "calibration": judge.get("calibration"),
            "compared with": None if settings.compare is None else settings.compare.name,
            "seed": part.seed,
            "resamples": part.resamples,
        }
        return self.frame.facts(named)
