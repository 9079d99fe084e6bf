"""Schema of `demo.toml`: every key of the demo recipe, what it means, and its range."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stepcredit.losses import PRESETS
from stepcredit.losses.presets import Loss, Penalty, Reduction
from stepcredit.recipes.arm_rules.arm import ArmPart
from stepcredit.recipes.loading import Section, load_recipe
from stepcredit.tasks import chain_world, reflection_world
from stepcredit.training.monitoring import MonitorSettings, RoundLength
from stepcredit.training.monitors import Action
from stepcredit.training.parts import OldLogprobs

AtLeastOne = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]

RECIPE = Path(__file__).with_name("demo.toml")


class WorldPart(Section):
    """`[world]`: which embedded task, and the problems that reinforcement learning asks.

    Only the reflection world has `divisions`: how many of the steps are divisions, -1 tosses a coin for each.
    """

    name: Literal["reflection-e", "chain"] = "reflection-e"
    task_seed: int = 0
    length: int = Field(ge=1, default=6)
    divisions: int | None = Field(ge=-1, default=None)

    @property
    def longest(self) -> int:
        """Most steps of a problem of this world."""
        return chain_world.MAX_LENGTH if self.name == "chain" else reflection_world.MAX_LENGTH


class ModelPart(Section):
    """`[model]`: shape of the policy."""

    dim: int = Field(ge=8, default=96)
    layers: int = Field(ge=1, default=2)
    heads: int = Field(ge=1, default=4)
    kv_heads: int = Field(ge=1, default=1)
    hidden: int = Field(ge=8, default=256)


class PretrainPart(Section):
    """`[pretrain]`: supervised fine-tuning on demonstrations; `batches` pairs problem length and demonstrations."""

    updates: int = Field(ge=1, default=900)
    batches: tuple[tuple[AtLeastOne, AtLeastOne], ...] = Field(min_length=1, default=((2, 96), (4, 48), (6, 32)))
    learning_rate: float = Field(gt=0, default=3e-3)
    matrix_learning_rate: float = Field(gt=0, default=0.03)
    restarts: int = Field(ge=0, default=2)
    seed: int = 0


class GatePart(Section):
    """`[gate]`: what the fine-tuned policy must reach before reinforcement learning starts (embedded_world.md 8.6)."""

    accuracy: float = Field(ge=0, le=1, default=0.30)
    divisions: int | None = Field(ge=-1, default=3)
    forward_facts: float = Field(ge=0, le=1, default=0.95)
    caught: float = Field(ge=0, le=1, default=0.85)
    problems: int = Field(ge=1, default=256)


class RoundsPart(Section):
    """`[rounds]`: the off-policy rounds (tp_grpo.md 1.8)."""

    rounds: int = Field(ge=1, default=8)
    problems: int = Field(ge=1, default=128)
    group_size: int = Field(ge=2, default=8)
    rollouts_per_update: int = Field(ge=1, default=128)
    passes: int = Field(ge=1, default=1)
    old_logprobs: OldLogprobs = "learner"
    measure_every: int = Field(ge=1, default=1)

    def divided(self, parts: int) -> "RoundsPart":
        """Each round divided into that many; its problems are filled up to a multiple."""
        return self.model_copy(update={"problems": -(-self.problems // parts), "rounds": self.rounds * parts})


class LearnerPart(Section):
    """`[learner]`: the loss and the optimiser of reinforcement learning.

    `loss` says which ratio weighs the advantages (`losses.ratios`); with another than `clipped`, caps and reduction
    that are not set are those that were published with it (`losses.PRESETS`).

    `beta` above 0 holds the policy to its starting checkpoint, frozen as the reference, by the penalty `kl` (k3 if it
    is not set); `kl_weighted` weights that by the ratio to the old policy, without which k1 does nothing.
    """

    learning_rate: float = Field(gt=0, default=3e-4)
    loss: Loss = "clipped"
    eps_low: float = Field(gt=0, le=1, default=0.2)
    eps_high: float = Field(gt=0, default=0.28)
    reduction: Reduction = PRESETS["tp_grpo"].reduction
    beta: float = Field(ge=0, default=0.0)
    kl: Penalty | None = None
    kl_weighted: bool = False
    token_budget: int = Field(ge=1, default=4096)

    @model_validator(mode="before")
    @classmethod
    def _published(cls, given: Any) -> Any:
        """Fill in the caps and the reduction of another loss."""
        preset = PRESETS.get(str(given.get("loss"))) if isinstance(given, dict) else None
        if preset is None or preset.loss == "clipped":
            return given
        own = {"eps_low": preset.eps_low, "eps_high": preset.eps_high, "reduction": preset.reduction}
        return own | given

    @property
    def penalty(self) -> Penalty:
        """The estimator of the penalty; `none` where beta is 0."""
        return (self.kl or "k3") if self.beta else "none"

    @model_validator(mode="after")
    def _fits(self) -> "LearnerPart":
        if self.eps_low == 1 and self.loss != "cispo":
            raise ValueError("eps_low must be less than 1; only loss cispo goes without a cap below")
        idle = self.kl_weighted or self.kl not in (None, "none")
        if not self.beta and idle:
            raise ValueError("kl and kl_weighted do nothing while beta is 0; set beta too")
        if self.beta and self.kl == "none":
            raise ValueError("beta needs an estimator; set kl to k2 or k3")
        if self.kl == "k1" and not self.kl_weighted:
            raise ValueError("kl k1 has zero expected gradient; set kl_weighted, or take k2 or k3")
        return self


class MeasurePart(Section):
    """`[measure]`: held-out problems of the curve, of the final figures, of pass@8; levels of `rollouts to`."""

    problems: int = Field(ge=8, default=256)
    final_problems: int = Field(ge=8, default=1024)
    pass_problems: int = Field(ge=8, default=128)
    levels: tuple[Share, ...] = (0.5, 0.7)
    first_guess_level: float = Field(gt=0, le=1, default=0.7)


class JudgePart(Section):
    """`[generative]`, `[taught]`: how a small judge is trained; unset keys take the judge's own defaults."""

    updates: int | None = Field(ge=1, default=None)
    seed: int = 0


class MonitorsPart(Section):
    """`[monitors]`: what is changed in the table of monitors (`training.monitors`), for all arms.

    `act = false` records firings and does nothing else. `rejudge_share` is 0 here: the embedded judges answer equal
    text with equal verdicts, so a second reading shows noise only where verdicts are flipped on purpose. With
    `target_kl` rounds grow and shrink between `shortest` and `longest` problems.
    """

    act: bool = True
    quiet_rounds: int = Field(ge=1, default=3)
    rejudge_share: float = Field(ge=0, le=1, default=0.0)
    bounds: Mapping[str, float] = {}
    actions: Mapping[str, Action] = {}
    target_kl: float | None = Field(gt=0, default=None)
    shortest: int = Field(ge=1, default=32)
    longest: int = Field(ge=1, default=512)

    @model_validator(mode="after")
    def _fits(self) -> "MonitorsPart":
        self.settings()
        return self

    def settings(self) -> MonitorSettings:
        """The settings of `training.monitoring`; an unknown monitor is a UsageError that names the nearest."""
        length = None if self.target_kl is None else RoundLength(self.target_kl, self.shortest, self.longest)
        return MonitorSettings(
            self.act, self.bounds, self.actions, self.quiet_rounds, self.rejudge_share, length
        )  # fmt: skip


class DemoRecipe(Section):
    """The whole of `demo.toml`."""

    world: WorldPart = WorldPart()
    model: ModelPart = ModelPart()
    pretrain: PretrainPart = PretrainPart()
    gate: GatePart = GatePart()
    rounds: RoundsPart = RoundsPart()
    learner: LearnerPart = LearnerPart()
    measure: MeasurePart = MeasurePart()
    generative: JudgePart = JudgePart()
    taught: JudgePart = JudgePart()
    monitors: MonitorsPart = MonitorsPart()
    arms: Mapping[str, ArmPart]

    @model_validator(mode="after")
    def _fits(self) -> "DemoRecipe":
        world = self.world
        if world.length > world.longest:
            raise ValueError(f"world.length must be at most {world.longest}, got {world.length}")
        if world.name != "chain":
            for name, divisions in (("world", world.divisions), ("gate", self.gate.divisions)):
                if divisions is not None and divisions > world.length:
                    raise ValueError(f"{name}.divisions must be at most world.length = {world.length}, got {divisions}")
        for place, (length, _) in enumerate(self.pretrain.batches):
            if length > world.longest:
                raise ValueError(f"pretrain.batches.{place}.0 must be at most {world.longest}, got {length}")
        paid = [name for name, arm in self.arms.items() if arm.rule != "grpo"]
        if self.learner.loss == "gspo" and paid:
            raise ValueError(
                f"learner.loss gspo pays a whole rollout one advantage, arms.{paid[0]} pays its steps: "
                "take learner.loss gspo_token"
            )
        return self


def load_demo(path: Path = RECIPE, *, overrides: tuple[str, ...] = ()) -> DemoRecipe:
    """The demo recipe, or another file of the same schema."""
    return load_recipe(path, DemoRecipe, overrides=overrides)
