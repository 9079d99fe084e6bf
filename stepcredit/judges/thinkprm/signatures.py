"""What can become of a chain of ThinkPRM: named statuses, counted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import final

from stepcredit.judges.tallies import NEAR, Tally
from stepcredit.judges.thinkprm.labels import StepLabels, compare_labels, contradicts


class Status(StrEnum):
    """How a chain ended; the judge's own failures are errors, not statuses.

    `truncated`: the score is a bound, as the engine did not name one of yes and no. `no_verdict`: there are no labels,
    or neither yes nor no was named. `stopped_early`: labels of the first steps, all correct, and none of the others.
    `loop` and `over_long`: the critique was cut, repeating itself or not; nothing is read from it. `contradicts`:
    labels and final answer say different things.
    """

    OK = "ok"
    TRUNCATED = "truncated"
    NO_VERDICT = "no_verdict"
    STOPPED_EARLY = "stopped_early"
    LOOP = "loop"
    OVER_LONG = "over_long"
    CONTRADICTS = "contradicts"


@final
@dataclass(frozen=True)
class Chain:
    """One critique and what was read from it.

    Args:
        status: how it ended; contradiction goes before truncation.
        score: probability of yes, `None` if it was not read.
        labels: of its steps, `None` if they are not complete.
        critique: what it wrote, for people.
        reason: why something is missing, empty if nothing is.
        truncated: True if the score is a bound.
        resampled: True if it stands for a first one without a verdict.
        leaked: True if the critique holds special tokens of the chat, spelt out.
        partial: labels that stand there where they are not complete.
        soft: [L] probability of `correct` at each label read, `None` where it was not named; empty if not asked.
        labels_from: where in the critique the round begins that the labels are of.
        tokens: tokens written, those of a first try included.
        calls: ids of its calls.
    """

    status: Status
    score: float | None = None
    labels: StepLabels | None = None
    critique: str = ""
    reason: str = ""
    truncated: bool = False
    resampled: bool = False
    leaked: bool = False
    partial: int = 0
    soft: tuple[float | None, ...] = ()
    labels_from: int = 0
    tokens: int = 0
    calls: tuple[str, ...] = ()


def closed(chain: Chain) -> Chain:
    """The chain with its status, from what was read of it.

    >>> closed(Chain(Status.OK, 0.2, StepLabels((True,), 1))).status
    <Status.CONTRADICTS: 'contradicts'>
    """
    if chain.labels is None and chain.partial:
        reason = f"the critique stops after {chain.partial} labels, none of them incorrect"
        return replace(chain, status=Status.STOPPED_EARLY, reason=reason)
    if chain.labels is None or chain.score is None:
        missing = "a step label" if chain.labels is None else "yes and no among the named tokens"
        return replace(chain, status=Status.NO_VERDICT, reason=f"the critique lacks {missing}")
    if contradicts(chain.labels, chain.score):
        return replace(chain, status=Status.CONTRADICTS)
    return replace(chain, status=Status.TRUNCATED if chain.truncated else Status.OK)


@final
@dataclass(frozen=True)
class ChainCounts:
    """Counts over many chains.

    Args:
        chains: chains ended.
        statuses: chains by status.
        resampled: chains that stand for a first one without a verdict.
        leaked: chains that hold special tokens of the chat, spelt out.
        bounds: chains whose score is a bound, contradicting ones included.
        scores: scores read.
        at_zero: scores below 0.01.
        at_one: scores above 0.99.
        tokens: tokens written.
        sunk: labels that chains give unseen, having stopped at an error before, to steps that most of the chains that
            looked call correct: label interference.
        compared: labels of several chains on steps that at least one of them looked at, those of `sunk` included.
    """

    chains: int = 0
    statuses: MappingProxyType[Status, int] = field(default_factory=lambda: MappingProxyType({}))
    resampled: int = 0
    leaked: int = 0
    bounds: int = 0
    scores: int = 0
    at_zero: int = 0
    at_one: int = 0
    tokens: int = 0
    sunk: int = 0
    compared: int = 0

    def plus(self, chains: Iterable[Chain], *, same_steps: bool = False) -> "ChainCounts":
        """These counts and those of more chains.

        Args:
            chains: ended chains.
            same_steps: True if all of them judge the same steps, which are compared.

        >>> counts = ChainCounts().plus([Chain(Status.OK, 0.999), Chain(Status.LOOP)])
        >>> counts.chains, counts.statuses[Status.LOOP], counts.at_one
        (2, 1, 1)
        """
        more = list(chains)
        scores = [chain.score for chain in more if chain.score is not None]
        statuses = Counter(self.statuses)
        statuses.update(chain.status for chain in more)
        read = [chain.labels for chain in more if chain.labels is not None]
        steps = compare_labels(read) if same_steps and len(read) > 1 else ()
        looked = [step for step in steps if step.interference is not None]
        return ChainCounts(
            self.chains + len(more),
            MappingProxyType(dict(statuses)),
            self.resampled + sum(chain.resampled for chain in more),
            self.leaked + sum(chain.leaked for chain in more),
            self.bounds + sum(chain.truncated and chain.score is not None for chain in more),
            self.scores + len(scores),
            self.at_zero + sum(score < NEAR for score in scores),
            self.at_one + sum(score > 1 - NEAR for score in scores),
            self.tokens + sum(chain.tokens for chain in more),
            self.sunk + sum(step.sunk for step in looked if step.interference),
            self.compared + sum(step.correct + step.incorrect + step.sunk for step in looked),
        )

    def tally(self) -> Tally:
        """The counts by name: `chains`, every status, and the rest.

        >>> found = ChainCounts().plus([Chain(Status.LOOP)]).tally()
        >>> [(name, count) for name, count in found.items() if count]
        [('chains', 1), ('loop', 1)]
        """
        return {
            "chains": self.chains,
            **{status.value: self.statuses.get(status, 0) for status in Status},
            "resampled": self.resampled,
            "leaks": self.leaked,
            "bounds": self.bounds,
            "scores": self.scores,
            "at_zero": self.at_zero,
            "at_one": self.at_one,
            "output_tokens": self.tokens,
            "sunk": self.sunk,
            "compared": self.compared,
        }

    @property
    def interference(self) -> float | None:
        """Share of `compared` that is `sunk`, `None` without several chains on the same steps."""
        return self.sunk / self.compared if self.compared else None

    @property
    def saturation(self) -> float | None:
        """Share of the scores below 0.01 or above 0.99, `None` without scores."""
        return (self.at_zero + self.at_one) / self.scores if self.scores else None

    @property
    def saturated(self) -> bool:
        """True if 9 of 10 scores, of at least 20, are piled up at 0 and 1: they order hardly anything."""
        return self.scores >= 20 and self.at_zero + self.at_one >= 0.9 * self.scores
