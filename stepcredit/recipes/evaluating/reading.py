"""What a judge's verdicts say of a labelled solution: a number for each step, and from these the first wrong step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from stepcredit.core.protocols import Scale
from stepcredit.core.records import Label, Verdict
from stepcredit.evaluation.first_error import first_below
from stepcredit.recipes.recorded.walk import Walked

Status = Literal["answered", "unknown", "failed", "quarantined"]
"""The judge said which step is the first wrong one, or that none is; it could not; it broke; it was not asked."""

LABEL_SCORES = {Label.CORRECT: 1.0, Label.INCORRECT: 0.0, Label.MATCHED: 0.0, Label.MISMATCHED: 1.0}
"""Labels as scores: what was taken back, and what led to a wrong answer, is called wrong; all else right."""

THRESHOLDS = {Scale.PROBABILITY: 0.5, Scale.BINARY: 0.5, Scale.SIGNED: 0.0, Scale.LOG_RATIO: 0.0}
"""Below it a step is called wrong, unless another threshold is set or chosen."""


@final
@dataclass(frozen=True)
class Reading:
    """A judge on one solution.

    Args:
        scores: [K] on the judge's scale; `None` is unknown.
        status: whether the scores decide which step is the first wrong one, at the threshold they were read with.
        reason: why not, empty if they do.
        resumed: True if an earlier session had judged it.
        reasons: [K] what the judge says of each step, for judges that state reasons; else empty.
    """

    scores: tuple[float | None, ...]
    status: Status
    reason: str = ""
    resumed: bool = False
    reasons: tuple[str, ...] = ()

    def first_wrong(self, threshold: float) -> int | None:
        """Index of the first step below the threshold, -1 if none is, `None` if an unknown step stands before."""
        return first_below(self.scores, threshold)

    def called(self, threshold: float) -> tuple[bool | None, ...]:
        """[K] True = called right, `None` = unknown."""
        return tuple(None if score is None else score >= threshold for score in self.scores)

    def as_payload(self) -> dict[str, Any]:
        """As JSON-able mapping."""
        return {"scores": list(self.scores), "status": self.status, "reason": self.reason}


def read_verdicts(item: Walked, steps: int, threshold: float, *, reasons: bool = False) -> Reading:
    """What became of a solution.

    Args:
        item: as the walk gives it.
        steps: number of labelled steps; a solution that was left out has no verdicts at all.
        threshold: at which the scores must decide.
        reasons: the judge states reasons.

    Returns:
        Its reading; a verdict with a label is read as its label says (`LABEL_SCORES`), one without as its score.
    """
    verdicts = () if item.judgement is None else item.judgement.verdicts
    scores = scores_of(verdicts) if verdicts else (None,) * steps
    if item.quarantined:
        return Reading(scores, "quarantined", item.quarantined, item.resumed)
    if item.failed:
        return Reading(scores, "failed", item.failed, item.resumed)
    if first_below(scores, threshold) is not None:
        said = tuple(verdict.reason for verdict in verdicts) if reasons else ()
        return Reading(scores, "answered", resumed=item.resumed, reasons=said)
    first = next(place for place, score in enumerate(scores) if score is None)
    reason = verdicts[first].reason if verdicts else "no verdicts"
    return Reading(scores, "unknown", reason or "no reason given", item.resumed)


def scores_of(verdicts: Sequence[Verdict]) -> tuple[float | None, ...]:
    """[K] a number for each verdict.

    >>> scores_of([Verdict(0.25), Verdict(None, Label.MISMATCHED), Verdict(reason="cut")])
    (0.25, 1.0, None)
    """
    return tuple(verdict.score if verdict.label is None else LABEL_SCORES[verdict.label] for verdict in verdicts)
