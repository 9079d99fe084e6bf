"""Settings of the X-ray, and which of them are read for which kind of input: one that changes nothing is refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

from stepcredit.core.errors import UsageError
from stepcredit.recipes.recorded.settings import RECIPE
from stepcredit.recipes.xray.recorded import OURS, TextSettings

TruthBy = Literal["auto", "labels", "verdicts"]
"""Whose truth signs are compared with: labels where there are any, else verdicts; or one of these alone."""

InputKind = Literal["trained", "judged", "file", "log"]
"""What can be looked at."""

KINDS: Mapping[InputKind, str] = {
    "trained": "a run of demo or train",
    "judged": "a run of judge or run",
    "file": "a JSONL file of solutions",
    "log": "a log of TRL or verl",
}
"""The kinds in words."""

READ_FOR: Mapping[str, tuple[InputKind, ...]] = {
    "--arm": ("trained",),
    "--seed": ("trained",),
    "--round": ("trained",),
    "--tokenizer": ("judged", "file", "log"),
    "--recipe": ("judged", "file", "log"),
    "--group-by": ("judged", "file"),
    "--input": ("judged",),
    "--judge": ("file", "log"),
    "--outcome": ("log",),
    "--group-size": ("log",),
    "--right-above": ("log",),
    "--set steps.KEY": ("judged", "file", "log"),
    "--set checker.KEY": ("file",),
    "--set judge.KEY": ("file", "log"),
}
"""By option the kinds of input that read it; all other options are read for every kind, or say themselves why not."""


@final
@dataclass(frozen=True)
class XraySettings:
    """What is compared, and how.

    Args:
        out: folder of the result: `report.html`, `xray.json`, and `values.jsonl` if values are taken; `None` writes
            nothing.
        compare: rules, as `rules_of` takes them; none compares all.
        overrides: `RULE.setting=value` for rules; `steps.`, `checker.` and `judge.` keys for recorded text.
        values: file of values; goes before those of the rollouts' own file.
        continuations: K of values by continuation.
        truth: whose truth signs are compared with.
        arm: of a run of demo or train.
        seed: of it.
        round: of it, from 0.
        problems: takes the first so many problems; `None` all.
        show: solutions that the page shows side by side.
        text: how recorded text is read.

    Raises:
        UsageError: for counts below 1, or values from two places.
    """

    out: Path | None = None
    compare: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    values: Path | None = None
    continuations: int | None = None
    truth: TruthBy = "auto"
    arm: str | None = None
    seed: int | None = None
    round: int | None = None
    problems: int | None = None
    show: int = 12
    text: TextSettings = field(default_factory=TextSettings)

    def __post_init__(self) -> None:
        for name in ("continuations", "problems"):
            given = getattr(self, name)
            if given is not None and given < 1:
                raise UsageError(f"{name} must be at least 1, got {given}")
        if self.values is not None and self.continuations is not None:
            raise UsageError("values come from --values or from --continuations; leave one out")

    @property
    def of_text(self) -> tuple[str, ...]:
        """Overrides of recorded text; the others are of rules."""
        return tuple(text for text in self.overrides if _section(text) in OURS)


def refuse_unread(settings: XraySettings, kind: InputKind, *, item: str) -> None:
    """Refuse options that change nothing for this kind of input.

    Args:
        settings: as they were given.
        kind: of the input.
        item: the input, for the message.

    Raises:
        UsageError: naming the option and what it is of.
    """
    for option in _given(settings):
        kinds = READ_FOR[option]
        if kind not in kinds:
            of = " or ".join(KINDS[each] for each in kinds)
            raise UsageError(f"{option} is of {of}, and this is {KINDS[kind]}; leave it out", item=item)


def _given(settings: XraySettings) -> list[str]:
    """Options of the table that are given."""
    text = settings.text
    told: dict[str, Any] = {
        "--arm": settings.arm,
        "--seed": settings.seed,
        "--round": settings.round,
        "--tokenizer": text.tokenizer,
        "--recipe": None if text.recipe == RECIPE else text.recipe,
        "--group-by": text.group_by,
        "--input": text.input,
        "--judge": text.judge,
        "--outcome": text.outcome,
        "--group-size": text.group_size,
        "--right-above": text.right_above,
    }
    sections = [f"--set {_section(override)}.KEY" for override in (*text.overrides, *settings.of_text)]
    return [option for option, value in told.items() if value is not None] + sections


def _section(override: str) -> str:
    """The first word of `section.key=value`."""
    return override.split(".", maxsplit=1)[0].strip()
