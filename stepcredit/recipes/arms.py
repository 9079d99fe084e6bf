"""One arm of a comparison: the recipe's credit rule and judge on top of a checkpoint, walked as rounds."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float32

from stepcredit.core.errors import PartialError
from stepcredit.core.pack import Pack
from stepcredit.core.protocols import Judge
from stepcredit.core.records import Credit, Outcome, Problem
from stepcredit.core.seeds import derive
from stepcredit.engines.embedded.checkpoint import load_checkpoint
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.engines.embedded.model import CausalLM
from stepcredit.engines.learner import LearnerSettings, TorchLearner, packed_logprobs, weights_fingerprint
from stepcredit.judges.intrinsic.judge import IntrinsicJudge
from stepcredit.judges.intrinsic.markers import world_markers
from stepcredit.judges.intrinsic.statistics import TaskCounts
from stepcredit.judges.intrinsic.world_markers import WorldGrammar
from stepcredit.judges.named_steps import NamedSteps
from stepcredit.judges.wrappers import FlippedJudge
from stepcredit.recipes.arm_rules.credit import ArmCredit
from stepcredit.recipes.arm_rules.frozen import frozen_policy
from stepcredit.recipes.arm_rules.settings import JUDGED, START
from stepcredit.recipes.arm_rules.signals import ArmSignals, arm_signals
from stepcredit.recipes.arm_rules.trained import Start
from stepcredit.recipes.demo_settings import ArmPart, DemoRecipe, RoundsPart
from stepcredit.recipes.held_out import Attempts, HardSet, held_out
from stepcredit.recipes.judges import Account, BuiltJudge, build_judge
from stepcredit.recipes.world import WorldTask
from stepcredit.steps import splitter
from stepcredit.store.codec import encode
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.monitoring import Firing
from stepcredit.training.parts import Evidence, Measurement, Parts, Proposer, Reference, RoundSettings, SpentTokens
from stepcredit.training.rounds import RoundRow, Watcher, recorded_firings, run_rounds, unknown_monitors

SLOTS = 1024
"""Rollouts written at once: a whole round, since small models decode fastest in large batches."""

SHOWN_GROUPS = 3
"""Groups of each round kept for the report."""


@final
@dataclass(frozen=True)
class ArmJob:
    """What a worker needs to run one arm; picklable.

    Args:
        recipe: the whole recipe.
        name: key of the arm in it.
        seed: seed of the run; equal seeds ask all arms the same problems.
        checkpoint: folder of the starting policy, which holds the trained judges too.
        out: run folder of the arm.
    """

    recipe: DemoRecipe
    name: str
    seed: int
    checkpoint: Path
    out: Path

    @property
    def arm(self) -> ArmPart:
        """The arm's part of the recipe."""
        return self.recipe.arms[self.name]

    @property
    def rounds(self) -> RoundsPart:
        """The rounds of the recipe, divided as the arm says."""
        return self.recipe.rounds.divided(self.arm.parts_of_round)


@final
@dataclass(frozen=True)
class ArmResult:
    """What one run of an arm gave.

    Args:
        name: key of the arm.
        seed: seed of the run.
        rows: per-round table, the row before training first.
        final_right: [P] right or wrong on the final problems, one attempt each.
        pass_at_8: [P] 1 if any of eight attempts was right, on the pass problems.
        final_figures: behaviour on the final problems.
        judge_tokens: tokens read and written by the judge in this run, all its sessions.
        judge_calls: calls of the judge in this run, all its sessions.
        signal_tokens: tokens read and written for signals (reference passes, continuations), all its sessions.
        parse: parse statistics of the intrinsic judge by task, all sessions; empty for other judges.
        seconds: wall time of the run, all sessions.
        cpu_seconds: process CPU time of the run, all sessions.
        firings: what the monitors fired, round by round.
        unknown_monitors: monitors whose inputs were absent throughout.
        avg_at_8: [P] share of right attempts among the eight on the pass problems.
    """

    name: str
    seed: int
    rows: tuple[RoundRow, ...]
    final_right: tuple[bool, ...]
    pass_at_8: tuple[float, ...]
    final_figures: Mapping[str, float]
    judge_tokens: int
    judge_calls: int
    signal_tokens: int = 0
    parse: Mapping[str, TaskCounts] = field(default_factory=dict[str, TaskCounts])
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    firings: tuple[Firing, ...] = ()
    unknown_monitors: tuple[str, ...] = ()
    avg_at_8: tuple[float, ...] = ()


def run_arm(
    job: ArmJob,
    on_row: Callable[[RoundRow], None] = lambda _row: None,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> ArmResult:
    """Run one arm to its end, or go on where its folder stands.

    Args:
        job: what to run.
        on_row: told of every finished round.
        stop: asked between stages and updates (`Watcher.stop`); once True, the arm is left at the next safe point.

    Raises:
        PartialError: if `stop` said so before the last round, or a monitor stopped the run; the same call goes on.
    """
    return asyncio.run(_run_arm(job, Watcher(on_row=on_row, stop=stop)))


async def _run_arm(job: ArmJob, watcher: Watcher) -> ArmResult:
    task = WorldTask(job.recipe.world)
    policy = load_checkpoint(job.checkpoint)
    settings, hard = _round_settings(job, task), HardSet.of(job.recipe)
    with RunFolder.create_or_open(job.out, _manifest(job, task)) as folder:
        async with EmbeddedSampler(policy, slots=SLOTS, capacity=hard.capacity(task)) as sampler:
            judge = await build_judge(job.arm, job.checkpoint, folder, seed=job.seed)
            parts, signals, tokens = _parts(job, task, policy, sampler=sampler, judge=judge, hard=hard)
            account, shown = Account(folder, judge, signal_tokens=tokens), _Shown(folder)
            parts = replace(parts, spent=lambda: _spent(account))
            await signals.prepare(folder, task, sampler)
            account.keep()

            def on_credit(round_index: int, credited: Sequence[Credit]) -> None:
                account.keep()
                shown.keep(round_index, credited)

            try:
                rows = await run_rounds(parts, settings, folder, watcher=replace(watcher, on_credit=on_credit))
            finally:
                await judge.aclose()
                account.keep()
            if rows[-1].index + 1 < settings.rounds:
                raise PartialError(f"stopped after {rows[-1].index + 1} of {settings.rounds} rounds", item=job.name)
            firings, unknown = recorded_firings(folder), unknown_monitors(folder)
            final = await held_out(task, sampler, _final_problems(job, task))
            passes = await held_out(task, sampler, _pass_problems(job, task), attempts=8)
        attempts = Attempts.of(passes, attempts=8)
        account.keep(complete=True)
        spent = account.total
        return ArmResult(
            name=job.name,
            seed=job.seed,
            rows=tuple(rows),
            final_right=tuple(outcome.status == "right" for outcome in final),
            pass_at_8=attempts.pass_at_8,
            final_figures=_figures(task, final),
            judge_tokens=spent.tokens,
            judge_calls=spent.calls,
            signal_tokens=spent.signal_tokens,
            parse=spent.parse,
            seconds=spent.seconds,
            cpu_seconds=spent.cpu_seconds,
            firings=firings,
            unknown_monitors=unknown,
            avg_at_8=attempts.avg_at_8,
        )


def _manifest(job: ArmJob, task: WorldTask) -> dict[str, Any]:
    own = {} if job.arm.reference == START else {"reference": _reference(job, task).fingerprint()}
    return {
        "arm": job.name,
        "seed": job.seed,
        "recipe": job.recipe.model_dump(mode="json", exclude={"arms"}),
        "settings": job.arm.model_dump(mode="json"),
        **own,
        "tokenizer": task.tokenizer.fingerprint,
        "versions": {name: version(name) for name in ("stepcredit", "torch", "numpy")},
    }


def _spent(account: Account) -> SpentTokens:
    account.keep()
    return SpentTokens(account.total.tokens, account.total.signal_tokens)


def _parts(
    job: ArmJob, task: WorldTask, policy: Any, *, sampler: EmbeddedSampler, judge: BuiltJudge, hard: HardSet
) -> tuple[Parts, ArmSignals, Callable[[], int]]:
    """The parts, the arm's signals, and what tells the tokens spent on them and the KL term in this session."""
    learner = TorchLearner(policy, _learner_settings(job, task))
    curve = task.problems(job.recipe.measure.problems, seed=derive(0, "curve"))

    async def measure() -> Measurement:
        outcomes = await held_out(task, sampler, curve)
        figures = _figures(task, outcomes) | await hard.figures(sampler)
        return Measurement(sum(o.status == "right" for o in outcomes) / len(outcomes), figures)

    part = job.recipe.learner
    start = Start(
        policy=lambda: load_checkpoint(job.checkpoint),
        learning_rate=learner.settings.learning_rate,
        batch=job.recipe.rounds.rollouts_per_update,
        token_budget=part.token_budget,
        seed=job.seed,
    )

    def reference() -> Reference:
        return _reference(job, task)

    signals = arm_signals(job.arm, task, learner=learner, sampler=sampler, reference=reference, start=start)
    named, told = job.arm.splitter, job.recipe.measure.reference_kl
    frozen = _frozen(job, load_checkpoint(job.checkpoint)) if part.beta or told else None
    passes = _Passes(frozen) if frozen and part.beta else None
    parts = Parts(
        tasks=task,
        tokenizer=task.tokenizer,
        sampler=sampler,
        checker=task.checker,
        splitter=task.splitter
        if job.arm.splitter in ("world", JUDGED)
        else splitter(job.arm.splitter, **job.arm.split),
        judge=judge.judge,
        credit=ArmCredit(job.arm, job.seed, task.sampling().max_tokens),
        learner=learner,
        sync=lambda: sampler.load_weights(policy.state_dict()),
        measure=measure,
        reference=replace(passes.reference, logprobs=passes.logprobs) if passes else None,
        evidence=_evidence(job, task, judge),
        signals=signals if signals.sources else None,
        start=frozen.logprobs if frozen and told else None,
        proposer=_named_by_markers() if named == JUDGED else None,
        learning=signals.learned,
    )
    return parts, signals, lambda: signals.tokens + (passes.tokens if passes else 0)


def _named_by_markers() -> Proposer:
    named = NamedSteps(IntrinsicJudge(world_markers()))
    return Proposer(named.fingerprint, named.propose)


def _learner_settings(job: ArmJob, task: WorldTask) -> LearnerSettings:
    """The optimiser of the recipe, and its loss, or the arm's own."""
    part = job.recipe.learner_of(job.arm)
    return LearnerSettings(
        learning_rate=job.arm.learning_rate or part.learning_rate,
        loss=part.loss,
        eps_low=part.eps_low,
        eps_high=part.eps_high,
        reduction=part.reduction,
        max_tokens=task.sampling().max_tokens,
        kl=part.penalty,
        kl_weighted=part.kl_weighted,
        beta=part.beta,
        token_budget=part.token_budget,
    )


def _reference(job: ArmJob, task: WorldTask) -> Reference:
    """The policy that the arm's log-ratios are taken to, frozen."""
    return _frozen(job, frozen_policy(job.arm.reference, task, start=job.checkpoint))


def _frozen(job: ArmJob, policy: CausalLM) -> Reference:
    """A policy that stays as it is."""
    part = job.recipe.learner
    return Reference(
        logprobs=lambda pack: packed_logprobs(policy, pack, token_budget=part.token_budget),
        fingerprint=lambda: weights_fingerprint(policy),
        weight=part.beta,
    )


@final
@dataclass
class _Passes:
    """Counts the tokens that the reference of the KL term reads."""

    reference: Reference
    tokens: int = 0

    def logprobs(self, pack: Pack) -> Float32[np.ndarray, " X"]:
        """The reference's, counted."""
        self.tokens += len(pack.ids)
        return self.reference.logprobs(pack)


def _evidence(job: ArmJob, task: WorldTask, built: BuiltJudge) -> Evidence:
    """What the world and the judge can tell the monitors beyond the records."""
    grammar, inner = WorldGrammar(), built.inner
    told = Evidence(
        figures=lambda outcomes: _figures(task, outcomes),
        reflections=lambda texts: len(grammar.reflections(texts)),
    )
    if inner is None:
        return told

    def again(round_index: int) -> Judge:
        """The judge without its cache; where verdicts are flipped on purpose, flipped anew."""
        if not job.arm.flip:
            return inner
        return FlippedJudge(inner, job.arm.flip, seed=derive(job.seed, "flip", "again", round_index))

    if isinstance(inner, IntrinsicJudge):
        told = replace(told, rejected=lambda: [reply.raw for reply in inner.statistics.rejected])
    return replace(told, rejudge=again)


@final
@dataclass(frozen=True)
class _Shown:
    """Keeps a few credited groups of every round in the ledger, for the report."""

    folder: RunFolder

    def keep(self, round_index: int, credited: Sequence[Credit]) -> None:
        """Record the credits of the first groups of a round."""
        names = list(dict.fromkeys(credit.steps.rollout.group for credit in credited))[:SHOWN_GROUPS]
        for credit in credited:
            if credit.steps.rollout.group in names:
                key = f"{round_index}/{credit.steps.rollout.id}"
                self.folder.ledger.put("shown", key, encode(credit))
        self.folder.ledger.flush()


def _round_settings(job: ArmJob, task: WorldTask) -> RoundSettings:
    part = job.rounds
    return RoundSettings(
        sampling=task.sampling(),
        rounds=part.rounds,
        problems=part.problems,
        group_size=part.group_size,
        rollouts_per_update=part.rollouts_per_update,
        passes=part.passes,
        old_logprobs=part.old_logprobs,
        measure_every=part.measure_every,
        process_weight=job.arm.weights(),
        seed=job.seed,
        monitors=job.recipe.monitors.settings(),
    )


def _final_problems(job: ArmJob, task: WorldTask) -> tuple[Problem, ...]:
    return task.problems(job.recipe.measure.final_problems, seed=derive(0, "final"))


def _pass_problems(job: ArmJob, task: WorldTask) -> tuple[Problem, ...]:
    return task.problems(job.recipe.measure.pass_problems, seed=derive(0, "pass"))


def _figures(task: WorldTask, outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Named figures of the world; `catch_of` says how many wrong guesses the catch rate was taken over."""
    found = asdict(task.statistics(outcomes))
    found["catch_of"] = found.pop("wrong_guesses")
    return {name: float(value) for name, value in found.items() if value is not None and name != "accuracy"}
