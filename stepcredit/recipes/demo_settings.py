"""Schema of `demo.toml`: every key of the demo recipe, what it means, and its range."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stepcredit.losses import PRESETS
from stepcredit.losses.presets import Loss, Penalty, Reduction
from stepcredit.recipes.loading import Section, load_recipe
from stepcredit.tasks import chain_world, reflection_world
from stepcredit.training.monitoring import MonitorSettings, RoundLength
from stepcredit.training.monitors import Action
from stepcredit.training.parts import OldLogprobs
from stepcredit.training.schedule import Kind, ProcessWeight

JudgeName = Literal["none", "markers", "generative", "taught", "oracle"]

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


class SchedulePart(Section):
    """`[arms.NAME.schedule]`: when process and outcome take turns; unset keys take the schedule's own defaults (F1).

    `process_rounds` and `outcome_rounds` (the paper's n_p and n_o) are read by `alternate`, `anneal_rounds` by
    `anneal`, all others by `adaptive`.
    """

    process_rounds: int | None = Field(ge=1, default=None)
    outcome_rounds: int | None = Field(ge=1, default=None)
    anneal_rounds: int | None = Field(ge=1, default=None)
    min_parse_rate: float | None = Field(ge=0, le=1, default=None)
    max_kl: float | None = Field(ge=0, default=None)
    flat_rounds: int | None = Field(ge=0, default=None)
    flat_gain: float | None = Field(ge=0, default=None)


_READS: Mapping[Kind, tuple[str, ...]] = {
    "process": (),
    "outcome": (),
    "alternate": ("process_rounds", "outcome_rounds"),
    "anneal": ("anneal_rounds",),
    "adaptive": ("min_parse_rate", "max_kl", "flat_rounds", "flat_gain"),
}
"""Keys of the schedule that each kind reads."""

_OF_VERDICTS = (
    "alpha", "scale", "sides", "incorrect_relief", "unit", "interval", "on_unknown", "flip", "shuffled",
    "process_weight", "schedule",
)  # fmt: skip
"""Keys of an arm that do nothing under a rule that reads no verdicts."""


class ArmPart(Section):
    """`[arms.NAME]`: one method: its credit rule, its judge, and what is done to the verdicts.

    `flip` turns that share of known verdicts over; `shuffled` gives the process credit to random steps: controls.
    A key that does nothing beside the others is an error.
    """

    title: str
    rule: Literal["grpo", "tp_grpo"]
    judge: JudgeName = "none"
    alpha: float = Field(ge=0, default=1.0)
    scale: Literal["adaptive", "fixed"] = "adaptive"
    sides: Literal["both", "correct", "incorrect"] = "both"
    incorrect_relief: Literal["one", "acc", "1-acc"] = "one"
    std: Literal["population", "sample", "none"] = "population"
    unit: Literal["thought", "step"] = "thought"
    interval: Literal["source", "reflection"] = "source"
    keep: Literal["nonzero_process", "nonzero_advantage", "all"] = "nonzero_advantage"
    on_unknown: Literal["drop", "outcome_only", "neutral"] = "outcome_only"
    learning_rate: float | None = Field(gt=0, default=None)
    flip: float = Field(ge=0, le=1, default=0.0)
    shuffled: bool = False
    exhibit: bool = False
    process_weight: Kind = "process"
    schedule: SchedulePart = SchedulePart()

    @model_validator(mode="after")
    def _fits(self) -> "ArmPart":
        if (self.rule == "tp_grpo") == (self.judge == "none"):
            raise ValueError(f"rule {self.rule} and judge {self.judge} do not go together")
        told = [f"{', '.join(idle)} under {why}" for why, idle in self._idle().items() if idle]
        if told:
            raise ValueError(f"keys without any effect, leave them out: {'; '.join(told)}")
        return self

    def _idle(self) -> dict[str, list[str]]:
        """Keys that are set and change nothing, by what makes them idle."""
        given = self.model_fields_set
        if self.rule == "grpo":
            return {"rule grpo, which reads no verdicts": [name for name in _OF_VERDICTS if name in given]}
        right, wrong = ("alpha", "scale"), ("incorrect_relief",)
        intrinsic = self.judge in ("markers", "generative")
        read = _READS[self.process_weight]
        unread = sorted(name for name in self.schedule.model_fields_set if name not in read)
        return {
            f"judge {self.judge}, which traces no reflections": [] if intrinsic else sorted(given & {"interval"}),
            "sides incorrect": [name for name in right if name in given and self.sides == "incorrect"],
            "sides correct": [name for name in wrong if name in given and self.sides == "correct"],
            f"process_weight {self.process_weight}": [f"schedule.{name}" for name in unread],
        }

    def weights(self) -> ProcessWeight:
        """The schedule of process_weight."""
        return ProcessWeight(self.process_weight, **self.schedule.model_dump(exclude_none=True))


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
