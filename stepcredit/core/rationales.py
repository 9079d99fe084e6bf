"""What a judge wrote while it judged: one rationale a vote, told by judges, heard by whoever keeps them.

A verdict is the number; this is why. Texts are long, so they are no part of a verdict: a judge tells them on the side
(`tell`), a walk hears them around one judgement (`hearing`) and puts them on disk. Wrappers need not know: what is told
inside a judgement, in tasks of its own too, reaches whoever hears around it. Where nobody hears, nothing is kept.
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, final

PassageKind = Literal["written", "forced", "code", "output"]
"""What the model wrote, what we wrote in its name, code that it wrote, and what running that code really gave."""


@final
@dataclass(frozen=True)
class Passage:
    """A stretch of a rationale.

    Args:
        kind: whose words these are.
        text: as it was written.
        step: index of the step that it speaks of, `None` if of no single one.
        status: what became of it, in words: how code ended, that it was dropped; empty where nothing is to be said.
    """

    kind: PassageKind
    text: str
    step: int | None = None
    status: str = ""


@final
@dataclass(frozen=True)
class Rationale:
    """One vote of a judge, in its own words.

    Args:
        name: which vote: `chain 2`, `pass 1`, `reply 1` ...
        first: index of the first step that it scores.
        scores: [n] what it says of the steps from `first` on, on the judge's scale, before any calibration; `None`
            where it says nothing that counts.
        passages: its texts, in order.
        verdict: what it says at its end, in words: the verdict that was forced, or that was read; empty if none was.
        status: how it ended, where that matters: names of what went wrong.
    """

    name: str
    first: int = 0
    scores: tuple[float | None, ...] = ()
    passages: tuple[Passage, ...] = ()
    verdict: str = ""
    status: str = ""

    @property
    def characters(self) -> int:
        """Length of its texts."""
        return sum(len(passage.text) for passage in self.passages)

    def score_of(self, step: int) -> float | None:
        """What it says of a step, `None` if nothing.

        >>> said = Rationale("pass 1", first=2, scores=(0.25,))
        >>> said.score_of(2), said.score_of(3)
        (0.25, None)
        """
        return self.scores[step - self.first] if self.covers(step) else None

    def covers(self, step: int) -> bool:
        """True if it was asked about the step."""
        return self.first <= step < self.first + len(self.scores)


_hearer: ContextVar[list[Rationale] | None] = ContextVar("hearer of rationales", default=None)


@contextmanager
def hearing() -> Generator[list[Rationale]]:
    """Collects what judges tell inside the block; whoever hears around it hears none of that.

    >>> with hearing() as said:
    ...     tell([Rationale("reply 1")])
    >>> [rationale.name for rationale in said]
    ['reply 1']
    """
    said: list[Rationale] = []
    token = _hearer.set(said)
    try:
        yield said
    finally:
        _hearer.reset(token)


def tell(rationales: Iterable[Rationale]) -> None:
    """Say why: for judges, once all of a judgement's texts are there, in an order that no order of arrival changes."""
    said = _hearer.get()
    if said is not None:
        said.extend(rationales)
