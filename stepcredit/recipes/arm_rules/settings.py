"""Keys of a recipe to the settings of a credit rule or splitter; what cannot be had is refused before anything runs."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from stepcredit.core.errors import StepcreditError
from stepcredit.credit import rule_named
from stepcredit.credit.rlsp import RlspSettings
from stepcredit.credit.rule import Need, Rule
from stepcredit.credit.signals import check_separable
from stepcredit.recipes.arm_rules.whole import WHOLE
from stepcredit.recipes.loading import nearest_key
from stepcredit.steps import splitter

Setting = bool | int | float | str

SOURCES: Mapping[Need, str] = {
    Need.LOG_RATIO: "a forward pass of a frozen reference",
    Need.VALUES: "continuations by the policy, or a critic",
    Need.BONUS: "the length of the reasoning",
    Need.TOKEN_SCORES: "a reward model that is trained in the arm",
    Need.OUTCOME_SCORES: "the step judge's scores",
    Need.PREFERENCES: "the step judge's scores",
    Need.TESTIMONY: "the other solutions of the problem",
}
"""Signals that training on the embedded worlds can compute, and from what."""

SCORING = ("taught", "oracle")
"""Judges of the embedded worlds that score every step; the intrinsic ones give some steps labels alone."""

START = "start"
"""Name of the starting checkpoint as a reference."""

WEIGHT = "process_weight"

JUDGED = "judged"
"""Name, beside those of the splitters, for the steps that the marker judge names: runs of its labels."""


_TAKEN: Mapping[object, tuple[str, tuple[type, ...]]] = {
    float: ("a number", (int, float)),
    int: ("a whole number", (int,)),
    bool: ("true or false", (bool,)),
}
"""By type of a setting: what it wants, and the types of the values that it takes; the rule itself looks at words."""


def rule_settings(name: str, given: Mapping[str, Setting], *, scheduled: bool = True) -> Any:
    """Settings of a rule from a recipe's keys.

    Args:
        name: of the rule.
        given: its settings; what is not given keeps the rule's default.
        scheduled: True if a schedule turns the process weight, which is no setting then.

    Raises:
        ValueError: for a rule, key or value that does not exist, naming the nearest.

    >>> rule_settings("prl", {"eta": 100.0}).eta
    100.0
    """
    try:
        rule = rule_named(name)
        known = settings_keys(rule, scheduled=scheduled)
        for key, value in given.items():
            if key == WEIGHT and WEIGHT not in known and has_weight(rule.settings()):
                mend = f"write {WEIGHT} and schedule in the arm, not under its settings"
                raise ValueError(f"{WEIGHT} of rule {name} is turned by the arm's schedule: {mend}")
            if key not in known:
                near = nearest_key(key, [*known]) or f"; it has {', '.join(known) or 'none'}"
                raise ValueError(f"rule {name} has no setting {key}{near}")
            wanted, types = _TAKEN.get(known[key], ("", (type(value),)))
            if type(value) not in types:
                raise ValueError(f"{key} of rule {name} wants {wanted}, got {value!r}")
        return rule.settings(**given)
    except StepcreditError as error:
        raise ValueError(str(error)) from error
    except TypeError as error:
        raise ValueError(f"rule {name}: {error}") from error


def settings_keys(rule: Rule, *, scheduled: bool = True) -> dict[str, object]:
    """The settings that a rule has and their types, without the process weight where that is the schedule's."""
    made: Any = rule.settings
    return {each.name: each.type for each in fields(made) if each.init and not (scheduled and each.name == WEIGHT)}


def weighed(settings: Any, process_weight: float) -> Any:
    """The settings under a round's process weight; as they are for a rule that has none."""
    return replace(settings, **{WEIGHT: process_weight}) if has_weight(settings) else settings


def has_weight(settings: Any) -> bool:
    """True if the process part can be weighed, and so take turns with the outcome."""
    return hasattr(settings, WEIGHT)


def refuse_unfit(name: str, settings: Any, *, judge: str, scheduled: bool, cut_by: str, filtered: bool = False) -> None:
    """Refuse what the rule needs and the arm does not have, or has and the rule does not read.

    Args:
        name: of the rule.
        settings: of the rule.
        judge: of the arm, `none` for none.
        scheduled: True if the arm's process weight is not always 1.
        cut_by: splitter of the arm; `world` gives the steps that judges read.
        filtered: True if a judge chooses which rollouts are trained on.

    Raises:
        ValueError: naming what does not fit, and the mend.
    """
    rule = rule_named(name)
    wanted = rule.wanted(settings)
    lacking = [need for need in wanted if need not in SOURCES]
    if lacking:
        can = ", ".join(f"{need} (by {how})" for need, how in SOURCES.items())
        raise ValueError(f"rule {name} needs {', '.join(lacking)}, which no source gives here; there are {can}")
    if isinstance(settings, RlspSettings) and settings.judged_share:
        why = "creativity is a judge's word on effort and diversity, and the judges here know right from wrong alone"
        raise ValueError(f"rule {name}: {why}; leave creativity at 0")
    whole = [need for need in WHOLE if need in wanted]
    reads = rule.reads_verdicts(settings) or bool(whole)
    if not reads and judge != "none" and not filtered:
        raise ValueError(f"rule {name} reads no verdicts: leave the judge out, or let it choose rollouts by prof")
    if reads and judge == "none":
        raise ValueError(f"rule {name} reads verdicts: name a judge")
    if whole:
        check_scoring(judge, f"{whole[0]} of rule {name}")
    if scheduled and not has_weight(settings):
        raise ValueError(f"rule {name} has no process weight to schedule; leave process_weight out")
    if judge != "none" and cut_by != "world":
        raise ValueError(f"the judges read the world's own steps, not those of splitter {cut_by}; leave it out")


def refuse_whitened(name: str, settings: Any, *, asked: bool) -> None:
    """Refuse a whitened rule where its process part is asked for.

    Raises:
        ValueError: as `credit.signals.check_separable`.
    """
    if not asked:
        return
    try:
        check_separable(rule_named(name), settings, name=name)
    except StepcreditError as error:
        raise ValueError(str(error)) from error


def check_scoring(judge: str, reader: str) -> None:
    """Refuse a judge that does not score every step.

    Raises:
        ValueError: naming who reads the scores, and the judges that give them.
    """
    if judge not in SCORING:
        raise ValueError(f"{reader} reads a score of every step: take judge {' or '.join(SCORING)}, not {judge}")


def check_splitter(name: str, given: Mapping[str, Setting]) -> None:
    """Refuse a splitter or setting that does not exist.

    Raises:
        ValueError: naming the nearest.
    """
    if name == JUDGED:
        if given:
            raise ValueError(f"splitter {JUDGED} has no settings, got {', '.join(given)}; leave split out")
        return
    try:
        splitter(name, **given)
    except StepcreditError as error:
        raise ValueError(str(error)) from error


def check_reference(reference: str) -> None:
    """Refuse a reference that is neither `start` nor a folder with a policy.

    Raises:
        ValueError: naming the folder.
    """
    folder = Path(reference)
    if reference != START and not (folder / "config.json").is_file() and newest_policy(folder) is None:
        raise ValueError(f"reference {reference} holds no checkpoint and is no arm's run folder; {START} is the start")


def newest_policy(folder: Path) -> str | None:
    """Name of the newest checkpoint of the policy in an arm's run folder, `None` if there is none."""
    names = sorted(path.name for path in (folder / "checkpoints").glob("learner-*.bin"))
    return names[-1] if names else None
