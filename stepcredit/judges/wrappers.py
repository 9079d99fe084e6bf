"""Judges made of judges: several that vote, and one whose verdicts are flipped on purpose."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from statistics import fmean
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Judge, Scale
from stepcredit.core.records import Label, Steps, Verdict
from stepcredit.core.seeds import derive
from stepcredit.judges.verdicts import LABEL_SCORE, OPPOSITE


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
        ballots = await asyncio.gather(*(judge.judge(steps) for judge in self._judges))
        return tuple(vote(ballot) for ballot in zip(*ballots, strict=True))


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
