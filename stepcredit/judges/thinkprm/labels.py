r"""Step labels of a critique: `\boxed{correct}` and `\boxed{incorrect}` in order, and chains compared by them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.errors import JudgeError

_WORD = r"\s*(correct|incorrect)\s*"
_BOX = re.compile(rf"\\boxed\{{(?:{_WORD}|\s*\\text\{{{_WORD}\}}\s*)\}}")


@final
@dataclass(frozen=True)
class StepLabels:
    """What one chain says of the steps.

    Args:
        read: labels that stand in the critique, True = correct; at most one a step, in order.
        steps: K, number of steps judged.

    The chain stops at its first error: steps after `read` count as incorrect in `labels`, but were not looked at.
    """

    read: tuple[bool, ...]
    steps: int

    @property
    def labels(self) -> tuple[bool, ...]:
        """[K] labels, filled up with incorrect."""
        return self.read + (False,) * (self.steps - len(self.read))

    @property
    def first_error(self) -> int | None:
        """Index of the first incorrect step, `None` if there is none."""
        return self.read.index(False) if False in self.read else None

    @property
    def own(self) -> tuple[bool | None, ...]:
        """[K] labels that stand in the critique; `None` where it had stopped, as an early error may have sunk those."""
        return self.read + (None,) * (self.steps - len(self.read))


def read_labels(critique: str, steps: int) -> StepLabels | None:
    r"""Labels of a critique, `None` if a label is missing although no step was called incorrect.

    Boxes with other contents are passed over; of more labels than steps the first ones count.

    Args:
        critique: what the chain wrote.
        steps: K, number of steps given.

    Source: thinkprm.md 4.5. Differs: none.

    >>> read_labels(r"Step 1: \boxed{correct} Step 2: \boxed{\text{incorrect}}", 3).labels
    (True, False, False)
    >>> read_labels(r"Step 1: \boxed{correct}", 2) is None
    True
    """
    found = tuple(match[match.lastindex or 1] == "correct" for match in _BOX.finditer(critique))[:steps]
    return StepLabels(found, steps) if False in found or len(found) == steps else None


def label_places(critique: str, steps: int) -> tuple[int, ...]:
    r"""Where the words of the first `steps` labels begin: right after `\boxed{` or `\text{`.

    >>> label_places(r"a \boxed{correct} b \boxed{12} \boxed{\text{incorrect}}", 5)
    (9, 44)
    """
    return tuple(match.start(match.lastindex or 1) for match in _BOX.finditer(critique))[:steps]


def label_ends(critique: str, steps: int) -> tuple[int, ...]:
    r"""Where the boxes of the first `steps` labels end.

    >>> label_ends(r"a \boxed{correct} b \boxed{12} \boxed{\text{incorrect} } c", 5)
    (17, 56)
    """
    return tuple(match.end() for match in _BOX.finditer(critique))[:steps]


def contradicts(labels: StepLabels, score: float) -> bool:
    """True if the labels and the final answer say different things: no step incorrect but a score below 1/2, or back.

    >>> contradicts(StepLabels((True, True), 2), 0.1), contradicts(StepLabels((False,), 2), 0.1)
    (True, False)
    """
    return (labels.first_error is None) != (score >= 0.5)


@final
@dataclass(frozen=True)
class StepComparison:
    """How several chains over the same steps agree on one step.

    Args:
        correct: chains that looked at it and called it correct.
        incorrect: chains that looked at it and called it incorrect.
        sunk: chains that had stopped at an error before it, and so count it as incorrect unseen.
    """

    correct: int
    incorrect: int
    sunk: int

    @property
    def interference(self) -> float | None:
        """Share of the chains that call it wrong unseen, where most chains that looked call it correct.

        0 where those that looked call it incorrect or are split; `None` if no chain looked at it.
        """
        if not self.correct + self.incorrect:
            return None
        return self.sunk / (self.correct + self.incorrect + self.sunk) if self.correct > self.incorrect else 0.0


def compare_labels(chains: Sequence[StepLabels]) -> tuple[StepComparison, ...]:
    """[K] how chains over the same steps agree: an early wrong `incorrect` that sinks the rest shows as interference.

    Args:
        chains: the labels of at least one chain.

    Raises:
        JudgeError: if there is no chain, or their numbers of steps differ.

    Source: thinkprm.md 7 (label interference). Differs: the measure is our own.

    >>> seen = compare_labels([StepLabels((True, True), 2), StepLabels((True, True), 2), StepLabels((False,), 2)])
    >>> [(step.correct, step.incorrect, step.sunk, step.interference) for step in seen]
    [(2, 1, 0, 0.0), (2, 0, 1, 0.3333333333333333)]
    """
    sizes = {chain.steps for chain in chains}
    if len(sizes) != 1:
        raise JudgeError(
            f"chains over the same steps are compared, got {len(chains)} chains over {sorted(sizes)} steps"
        )
    columns = zip(*(chain.own for chain in chains), strict=True)
    return tuple(StepComparison(column.count(True), column.count(False), column.count(None)) for column in columns)
