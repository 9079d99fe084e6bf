"""Schema of `[arms.NAME]`: a credit rule, its judge, what it is paid in, and what is done to the verdicts."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from stepcredit.core.errors import UsageError
from stepcredit.credit import rule_named
from stepcredit.credit.rule import Need
from stepcredit.judges.witness import Confirmed, Remarks, WitnessSettings
from stepcredit.losses.presets import Loss, Reduction
from stepcredit.recipes.arm_rules.parts import (
    CriticPart,
    ImplicitPart,
    ProfPart,
    TokenModelPart,
    TokenScoresBy,
    ValuesBy,
)
from stepcredit.recipes.arm_rules.returns import OWN_RETURNS
from stepcredit.recipes.arm_rules.settings import (
    START,
    Setting,
    check_reference,
    check_scoring,
    check_splitter,
    refuse_unfit,
    refuse_whitened,
    rule_settings,
)
from stepcredit.recipes.arm_rules.whole import OfSteps
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

_OF_SIGNALS: Mapping[str, tuple[Need, ...]] = {
    "continuations": (Need.VALUES,),
    "critic": (Need.VALUES,),
    "exploration_scale": (Need.BONUS,),
    "implicit_prm": (Need.TOKEN_SCORES,),
    "of_steps": (Need.OUTCOME_SCORES, Need.PREFERENCES),
    "reference": (Need.LOG_RATIO,),
    "token_model": (Need.TOKEN_SCORES,),
    "token_scores": (Need.TOKEN_SCORES,),
    "values": (Need.VALUES,),
    "witnesses": (Need.TESTIMONY,),
}
"""Keys of an arm that say how a signal is computed, each with the signals that read it."""

_OF_A_CRITIC = ("gae_critic", "math_shepherd", "q_rm", "rlsp")
"""Rules whose values are a critic's where the arm does not say."""

OWN_KEYS = ("grpo", "tp_grpo")
"""Rules whose settings are keys of the arm."""


class ArmPart(Section):
    """`[arms.NAME]`: one method: its credit rule, its judge, and what is done to the verdicts.

    `rule` is a name of the table of rules, `settings` its settings (`grpo` and `tp_grpo` have keys here instead), and
    `splitter` with `split` what it is paid in: the own steps of the world, any splitter, or `judged`, for rules that
    read no verdicts: the steps that the marker judge names. `flip` turns that share of known verdicts over; `shuffled`
    gives the process credit to random steps: controls. Each of the recipe's rounds is divided into `parts_of_round`, so
    that monitors look more often; problems that cannot be divided evenly are filled up. A key that does nothing beside
    the others is an error.

    What a rule reads beside outcomes and verdicts is computed for it. Values come by `continuations` of each prefix, so
    many of them, or by a critic (`values`; unset, what the rule's paper takes). Token scores come by PRIME's model or
    by Q-RM's (`token_scores`, likewise). Log-ratios are to the frozen `reference`: `start`, the folder of a checkpoint,
    or an arm's run folder. The bonus has `exploration_scale`; `witnesses` says whose word counts, for a rule of
    testimony. Scores of whole rollouts, and who is preferred, are made
    of the scores that the judge gives the think steps (`of_steps`).

    `loss`, `eps_low`, `eps_high` and `reduction` stand before those of `[learner]`; with another loss than that, the
    others are those published with it, unless they are set here. `prof` chooses by a judge who is trained on.
    """

    title: str
    rule: str
    settings: Mapping[str, Setting] = {}
    judge: JudgeName = "none"
    splitter: str = "world"
    split: Mapping[str, Setting] = {}
    continuations: int = Field(ge=1, default=9)
    exploration_scale: float = Field(gt=0, default=1000.0)
    values: ValuesBy | None = None
    critic: CriticPart = CriticPart()
    token_scores: TokenScoresBy | None = None
    implicit_prm: ImplicitPart = ImplicitPart()
    token_model: TokenModelPart = TokenModelPart()
    reference: str = START
    of_steps: OfSteps = "mean"
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
    prof: ProfPart | None = None
    learning_rate: float | None = Field(gt=0, default=None)
    parts_of_round: int = Field(ge=1, default=1)
    loss: Loss | None = None
    eps_low: float | None = Field(gt=0, le=1, default=None)
    eps_high: float | None = Field(gt=0, default=None)
    reduction: Reduction | None = None
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
            judged = self.rule == "tp_grpo" or self.prof is not None
            if judged == (self.judge == "none"):
                raise ValueError(f"rule {self.rule} and judge {self.judge} do not go together")
            if self.judge != "none" and self.splitter != "world":
                raise ValueError(f"the judges read the world's own steps, not those of splitter {self.splitter}")
        else:
            made = rule_settings(self.rule, self.settings)
            scheduled = self.process_weight != "process"
            refuse_unfit(
                self.rule,
                made,
                judge=self.judge,
                scheduled=scheduled,
                cut_by=self.splitter,
                filtered=self.prof is not None,
            )
            refuse_whitened(self.rule, made, asked=self.shuffled or self.keep == "nonzero_process")
        self._refuse_sources()
        told = [f"{', '.join(idle)} under {why}" for why, idle in self._idle().items() if idle]
        if told:
            raise ValueError(f"keys without any effect, leave them out: {'; '.join(told)}")
        return self

    def _refuse_sources(self) -> None:
        """Refuse where a signal cannot come from, or not from what is there."""
        if self.prof is not None:
            check_scoring(self.judge, "prof")
        check_reference(self.reference)
        if self.rule in OWN_RETURNS and self.values == "continuations":
            raise ValueError(
                f"rule {self.rule} pays returns of its own, continuations give outcomes: take values critic"
            )
        if self.process_weight == "adaptive" and self.judge == "none":
            raise ValueError("process_weight adaptive watches how well the judge is read, and the arm has no judge")

    def _idle(self) -> dict[str, list[str]]:
        """Keys that are set and change nothing, by what makes them idle."""
        given = self.model_fields_set
        idle = {f"splitter {self.splitter}": [] if self.splitter != "world" else sorted(given & {"split"})}
        if self.rule in OWN_KEYS:
            idle[f"rule {self.rule}, whose settings are keys of the arm"] = sorted(given & {"settings", *_OF_SIGNALS})
        if self.rule == "grpo":
            none = [name for name in _OF_VERDICTS if name in given and not (name == "flip" and self.prof)]
            return idle | {"rule grpo, which reads no verdicts": none}
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
        given, wanted = self.model_fields_set, self.wanted
        values = {"continuations": ["critic"], "critic": ["continuations"]}[self.values_by]
        scores = {"implicit_prm": ["token_model"], "token_model": ["implicit_prm"]}[self.token_scores_by]
        return {
            f"rule {self.rule}, which has its own under settings": [name for name in _OF_TP_GRPO if name in given],
            "judge none": sorted(given & {"flip"}) if self.judge == "none" else [],
            f"rule {self.rule}, which does not read what they are of": [
                name for name, needs in _OF_SIGNALS.items() if name in given and not {*needs} & {*wanted}
            ],
            f"values {self.values_by}": sorted(given & {*values}) if Need.VALUES in wanted else [],
            f"token_scores {self.token_scores_by}": sorted(given & {*scores}) if Need.TOKEN_SCORES in wanted else [],
        }

    @property
    def wanted(self) -> tuple[Need, ...]:
        """Signals that the rule reads beside the records, with a process weight of 1."""
        return () if self.rule in OWN_KEYS else rule_named(self.rule).wanted(rule_settings(self.rule, self.settings))

    @property
    def values_by(self) -> ValuesBy:
        """Who gives values; where the arm does not say, what the rule's paper takes."""
        return self.values or ("critic" if self.rule in _OF_A_CRITIC else "continuations")

    @property
    def token_scores_by(self) -> TokenScoresBy:
        """Who gives token scores; where the arm does not say, what the rule's paper takes."""
        return self.token_scores or ("token_model" if self.rule == "q_rm" else "implicit_prm")

    @property
    def pays_whole(self) -> bool:
        """True if all tokens of a rollout get one number, whatever the settings of the judge."""
        if self.rule in OWN_KEYS:
            return self.rule == "grpo"
        return not self.shuffled and rule_named(self.rule).whole(rule_settings(self.rule, self.settings))

    def weights(self) -> ProcessWeight:
        """The schedule of process_weight."""
        return ProcessWeight(self.process_weight, **self.schedule.model_dump(exclude_none=True))
