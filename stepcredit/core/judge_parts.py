"""Protocols beside `core.protocols`: models that read classes at tokens, and judges of whole solutions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
from jaxtyping import Float32, Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.records import Group, Verdict


@final
@dataclass(frozen=True)
class ClassLogits:
    """What a model says at some places of a text.

    Args:
        values: [P, C] logits of the C classes at each place. With two classes or more a row may be shifted by a
            constant of its own (log probabilities are logits too); with one class it is the logit itself.
        calls: ids of the calls in the attempts table; empty for an engine in this process.
    """

    values: Float32[np.ndarray, "P C"]
    calls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", frozen(self.values, np.float32))


class TokenClassifier(Protocol):
    """Gives the logits of a few classes at places of a token sequence: a head, or a few tokens of the vocabulary.

    Causal: what it says at a place depends on the tokens up to that place alone.
    """

    @property
    def fingerprint(self) -> str:
        """Weights or server, classes and settings: part of every cache key."""
        ...

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        ...

    async def context(self) -> int | None:
        """Most tokens that it reads at once, `None` if it does not say.

        Raises:
            EngineError, MachineError: if it cannot be reached.
        """
        ...

    async def classify(self, ids: Int32[np.ndarray, " X"], places: Int32[np.ndarray, " P"]) -> ClassLogits:
        """Logits at `places`, rising indices into `ids`; the token at a place is read before it is asked.

        Raises:
            EngineError: if no whole answer came within deadline and retries, or a number is not one.
            BudgetError: if a limit on calls or cost is reached.
        """
        ...


class OutcomeJudge(Protocol):
    """Scores whole solutions of one problem; judges that compare pairs are `core.protocols.GroupJudge`.

    Returns one verdict a rollout, in order. A rollout that the judge cannot decide gets `Verdict(reason=...)`, never 0.
    Scores of one call are on one scale, higher is better; those of two groups need not be.
    """

    @property
    def fingerprint(self) -> str:
        """Name, model, prompt version and settings: part of every cache key."""
        ...

    async def rate(self, group: Group) -> tuple[Verdict, ...]:
        """[N] verdicts on the group's outcomes.

        Raises:
            JudgeError: if the judge itself failed; carries the group id. Retries are the engine's.
            BudgetError: if a limit on calls or cost is reached.
        """
        ...


class CritiqueRater(Protocol):
    """Says how far a critique of several solutions can be trusted: a meta reward model."""

    @property
    def fingerprint(self) -> str:
        """Model and settings: part of every cache key."""
        ...

    async def rate_critique(self, problem: str, solutions: Sequence[str], critique: str) -> Verdict:
        """Score of one critique, higher is better; unknown with a reason where there is none.

        Args:
            problem: text of the problem.
            solutions: [N] texts in the order in which the critique saw them.
            critique: the whole reply that is rated.

        Raises:
            EngineError: if the model gave no answer.
            BudgetError: if a limit on calls or cost is reached.
        """
        ...
