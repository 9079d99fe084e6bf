"""What the table of credit rules says of each rule: its function, what it needs, and its outcome part."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, final

import numpy as np
from jaxtyping import Float32

Advantages = Callable[..., Float32[np.ndarray, " T"]]
"""A credit rule: `(layout, signals..., *, settings) -> float32[T]`, the signals in the order of `Rule.needs`."""


class Need(StrEnum):
    """A signal that a rule reads."""

    OUTCOME = "outcome"
    """[N] +1 right, -1 wrong, NaN unscorable (`core.columns.rewards_of`)."""
    FLAGS = "flags"
    """[S] 1 incorrect or mismatched, 0 correct or matched, NaN unknown (`core.columns.flags_of`)."""
    SCORES = "scores"
    """[S] step scores, NaN unknown (`core.columns.scores_of`)."""


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
    """

    function: Advantages
    needs: tuple[Need, ...]
    settings: Callable[..., Any]
    unit: str
    outcome_part: Advantages | None
    source: str

    def unit_for(self, settings: object) -> str:
        """What the rule's steps should be under these settings."""
        return str(getattr(settings, "unit", self.unit))

    def reads_verdicts(self, settings: object) -> bool:
        """True if a judge is needed: the rule reads one, and its process weight is not 0."""
        weight = getattr(settings, "process_weight", 1.0)
        return weight != 0.0 and any(need is not Need.OUTCOME for need in self.needs)
