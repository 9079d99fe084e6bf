"""The tabular part of the microscope: a small world with steps in which every expectation is a sum over all cases.

The world copies world E in small: two facts, each guessed (1 right, 0 wrong), checked (1 `ok`, 0 `no`) and after a `no`
guessed again; the reward is +1 if both facts stand right at the end, else -1. That is 36 solutions of 4 to 6 tokens.
The policy is a table with one row of logits a prefix, a table a problem. Groups of four are enumerated too, as
multisets with their probabilities, so that what a rule's estimator does on average is known to rounding.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations_with_replacement, product
from typing import Any

import numpy as np

from stepcredit.core.layout import Layout
from stepcredit.core.seeds import derive
from stepcredit.credit import RULES, Need
from stepcredit.testing.enumerated import Enumeration, cosine, log_softmax

FACT = ((0, 1), (1, 1), *product((0, 1), (0,), (0, 1)))
"""guess, ok; or guess, no, guess again."""

PAIRS = tuple(product(FACT, FACT))
TREE = Enumeration([(*first, *second) for first, second in PAIRS])
KIND = np.array([kind for pair in PAIRS for fact in pair for kind in range(len(fact))])
"""[X] 0 a guess, 1 a check, 2 a second guess; each token is a step of its own."""

FACT_OF_TOKEN = np.array([place for pair in PAIRS for place, fact in enumerate(pair) for _ in fact])
REWARDS = np.array(
    [1.0 if all(fact[-1] == 1 and fact[0] + len(fact) != 2 for fact in pair) else -1.0 for pair in PAIRS]
)

EASE = (1.2, 0.3, -0.6)
"""Mean logit of the right symbol over the wrong one: one problem each, from easy to hard."""

GROUP_SIZE = 4
ETA = 10.0
FLIPPED = 0.2
RATE = 3.0


def right_choices() -> np.ndarray:
    """[X] True for right guesses, and checks that say what is so."""
    truth = TREE.ids == 1
    checks = KIND == 1
    truth[checks] = TREE.ids[checks] == TREE.ids[np.flatnonzero(checks) - 1]
    return truth


RIGHT = right_choices()


def start_of(problem: int, *, seed: int) -> np.ndarray:
    """[R, 2] logits of the first policy: normal, with the problem's ease on the right symbols."""
    rng = np.random.default_rng(derive(seed, "microscope", problem))
    ease = np.zeros(TREE.rows * 2)
    ease[TREE.edges[RIGHT]] = EASE[problem]
    return rng.normal(scale=0.7, size=(TREE.rows, 2)) + ease.reshape(-1, 2)


def true_gradient(logits: np.ndarray) -> np.ndarray:
    """[R, 2] gradient of the expected reward."""
    return TREE.gradient(logits, REWARDS[TREE.owner])


def stages(updates: tuple[int, ...], *, seed: int) -> list[list[np.ndarray]]:
    """Logits of every problem after so many steps of exact gradient ascent on the mean of their expected rewards."""
    tables = [start_of(problem, seed=seed) for problem in range(len(EASE))]
    found: list[list[np.ndarray]] = []
    for index in range(max(updates) + 1):
        if index in updates:
            found.append([table.copy() for table in tables])
        tables = [table + RATE / len(EASE) * true_gradient(table) for table in tables]
    return found


@dataclass(frozen=True)
class Groups:
    """Groups of solutions, and their tokens laid end to end.

    Args:
        members: [M, G] solution of each member.
    """

    members: np.ndarray

    @cached_property
    def token(self) -> np.ndarray:
        """[t] token of the enumeration at each token of the batch."""
        whole = self.members.ravel()
        sizes = TREE.lengths[whole]
        return np.repeat(TREE.starts[whole] - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())

    @cached_property
    def rollout(self) -> np.ndarray:
        """[t] rollout of each token."""
        return np.repeat(np.arange(self.members.size), TREE.lengths[self.members.ravel()])

    @cached_property
    def group(self) -> np.ndarray:
        """[t] group of each token."""
        return self.rollout // self.members.shape[1]

    @cached_property
    def cell(self) -> np.ndarray:
        """[t] place of each token's edge in a [M, R * V] table."""
        return self.group * (TREE.rows * TREE.symbols) + TREE.edges[self.token]

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """The batch in steps of one token, and in facts."""
        owner = np.repeat(np.arange(len(self.members)), self.members.shape[1])
        facts = 2 * self.rollout + FACT_OF_TOKEN[self.token]
        return {
            "token": Layout(np.arange(len(self.token)), self.rollout, owner),
            "fact": Layout(facts, np.arange(2 * self.members.size) // 2, owner),
        }


def multisets() -> tuple[np.ndarray, np.ndarray]:
    """[M, G] every group without regard to order, and [M] in how many orders it can be drawn."""
    members = np.array(list(combinations_with_replacement(range(len(PAIRS)), GROUP_SIZE)))
    counts = np.zeros((len(members), len(PAIRS)), np.int64)
    np.add.at(counts, (np.arange(len(members))[:, None], members), 1)
    factorial = np.array([math.factorial(n) for n in range(GROUP_SIZE + 1)], float)
    return members, math.factorial(GROUP_SIZE) / factorial[counts].prod(1)


@dataclass(frozen=True)
class Signals:
    """What judges, references and models of rewards say at one policy, a column over the tokens of the enumeration.

    Args:
        logits: the policy.
        start: the first policy: the reference, and what the older models were fitted to.
        seed: of the noisy judge and of the votes.
    """

    logits: np.ndarray
    start: np.ndarray
    seed: int

    @cached_property
    def noisy(self) -> np.ndarray:
        """[X] the truth, wrong on a fixed fifth of the choices: a judge that repeats its mistakes."""
        rng = np.random.default_rng(derive(self.seed, "noisy"))
        flipped = rng.random(TREE.rows * TREE.symbols) < FLIPPED
        return RIGHT ^ flipped[TREE.edges]

    def before(self, *, stale: bool = False) -> np.ndarray:
        """[R] expected reward before each choice, under the policy or the first one."""
        return TREE.values(self.start if stale else self.logits, REWARDS)[0]

    def after(self, *, stale: bool = False) -> np.ndarray:
        """[X] expected reward after each token."""
        return TREE.values(self.start if stale else self.logits, REWARDS)[1].ravel()[TREE.edges]

    @cached_property
    def advantages(self) -> np.ndarray:
        """[X] the true advantage of each token."""
        return self.after() - self.before()[TREE.row_of_token]

    @cached_property
    def implicit(self) -> np.ndarray:
        """[X] log phi - log phi_ref of an ideal outcome model: phi ~ phi_ref exp(reward), phi_ref the first policy."""
        before, after = TREE.values(self.start, np.exp(REWARDS))
        return np.log(after.ravel()[TREE.edges] / before[TREE.row_of_token])

    @cached_property
    def votes(self) -> np.ndarray:
        """[N] a judge's sum of votes: the outcome, the share of right steps, and an error that it repeats."""
        rng = np.random.default_rng(derive(self.seed, "votes"))
        share = np.bincount(TREE.owner, weights=RIGHT) / TREE.lengths
        return REWARDS + share + 0.5 * rng.normal(size=len(REWARDS))


@dataclass(frozen=True)
class Row:
    """One line of the table: a rule, its settings, its signals, and the unit that it is paid in.

    Args:
        rule: name in the table of rules.
        told: which signal it gets, in words.
        columns: makes the signals that the rule needs beside the outcome, given the signals and the batch.
        settings: of the rule.
        unit: `token` or `fact`.
        theory: what theory says of its bias.
        drawn: True if the signal is random, so that groups are drawn and not enumerated.
    """

    rule: str
    told: str
    theory: str
    columns: Callable[[Signals, Groups], Mapping[Need, np.ndarray]] = lambda _signals, _groups: {}
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    unit: str = "token"
    drawn: bool = False

    def paid(self, groups: Groups, signals: Signals) -> np.ndarray:
        """[t] advantages of the batch."""
        line = RULES[self.rule]
        made = line.settings(**self.settings)
        rewards = REWARDS[groups.members.ravel()]
        given = {Need.OUTCOME: rewards, **self.columns(signals, groups)}
        layout = groups.layouts[self.unit]
        named = {str(need): given[need] for need in line.optional if need in given}
        paid = line.function(layout, *(given[need] for need in line.needs), settings=made, **named)
        return paid.astype(np.float64)


@dataclass(frozen=True)
class Look:
    """What one rule's estimator does on one problem: sums over groups, weighted by their probability.

    Args:
        mean: [R, 2] expected estimate, a group's gradient over its size.
        square: expected squared norm of one group's estimate.
        cosine: expected cosine of one group's estimate with the true gradient; an estimate of 0 counts 0.
        moments: weighted sums over tokens of 1, paid, true, paid^2, true^2 and paid * true.
    """

    mean: np.ndarray
    square: float
    cosine: float
    moments: np.ndarray


def look(row: Row, groups: Groups, weights: np.ndarray, signals: Signals) -> Look:
    """One rule on one problem; `weights` [M] are the probabilities of the groups."""
    paid = row.paid(groups, signals)
    cells = np.bincount(groups.cell, weights=paid / GROUP_SIZE, minlength=len(weights) * TREE.rows * 2)
    cells = cells.reshape(-1, TREE.rows, 2)
    chance = np.exp(log_softmax(signals.logits))
    first = cells[:, :, 0] * chance[:, 1] - cells[:, :, 1] * chance[:, 0]  # of two logits, the other's is its negative
    true = true_gradient(signals.logits)[:, 0]
    squares, products = 2.0 * (first**2).sum(1), 2.0 * first @ true
    sizes = np.sqrt(squares * 2.0 * (true @ true))
    cosines = np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 1e-12)
    mean = weights @ first
    weight, want = weights[groups.group], signals.advantages[groups.token]
    own = weight * paid
    moments = [weight.sum(), own.sum(), weight @ want, own @ paid, (weight * want) @ want, own @ want]
    return Look(np.stack([mean, -mean], 1), float(weights @ squares), float(weights @ cosines), np.array(moments))


def figures(looks: list[Look], tables: list[np.ndarray]) -> dict[str, float]:
    """Figures of a rule over all problems, each asked equally often; see the legend of the report."""
    mean = np.stack([one.mean for one in looks])
    true = np.stack([true_gradient(table) for table in tables])
    size = float((mean**2).sum())
    spread = sum(one.square for one in looks) - size
    total, paid, want, paid2, want2, both = sum(one.moments for one in looks)
    covariance = both / total - paid * want / total**2
    scale = math.sqrt(max(paid2 / total - (paid / total) ** 2, 0.0) * max(want2 / total - (want / total) ** 2, 0.0))
    along = cosine(mean, true)
    return {
        "cosine": along,
        "off": math.sqrt(max(1.0 - along**2, 0.0)),
        "within": float(np.mean([cosine(one, other) for one, other in zip(mean, true, strict=True)])),
        "scale": float((mean * true).sum() / (true**2).sum()),
        "noise": spread / size if size else float("nan"),
        "one_group": float(np.mean([one.cosine for one in looks])),
        "advantages": covariance / scale if scale > 1e-12 else float("nan"),
    }


def measured(rows: Mapping[str, Row], *, updates: tuple[int, ...], draws: int, seed: int) -> list[dict[str, Any]]:
    """A report a stage: accuracy of each problem, and the figures of each rule."""
    starts = [start_of(problem, seed=seed) for problem in range(len(EASE))]
    members, orders = multisets()
    every = Groups(members)
    found: list[dict[str, Any]] = []
    for index, tables in zip(updates, stages(updates, seed=seed), strict=True):
        looks: dict[str, list[Look]] = {name: [] for name in rows}
        for problem, (table, start) in enumerate(zip(tables, starts, strict=True)):
            signals = Signals(table, start, derive(seed, "signals", problem))
            chance = TREE.probabilities(table)
            rng = np.random.default_rng(derive(seed, "drawn", index, problem))
            drawn = Groups(rng.choice(len(PAIRS), (draws, GROUP_SIZE), p=chance / chance.sum()))
            ways = {False: (every, orders * chance[members].prod(1)), True: (drawn, np.full(draws, 1.0 / draws))}
            for name, row in rows.items():
                looks[name].append(look(row, *ways[row.drawn], signals))
        right = [float(TREE.probabilities(table)[REWARDS > 0].sum()) for table in tables]
        told = {name: figures(mine, tables) for name, mine in looks.items()}
        found.append({"updates": index, "accuracy": right, "rules": told, "kl": kl_parts(looks, tables, starts)})
    return found


def kl_parts(looks: Mapping[str, list[Look]], tables: list[np.ndarray], starts: list[np.ndarray]) -> dict[str, float]:
    """Cosine of PRL's process part with the gradient of -KL(policy || start) / eta; none where that is 0."""
    costs: list[np.ndarray] = []
    for table, start in zip(tables, starts, strict=True):
        whole = TREE.log_probabilities(table) - TREE.log_probabilities(start)
        costs.append(-TREE.gradient(table, whole[TREE.owner]) / ETA)
    true, base = np.stack(costs), np.stack([one.mean for one in looks["grpo"]])
    if (true**2).sum() < 1e-12:
        return {}
    return {
        name: cosine(np.stack([one.mean for one in mine]) - base, true)
        for name, mine in looks.items()
        if name.startswith(("prl", "frpo"))
    }
