"""Signals that no record holds (log-ratios, values, bonuses): are they there, and do they fit the batch."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from stepcredit.core.errors import UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.rule import RECORDED, Need, Rule

Signals = Mapping[Need, Float[np.ndarray, " n"]]
"""Columns that the caller gives, each as long as `Need.length_in` says."""


def check_signals(rule: Rule, settings: object, given: Signals, *, name: str) -> None:
    """Refuse a batch without a signal that the rule needs, before anything is computed.

    Args:
        rule: the line of the table.
        settings: say which signals are read.
        given: what the caller has.
        name: of the rule, for the message.

    Raises:
        UsageError: naming what is missing and its length, or what must not be given because the records hold it.
    """
    doubled = [str(need) for need in RECORDED if need in given]
    if doubled:
        raise UsageError(f"signals: {', '.join(doubled)} is read from the records; leave it out")
    missing = [need for need in rule.wanted(settings) if need not in given]
    if missing:
        names = ", ".join(f"Need.{need.name} ({_site(need)})" for need in missing)
        raise UsageError(f"credit rule {name} needs {names}; give it in signals, or take a rule that does without")


def checked_columns(rule: Rule, given: Signals, layout: Layout, *, name: str) -> dict[Need, Float[np.ndarray, " n"]]:
    """Columns that the rule reads of those given, and NaN columns for those that its settings switch off.

    Raises:
        UsageError: for a column of the wrong length.

    Source: DESIGN.md 3. Differs: none.
    """
    wanted = [need for need in (*rule.needs, *rule.optional) if need not in RECORDED]
    columns = {need: np.asarray(given[need]) for need in wanted if need in given}
    for need, column in columns.items():
        want = need.length_in(layout)
        if column.shape != (want,):
            got = list(column.shape)
            raise UsageError(f"credit rule {name}: Need.{need.name} is {_site(need)} = [{want}] here, got {got}")
    off = [need for need in rule.needs if need not in RECORDED and need not in given]
    return columns | {need: np.full(need.length_in(layout), np.nan) for need in off}


def check_separable(rule: Rule, settings: object, *, name: str) -> None:
    """Refuse a whitened rule where its process part is asked for (shuffled, or what a rollout is kept by).

    Outcome and process are divided by the standard deviation of their sum, which the outcome part by itself has not, so
    that the difference of the two would hold outcome credit.

    Args:
        rule: the line of the table.
        settings: of the rule.
        name: of the rule, for the message.

    Raises:
        UsageError: naming the setting to change.
    """
    if rule.outcome_part is not None and getattr(settings, "whiten", False):
        raise UsageError(
            f"credit rule {name} whitens, so that its process part cannot be told from the outcome's: set whiten = "
            "false in its settings, or leave out the shuffled control and keep = nonzero_process"
        )


def _site(need: Need) -> str:
    """What the column has one entry of, in the words of `Need`."""
    if need in (Need.FLAGS, Need.SCORES, Need.NEUTRAL, Need.TESTIMONY):
        return "[S], one entry a step"
    if need in (Need.LOG_RATIO, Need.TOKEN_SCORES, Need.TRAINED):
        return "[T], one entry a completion token"
    if need is Need.VALUES:
        return "[S + N], one entry a node"
    return "[sum of G * G], a matrix a group" if need is Need.PREFERENCES else "[N], one entry a rollout"
