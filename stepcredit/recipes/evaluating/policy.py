"""`stepcredit evaluate SET --responses FILE`: recorded attempts checked and scored, in a resumable folder."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import orjson

from stepcredit.adapters.hub import hub_rows
from stepcredit.core.digests import digest
from stepcredit.core.errors import BudgetError, DrainedError, PartialError, UsageError
from stepcredit.core.protocols import Checker
from stepcredit.engines.byte_tokenizer import ByteTokenizer
from stepcredit.evaluation.problem_sets import PROBLEM_SETS, TestedProblem, problems_of_rows, read_problem_set
from stepcredit.judges.genprm.execution import CodeRunner
from stepcredit.recipes.blocking import Turns, wait_for
from stepcredit.recipes.draining import Drain, draining
from stepcredit.recipes.evaluating.attempts import Attempt, attempts_digest, placed_attempts, read_attempts
from stepcredit.recipes.evaluating.code_answers import CodeChecker
from stepcredit.recipes.evaluating.comparing import VERB
from stepcredit.recipes.evaluating.frame import EvaluationResult, Frame, evaluation_manifest, open_frame
from stepcredit.recipes.evaluating.policy_figures import Checked, measure_policies
from stepcredit.recipes.evaluating.policy_results import (
    STATUSES,
    Attempted,
    policy_closing,
    policy_report,
    policy_summary,
)
from stepcredit.recipes.evaluating.settings import EvaluateRecipe, PolicySettings, load_evaluate
from stepcredit.recipes.evaluating.walking import refuse_holes
from stepcredit.recipes.recorded.code_running import (
    TRIED,
    SandboxPart,
    opened_runner,
    say_unsafe,
    try_sandbox,
    unsafe_badge,
)
from stepcredit.recipes.recorded.judges import TEXT_ONLY, checker_of
from stepcredit.recipes.recorded.limits import Quarantine
from stepcredit.recipes.recorded.results import shown_places
from stepcredit.recipes.recorded.rollouts import RolloutMaker
from stepcredit.recipes.recorded.walk import CHECKER_BROKE, Walked, WalkParts
from stepcredit.report.progress import Progress, SilentProgress
from stepcredit.store.run_folder import RunFolder

ATTEMPTS = "attempts.jsonl"
"""File of a run: one attempt a line, with its outcome."""

CHANGED = {"input.sha256": "the attempts or their problems have changed since this run was made"}


@final
@dataclass(frozen=True)
class _Plan:
    """An evaluation that was checked as far as it can be before any work."""

    what: str
    settings: PolicySettings
    recipe: EvaluateRecipe
    problems: tuple[TestedProblem, ...]
    attempts: tuple[Attempt, ...]
    runner: CodeRunner | None
    sandbox: SandboxPart
    tried: dict[str, Any]

    @property
    def runs_code(self) -> bool:
        """True if answers are programs."""
        return self.what in PROBLEM_SETS and PROBLEM_SETS[self.what].answers == "code"

    @property
    def name(self) -> str:
        """Name of the set."""
        return self.problems[0].problem.source


def run_policies(
    what: str, settings: PolicySettings, *, runner: CodeRunner | None = None, progress: Progress | None = None
) -> EvaluationResult:
    """Check recorded attempts at a problem set and score the models that made them, or go on where the folder stands.

    Args:
        what: name of a set (`evaluation.problem_sets`), or a file of problems: `problem`, `answer`; the file
            of the attempts itself will do, where it holds the answers.
        settings: what to do.
        runner: runs programs that are answers, apart from this process; `None` takes that of the recipe's `[sandbox]`.
        progress: who is told; nobody by default.

    Raises:
        UsageError: for a set, file, recipe key or k that cannot be used, or the folder of another run.
        MachineError: if answers are programs and there is no runner, or an extra is not installed.
        DrainedError: if it was interrupted once and has saved what was under way; the same call goes on.
        PartialError: if attempts are in quarantine, because sessions died on them.

    Source: credit.md 1.5 (avg@k, pass@k); genprm.md 5 (weighted votes). Differs: pass@k is the unbiased estimate.
    """
    screen = progress or SilentProgress()
    recipe = load_evaluate(settings.overrides, settings.recipe)
    code = what in PROBLEM_SETS and PROBLEM_SETS[what].answers == "code"
    sandbox = recipe.sandbox if code and runner is None else SandboxPart()
    say_unsafe(sandbox, screen)
    with draining(screen.say) as drain, opened_runner(sandbox) as own:
        problems = _problems(what, settings)
        attempts, tried = read_attempts(settings.responses, problems), try_sandbox(sandbox)
        plan = _Plan(what, settings, recipe, problems, attempts, runner or own, sandbox, tried)
        turns = Turns()
        return wait_for(lambda: _evaluate(plan, screen, drain, turns), turns)


def _problems(what: str, settings: PolicySettings) -> tuple[TestedProblem, ...]:
    if not settings.hub:
        return read_problem_set(what, settings.data)
    if what not in PROBLEM_SETS:
        raise UsageError(f"--hub takes a set by name: {', '.join(PROBLEM_SETS)}", item=what)
    named = PROBLEM_SETS[what]
    return problems_of_rows(what, hub_rows(named.hub, config=named.config, split=named.split))


async def _evaluate(plan: _Plan, screen: Progress, drain: Drain, turns: Turns) -> EvaluationResult:
    checker, pool = _checker(plan)
    try:
        folder = RunFolder.create_or_open(plan.settings.out, _manifest(plan, checker), said=CHANGED)
        with open_frame(folder, screen, drain, turns) as frame:
            if plan.tried:
                folder.write_json(TRIED, plan.tried)
            if "/string/" in checker.fingerprint and plan.recipe.checker.mode == "auto":
                screen.say(TEXT_ONLY)
            return await _Running(plan, frame, checker).evaluate()
    finally:
        if pool is not None:
            pool.close()


def _checker(plan: _Plan) -> tuple[Checker, Any]:
    """The checker, and its processes, which the caller closes."""
    if plan.runs_code:
        return CodeChecker({tested.problem.id: tested.tests for tested in plan.problems}, plan.runner), None
    return checker_of(plan.recipe.checker)


def _manifest(plan: _Plan, checker: Checker) -> dict[str, Any]:
    given = {
        "name": plan.name,
        "responses": plan.settings.responses.name,
        "sha256": digest(attempts_digest(plan.attempts), len(plan.problems)),
    }
    return evaluation_manifest(given, {"name": ""}, checker=checker.fingerprint)


@final
@dataclass(frozen=True)
class _Running:
    """An evaluation in its open folder."""

    plan: _Plan
    frame: Frame
    checker: Checker

    async def evaluate(self) -> EvaluationResult:
        """Check, score and report."""
        plan, frame = self.plan, self.frame
        with frame.timed("check"):
            checked, shown = await self._check_all()
        with frame.timed("score"):
            figures = measure_policies(checked, plan.recipe.metrics, ks=plan.settings.ks, votes=not plan.runs_code)
        return self._close(Attempted(plan.name, len(plan.problems), checked, figures, shown, frame.seconds))

    async def _check_all(self) -> tuple[tuple[Checked, ...], dict[int, Walked]]:
        """What became of each attempt, and those for the viewer."""
        plan, attempts, frame = self.plan, self.plan.attempts, self.frame
        quarantine = Quarantine(frame.folder, limit=plan.recipe.limits.deaths)
        places = frozenset(shown_places(len(attempts), sum(len(a.text) for a in attempts), plan.recipe.report))
        found, shown = dict[int, Checked](), dict[int, Walked]()
        task = frame.screen.start("check", total=len(attempts), unit="attempts")

        def take(place: int, item: Walked) -> None:
            outcome = item.outcome
            status = "quarantined" if item.quarantined else outcome.status
            found[place] = Checked(attempts[place], status, outcome.answer, outcome.reason, item.resumed)
            if place in places:
                shown[place] = item
            task.advance(unknown=status in ("unscorable", "quarantined"))

        name = plan.settings.responses.name
        maker = RolloutMaker(ByteTokenizer(), plan.settings.responses)
        parts = WalkParts(maker, self.checker, None, None, frame.folder.ledger, name, quarantine)
        try:
            await frame.walk(parts, placed_attempts(attempts), quarantine=quarantine, take=take)
        except (BudgetError, DrainedError, PartialError):
            self._cover(found)
            raise
        finally:
            task.finish()
            quarantine.close()
        self._cover(found)
        return tuple(found[place] for place in range(len(attempts))), shown

    def _cover(self, found: Mapping[int, Checked]) -> None:
        counts, asked = Counter(one.status for one in found.values()), len(self.plan.attempts)
        coverage = {"asked": len(found), **{name: counts[name] for name in STATUSES}}
        self.frame.cover(coverage, asked=asked, say=len(found) < asked)

    def _close(self, found: Attempted) -> EvaluationResult:
        """Write summary and report.

        Raises:
            PartialError: if attempts were left out.
        """
        settings, folder = self.plan.settings, self.frame.folder
        seed, checker = self.plan.recipe.metrics.seed, self.checker.fingerprint
        named = {"set": found.name, "attempts": settings.responses.name, "checker": checker, "seed": seed}
        facts = self.frame.facts(named)
        folder.write_text(ATTEMPTS, "".join(f"{orjson.dumps(_line(one)).decode()}\n" for one in found.checked))
        told = policy_summary(found, dict(facts))
        page = policy_report(found, title=f"stepcredit {VERB} {found.name}", facts=facts)
        self.frame.save(replace(page, badge=unsafe_badge(self.plan.sandbox)), told)
        refuse_holes(0, sum(one.status == "quarantined" for one in found.checked), what="attempts")
        broke = sum(one.reason.startswith(CHECKER_BROKE) for one in found.checked)
        if broke:
            raise PartialError(
                f"the checker broke on {broke} attempts, report.html says how; the same command tries again"
            )
        folder.mark_done("check", "all")
        return EvaluationResult(told, policy_closing(found), folder.path)


def _line(one: Checked) -> dict[str, Any]:
    attempt = one.attempt
    return {
        "id": attempt.id,
        "problem_id": attempt.problem.id,
        "model": attempt.model,
        "status": one.status,
        "answer": one.answer,
        "reason": one.reason,
        "score": attempt.weight,
    }
