"""The same rollouts paid by several credit rules; a rule whose signals are not there is left out, by name."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float32

from stepcredit.core.errors import CreditError, StepsError, UsageError
from stepcredit.core.records import Credit, Judgement, Steps
from stepcredit.credit import Need, Rule, all_rules, rule_named
from stepcredit.credit.batch import assign
from stepcredit.recipes.arm_rules.settings import Setting, rule_settings
from stepcredit.recipes.xray.batch import Cut, XrayBatch
from stepcredit.steps import thoughts

EVERY = "all"
"""Word for all rules of the table."""

LOGGED = "logged"
"""Name of what the run itself paid, beside the rules."""

GIVEN_BY: Mapping[Need, str] = {
    Need.OUTCOME: "a reference answer, or a reward of the log, for some solution",
    Need.FLAGS: "verdicts with labels, of judge markers or intrinsic",
    Need.SCORES: "verdicts with scores, of judge critic, step-critic, thinkprm, genprm or discriminative",
    Need.LOG_RATIO: "columns old_logprobs and ref_logprobs, or a run of an embedded world",
    Need.VALUES: "--values FILE, or --continuations K on a run of an embedded world",
    Need.TOKEN_SCORES: "column token_scores",
    Need.OUTCOME_SCORES: "column outcome_score, or a run of judge think-rm or spct",
    Need.PREFERENCES: "pairwise verdicts, which no file or run folder holds",
    Need.TESTIMONY: "a run of an embedded world, whose claims are read",
}
"""What would give a signal that is not there."""


@final
@dataclass(frozen=True)
class ComparedRule:
    """A rule to compare.

    Args:
        label: what it is called here: the rule's name, or `RULE@VARIANT`.
        rule: its line of the table.
        name: key of the table.
        settings: its settings.
        changed: the settings that differ from the defaults, as they were given.
    """

    label: str
    rule: Rule
    name: str
    settings: Any
    changed: Mapping[str, Setting]


@final
@dataclass(frozen=True)
class PaidRules:
    """What the rules paid.

    Args:
        credits: by rule: one a rollout, in the order of the batch.
        advantages: [T] by rule, and of `logged` where the run says what it paid; NaN where unknown.
        left_out: by rule: what is missing.
    """

    credits: Mapping[str, tuple[Credit, ...]]
    advantages: Mapping[str, Float32[np.ndarray, " T"]]
    left_out: Mapping[str, str]


def rules_of(compare: Sequence[str], overrides: Sequence[str] = ()) -> tuple[ComparedRule, ...]:
    """The rules that are asked for, with their settings.

    Args:
        compare: names, several to a text if commas part them: `grpo`, `prl@last` (a variant of `prl` under a label of
            its own), or `all`. None asks for all.
        overrides: `LABEL.setting=value`.

    Raises:
        UsageError: for an unknown rule, label or setting, or a label that comes twice.

    >>> [rule.label for rule in rules_of(["grpo,prl"], ["prl.eta=100"])]
    ['grpo', 'prl']
    """
    words = [word.strip() for text in compare for word in text.split(",") if word.strip()] or [EVERY]
    labels = [label for word in words for label in (sorted(all_rules()) if word == EVERY else [word])]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"--compare names {label} twice; RULE@NAME calls a variant by a name of its own")
    given: dict[str, dict[str, Setting]] = {label: {} for label in labels}
    for text in overrides:
        place, sign, value = text.partition("=")
        label, _, key = place.strip().rpartition(".")
        if not sign:
            raise UsageError(f"--set takes RULE.setting=value, got {text!r}")
        if label not in given:
            raise UsageError(f"--set {text}: {label or place} is not compared; the rules are {', '.join(labels)}")
        given[label][key] = _value(value)
    return tuple(_compared(label, given[label]) for label in labels)


def pay(batch: XrayBatch, rules: Sequence[ComparedRule]) -> PaidRules:
    """Pay the batch by each rule.

    Args:
        batch: rollouts and signals.
        rules: as `rules_of` gives them.

    Returns:
        What was paid, and what is missing for the others; a missing signal is never taken as zero.

    Source: own; the rules are those of the table in `stepcredit.credit`. Differs: none.
    """
    credits_: dict[str, tuple[Credit, ...]] = {}
    left_out: dict[str, str] = {}
    for compared in rules:
        absent = missing(batch, compared)
        if absent:
            left_out[compared.label] = "; ".join(absent)
            continue
        try:
            credits_[compared.label] = _paid(batch, compared)
        except (CreditError, StepsError) as error:
            left_out[compared.label] = str(error)
    advantages = {
        label: np.concatenate([*(credit.advantages for credit in found), np.zeros(0, np.float32)])
        for label, found in credits_.items()
    }
    if batch.logged:
        values = np.array([_number(batch.logged.get(steps.rollout.id)) for steps in batch.steps], np.float32)
        advantages[LOGGED] = np.repeat(values, [len(steps.rollout.completion_ids) for steps in batch.steps])
    return PaidRules(credits_, advantages, left_out)


def missing(batch: XrayBatch, compared: ComparedRule) -> list[str]:
    """What the batch lacks for a rule: one text a signal, with what would give it."""
    rule, settings = compared.rule, compared.settings
    verdicts = [v for cut in batch.cuts if isinstance(cut, Judgement) for v in cut.verdicts]
    there = {
        Need.OUTCOME: any(outcome.reward is not None for outcome in batch.outcomes),
        Need.FLAGS: any(verdict.label is not None for verdict in verdicts),
        Need.SCORES: any(verdict.score is not None for verdict in verdicts),
    }
    read = [need for need in rule.needs if need is Need.OUTCOME or (need in there and rule.reads_verdicts(settings))]
    absent = [need for need in read if not there[need]]
    absent += [need for need in rule.wanted(settings) if need not in batch.signals]
    why = {need: batch.lacking.get(need) or GIVEN_BY.get(need, "nothing gives it") for need in absent}
    return [f"no {need} ({told})" for need, told in why.items()]


def _compared(label: str, given: Mapping[str, Setting]) -> ComparedRule:
    name = label.partition("@")[0]
    rule = rule_named(name)
    try:
        return ComparedRule(label, rule, name, rule_settings(name, given, scheduled=False), given)
    except ValueError as error:
        raise UsageError(f"--set {label}: {error}") from error


def _value(text: str) -> Setting:
    """A value as TOML reads it, or the text itself."""
    try:
        found: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
    return found if isinstance(found, bool | int | float | str) else text.strip()


def _paid(batch: XrayBatch, compared: ComparedRule) -> tuple[Credit, ...]:
    rule, settings = compared.rule, compared.settings
    asked = {*rule.wanted(settings)}
    signals = {need: batch.column(need) for need in asked}
    credited, _ = assign(
        batch.groups,
        _in_unit(batch.cuts, rule.unit_for(settings)),
        rule=compared.name,
        settings=settings,
        keep="all",
        signals=signals,
    )
    return credited


def _in_unit(cuts: Sequence[Cut], unit: str) -> list[Judgement] | list[Steps | Judgement]:
    """The cuts in the unit that a rule pays; thoughts are runs of verdicts, so what has none is left to the rule."""
    if unit != "thought":
        return list(cuts)
    return [thoughts(cut) for cut in cuts if isinstance(cut, Judgement)]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
