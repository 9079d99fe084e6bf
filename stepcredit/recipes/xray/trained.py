"""A round of `stepcredit demo` or `train` as the X-ray looks at it: rollouts, verdicts, true steps, their policy."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np
from jaxtyping import Float64
from pydantic import ValidationError

from stepcredit.core.errors import StoreError, UsageError
from stepcredit.core.pack import pack_of_rollouts
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Group, Judgement, Outcome, Rollout, Steps
from stepcredit.core.seeds import derive
from stepcredit.credit.rule import Need
from stepcredit.judges.intrinsic.claims import world_claims
from stepcredit.judges.montecarlo import MonteCarloSettings, MonteCarloValues
from stepcredit.judges.together import together
from stepcredit.judges.witness import witnessed
from stepcredit.recipes.arm_rules.arm import WitnessPart
from stepcredit.recipes.demo_settings import WorldPart
from stepcredit.recipes.extras import missing_modules, require_extra
from stepcredit.recipes.loading import Section, nearest_key
from stepcredit.recipes.status import readable
from stepcredit.recipes.world import WorldTask, checkpoint_exists, true_steps
from stepcredit.recipes.xray.batch import Cut, Entries, SignalMaker, XrayBatch, with_lengths
from stepcredit.report.progress import Task
from stepcredit.steps import align, splitter
from stepcredit.store.codec import decode
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import LEDGER, read_checkpoint, read_manifest
from stepcredit.store.shapes import ARM, ARMS, read_shaped
from stepcredit.training.evaluate import STAGE as JUDGEMENTS
from stepcredit.training.history import STAGE as ROUNDS
from stepcredit.training.rounds import checkpoint_name
from stepcredit.training.sample import STAGE as ROLLOUTS

SLOTS = 1024
_TOKENS = 4096
P = TypeVar("P", bound=Section)
_SEED = re.compile(r"(?P<arm>.+)-seed(?P<seed>\d+)")


@final
@dataclass(frozen=True)
class ArmRun:
    """The folder of one arm and seed.

    Args:
        folder: the folder.
        manifest: what it was made with.
        policy: checkpoint of the starting policy, whether it is there or not.
    """

    folder: Path
    manifest: Mapping[str, Any]
    policy: Path

    @property
    def task(self) -> WorldTask:
        """The world that was asked.

        Raises:
            StoreError: if the manifest does not say it as a run does.
        """
        return WorldTask(_part(WorldPart, self.manifest["recipe"]["world"], self.folder))

    @property
    def name(self) -> str:
        """Arm and seed, as people say them."""
        return f"{self.manifest['arm']}, seed {self.manifest['seed']}"


def is_trained(manifest: Mapping[str, Any]) -> bool:
    """True for the manifest of a run of `demo` or `train`, or of one of its arms."""
    return manifest.get("verb") in ("demo", "train") or {"arm", "recipe", "settings"} <= manifest.keys()


def arm_run(path: Path, *, arm: str | None, seed: int | None) -> ArmRun:
    """The arm to look at.

    Args:
        path: folder of a run, or of one of its arms.
        arm: its name; `None` takes the first that has a judge, else the first.
        seed: `None` takes the first.

    Raises:
        UsageError: for an arm or seed that the run does not have.
        StoreError: if a manifest is damaged.
    """
    manifest = read_manifest(path)
    if "arm" in manifest:
        manifest = read_shaped(path, ARM)
        _refuse_other(path, manifest, arm=arm, seed=seed)
        return ArmRun(path, manifest, path.parent.parent / "checkpoints" / "policy")
    found = _arms(path)
    if not found:
        raise UsageError("no arm of this run has begun; let it go on first (the same command)", item=str(path))
    names = list(dict.fromkeys(run.manifest["arm"] for run in found))
    if arm is not None and arm not in names:
        near = nearest_key(arm, names) or f"; it has {', '.join(names)}"
        raise UsageError(f"the run has no arm {arm}{near}", item=str(path))
    judged = [run for run in found if run.manifest["settings"]["judge"] != "none"]
    chosen = arm or (judged or found)[0].manifest["arm"]
    seeds = {run.manifest["seed"]: run for run in found if run.manifest["arm"] == chosen}
    if seed is not None and seed not in seeds:
        raise UsageError(f"arm {chosen} has no seed {seed}; it has {', '.join(map(str, seeds))}", item=str(path))
    return seeds[min(seeds) if seed is None else seed]


def read_trained(run: ArmRun, *, round_index: int | None, problems: int | None) -> XrayBatch:
    """One round of an arm.

    Args:
        run: the arm.
        round_index: from 0; `None` takes the last that is complete.
        problems: takes the first so many; `None` all.

    Raises:
        UsageError: for a round that is not there.
        StoreError: if the ledger is damaged.
    """
    task = run.task
    with readable(run.folder / LEDGER) as place, Ledger(place, journal=None) as ledger:
        index = _round(ledger, round_index, item=str(run.folder))
        start = f"r{index}-"
        rollouts: list[Rollout] = [decode(data) for key, data in ledger.items(ROLLOUTS) if key.startswith(start)]
        said = {key.split("/")[0]: data for key, data in ledger.items(JUDGEMENTS) if key.startswith(start)}
    rollouts = _ordered(rollouts)
    groups = asyncio.run(_checked(task, rollouts))[:problems]
    settings = run.manifest["settings"]
    cutter = task.splitter if settings["splitter"] == "world" else splitter(settings["splitter"], **settings["split"])
    outcomes = [outcome for group in groups for outcome in group.outcomes]
    cuts = [_cut(cutter.split(outcome), said.get(outcome.rollout.id)) for outcome in outcomes]
    steps = [cut.steps if isinstance(cut, Judgement) else cut for cut in cuts]
    judge = settings["judge"] if any(isinstance(cut, Judgement) for cut in cuts) else ""
    makers, lacking = _log_ratio(run, index)
    own = "log probabilities of the round's policy" if _kept(run, index) else "recorded log probabilities"
    sources = {Need.LOG_RATIO: f"{own} less those of the starting checkpoint"} if makers else {}
    batch = XrayBatch(
        name=f"{run.name}, round {index}",
        kind=f"world {task.name}, arm {run.name}, round {index}",
        groups=groups,
        cuts=tuple(cuts),
        judge=judge,
        scale=Scale.BINARY if judge else None,
        labels={each.rollout.id: true_steps(each) for each in steps},
        labels_by="the world's own truth",
        makers={**makers, Need.TESTIMONY: _testimony(run)},
        sources={**sources, Need.TESTIMONY: "what the solutions of each problem say of each other's steps"},
        lacking=lacking,
        facts=(("world", task.name), ("arm", run.name), ("round", str(index))),
        continues=_Continued(run, task, index),
        round=index,
    )
    return with_lengths(batch)


def _part(kind: type[P], given: Mapping[str, Any], folder: Path) -> P:
    """A section of the recipe that a manifest keeps."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        wrong = f"the manifest is damaged: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}"
        raise StoreError(wrong, item=str(folder / "manifest.json")) from error


def _testimony(run: ArmRun) -> SignalMaker:
    """Hears the witnesses as training does, with the arm's own settings of whose word counts."""
    settings = _part(WitnessPart, run.manifest["settings"].get("witnesses", {}), run.folder).settings()

    def made(cuts: Sequence[Steps]) -> Entries:
        heard = witnessed(cuts, world_claims, settings=settings)
        return {steps.rollout.id: column for steps, column in zip(cuts, heard, strict=True)}

    return made


def _refuse_other(path: Path, manifest: Mapping[str, Any], *, arm: str | None, seed: int | None) -> None:
    for what, wanted in (("arm", arm), ("seed", seed)):
        if wanted is not None and wanted != manifest[what]:
            raise UsageError(f"this is the folder of {what} {manifest[what]}, not of {wanted}", item=str(path))


def _arms(path: Path) -> list[ArmRun]:
    """The arms that have begun, in the order of the recipe, their seeds in order."""
    order: list[str] = read_shaped(path, ARMS)["arms"]
    policy = path / "checkpoints" / "policy"
    found: list[tuple[int, int, ArmRun]] = []
    for folder in sorted((path / "arms").glob("*-seed*")) if (path / "arms").is_dir() else []:
        named = _SEED.fullmatch(folder.name)
        if named and (folder / LEDGER).exists() and named["arm"] in order:
            run = ArmRun(folder, read_shaped(folder, ARM), policy)
            found.append((order.index(named["arm"]), int(named["seed"]), run))
    return [run for _, _, run in sorted(found, key=lambda each: each[:2])]


def _round(ledger: Ledger, wanted: int | None, *, item: str) -> int:
    done = sorted(index for key, _ in ledger.items(ROUNDS) if (index := int(key)) >= 0)
    if not done:
        raise UsageError("no round of this arm is complete; let the run go on first (the same command)", item=item)
    if wanted is not None and wanted not in done:
        raise UsageError(f"round {wanted} is not complete; there are rounds {done[0]} to {done[-1]}", item=item)
    return done[-1] if wanted is None else wanted


def _ordered(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """By group and sample; rollouts are kept in the order in which they were written."""

    def place(rollout: Rollout) -> tuple[int, int]:
        return int(rollout.group.rpartition("-p")[2]), rollout.sample

    return sorted(rollouts, key=place)


async def _checked(task: WorldTask, rollouts: Sequence[Rollout]) -> tuple[Group, ...]:
    members: dict[str, list[Outcome]] = {}
    for rollout in rollouts:
        members.setdefault(rollout.group, []).append(await task.checker.check(rollout))
    return tuple(Group(name, tuple(outcomes)) for name, outcomes in members.items())


def _cut(steps: Steps, said: Mapping[str, Any] | None) -> Cut:
    return steps if said is None else decode(said, resolve=lambda _kind, _name: steps)


def _log_ratio(run: ArmRun, index: int) -> tuple[dict[Need, SignalMaker], dict[Need, str]]:
    """What computes log-ratios of a round's policy to the starting one, or why nothing does.

    Both from a forward pass of ours (credit.md 1.8); where the round's policy was not kept, its sampler's own numbers.
    """
    if not checkpoint_exists(run.policy):
        return {}, {Need.LOG_RATIO: f"the starting checkpoint is not in {run.policy}"}
    if missing_modules("train"):
        return {}, {Need.LOG_RATIO: "a forward pass of the starting checkpoint needs pip install 'stepcredit[train]'"}

    def made(cuts: Sequence[Steps]) -> Entries:
        from stepcredit.engines.embedded.checkpoint import load_checkpoint  # noqa: PLC0415 -- loads torch
        from stepcredit.engines.learner import packed_logprobs  # noqa: PLC0415

        kept = _kept(run, index)
        rollouts = [cut.rollout for cut in cuts if len(cut) and (kept or cut.rollout.sampler_logprobs is not None)]
        if not rollouts:
            return {}
        pack = pack_of_rollouts(rollouts)
        reference = packed_logprobs(load_checkpoint(run.policy), pack, token_budget=_TOKENS)
        own = packed_logprobs(policy_of(run, index), pack, token_budget=_TOKENS) if kept else pack.old_logprobs
        with np.errstate(invalid="ignore"):  # both impossible: unknown, as NaN says
            ratio = (own - reference)[pack.trained].astype(np.float64)
        ends = np.cumsum([len(rollout.completion_ids) for rollout in rollouts])
        return dict(zip((rollout.id for rollout in rollouts), np.split(ratio, ends[:-1]), strict=True))

    return {Need.LOG_RATIO: made}, {}


def policy_of(run: ArmRun, index: int) -> Any:
    """The policy at the start of a round: the starting checkpoint, or the learner's after the round before.

    Raises:
        UsageError: if that was not kept.
    """
    from stepcredit.engines.embedded.checkpoint import load_checkpoint  # noqa: PLC0415 -- loads torch
    from stepcredit.engines.learner import LearnerSettings, TorchLearner  # noqa: PLC0415

    if not checkpoint_exists(run.policy):
        raise UsageError("the starting checkpoint is not there, so nothing can be continued; "
                         "look at the whole run folder, or give --values", item=str(run.policy))  # fmt: skip
    policy: Any = load_checkpoint(run.policy)
    if index == 0:
        return policy
    if not _kept(run, index):
        raise UsageError(
            f"the policy that wrote round {index} was not kept; a run keeps those of its first round (0) and "
            "its last: name one of these with --round, or give --values",
            item=str(run.folder),
        )
    learner = TorchLearner(policy, LearnerSettings(learning_rate=1.0))  # it only unpacks the weights
    learner.load(read_checkpoint(run.folder, checkpoint_name(index - 1)))
    return policy


def _kept(run: ArmRun, index: int) -> bool:
    """True if the policy at the start of the round is there."""
    return index == 0 or (run.folder / "checkpoints" / checkpoint_name(index - 1)).exists()


@final
@dataclass(frozen=True)
class _Continued:
    """Continues prefixes with the very policy that wrote the round; a `Continuer`."""

    run: ArmRun
    task: WorldTask
    index: int

    def __call__(self, cuts: Sequence[Steps], completions: int, task: Task) -> Entries:
        require_extra("train", job="stepcredit credit --continuations")
        return asyncio.run(self._values(cuts, completions, task))

    async def _values(self, cuts: Sequence[Steps], completions: int, task: Task) -> Entries:
        from stepcredit.engines.embedded.engine import EmbeddedSampler  # noqa: PLC0415 -- loads torch

        world = self.task
        seed = derive(int(self.run.manifest["seed"]), "x-ray values")
        settings = MonteCarloSettings(world.sampling(), completions=completions, seed=seed)
        async with EmbeddedSampler(policy_of(self.run, self.index), slots=SLOTS, capacity=world.capacity) as sampler:
            self._refuse_other_policy(cuts, sampler.fingerprint)
            values = MonteCarloValues(sampler, world.tokenizer, world.checker, settings, align=align)

            async def one(steps: Steps) -> Float64[np.ndarray, " K+1"]:
                found = await values.values(steps)
                task.advance()
                return found

            columns = await together(one(steps) for steps in cuts)
        task.finish(f"{values.spending.continuations} continuations of {values.spending.prefixes} prefixes")
        return {steps.rollout.id: column for steps, column in zip(cuts, columns, strict=True)}

    def _refuse_other_policy(self, cuts: Sequence[Steps], fingerprint: str) -> None:
        for steps in cuts:
            if steps.rollout.policy not in ("", fingerprint):
                told = "the checkpoint is not the policy that wrote this rollout; its values would be another's"
                raise UsageError(told, item=f"{self.run.folder}: {steps.rollout.id}")
