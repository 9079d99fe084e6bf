"""Keys of a recipe to the settings of a credit rule or splitter; what cannot be had is refused before anything runs."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from stepcredit.core.errors import StepcreditError
from stepcredit.credit import rule_named
from stepcredit.credit.rule import Need, Rule
from stepcredit.recipes.loading import nearest_key
from stepcredit.steps import splitter

Setting = bool | int | float | str

SOURCES: Mapping[Need, str] = {
    Need.LOG_RATIO: "a forward pass of the starting checkpoint",
    Need.VALUES: "continuations by the policy",
    Need.BONUS: "the length of the reasoning",
    Need.TESTIMONY: "the other solutions of the problem",
}
"""Signals that training on the embedded worlds can compute, and from what."""

WEIGHT = "process_weight"


def rule_settings(name: str, given: Mapping[str, Setting]) -> Any:
    """Settings of a rule from a recipe's keys.

    Args:
        name: of the rule.
        given: its settings; what is not given keeps the rule's default.

    Raises:
        ValueError: for a rule, key or value that does not exist, naming the nearest.

    >>> rule_settings("prl", {"eta": 100.0}).eta
    100.0
    """
    try:
        rule = rule_named(name)
        known = settings_keys(rule)
        for key in given:
            if key not in known:
                near = nearest_key(key, known) or f"; it has {', '.join(known)}"
                raise ValueError(f"rule {name} has no setting {key}{near}")
        return rule.settings(**given)
    except StepcreditError as error:
        raise ValueError(str(error)) from error
    except TypeError as error:
        raise ValueError(f"rule {name}: {error}") from error


def settings_keys(rule: Rule) -> list[str]:
    """Names of the settings that a rule has, but for the process weight, which is the schedule's."""
    return [field.name for field in fields(rule.settings) if field.init and field.name != WEIGHT]  # type: ignore[arg-type]


def weighed(settings: Any, process_weight: float) -> Any:
    """The settings under a round's process weight; as they are for a rule that has none."""
    return replace(settings, **{WEIGHT: process_weight}) if has_weight(settings) else settings


def has_weight(settings: Any) -> bool:
    """True if the process part can be weighed, and so take turns with the outcome."""
    return hasattr(settings, WEIGHT)


def refuse_unfit(name: str, settings: Any, *, judge: str, scheduled: bool, cut_by: str) -> None:
    """Refuse what the rule needs and the arm does not have, or has and the rule does not read.

    Args:
        name: of the rule.
        settings: of the rule.
        judge: of the arm, `none` for none.
        scheduled: True if the arm's process weight is not always 1.
        cut_by: splitter of the arm; `world` gives the steps that judges read.

    Raises:
        ValueError: naming what does not fit, and the mend.
    """
    rule = rule_named(name)
    reads = rule.reads_verdicts(settings)
    if reads == (judge == "none"):
        said = "reads verdicts: name a judge" if reads else "reads no verdicts: leave the judge out"
        raise ValueError(f"rule {name} {said}")
    lacking = [need for need in rule.wanted(settings) if need not in SOURCES]
    if lacking:
        can = ", ".join(f"{need} (by {how})" for need, how in SOURCES.items())
        raise ValueError(f"rule {name} needs {', '.join(lacking)}, which no source gives here; there are {can}")
    if scheduled and not has_weight(settings):
        raise ValueError(f"rule {name} has no process weight to schedule; leave process_weight out")
    if reads and cut_by != "world":
        raise ValueError(f"the judges read the world's own steps, not those of splitter {cut_by}; leave it out")


def check_splitter(name: str, given: Mapping[str, Setting]) -> None:
    """Refuse a splitter or setting that does not exist.

    Raises:
        ValueError: naming the nearest.
    """
    try:
        splitter(name, **given)
    except StepcreditError as error:
        raise ValueError(str(error)) from error
