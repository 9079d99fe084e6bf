"""What can become of a chain of ThinkPRM: named statuses, counted; loops; the yes/no probability."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import final

from stepcredit.core.protocols import NextTokens
from stepcredit.judges.thinkprm.labels import StepLabels, contradicts


class Status(StrEnum):
    """How a chain ended; the judge's own failures are errors, not statuses.

    `truncated`: the score is a bound, as the engine did not name one of yes and no. `no_verdict`: labels are missing,
    or neither yes nor no was named. `loop` and `over_long`: the critique was cut, repeating itself or not; nothing is
    read from it. `contradicts`: labels and final answer say different things.
    """

    OK = "ok"
    TRUNCATED = "truncated"
    NO_VERDICT = "no_verdict"
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
        soft: [L] probability of `correct` at each label read, `None` where it was not named; empty if not asked.
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
    soft: tuple[float | None, ...] = ()
    tokens: int = 0
    calls: tuple[str, ...] = ()


def closed(chain: Chain) -> Chain:
    """The chain with its status, from what was read of it.

    >>> closed(Chain(Status.OK, 0.2, StepLabels((True,), 1))).status
    <Status.CONTRADICTS: 'contradicts'>
    """
    if chain.labels is None or chain.score is None:
        missing = "a step label" if chain.labels is None else "yes and no among the named tokens"
        return replace(chain, status=Status.NO_VERDICT, reason=f"the critique lacks {missing}")
    if contradicts(chain.labels, chain.score):
        return replace(chain, status=Status.CONTRADICTS)
    return replace(chain, status=Status.TRUNCATED if chain.truncated else Status.OK)


def pair_probability(following: NextTokens, temperature: float = 1.0) -> tuple[float | None, bool]:
    """Probability of the first of two candidates against the second, and whether it rests on a bound.

    s = exp(l_1 / t) / (exp(l_1 / t) + exp(l_2 / t)); a candidate that was not named counts with the smallest log
    probability that was.

    Args:
        following: log probabilities of the two, in nats.
        temperature: t, above 0.

    Returns:
        The probability, `None` if neither was named, and True if one was not.

    Source: thinkprm.md 4.4. Differs: a log probability of exactly 0 is one like any other.

    >>> import numpy as np
    >>> score, truncated = pair_probability(NextTokens(np.log(np.array([0.6, 0.2])), -9.0))
    >>> round(score, 6), truncated
    (0.75, False)
    """
    first, second = (float(value) for value in following.logprobs)
    truncated = math.isnan(first) or math.isnan(second)
    if truncated and (math.isnan(following.bound) or (math.isnan(first) and math.isnan(second))):
        return None, True
    first = following.bound if math.isnan(first) else first
    second = following.bound if math.isnan(second) else second
    if first == second:
        return (None if math.isinf(first) else 0.5), truncated
    difference = (first - second) / temperature
    if difference < 0:
        ratio = math.exp(max(difference, -745.0))
        return ratio / (1.0 + ratio), truncated
    return 1.0 / (1.0 + math.exp(-min(difference, 745.0))), truncated


def is_looping(text: str, *, repeats: int = 4, shortest: int = 200, window: int = 20_000) -> bool:
    """True if the text ends in one passage written `repeats` times or more, `shortest` characters long in all.

    Args:
        text: a critique that was cut: one that ended by itself may list equal verdicts.
        repeats: how often the passage must stand there.
        shortest: characters that the repetitions must fill.
        window: characters of the end that are looked at.

    Source: own (Z function of the reversed text, linear). Differs: thinkprm.md 7 names the detector, not its rule.

    >>> is_looping("Step 1. " + "Wait, let me check again. " * 9), is_looping("Step 1. " * 3 + "Step 2 is wrong.")
    (True, False)
    """
    reverse = text[-window:][::-1]
    size, matched = len(reverse), [0] * len(reverse)
    left = right = 0
    for place in range(1, size):
        run = min(right - place, matched[place - left]) if place < right else 0
        while place + run < size and reverse[run] == reverse[place + run]:
            run += 1
        matched[place] = run
        if place + run > right:
            left, right = place, place + run
        if run + place >= max(repeats * place, shortest):
            return True
    return False


@final
@dataclass(frozen=True)
class ChainCounts:
    """Counts over many chains.

    Args:
        chains: chains ended.
        statuses: chains by status.
        resampled: chains that stand for a first one without a verdict.
        bounds: chains whose score is a bound, contradicting ones included.
        scores: scores read.
        at_zero: scores below 0.01.
        at_one: scores above 0.99.
        tokens: tokens written.
    """

    chains: int = 0
    statuses: MappingProxyType[Status, int] = field(default_factory=lambda: MappingProxyType({}))
    resampled: int = 0
    bounds: int = 0
    scores: int = 0
    at_zero: int = 0
    at_one: int = 0
    tokens: int = 0

    def plus(self, chains: Iterable[Chain]) -> "ChainCounts":
        """These counts and those of more chains.

        >>> counts = ChainCounts().plus([Chain(Status.OK, 0.999), Chain(Status.LOOP)])
        >>> counts.chains, counts.statuses[Status.LOOP], counts.at_one
        (2, 1, 1)
        """
        more = list(chains)
        scores = [chain.score for chain in more if chain.score is not None]
        statuses = Counter(self.statuses)
        statuses.update(chain.status for chain in more)
        return ChainCounts(
            self.chains + len(more),
            MappingProxyType(dict(statuses)),
            self.resampled + sum(chain.resampled for chain in more),
            self.bounds + sum(chain.truncated and chain.score is not None for chain in more),
            self.scores + len(scores),
            self.at_zero + sum(score < 0.01 for score in scores),
            self.at_one + sum(score > 0.99 for score in scores),
            self.tokens + sum(chain.tokens for chain in more),
        )

    @property
    def saturation(self) -> float | None:
        """Share of the scores below 0.01 or above 0.99, `None` without scores."""
        return (self.at_zero + self.at_one) / self.scores if self.scores else None

    @property
    def saturated(self) -> bool:
        """True if 9 of 10 scores, of at least 20, are piled up at 0 and 1: they order hardly anything."""
        return self.scores >= 20 and self.at_zero + self.at_one >= 0.9 * self.scores
