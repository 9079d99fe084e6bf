"""Random batches for property tests of credit rules: a Layout, and a column for every signal that a rule may need."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from stepcredit.core.layout import Layout
from stepcredit.credit.rule import Need, Rule

Columns = dict[Need, np.ndarray]


def build(rollouts: list[list[int]], groups: list[int]) -> Layout:
    """Layout of rollouts given as lists of step lengths."""
    lengths = [length for rollout in rollouts for length in rollout]
    owners = np.repeat(np.arange(len(rollouts)), [len(rollout) for rollout in rollouts])
    return Layout(np.repeat(np.arange(len(lengths)), lengths), owners, np.array(groups))


@st.composite
def batches(draw: st.DrawFn, *, smallest: int = 1) -> tuple[list[list[int]], list[int], np.random.Generator]:
    """1 to 4 groups of up to 4 rollouts of 1 to 6 steps of 1 to 4 tokens, and numbers to fill them with."""
    sizes = draw(st.lists(st.integers(smallest, 4), min_size=1, max_size=4))
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    rollouts = [draw(st.lists(st.integers(1, 4), min_size=1, max_size=6)) for _ in groups]
    return rollouts, groups, np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def columns_for(layout: Layout, rng: np.random.Generator) -> Columns:
    """Every signal, read-only; node values end in 0, preferences are antisymmetric."""
    values = rng.uniform(size=layout.steps + layout.rollouts)
    values[layout.step_starts[1:] + np.arange(layout.rollouts)] = 0.0
    drawn = [rng.normal(size=(size, size)) for size in layout.rollouts_of_group]
    found = {
        Need.OUTCOME: rng.choice([-1.0, 1.0], layout.rollouts),
        Need.FLAGS: rng.integers(0, 2, layout.steps).astype(np.float32),
        Need.SCORES: rng.uniform(0.0, 1.0, layout.steps),
        Need.LOG_RATIO: rng.normal(size=layout.tokens),
        Need.TOKEN_SCORES: rng.normal(size=layout.tokens),
        Need.BONUS: rng.normal(size=layout.rollouts),
        Need.OUTCOME_SCORES: rng.normal(size=layout.rollouts),
        Need.VALUES: values,
        Need.TRAINED: (rng.random(layout.tokens) < 0.8).astype(np.float64),
        Need.NEUTRAL: (rng.random(layout.steps) < 0.2).astype(np.float64),
        Need.TESTIMONY: rng.choice([-1.0, 0.5, 1.0, np.nan], layout.steps),
        Need.PREFERENCES: np.concatenate([(one - one.T).ravel() for one in drawn] or [np.zeros(0)]),
    }
    for column in found.values():
        column.setflags(write=False)
    return found


def credit_of(rule: Rule, layout: Layout, columns: Mapping[Need, np.ndarray], settings: Any) -> np.ndarray:
    """The rule's output with every signal that it can read."""
    named = {str(need): columns[need] for need in rule.optional}
    return rule.function(layout, *(columns[need] for need in rule.needs), settings=settings, **named)


def moved(layout: Layout, columns: Columns, order: np.ndarray) -> tuple[Layout, Columns, np.ndarray]:
    """The batch with its rollouts in another order (groups stay together), and where its tokens stood before."""

    def pieces(starts: np.ndarray) -> np.ndarray:
        return np.concatenate([np.arange(starts[i], starts[i + 1]) for i in order])

    steps, tokens = pieces(layout.step_starts), pieces(layout.token_starts)
    nodes = pieces(layout.step_starts + np.arange(layout.rollouts + 1))
    sizes = layout.steps_of_rollout[order]
    groups = layout.group_of_rollout[order]
    _, named = np.unique(groups, return_index=True)
    rank = {int(groups[first]): place for place, first in enumerate(np.sort(named))}
    after = Layout(
        np.repeat(np.arange(layout.steps), layout.tokens_of_step[steps]),
        np.repeat(np.arange(layout.rollouts), sizes),
        np.array([rank[int(group)] for group in groups]),
    )
    found = {}
    for need, column in columns.items():
        if need is Need.PREFERENCES:
            found[need] = moved_preferences(layout, column, order)
            continue
        found[need] = column[
            nodes if need is Need.VALUES else tokens if need in TOKENS else steps if need in STEPS else order
        ]
    return after, found, tokens


TOKENS = (Need.LOG_RATIO, Need.TOKEN_SCORES, Need.TRAINED)
STEPS = (Need.FLAGS, Need.SCORES, Need.NEUTRAL, Need.TESTIMONY)


def moved_preferences(layout: Layout, column: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The matrices of all groups, rows and columns in the new order."""
    sizes = layout.rollouts_of_group
    squares, starts = np.cumsum(sizes**2) - sizes**2, np.cumsum(sizes) - sizes
    out, at = [], 0
    while at < len(order):
        group = int(layout.group_of_rollout[order[at]])
        size = int(sizes[group])
        matrix = column[squares[group] : squares[group] + size**2].reshape(size, size)
        inside = order[at : at + size] - starts[group]
        out.append(matrix[np.ix_(inside, inside)].ravel())
        at += size
    return np.concatenate(out)
