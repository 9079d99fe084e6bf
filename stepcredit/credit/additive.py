"""Which signals may be summed: a type that says so, and the test that finds out (credit.md 3.2)."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float, Num

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.credit.rule import Need, Rule

CUT_AFTER = 3
"""Tokens of a step's first half, where the refinement test cuts it."""

CHANGE = 1e-6
"""Largest change of credit that counts as none; credit is float32."""


@final
@dataclass(frozen=True)
class Signal:
    """Numbers of steps or tokens, and whether they may be summed.

    A signal is additive if cutting a step in two leaves the total as it was: log-ratios are (chain rule), differences
    of values are (they telescope), and so are numbers of tokens. A score of a step is not: both halves may get it. Such
    a score is mostly a value of the place, and summing it pays rollouts for having more steps.

    `to_go` takes a Signal as it takes a column, and refuses one that is not additive unless the caller says by name who
    sums it all the same.

    Args:
        values: [S] or [T] the column.
        name: what it is, for messages.
        additive: True if it may be summed.

    >>> Signal(np.array([0.5, 0.25]), "scores", additive=False).divided(np.array([2.0, 2.0])).additive
    True
    """

    values: Float[np.ndarray, " n"]
    name: str
    additive: bool

    def divided(self, sizes: Num[np.ndarray, " n"]) -> "Signal":
        """The signal over the number of steps of each entry's rollout: its sum is a mean, additive in good measure.

        Cutting one step in two then shifts the mean by a share of 1 / L and no longer adds a whole score.

        Args:
            sizes: [n] number of steps, above 0.

        Source: Wang et al. 2024, arXiv:2410.17621 (line-level rewards over the number of lines). Differs: none.
        """
        return Signal(self.values / sizes, f"{self.name} / L", additive=True)


def summable(values: Float[np.ndarray, " n"] | Signal, *, summed_by: str = "") -> Float[np.ndarray, " n"]:
    """The column of a signal that is about to be summed.

    Args:
        values: a bare column, which the caller answers for, or a Signal.
        summed_by: name of the rule that sums a signal although it is not additive, as published.

    Returns:
        [n] the column.

    Raises:
        CreditError: for a signal that is not additive, without a name.

    Source: credit.md 3.5.7. Differs: none.

    >>> summable(Signal(np.array([0.5]), "scores", additive=False), summed_by="grpo_ps")
    array([0.5])
    """
    if not isinstance(values, Signal):
        return values
    if not values.additive and not summed_by:
        mend = "take softmin, a difference of values or Signal.divided, or say summed_by='NAME OF THE RULE'"
        raise CreditError(f"{values.name} is not additive: cutting a step in two would change the sum; {mend}")
    return values.values


@final
@dataclass(frozen=True)
class Refinement:
    """A batch before and after every longer step was cut in two.

    Args:
        coarse: 12 rollouts of 5 to 37 tokens in 3 groups, in steps of 5 tokens.
        fine: the same tokens, each step of more than 3 tokens cut after its third.
        step: [S fine] for each step of `fine` the step of `coarse` that it came from.
    """

    coarse: Layout
    fine: Layout
    step: np.ndarray

    @property
    def first_tokens(self) -> np.ndarray:
        """[N] first token of each rollout."""
        return self.coarse.token_starts[:-1]


def refinement(seed: int) -> Refinement:
    """The two batches of the refinement test.

    Source: credit.md 3.2. Differs: group sizes are not said there; ours are 4.

    >>> pair = refinement(0)
    >>> pair.coarse.tokens == pair.fine.tokens, pair.coarse.steps < pair.fine.steps
    (True, True)
    """
    lengths = np.random.default_rng(seed).integers(5, 38, 12)
    position = np.concatenate([np.arange(length) for length in lengths])
    starts, halves = position % 5 == 0, position % 5 == CUT_AFTER
    owner, groups = np.repeat(np.arange(12), lengths), np.repeat(np.arange(3), 4)
    coarse = Layout(np.cumsum(starts) - 1, owner[starts], groups)
    fine = Layout(np.cumsum(starts | halves) - 1, owner[starts | halves], groups)
    return Refinement(coarse, fine, coarse.step_of_token[starts | halves])


def refined_change(rule: Rule, settings: object, *, seed: int = 0) -> float:
    """How much the credit of each rollout's first token changes when steps are cut in two, on average.

    Both halves get the number of the whole (scores in (-1, 1), flags), token columns stay as they are, and the new node
    between two halves gets a value of its own. For rules of node values it is the total credit of the rollout, the sum
    over its steps, that is compared: the first token's own credit is about its own step.

    Args:
        rule: a line of the table.
        settings: its settings.
        seed: of the random batch and numbers.

    Returns:
        Mean absolute change over 12 rollouts.

    Source: credit.md 3.2. Differs: none.
    """
    pair, rng = refinement(seed), np.random.default_rng([seed, 1])
    low = 0.0 if getattr(settings, "score_scale", "signed") == "probability" else -1.0
    before, after = _signals(pair, rng, lowest_score=low)
    out: list[np.ndarray] = []
    for layout, columns in ((pair.coarse, before), (pair.fine, after)):
        named = {str(need): columns[need] for need, asks in rule.optional.items() if asks(settings)}
        credit = rule.function(layout, *(columns[need] for need in rule.needs), settings=settings, **named)
        if Need.VALUES in rule.needs:
            heads = np.asarray(credit, np.float64)[layout.step_token_starts[:-1]]
            out.append(np.bincount(layout.rollout_of_step, weights=heads, minlength=layout.rollouts))
        else:
            out.append(np.asarray(credit, np.float64)[pair.first_tokens])
    return float(np.abs(out[1] - out[0]).mean())


def check_additive(rule: Rule, settings: object, *, seeds: int = 5) -> float:
    """The refinement test: does cutting a step in two change the credit, and does the rule say so.

    Args:
        rule: a line of the table; a rule of another package as well.
        settings: its settings.
        seeds: number of random batches.

    Returns:
        Mean absolute change of credit over all batches; below 1e-6 the rule is additive.

    Raises:
        CreditError: if `rule.additive` says otherwise of these settings.

    Source: credit.md 3.2. Differs: none.
    """
    change = float(np.mean([refined_change(rule, settings, seed=seed) for seed in range(seeds)]))
    declared = None if rule.additive is None else rule.additive(settings)
    if declared is not None and declared != (change < CHANGE):
        told = "is declared additive" if declared else "is declared not additive"
        raise CreditError(f"the rule {told}, and cutting steps in two changes its credit by {change:.3g}")
    return change


def _signals(
    pair: Refinement, rng: np.random.Generator, *, lowest_score: float
) -> tuple[dict[Need, Any], dict[Need, Any]]:
    """Columns for both batches: the same tokens and rollouts, copied steps, and one new value a cut."""
    coarse = pair.coarse
    same: dict[Need, Any] = {
        Need.OUTCOME: rng.choice([-1.0, 1.0], coarse.rollouts),
        Need.LOG_RATIO: rng.normal(size=coarse.tokens),
        Need.TOKEN_SCORES: rng.normal(size=coarse.tokens),
        Need.BONUS: rng.normal(size=coarse.rollouts),
        Need.OUTCOME_SCORES: rng.uniform(0.0, 1.0, coarse.rollouts),
        Need.TRAINED: np.ones(coarse.tokens),
        Need.PREFERENCES: np.concatenate([_antisymmetric(int(size), rng) for size in coarse.rollouts_of_group]),
    }
    scores, flags = rng.uniform(-1.0, 1.0, coarse.steps), rng.integers(0, 2, coarse.steps).astype(np.float64)
    values = rng.uniform(0.0, 1.0, coarse.steps + coarse.rollouts)
    values[coarse.step_starts[1:] + np.arange(coarse.rollouts)] = 0.0  # nothing is to come at an end
    scaled = scores if lowest_score < 0.0 else (scores + 1.0) / 2.0
    before = {Need.SCORES: scaled, Need.FLAGS: flags, Need.NEUTRAL: np.zeros(coarse.steps), Need.VALUES: values}
    before[Need.TESTIMONY] = scores
    after = {need: column[pair.step] for need, column in before.items() if need is not Need.VALUES}
    after[Need.VALUES] = _refined_values(pair, values, rng)
    return same | before, same | after


def _refined_values(pair: Refinement, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[S fine + N] the nodes that were there keep their value, those inside a cut step get one."""
    out = rng.uniform(0.0, 1.0, pair.fine.steps + pair.fine.rollouts)
    kept = np.diff(pair.step, prepend=-1) != 0
    out[(np.arange(pair.fine.steps) + pair.fine.rollout_of_step)[kept]] = values[
        np.arange(pair.coarse.steps) + pair.coarse.rollout_of_step
    ]
    ends = np.arange(1, pair.fine.rollouts + 1)
    out[pair.fine.step_starts[1:] + ends - 1] = values[pair.coarse.step_starts[1:] + ends - 1]
    return out


def _antisymmetric(size: int, rng: np.random.Generator) -> np.ndarray:
    """[size * size] how much each is preferred over each, flat."""
    drawn = rng.normal(size=(size, size))
    return (drawn - drawn.T).ravel()
