"""What the table of credit rules says of each rule: its function, what it needs, and its outcome part."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, final

import numpy as np
from jaxtyping import Float32

from stepcredit.core.layout import Layout

Advantages = Callable[..., Float32[np.ndarray, " T"]]
"""A credit rule: `(layout, signals..., *, settings) -> float32[T]`, the signals in the order of `Rule.needs`."""


class Need(StrEnum):
    """A signal that a rule reads: one column in the order of the Layout, NaN where unknown.

    OUTCOME, FLAGS and SCORES are read from the records; the others are given to `assign` as `signals`.
    """

    OUTCOME = "outcome"
    """[N] +1 right, -1 wrong, NaN unscorable (`core.columns.rewards_of`)."""
    FLAGS = "flags"
    """[S] 1 incorrect or mismatched, 0 correct or matched, NaN unknown (`core.columns.flags_of`)."""
    SCORES = "scores"
    """[S] step scores, NaN unknown (`core.columns.scores_of`)."""
    LOG_RATIO = "log_ratio"
    """[T] log pi_old(token) - log pi_ref(token) in nats, both from the trainer's own forward pass where there is one;
    additive."""
    VALUES = "values"
    """[S + N] node values: for each rollout one before each of its steps, then one for its end."""
    TOKEN_SCORES = "token_scores"  # noqa: S105 -- no password
    """[T] a number a token, higher is better: PRIME's log phi - log phi_ref in nats, or Q-RM's logit."""
    BONUS = "bonus"
    """[N] an extra that lives where the outcome lives: exploration, length, creativity; higher is better."""
    PREFERENCES = "preferences"
    """[sum of G * G] for each group in order its G x G matrix, row after row: d[i, j] = -d[j, i] says by how much
    rollout i of the group is preferred over rollout j, in the group's order of rollouts; 0 on the diagonal."""
    OUTCOME_SCORES = "outcome_scores"
    """[N] a score a rollout on a scale of its own, higher is better: a sum of votes, a reward model's number."""
    TRAINED = "trained"
    """[T] 1 for tokens that the policy wrote, 0 for those that it only read (tool output); nothing is unknown."""
    NEUTRAL = "neutral"
    """[S] 1 for steps that earn and cost nothing, such as comment lines of code, 0 for the others."""

    TESTIMONY = "testimony"
    """[S] what the solutions of a group say of each other's steps, in [-1, 1]: above 0 borne out, below 0 refuted; NaN
    where nobody testifies (`judges.witness.witnessed`)."""

    def length_in(self, layout: Layout) -> int:
        """Entries that the signal's column has in this batch.

        >>> layout = Layout(np.array([0, 0, 1, 2]), np.array([0, 0, 1]), np.zeros(2))
        >>> [need.length_in(layout) for need in (Need.OUTCOME, Need.SCORES, Need.LOG_RATIO, Need.VALUES)]
        [2, 3, 4, 5]
        """
        if self in (Need.FLAGS, Need.SCORES, Need.NEUTRAL, Need.TESTIMONY):
            return layout.steps
        if self in (Need.LOG_RATIO, Need.TOKEN_SCORES, Need.TRAINED):
            return layout.tokens
        if self is Need.VALUES:
            return layout.steps + layout.rollouts
        if self is Need.PREFERENCES:
            return int((layout.rollouts_of_group**2).sum())
        return layout.rollouts


RECORDED = (Need.OUTCOME, Need.FLAGS, Need.SCORES)
"""Signals that `assign` reads from the records."""


def never(_settings: object) -> bool:
    """No settings do: ask for this optional signal, make the rule additive."""
    return False


def always(_settings: object) -> bool:
    """All settings do."""
    return True


@final
@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Args:
        function: the rule.
        needs: what it reads, in the order of its arguments after the layout.
        settings: the type of its settings, a frozen dataclass.
        unit: what its steps should be: `any`, `step` or `thought`; a settings field `unit` overrides it.
        outcome_part: `(layout, rewards, *, settings) -> float32[T]`, the part that no process signal changes; `None` if
            the rule has none. The rest is the process part, which keep rules and the shuffled control look at.
        source: paper or spec section.
        optional: signals that the function takes by keyword, under the need's name, and that may be left out: each with
            a function of the settings that says whether they ask for it (`never` if none does).
        additive: says of the settings whether cutting a step in two, its number copied to both halves, leaves the
            credit of its first token as it was, or for rules of node values the rollout's total (credit.md 3.2;
            `credit.additive.check_additive` tries it); None if nothing is declared.
        whole: says of the settings whether all tokens of a rollout get one number, so that a loss of whole rollouts
            (`gspo`) may follow.
    """

    function: Advantages
    needs: tuple[Need, ...]
    settings: Callable[..., Any]
    unit: str
    outcome_part: Advantages | None
    source: str
    optional: Mapping[Need, Callable[[Any], bool]] = field(default_factory=dict[Need, Callable[[Any], bool]])
    additive: Callable[[Any], bool] | None = None
    whole: Callable[[Any], bool] = never

    def unit_for(self, settings: object) -> str:
        """What the rule's steps should be under these settings."""
        return str(getattr(settings, "unit", self.unit))

    def reads_process(self, settings: object) -> bool:
        """True if the rule reads more than outcomes: it needs another signal, and its process weight is not 0."""
        weight = getattr(settings, "process_weight", 1.0)
        return weight != 0.0 and any(need is not Need.OUTCOME for need in self.needs)

    def reads_verdicts(self, settings: object) -> bool:
        """True if a judge is needed: the rule reads one, and its process weight is not 0."""
        return self.reads_process(settings) and any(need in (Need.FLAGS, Need.SCORES) for need in self.needs)

    def wanted(self, settings: object) -> tuple[Need, ...]:
        """Signals that must be given beside the records under these settings.

        With a process weight of 0 those that only the process part reads are not asked for.
        """
        needed = self.needs if self.reads_process(settings) else ()
        asked = tuple(need for need, asks in self.optional.items() if asks(settings))
        return tuple(need for need in (*needed, *asked) if need not in RECORDED)
