"""Schema of `[arms.NAME]`: a credit rule, its judge, what it is paid in, and what is done to the verdicts."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from stepcredit.core.errors import UsageError
from stepcredit.credit import rule_named
from stepcredit.credit.rule import Need
from stepcredit.judges.witness import Confirmed, Remarks, WitnessSettings
from stepcredit.recipes.arm_rules.settings import Setting, check_splitter, refuse_unfit, rule_settings
from stepcredit.recipes.loading import Section
from stepcredit.training.schedule import Kind, ProcessWeight

JudgeName = Literal["none", "markers", "generative", "taught", "oracle"]


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


class WitnessPart(Section):
    """`[arms.NAME.witnesses]`: whose word counts where a rule reads testimony (`judges.witness.WitnessSettings`)."""

    own_word: bool | None = None
    confirmed: Confirmed | None = None
    remarks: Remarks | None = None

    @model_validator(mode="after")
    def _fits(self) -> "WitnessPart":
        try:
            self.settings()
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self

    def settings(self) -> WitnessSettings:
        """The settings; unset keys take their own defaults."""
        return WitnessSettings(**self.model_dump(exclude_none=True))


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


_OF_TP_GRPO = ("alpha", "scale", "sides", "incorrect_relief", "std", "unit", "on_unknown")
"""Keys of an arm that are settings of `tp_grpo`, one of them of `grpo` too."""

_OF_SIGNALS = {Need.VALUES: "continuations", Need.BONUS: "exploration_scale", Need.TESTIMONY: "witnesses"}
"""Keys of an arm that say how a signal is computed."""

OWN_KEYS = ("grpo", "tp_grpo")
"""Rules whose settings are keys of the arm."""


class ArmPart(Section):
    """`[arms.NAME]`: one method: its credit rule, its judge, and what is done to the verdicts.

    `rule` is a name of the table of rules, `settings` its settings (`grpo` and `tp_grpo` have keys here instead), and
    `splitter` with `split` what it is paid in: the own steps of the world, or any splitter. `continuations` are those
    of each prefix, for a rule of values; `exploration_scale` is that of the bonus, for a rule that takes one;
    `witnesses` says whose word counts, for a rule of testimony. `flip` turns that share of known verdicts over;
    `shuffled` gives the process credit to random steps: controls. Each of the recipe's rounds is divided into
    `parts_of_round`, so that monitors look more often; problems that cannot be divided evenly are filled up. A key that
    does nothing beside the others is an error.
    """

    title: str
    rule: str
    settings: Mapping[str, Setting] = {}
    judge: JudgeName = "none"
    splitter: str = "world"
    split: Mapping[str, Setting] = {}
    continuations: int = Field(ge=1, default=9)
    exploration_scale: float = Field(gt=0, default=1000.0)
    witnesses: WitnessPart = WitnessPart()
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
    parts_of_round: int = Field(ge=1, default=1)
    flip: float = Field(ge=0, le=1, default=0.0)
    shuffled: bool = False
    exhibit: bool = False
    process_weight: Kind = "process"
    schedule: SchedulePart = SchedulePart()

    @model_validator(mode="after")
    def _fits(self) -> "ArmPart":
        if self.splitter != "world":
            check_splitter(self.splitter, self.split)
        if self.rule in OWN_KEYS:
            if (self.rule == "tp_grpo") == (self.judge == "none"):
                raise ValueError(f"rule {self.rule} and judge {self.judge} do not go together")
        else:
            made = rule_settings(self.rule, self.settings)
            scheduled = self.process_weight != "process"
            refuse_unfit(self.rule, made, judge=self.judge, scheduled=scheduled, cut_by=self.splitter)
        told = [f"{', '.join(idle)} under {why}" for why, idle in self._idle().items() if idle]
        if told:
            raise ValueError(f"keys without any effect, leave them out: {'; '.join(told)}")
        return self

    def _idle(self) -> dict[str, list[str]]:
        """Keys that are set and change nothing, by what makes them idle."""
        given = self.model_fields_set
        idle = {f"splitter {self.splitter}": [] if self.splitter != "world" else sorted(given & {"split"})}
        if self.rule in OWN_KEYS:
            idle[f"rule {self.rule}, whose settings are keys of the arm"] = sorted(
                given & {"settings", *_OF_SIGNALS.values()}
            )
        if self.rule == "grpo":
            return idle | {"rule grpo, which reads no verdicts": [name for name in _OF_VERDICTS if name in given]}
        intrinsic = self.judge in ("markers", "generative")
        read = _READS[self.process_weight]
        unread = sorted(name for name in self.schedule.model_fields_set if name not in read)
        idle |= {
            f"judge {self.judge}, which traces no reflections": [] if intrinsic else sorted(given & {"interval"}),
            f"process_weight {self.process_weight}": [f"schedule.{name}" for name in unread],
        }
        return idle | (self._idle_of_tp_grpo() if self.rule == "tp_grpo" else self._idle_of_others())

    def _idle_of_tp_grpo(self) -> dict[str, list[str]]:
        given, right, wrong = self.model_fields_set, ("alpha", "scale"), ("incorrect_relief",)
        return {
            "sides incorrect": [name for name in right if name in given and self.sides == "incorrect"],
            "sides correct": [name for name in wrong if name in given and self.sides == "correct"],
        }

    def _idle_of_others(self) -> dict[str, list[str]]:
        given, rule = self.model_fields_set, rule_named(self.rule)
        wanted = rule.wanted(rule_settings(self.rule, self.settings))
        return {
            f"rule {self.rule}, which has its own under settings": [name for name in _OF_TP_GRPO if name in given],
            "judge none": sorted(given & {"flip"}) if self.judge == "none" else [],
            f"rule {self.rule}, which does not read what they are of": [
                name for need, name in _OF_SIGNALS.items() if name in given and need not in wanted
            ],
        }

    def weights(self) -> ProcessWeight:
        """The schedule of process_weight."""
        return ProcessWeight(self.process_weight, **self.schedule.model_dump(exclude_none=True))
