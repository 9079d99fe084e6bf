"""Recipe sections of the judges that write: `[thinkprm]` and `[genprm]`, and the settings that they stand for."""

from typing import Any, Literal

from pydantic import Field

from stepcredit.judges.genprm import settings as genprm
from stepcredit.judges.genprm.settings import AssistantOpen, FirstTurn, GenPrmSettings, Mode, RewardSource
from stepcredit.judges.thinkprm import prompt as thinkprm
from stepcredit.judges.thinkprm.chains import ThinkPRMSettings
from stepcredit.recipes.loading import Section

WRITING = ("thinkprm", "genprm")
"""Judges that go on with token ids, and so need the served model's tokenizer and chat template."""

_SWITCHES = ("newline_after_think", "close_think", "label_case", "bos", "step_prefix")


class ThinkPRMPart(Section):
    """`[thinkprm]`: a profile, what of it is changed, and the settings of `ThinkPRMSettings` by their names."""

    profile: Literal["trained", "reference"] = "trained"
    newline_after_think: Literal[1, 2] | None = None
    close_think: bool | None = None
    label_case: Literal["lower", "capital"] | None = None
    bos: Literal[1, 2] | None = None
    step_prefix: bool | None = None
    mode: Literal["labels", "prefixes", "independent"] | None = None
    votes: int | None = Field(ge=1, default=None)
    rounds: int | None = Field(ge=1, default=None)
    triggers: tuple[str, ...] | None = None
    max_tokens: int | None = Field(ge=1, default=None)
    token_budget: int | None = Field(ge=1, default=None)
    context: int | None = Field(ge=1, default=None)
    temperature: float | None = Field(ge=0, default=None)
    decision_temperature: float | None = Field(gt=0, default=None)
    resample: bool | None = None
    keep_contradicting: bool | None = None
    soft_labels: bool | None = None
    seed: int | None = None


class GenPrmPart(Section):
    """`[genprm]`: a profile, and what of it is changed: the settings of `GenPrmSettings` by their names."""

    profile: Literal["training", "reference"] = "training"
    mode: Mode | None = None
    execute: bool | None = None
    first_turn: FirstTurn | None = None
    assistant_open: AssistantOpen | None = None
    bos: Literal[1, 2] | None = None
    reward_source: RewardSource | None = None
    passes: int | None = Field(ge=1, default=None)
    early_stop: bool | None = None
    seed: int | None = None
    temperature: float | None = Field(ge=0, default=None)
    top_p: float | None = None
    top_k: int | None = None
    step_tokens: int | None = None
    verdict_tokens: int | None = None
    rounds: int | None = None
    context_tokens: int | None = None
    feedback_chars: int | None = None


def thinkprm_settings(part: ThinkPRMPart) -> ThinkPRMSettings:
    """The judge's settings.

    Raises:
        UsageError: for values that do not go together.

    >>> thinkprm_settings(ThinkPRMPart(profile="reference", close_think=True, votes=4)).switches.label_case
    'lower'
    """
    found = _set(part)
    base = thinkprm.PROFILES[part.profile]
    switches = type(base)(**{**vars(base), **{name: found.pop(name) for name in _SWITCHES if name in found}})
    settings = ThinkPRMSettings(switches=switches, **found)
    settings.check()
    return settings


def genprm_settings(part: GenPrmPart) -> GenPrmSettings:
    """The judge's settings.

    Raises:
        UsageError: for values that do not go together.

    >>> genprm_settings(GenPrmPart(profile="reference", passes=8)).reward_source
    'reference_v0'
    """
    return GenPrmSettings(**{**vars(genprm.PROFILES[part.profile]), **_set(part)})


def _set(part: Section) -> dict[str, Any]:
    """The keys that are set, without the profile."""
    return {name: value for name, value in vars(part).items() if value is not None and name != "profile"}
