"""The world part of the microscope: gradients of every arm through the learner's own weights, beside the true one.

At each stage of a short GRPO training the policy is held still. A few problems are asked: *truth* rollouts, with the
mean reward of the problem's others as baseline, give the gradient of the expected reward; *measured* groups give each
arm's. Both are kept in blocks, one group of each problem, so that noise can be told from direction: products of
different blocks are free of it. The true advantage of a step is the change of value over it, each value from
continuations by the hundred.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learning import SETTINGS, STUDY

from stepcredit.core.pack import pack_of, pack_of_rollouts
from stepcredit.core.records import Credit, Group, Judgement, Rollout, Steps, Verdict
from stepcredit.core.seeds import derive
from stepcredit.credit.rule import Need
from stepcredit.engines.embedded.checkpoint import load_checkpoint
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.engines.embedded.model import CausalLM
from stepcredit.engines.learner import LearnerSettings, TorchLearner, packed_logprobs, weights_fingerprint
from stepcredit.engines.learner.forward import trained_logprobs
from stepcredit.engines.learner.packing import micro_batches
from stepcredit.judges.intrinsic.claims import world_claims
from stepcredit.judges.intrinsic.judge import IntrinsicSettings
from stepcredit.judges.montecarlo import MonteCarloSettings, MonteCarloValues
from stepcredit.judges.wrappers import FlippedJudge
from stepcredit.recipes.arm_rules.arm import ArmPart
from stepcredit.recipes.arm_rules.credit import ArmCredit
from stepcredit.recipes.judges import named_judge
from stepcredit.recipes.world import WorldTask
from stepcredit.steps import align, splitter
from stepcredit.training.parts import Reference
from stepcredit.training.signals import ContinuedValues, LogRatio, Witnesses, signals_of

BUDGET = 1 << 20
"""Tokens of a forward pass: a block always goes through whole."""


ARMS: dict[str, ArmPart] = {
    "grpo": ArmPart(title="GRPO", rule="grpo"),
    "rloo": ArmPart(title="RLOO", rule="rloo"),
    "tp_grpo": ArmPart(title="alpha 2, adaptive, markers", rule="tp_grpo", judge="markers", alpha=2.0),
    "tp_grpo_fixed": ArmPart(title="fixed 2, markers", rule="tp_grpo", judge="markers", alpha=2.0, scale="fixed"),
    "tp_grpo_oracle": ArmPart(title="alpha 1, adaptive, oracle", rule="tp_grpo", judge="oracle"),
    "tp_grpo_correct": ArmPart(
        title="alpha 2, adaptive, correct side only, markers",
        rule="tp_grpo",
        judge="markers",
        alpha=2.0,
        sides="correct",
    ),
    "tp_grpo_step": ArmPart(title="alpha 1, unmerged, markers", rule="tp_grpo", judge="markers", unit="step"),
    "tp_grpo_shuffled": ArmPart(
        title="fixed 2, markers, shuffled", rule="tp_grpo", judge="markers", alpha=2.0, scale="fixed", shuffled=True
    ),
    "tp_grpo_flipped_markers": ArmPart(
        title="alpha 2, adaptive, markers, 20% flipped", rule="tp_grpo", judge="markers", alpha=2.0, flip=0.2
    ),
    "tp_grpo_flipped": ArmPart(
        title="alpha 1, adaptive, oracle, 20% flipped", rule="tp_grpo", judge="oracle", flip=0.2
    ),
    "prl": ArmPart(title="eta 20, 16 tokens", rule="prl", settings={"eta": 20.0}, splitter="fixed", split={"size": 16}),
    "frpo": ArmPart(title="eta 20, single tokens", rule="prl", settings={"eta": 20.0}, splitter="token"),
    "vineppo": ArmPart(title="K = 9", rule="vineppo", continuations=9),
    "vppo": ArmPart(title="oracle", rule="vppo", judge="oracle"),
    "grpo_ps": ArmPart(title="oracle", rule="grpo_ps", judge="oracle"),
    "pure": ArmPart(title="oracle", rule="pure", judge="oracle"),
    "math_shepherd": ArmPart(title="oracle", rule="math_shepherd", judge="oracle"),
    "line_level": ArmPart(title="oracle", rule="line_level", judge="oracle"),
    "witness": ArmPart(title="own: the group's witnesses", rule="witness"),
}
"""What is looked at; names without a suffix are those of the trained comparison's arms, those of TP-GRPO with one are
arms of docs/learning.md, but for `tp_grpo_flipped`."""


@dataclass(frozen=True)
class Sizes:
    """How much is sampled at each stage.

    Args:
        problems: asked.
        groups: measured, a problem; groups of 8.
        valued: those of them with Monte-Carlo values for VinePPO.
        truth: rollouts of a problem for the true gradient, in blocks of 32.
        looked: rollouts of a problem whose true advantages are taken.
        completions: continuations of each of their prefixes.
    """

    problems: int
    groups: int
    valued: int
    truth: int
    looked: int
    completions: int


class Bench:
    """A task, the policy under training, and the frozen first policy."""

    def __init__(self, checkpoint: Path, *, seed: int) -> None:
        name, _, number = checkpoint.name.rpartition("-")
        self.recipe = STUDY.recipe_of(name, int(number), rounds=SETTINGS["report"]["rounds"])
        self.task = WorldTask(self.recipe.world)
        self.checkpoint, self.seed = checkpoint, seed
        self.policy, self.start = load_checkpoint(checkpoint), load_checkpoint(checkpoint)
        self.learner = TorchLearner(self.policy, LearnerSettings(learning_rate=1e-3))
        self.updates = 0

    async def cut(
        self, sampler: EmbeddedSampler, problems: int, each: int, *, ask: str, draw: str
    ) -> list[list[Steps]]:
        """Rollouts of each problem, checked and cut; `ask` chooses the problems, `draw` the samples."""
        asked = self.task.problems(problems, seed=derive(self.seed, ask))

        async def one(place: int, sample: int) -> Steps:
            problem = asked[place]
            prompt = self.task.tokenizer.encode(problem.text)
            seed = derive(self.seed, draw, place, sample)
            done = await sampler.sample(prompt, self.task.sampling(), seed=seed)
            text, starts = align(done.ids, self.task.tokenizer)
            group = f"{draw}-{place}-{sample // 8}"
            rollout = Rollout(
                f"{group}-s{sample % 8}", problem, group, sample % 8, text, prompt, done.ids, starts, done.logprobs,
                done.finish, done.policy,
            )  # fmt: skip
            return self.task.splitter.split(self.task.checker.outcome(rollout))

        return [list(await asyncio.gather(*(one(p, s) for s in range(each)))) for p in range(problems)]

    async def train(self, sampler: EmbeddedSampler, until: int) -> None:
        """GRPO, one update on 16 problems x 8 rollouts at a time."""
        while self.updates < until:
            turn = f"train-{self.updates}"
            cuts = [steps for mine in await self.cut(sampler, 16, 8, ask=turn, draw=turn) for steps in mine]
            kept = [credit for credit in await self.credited("grpo", cuts, signals={}) if credit.kept]
            self.updates += 1
            if kept:
                pack = pack_of(kept)
                self.learner.update(pack.with_old_logprobs(self.learner.logprobs(pack)))
                sampler.load_weights(self.policy.state_dict())

    async def credited(
        self, name: str, cuts: Sequence[Steps], *, signals: Mapping[Need, Mapping[str, np.ndarray]]
    ) -> list[Credit]:
        """Credit of one arm; whole groups side by side, as a round would have them."""
        arm = ARMS[name]
        if arm.splitter != "world":
            cutter = splitter(arm.splitter, **arm.split)
            cuts = [cutter.split(steps.outcome) for steps in cuts]
        judge = named_judge(arm.judge, self.checkpoint, IntrinsicSettings()).judge
        if judge is not None and arm.flip:
            judge = FlippedJudge(judge, arm.flip, seed=derive(self.seed, "flip"))
        groups: dict[str, list[Steps]] = {}
        for steps in cuts:
            groups.setdefault(steps.rollout.group, []).append(steps)
        judged: list[Judgement] = []
        for steps in cuts:
            verdicts = tuple(Verdict(reason="no judge") for _ in range(len(steps)))
            judged.append(Judgement(steps, verdicts if judge is None else await judge.judge(steps), arm.judge))
        made = [Group(group, tuple(steps.outcome for steps in mine)) for group, mine in groups.items()]
        rule = ArmCredit(arm, self.seed, self.task.sampling().max_tokens)
        return rule(made, judged, process_weight=1.0, round_index=0, signals=signals).credits

    def values(self, sampler: EmbeddedSampler, completions: int) -> MonteCarloValues:
        """Values by so many continuations of each prefix."""
        settings = MonteCarloSettings(self.task.sampling(), completions, seed=derive(self.seed, "values"))
        return MonteCarloValues(sampler, self.task.tokenizer, self.task.checker, settings, align=align)


def block_gradients(
    model: CausalLM, blocks: Sequence[Sequence[Rollout]], paid: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """[B, D] of each name: gradient of sum(A * log p) over a block's tokens, over its rollouts.

    A block in which a rollout has no column of the name is left out.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found: dict[str, list[np.ndarray]] = {name: [] for name in paid}
    for block in blocks:
        pack = pack_of_rollouts(block)
        (micro,) = micro_batches(pack, token_budget=BUDGET, device=torch.device("cpu"))
        logprobs, _ = trained_logprobs(model, micro, precision="fp32", head_rows=None)
        mine = {name: told for name, told in paid.items() if all(rollout.id in told for rollout in block)}
        for name, told in mine.items():
            column = np.zeros(len(pack.ids), np.float32)
            column[pack.trained] = np.concatenate([told[rollout.id] for rollout in block]) / len(block)
            outer = torch.from_numpy(column)[micro.origin]
            parts = torch.autograd.grad(logprobs, weights, grad_outputs=outer, retain_graph=True)
            found[name].append(torch.cat([part.ravel() for part in parts]).numpy())
    return {name: np.stack(rows) for name, rows in found.items() if rows}


def gradient_figures(mine: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How an arm's gradient stands to the true one.

    Args:
        mine: [B, D] gradients of blocks.
        truth: [C, D] blocks of the true one, of other rollouts.

    Returns:
        `raw` cosine of the means; `cosine` the same with both lengths taken from products of different blocks, which
        noise does not lengthen, and `error` its jackknife standard error over the arm's blocks; `one_group` mean cosine
        of one block with the true mean; `noise` variance of a block over the squared length of the mean.
    """
    gram, other = mine @ mine.T, truth @ truth.T
    products = mine @ truth.mean(0)
    length, true = apart(gram), apart(other)
    norm = float(np.sqrt(other.mean()))
    size = len(mine)
    left = [np.delete(np.arange(size), place) for place in range(size)]
    jack = [corrected(gram[np.ix_(keep, keep)], products[keep], true) for keep in left]
    return {
        "raw": float(products.mean() / (np.sqrt(gram.mean()) * norm)),
        "cosine": corrected(gram, products, true),
        "error": float(np.sqrt((size - 1) * np.var(jack))),
        "one_group": float(np.nanmean(products / np.where(np.diag(gram) > 0, np.sqrt(np.diag(gram)), np.nan) / norm)),
        "noise": float((np.diag(gram).mean() - length) / length) if length > 0.0 else float("nan"),
        "blocks": size,
    }


def apart(gram: np.ndarray) -> float:
    """Mean product of two different blocks: the squared length of the true mean, without bias.

    >>> apart(np.array([[9.0, 1.0], [1.0, 9.0]]))
    1.0
    """
    size = len(gram)
    return float((gram.sum() - np.trace(gram)) / (size * (size - 1))) if size > 1 else float("nan")


def corrected(gram: np.ndarray, products: np.ndarray, true: float) -> float:
    """Cosine of the means behind the noise; NaN where noise leaves nothing of a length. May pass 1 by chance."""
    length = apart(gram)
    return float(products.mean() / np.sqrt(length * true)) if length > 0.0 and true > 0.0 else float("nan")


def halves_cosine(blocks: np.ndarray) -> float:
    """Cosine between the means of the even and the odd blocks."""
    one, other = blocks[::2].mean(0), blocks[1::2].mean(0)
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; NaN where one side is constant."""
    if one.std() < 1e-9 or other.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


async def stage(bench: Bench, sampler: EmbeddedSampler, sizes: Sizes) -> dict[str, Any]:
    """Everything about the policy as it is now."""
    draw = f"at-{bench.updates}"
    asked = {"ask": "microscope"}
    truths = await bench.cut(sampler, sizes.problems, sizes.truth, draw=f"truth-{draw}", **asked)
    groups = await bench.cut(sampler, sizes.problems, sizes.groups * 8, draw=f"groups-{draw}", **asked)
    cuts = [steps for mine in groups for steps in mine]
    valued = [steps for mine in groups for steps in mine[: sizes.valued * 8]]
    looked = [steps for mine in groups for steps in mine[: sizes.looked]]
    started = Reference(
        lambda pack: packed_logprobs(bench.start, pack, token_budget=8192),
        lambda: weights_fingerprint(bench.start),
        0.0,
    )
    heard = Witnesses(world_claims, ARMS["witness"].witnesses.settings())
    told_of = await signals_of([LogRatio(bench.learner, started), heard], cuts)
    few, many = bench.values(sampler, 9), bench.values(sampler, sizes.completions)
    continued = await signals_of([ContinuedValues(few)], valued)
    nodes = [await many.values(steps) for steps in looked]
    credited: dict[str, list[Credit]] = {}
    for name, arm in ARMS.items():
        batch = valued if arm.rule == "vineppo" else cuts
        credited[name] = await bench.credited(
            name, batch, signals={**told_of, **continued} if batch is valued else told_of
        )
    paid = {name: columns(mine) for name, mine in credited.items()}
    rewards = [np.array([steps.outcome.reward or 0.0 for steps in mine]) for mine in truths]
    paid_truth = {"truth": reinforced(truths, rewards)}
    width = len(truths[0]) // (sizes.truth // 32)
    blocks = [[s.rollout for mine in truths for s in mine[a : a + width]] for a in range(0, sizes.truth, width)]
    truth = block_gradients(bench.policy, blocks, paid_truth)["truth"]
    places = [[s.rollout for mine in groups for s in mine[a : a + 8]] for a in range(0, sizes.groups * 8, 8)]
    told = {name: gradient_figures(mine, truth) for name, mine in block_gradients(bench.policy, places, paid).items()}
    steps = advantage_figures(looked, nodes, paid, completions=sizes.completions)
    for name, figures in told.items():
        figures["advantages"] = steps["rules"][name]
    told["dr_grpo"] = told["rloo"]  # 7 / 8 of it, and no figure has a scale
    halves = halves_cosine(truth)
    return {
        "updates": bench.updates,
        "accuracy": [float((mine > 0).mean()) for mine in rewards],
        "halves": halves,
        "ceiling": float(np.sqrt(2.0 * halves / (1.0 + halves))) if halves > 0 else float("nan"),
        "advantage_ceiling": steps["ceiling"],
        "steps": steps["steps"],
        "continued_tokens": {"vineppo": few.spending.tokens, "true advantages": many.spending.tokens},
        "rules": told,
    }


def columns(credited: Sequence[Credit]) -> dict[str, np.ndarray]:
    """Advantages by rollout; what is not trained on adds nothing to a gradient."""
    return {
        c.steps.rollout.id: np.asarray(c.advantages if c.kept else np.zeros(len(c.advantages)), np.float32)
        for c in credited
    }


def reinforced(truths: Sequence[Sequence[Steps]], rewards: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Each rollout's reward over the mean of its problem's others, on all of its tokens."""
    found: dict[str, np.ndarray] = {}
    for mine, reward in zip(truths, rewards, strict=True):
        over = (reward - reward.mean()) * len(reward) / (len(reward) - 1)
        for steps, level in zip(mine, over.tolist(), strict=True):
            found[steps.rollout.id] = np.full(len(steps.rollout.completion_ids), level, np.float32)
    return found


def advantage_figures(
    looked: Sequence[Steps],
    nodes: Sequence[np.ndarray],
    paid: Mapping[str, Mapping[str, np.ndarray]],
    *,
    completions: int,
) -> dict[str, Any]:
    """Correlation of each arm's credit of a step, mean over its tokens, with the step's true advantage."""
    true = np.concatenate([np.diff(values) for values in nodes])
    doubt = [(1.0 - values**2) / completions for values in nodes]
    noise = np.concatenate([one[:-1] + np.append(one[1:-1], 0.0) for one in doubt])
    rules: dict[str, float] = {}
    for name, told in paid.items():
        own = [np.array([told[s.rollout.id][a:b].mean() for a, b in s.spans]) for s in looked]
        known = ~np.isnan(true)
        rules[name] = correlation(np.concatenate(own)[known], true[known])
    share = float(np.nanmean(noise) / np.nanvar(true)) if np.nanvar(true) > 0 else float("nan")
    return {"rules": rules, "ceiling": float(np.sqrt(max(1.0 - share, 0.0))), "steps": len(true)}


async def measured(
    checkpoint: Path,
    *,
    updates: Sequence[int],
    sizes: Sizes,
    seed: int,
    minutes: float,
    keep: Callable[[list[dict[str, Any]]], None],
) -> None:
    """A report a stage, kept at once; no stage is begun when so many minutes of CPU are spent."""
    bench = Bench(checkpoint, seed=seed)
    found: list[dict[str, Any]] = []
    async with EmbeddedSampler(bench.policy, slots=512, capacity=bench.task.capacity) as sampler:
        for until in updates:
            if found and time.process_time() > 60.0 * minutes:
                print(f"{minutes} CPU minutes are spent: the stage at {until} updates is left out", flush=True)
                break
            await bench.train(sampler, until)
            found.append(await stage(bench, sampler, sizes))
            found[-1]["cpu_s"] = round(time.process_time(), 1)
            print(f"{until} updates: {found[-1]['cpu_s']} s of CPU so far", flush=True)
            keep(found)
