"""Schema of `demo.toml`: every key of the demo recipe, what it means, and its range."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from stepcredit.recipes.loading import Section, load_recipe
from stepcredit.training.monitoring import MonitorSettings, RoundLength
from stepcredit.training.monitors import Action

JudgeName = Literal["none", "markers", "generative", "taught", "oracle"]

RECIPE = Path(__file__).with_name("demo.toml")


class WorldPart(Section):
    """`[world]`: which embedded task, and the problems that reinforcement learning asks."""

    name: Literal["reflection-e", "chain"] = "reflection-e"
    task_seed: int = 0
    length: int = Field(ge=1, default=6)
    divisions: int | None = None


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
    batches: tuple[tuple[int, int], ...] = ((2, 96), (4, 48), (6, 32))
    learning_rate: float = Field(gt=0, default=3e-3)
    matrix_learning_rate: float = Field(gt=0, default=0.03)
    restarts: int = Field(ge=0, default=2)
    seed: int = 0


class GatePart(Section):
    """`[gate]`: what the fine-tuned policy must reach before reinforcement learning starts (embedded_world.md 8.6)."""

    accuracy: float = Field(ge=0, le=1, default=0.30)
    divisions: int | None = 3
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
    measure_every: int = Field(ge=1, default=1)


class LearnerPart(Section):
    """`[learner]`: the optimiser of reinforcement learning."""

    learning_rate: float = Field(gt=0, default=3e-4)
    eps_low: float = Field(gt=0, lt=1, default=0.2)
    eps_high: float = Field(gt=0, default=0.28)
    token_budget: int = Field(ge=1, default=4096)


class MeasurePart(Section):
    """`[measure]`: held-out problems of the curve, of the final figures, of pass@8; levels of `rollouts to`."""

    problems: int = Field(ge=8, default=256)
    final_problems: int = Field(ge=8, default=1024)
    pass_problems: int = Field(ge=8, default=128)
    levels: tuple[float, ...] = (0.5, 0.7)
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


class ArmPart(Section):
    """`[arms.NAME]`: one method: its credit rule, its judge, and what is done to the verdicts.

    `flip` turns that share of known verdicts over; `shuffled` gives the process credit to random steps: controls.
    """

    title: str
    rule: Literal["grpo", "tp_grpo"]
    judge: JudgeName = "none"
    alpha: float = Field(ge=0, default=1.0)
    scale: Literal["adaptive", "fixed"] = "adaptive"
    sides: Literal["both", "correct", "incorrect"] = "both"
    incorrect_relief: Literal["one", "acc", "1-acc"] = "one"
    unit: Literal["thought", "step"] = "thought"
    interval: Literal["source", "reflection"] = "source"
    keep: Literal["nonzero_process", "nonzero_advantage", "all"] = "nonzero_advantage"
    on_unknown: Literal["drop", "outcome_only", "neutral"] = "outcome_only"
    learning_rate: float | None = Field(gt=0, default=None)
    flip: float = Field(ge=0, le=1, default=0.0)
    shuffled: bool = False
    exhibit: bool = False
    process_weight: Literal["process", "outcome", "alternate", "anneal", "adaptive"] = "process"

    @model_validator(mode="after")
    def _fits(self) -> "ArmPart":
        if (self.rule == "tp_grpo") == (self.judge == "none"):
            raise ValueError(f"rule {self.rule} and judge {self.judge} do not go together")
        return self


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


def load_demo(path: Path = RECIPE, *, overrides: tuple[str, ...] = ()) -> DemoRecipe:
    """The demo recipe, or another file of the same schema."""
    return load_recipe(path, DemoRecipe, overrides=overrides)
