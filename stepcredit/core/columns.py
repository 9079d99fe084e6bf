"""Records to columns: the one place where a batch of records becomes a Layout and signals on it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64

from stepcredit.core.errors import LayoutError
from stepcredit.core.layout import Layout
from stepcredit.core.records import Judgement, Label, Outcome, Steps

_FLAG = {Label.CORRECT: 0.0, Label.MATCHED: 0.0, Label.INCORRECT: 1.0, Label.MISMATCHED: 1.0}


def layout_of(batch: Sequence[Steps]) -> Layout:
    """Layout of a batch of cut rollouts.

    Args:
        batch: N cut rollouts, members of a group side by side, all of one unit.

    Returns:
        The Layout, groups numbered in order of appearance.

    Raises:
        LayoutError: if a group's members are not side by side, units are mixed, or a completion has no tokens.
    """
    units = {steps.unit for steps in batch}
    if len(units) > 1:
        raise LayoutError(f"one Layout holds one unit, got {', '.join(sorted(units))}")
    order: dict[str, int] = {}
    groups: list[int] = []
    for steps in batch:
        name = steps.rollout.group
        if name in order and order[name] != len(order) - 1:
            raise LayoutError("members of a group must stand side by side", item=name)
        if not len(steps):
            raise LayoutError("the completion has no tokens", item=steps.rollout.id)
        groups.append(order.setdefault(name, len(order)))
    counts = np.array([len(steps) for steps in batch], np.int64)
    sizes = np.concatenate([[b - a for a, b in steps.spans] for steps in batch]) if batch else np.zeros(0, np.int64)
    return Layout(
        np.repeat(np.arange(len(sizes)), sizes),
        np.repeat(np.arange(len(batch)), counts),
        np.array(groups, np.int32),
        units.pop() if units else "step",
    )


def rewards_of(outcomes: Sequence[Outcome]) -> Float64[np.ndarray, " N"]:
    """[N] outcome rewards: +1 right, -1 wrong, NaN unscorable."""
    return np.array([np.nan if o.reward is None else o.reward for o in outcomes], np.float64)


def flags_of(judgements: Sequence[Judgement]) -> Float32[np.ndarray, " S"]:
    """[S] TP-GRPO's indicator: 1 for `incorrect` and `mismatched` steps, 0 for `correct` and `matched`, NaN unknown.

    Source: tp_grpo.md 1.6. Differs: none.
    """
    return np.array([np.nan if v.label is None else _FLAG[v.label] for j in judgements for v in j.verdicts], np.float32)


def scores_of(judgements: Sequence[Judgement]) -> Float32[np.ndarray, " S"]:
    """[S] step scores, NaN where the judge gave none."""
    return np.array([np.nan if v.score is None else v.score for j in judgements for v in j.verdicts], np.float32)
