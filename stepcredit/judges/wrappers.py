"""Judges made of judges: several that vote, one calibrated, one with a budget, one that is flipped on purpose."""

import asyncio
import math
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from statistics import fmean
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Judge, Scale
from stepcredit.core.rationales import Rationale, hearing, tell
from stepcredit.core.records import Label, Steps, Verdict
from stepcredit.core.seeds import derive
from stepcredit.judges.metering import Meter, Spending
from stepcredit.judges.together import together
from stepcredit.judges.verdicts import LABEL_SCORE, OPPOSITE, unknown

OVER_BUDGET = "the budget is used up"
"""How the reason begins where a judge was not asked because its budget had no room."""

_CLIP = 1e-6


def vote(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict from several on the same step: the label that most gave, and the mean of the scores given.

    Unknown verdicts do not vote. Labels that tie give an unknown verdict, with the count as reason. The score is the
    mean over the verdicts that have one, but none where the label that won carries none (`mismatched`).

    Args:
        verdicts: at least one, on one scale.

    >>> right, wrong = Verdict(1.0, Label.CORRECT), Verdict(0.0, Label.INCORRECT)
    >>> vote([right, right, wrong]).label, round(vote([right, right, wrong]).score, 3)
    (<Label.CORRECT: 'correct'>, 0.667)
    >>> vote([right, wrong]).reason
    'labels tie: 1 correct, 1 incorrect'
    """
    calls = tuple(call for verdict in verdicts for call in verdict.calls)
    known = [verdict for verdict in verdicts if verdict.known]
    if not known:
        return replace(verdicts[0], calls=calls)
    scores = [verdict.score for verdict in known if verdict.score is not None]
    score = fmean(scores) if scores else None
    counts = Counter(verdict.label for verdict in known if verdict.label is not None).most_common()
    if not counts:
        return Verdict(score, None, known[0].reason, calls)
    label, most = counts[0]
    if len(counts) > 1 and counts[1][1] == most:
        tie = ", ".join(f"{count} {name}" for name, count in sorted(counts))
        return Verdict(reason=f"labels tie: {tie}", calls=calls)
    winners = [verdict for verdict in known if verdict.label == label]
    silent = all(verdict.score is None for verdict in winners)
    return Verdict(None if silent else score, label, winners[0].reason, calls)


@final
class VotingJudge:
    """Asks several judges (usually one with several seeds) and takes the `vote` on every step.

    Args:
        judges: at least one, all on one scale; an odd number avoids ties.

    Raises:
        UsageError: if there is no judge, or scales differ.

    Source: tp_grpo.md 6, F3 (vote of n = 3). Differs: whole judgements vote, not single replies.
    """

    def __init__(self, judges: Sequence[Judge]) -> None:
        scales = {judge.scale for judge in judges}
        if len(scales) != 1:
            named = ", ".join(sorted(scales)) or "none"
            raise UsageError(f"voting needs at least one judge and one scale, got {len(judges)} judges with {named}")
        self._judges = tuple(judges)
        scale = scales.pop()
        self._scale = Scale.PROBABILITY if scale is Scale.BINARY and len(judges) > 1 else scale

    @property
    def fingerprint(self) -> str:
        """Of the judges, in order."""
        return f"vote:{digest([judge.fingerprint for judge in self._judges])}"

    @property
    def scale(self) -> Scale:
        """That of the judges; the mean of binary scores is a probability."""
        return self._scale

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] votes.

        Raises:
            JudgeError: if one of the judges failed.
        """
        heard = await together(_heard(judge, steps, number=k) for k, judge in enumerate(self._judges, 1))
        for _, said in heard:
            tell(said)
        return tuple(vote(ballot) for ballot in zip(*(verdicts for verdicts, _ in heard), strict=True))


async def _heard(judge: Judge, steps: Steps, *, number: int) -> tuple[tuple[Verdict, ...], list[Rationale]]:
    """A ballot, and what its judge told; one that told nothing votes all the same."""
    with hearing() as said:
        verdicts = await judge.judge(steps)
    name = f"judge {number}"
    if not said:
        return verdicts, [Rationale(name, 0, tuple(verdict.score for verdict in verdicts))]
    return verdicts, [replace(rationale, name=f"{name}, {rationale.name}") for rationale in said]


def flip(verdict: Verdict, scale: Scale) -> Verdict:
    """The opposite verdict: the other label of the protocol; scores 1 - p, or -s on signed and log-ratio scales.

    A binary verdict with a label takes the score of its new label.

    >>> flip(Verdict(0.0, Label.MATCHED), Scale.BINARY)
    Verdict(score=None, label=<Label.MISMATCHED: 'mismatched'>, reason='flipped', calls=())
    >>> flip(Verdict(0.75), Scale.PROBABILITY).score
    0.25
    """
    label: Label | None = None if verdict.label is None else OPPOSITE[verdict.label]
    if label is not None and scale is Scale.BINARY:
        score = LABEL_SCORE[label]
    elif verdict.score is None:
        score = None
    else:
        score = 1.0 - verdict.score if scale in (Scale.BINARY, Scale.PROBABILITY) else -verdict.score
    return replace(verdict, score=score, label=label, reason="flipped")


@final
class FlippedJudge:
    """Flips a share of a judge's verdicts at random: the noise arm of an experiment.

    Each known verdict on a think step is flipped with probability `share`, drawn from the seed, the rollout id and
    the step index. The answer block keeps its verdict: the protocols assume it, no judge judged it.

    Args:
        judge: whose verdicts are flipped.
        share: probability of a flip, in [0, 1].
        seed: seed of the draws.

    Raises:
        UsageError: if the share is outside [0, 1].

    Source: embedded_world.md 3 (flipped verdicts). Differs: none.
    """

    def __init__(self, judge: Judge, share: float, *, seed: int) -> None:
        if not 0.0 <= share <= 1.0:
            raise UsageError(f"the share of flipped verdicts must be in [0, 1], got {share}")
        self._judge = judge
        self._share = share
        self._seed = seed

    @property
    def fingerprint(self) -> str:
        """Of the judge, the share and the seed."""
        return f"flipped:{digest(self._judge.fingerprint, self._share, self._seed)}"

    @property
    def scale(self) -> Scale:
        """That of the judge."""
        return self._judge.scale

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts, some of them flipped.

        Raises:
            JudgeError: if the judge failed.
        """
        verdicts = await self._judge.judge(steps)
        draws = Random(derive(self._seed, "flip", steps.rollout.id))
        chosen = [draws.random() < self._share for _ in verdicts]
        return tuple(
            flip(verdict, self.scale) if hit and verdict.known and not inside else verdict
            for verdict, hit, inside in zip(verdicts, chosen, steps.in_answer.tolist(), strict=True)
        )


def recalibrated(score: float, points: Sequence[tuple[float, float]]) -> float:
    """A score on the line through given points; below the first and above the last it is theirs.

    Args:
        score: in [0, 1].
        points: (score, calibrated score), scores rising.

    >>> [round(recalibrated(p, [(0.2, 0.0), (0.6, 0.4), (1.0, 0.5)]), 6) for p in (0.1, 0.4, 0.8, 1.0)]
    [0.0, 0.2, 0.45, 0.5]
    """
    after = bisect_right([place for place, _ in points], score)
    if after in (0, len(points)):
        return points[max(after - 1, 0)][1]
    (low, first), (high, last) = points[after - 1], points[after]
    return first + (last - first) * (score - low) / (high - low)


def tempered(score: float, temperature: float) -> float:
    """sigmoid(log-odds / temperature) of a probability, which is kept 1e-6 away from 0 and 1.

    >>> round(tempered(0.9, 2.0), 6), tempered(0.5, 7.0)
    (0.75, 0.5)
    """
    inside = min(max(score, _CLIP), 1 - _CLIP)
    odds = (math.log(inside) - math.log1p(-inside)) / temperature
    small = math.exp(-abs(odds))
    return (1.0 if odds >= 0 else small) / (1.0 + small)


@final
class CalibratedJudge:
    """Corrects a judge's step probabilities by what was fitted on labelled steps; labels and reasons stay.

    Fit on one set and apply to another: `evaluation.calibration.fit_temperature` gives a temperature.

    Args:
        judge: whose scores are probabilities.
        temperature: softens (> 1) or sharpens (< 1); `None` if there are `points`.
        points: (score, calibrated score) of a mapping such as an isotonic fit, scores rising.

    Raises:
        UsageError: if the judge gives no probabilities, for both or neither of the two, or one that is no calibration.

    Source: Guo et al. 2017, arXiv:1706.04599 (temperature). Differs: binary, the probability that a step is right.
    """

    scale = Scale.PROBABILITY

    def __init__(
        self, judge: Judge, *, temperature: float | None = None, points: Sequence[tuple[float, float]] = ()
    ) -> None:
        if judge.scale is not Scale.PROBABILITY:
            raise UsageError(f"calibration needs a judge of probabilities, this one's scores are {judge.scale}")
        if (temperature is None) == (not points):
            raise UsageError("calibration takes either a temperature or points")
        if temperature is not None and not 0 < temperature < math.inf:
            raise UsageError(f"a temperature is a number above 0, got {temperature}")
        places = [place for place, _ in points]
        if sorted(set(places)) != places or not all(0.0 <= x <= 1.0 for pair in points for x in pair):
            raise UsageError(f"points must lie in [0, 1], with scores that rise, got {tuple(points)}")
        self._judge, self._temperature, self._points = judge, temperature, tuple(points)

    @property
    def fingerprint(self) -> str:
        """Of the judge, and the calibration."""
        return f"calibrated:{digest(self._judge.fingerprint, self._temperature, self._points)}"

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts with calibrated scores.

        Raises:
            JudgeError: if the judge failed.
        """
        return tuple(self._corrected(verdict) for verdict in await self._judge.judge(steps))

    def _corrected(self, verdict: Verdict) -> Verdict:
        if verdict.score is None:
            return verdict
        if self._temperature is None:
            return replace(verdict, score=recalibrated(verdict.score, self._points))
        return replace(verdict, score=tempered(verdict.score, self._temperature))


@final
class BudgetedJudge:
    """Asks the judge while its budget has room; from then on all steps are unknown, with the reason.

    Before a judgement begins, `most` is set aside for it; when it ends, what it really spent stands in the meter. So
    judgements side by side never pass the limits together, as long as none spends more than `most`; what is set aside
    for others is waited for before anything is refused. Where `most` is nothing, judgements are begun until a limit is
    reached, and those under way then may pass it. Judgements that were begun always end, and are given.

    Args:
        judge: who is asked.
        meter: counts what its model spends; that model must feed it.
        max_tokens: most tokens read and written, `None` for no limit.
        max_cost: most cost, `None` for no limit.
        most: what one judgement may spend.

    Attributes:
        refused: solutions that were not asked about.

    Raises:
        UsageError: for a limit that is not positive, no limit at all, or a cost limit without prices.

    Source: own. Differs: none.
    """

    def __init__(
        self,
        judge: Judge,
        meter: Meter,
        *,
        max_tokens: int | None = None,
        max_cost: float | None = None,
        most: Spending = Spending(),  # noqa: B008 -- frozen
    ) -> None:
        limits = [limit for limit in (max_tokens, max_cost) if limit is not None]
        if not limits or not all(limit > 0 for limit in limits):
            raise UsageError(f"a budget needs limits above 0, got max_tokens {max_tokens} and max_cost {max_cost}")
        if max_cost is not None and not meter.priced:
            raise UsageError("a cost limit needs the prices of tokens; give them to the Meter")
        self._judge, self._meter, self._most = judge, meter, most
        self._limit = Spending(
            sys.maxsize if max_tokens is None else max_tokens, math.inf if max_cost is None else max_cost
        )
        self._under_way = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.refused = 0

    @property
    def fingerprint(self) -> str:
        """That of the judge: a budget changes no verdict that is given."""
        return self._judge.fingerprint

    @property
    def scale(self) -> Scale:
        """That of the judge."""
        return self._judge.scale

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts; all unknown once the budget has no room.

        Raises:
            JudgeError: if the judge failed.
            UsageError: if the meter is not fed, or is not told token counts: no limit could be held.
        """
        if not await self._admitted():
            self.refused += 1
            return unknown(len(steps), self._told())
        try:
            verdicts = await self._judge.judge(steps)
        finally:
            self._under_way -= 1
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiting.clear()
        if not self._meter.calls and any(verdict.calls for verdict in verdicts):
            raise UsageError("the judge made calls that its meter did not count; feed it, such as by MeteredChat")
        return verdicts

    async def _admitted(self) -> bool:
        while True:
            if self._meter.unmetered:
                raise UsageError("the model tells no token counts, so a budget of tokens or cost cannot be held")
            if self._has_room(self._under_way + 1):
                self._under_way += 1
                return True
            if not self._under_way or not self._has_room(1):
                return False
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def _has_room(self, judgements: int) -> bool:
        """True if so many judgements fit beside what was spent."""
        spent, limit = self._meter.spent, self._limit
        kept = spent.plus(self._most, times=judgements)
        below = spent.tokens < limit.tokens and spent.cost < limit.cost
        return below and kept.tokens <= limit.tokens and kept.cost <= limit.cost

    def _told(self) -> str:
        spent, limit = self._meter.spent, self._limit
        parts = [f"{spent.tokens:,} of {limit.tokens:,} tokens"] if limit.tokens != sys.maxsize else []
        parts += [f"{spent.cost:.4g} of {limit.cost:.4g} in cost"] if limit.cost != math.inf else []
        return f"{OVER_BUDGET}: {' and '.join(parts)} are spent"
