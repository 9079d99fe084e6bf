"""Recipe sections of judges that score whole solutions, `[think_rm]` and `[spct]`, and what they stand for."""

from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field

from stepcredit.core.errors import UsageError
from stepcredit.judges.outcome.spct import SpctSettings
from stepcredit.judges.outcome.think_rm import (
    PAIR_WORDS,
    PairScale,
    PairWords,
    ThinkRMPairSettings,
    ThinkRMPointSettings,
)
from stepcredit.recipes.loading import Section

OUTCOME = ("think-rm", "spct")
"""Judges that score whole solutions, one number each, where others judge steps."""

POINT = ("low", "high", "max_tokens", "temperature", "seed")
PAIR = ("scale", "both_orders", "system", "user", "max_tokens", "temperature", "seed")
META = ("meta", "meta_server", "meta_tokenizer", "meta_device", "meta_dtype")
"""Keys of `[think_rm]` by form, and keys of `[spct]` that name the meta reward model."""


class ThinkRmPart(Section):
    """`[think_rm]`: `form = "point"` scores every solution by itself, `"pair"` compares every two of one problem.

    The settings are those of `ThinkRMPointSettings` and `ThinkRMPairSettings` by their names. `system`, `user`: the
    words that a served checkpoint was trained on (`PairWords`); `user` has `{problem}`, `{first}` and `{second}`.
    """

    form: Literal["point", "pair"] = "point"
    low: int | None = None
    high: int | None = None
    scale: PairScale | None = None
    both_orders: bool | None = None
    system: str | None = None
    user: str | None = None
    max_tokens: int | None = Field(ge=1, default=None)
    temperature: float | None = Field(ge=0, default=None)
    seed: int | None = None


class SpctPart(Section):
    """`[spct]`: the settings of `SpctSettings` by their names, and the meta reward model that chooses among replies.

    `meta` is its folder or hub id, or its name on `meta_server` (vLLM's pooling route), which wants `meta_tokenizer`
    too. Without it all replies that can be read are summed. `meta_device`, `meta_dtype` are of a model in this process.
    """

    votes: int | None = Field(ge=1, default=None)
    kept: int | None = Field(ge=1, default=None)
    low: int | None = None
    high: int | None = None
    max_tokens: int | None = Field(ge=1, default=None)
    temperature: float | None = Field(ge=0, default=None)
    seed: int | None = None
    meta: str | None = None
    meta_server: str | None = None
    meta_tokenizer: str | None = None
    meta_device: str | None = None
    meta_dtype: Literal["float32", "bfloat16", "float16"] | None = None


def outcome_settings(part: ThinkRmPart | SpctPart) -> dict[str, Any]:
    """All settings of an outcome judge, defaults included, as JSON has them.

    Raises:
        UsageError: for values that do not go together, or keys that the judge does not have.

    >>> outcome_settings(ThinkRmPart(low=0))["low"]
    0
    """
    if isinstance(part, SpctPart):
        return asdict(spct_settings(part)) | {key: value for key, value in _set(part).items() if key in META}
    return {"form": part.form} | asdict(pair_settings(part) if part.form == "pair" else point_settings(part))


def point_settings(part: ThinkRmPart) -> ThinkRMPointSettings:
    """Settings of the judge that scores every solution by itself.

    Raises:
        UsageError: for a key of the other form, or values that do not go together.
    """
    return ThinkRMPointSettings(**_of_form(part, POINT))


def pair_settings(part: ThinkRmPart) -> ThinkRMPairSettings:
    """Settings of the judge that compares every two solutions.

    Raises:
        UsageError: for a key of the other form, or words that lack a field.
    """
    found = _of_form(part, PAIR)
    words = {key: found.pop(key) for key in ("system", "user") if key in found}
    usual = PAIR_WORDS[found.get("scale", ThinkRMPairSettings().scale)]
    told = PairWords(words.get("system", usual.system), words.get("user", usual.user)) if words else None
    return ThinkRMPairSettings(**found, words=told)


def spct_settings(part: SpctPart) -> SpctSettings:
    """Settings of the voted judge.

    Raises:
        UsageError: for keys of a meta reward model that is not named, or one that is not named whole.
    """
    if part.meta is None:
        for key in ("kept", *META[1:]):
            if getattr(part, key) is not None:
                raise UsageError(f"spct.{key} is of a meta reward model, and none is named; add --set spct.meta=MODEL")
    elif part.meta_server is not None and part.meta_tokenizer is None:
        mend = "add --set spct.meta_tokenizer=FOLDER, or the model's id on the hub"
        raise UsageError(f"the meta reward model on {part.meta_server} is sent token ids of its tokenizer; {mend}")
    return SpctSettings(**{key: value for key, value in _set(part).items() if key not in META})


def _of_form(part: ThinkRmPart, known: tuple[str, ...]) -> dict[str, Any]:
    """The keys that are set, of one form."""
    found = {name: value for name, value in _set(part).items() if name != "form"}
    for name in found:
        if name not in known:
            other = "point" if part.form == "pair" else "pair"
            raise UsageError(f"think_rm.{name} is no setting of think_rm.form={part.form}; it is of form={other}")
    return found


def _set(part: Section) -> dict[str, Any]:
    return part.model_dump(exclude_none=True)
