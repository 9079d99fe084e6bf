"""Records to views: cuts a solution's text where a step ends or an advantage changes."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
from jaxtyping import Int64

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Scale
from stepcredit.core.rationales import Rationale
from stepcredit.core.records import Credit, Judgement, Rollout, Steps, Verdict
from stepcredit.report.views import PieceView, RolloutView, RuleView, StepView, Truth, VotesView

_MIDDLE = {Scale.PROBABILITY: 0.5, Scale.BINARY: 0.5, Scale.SIGNED: 0.0, Scale.LOG_RATIO: 0.0, Scale.RATING: 5.5}


def rollout_view(
    item: Steps | Judgement | Credit,
    *,
    beside: Sequence[Credit] = (),
    method: str = "",
    round: int | None = None,  # noqa: A002 -- the word of the training program
    scale: Scale | None = None,
    note: str = "",
    rationales: Sequence[Rationale] = (),
    truth: Truth | None = None,
) -> RolloutView:
    """One rollout as the step viewer shows it.

    Args:
        item: how far the rollout came: cut, judged or credited. A credit shows the steps that its judge read.
        beside: further credits of the same rollout under other rules, shown side by side with `item`'s.
        method: name of the arm or model; the viewer filters by it.
        round: number of the training round.
        scale: what the judge's scores mean; needed to colour steps by score.
        note: one line of the program's own.
        rationales: what the judge told of it, one a vote.
        truth: its labels from people; a vote is then wrong below their threshold, else below the scale's middle.

    Raises:
        UsageError: if a credit is of another rollout.
    """
    shown = (item, *beside) if isinstance(item, Credit) else tuple(beside)
    judgement = item if isinstance(item, Judgement) else _judgement_of(shown)
    steps = _steps_of(item, judgement)
    rollout, outcome = steps.rollout, steps.outcome
    for credit in shown:
        if credit.steps.rollout.id != rollout.id:
            raise UsageError(f"a view shows one rollout, got a credit of {credit.steps.rollout.id}", item=rollout.id)
    return RolloutView(
        id=rollout.id,
        problem=rollout.problem.text,
        problem_id=rollout.problem.id,
        reference=rollout.problem.answer,
        answer=outcome.answer,
        outcome=outcome.status,
        outcome_reason=outcome.reason,
        steps=_beside(
            _step_views(steps, judgement, shown), rationales, truth, middle=0.5 if scale is None else _MIDDLE[scale]
        ),
        rules=tuple(RuleView(credit.rule, credit.kept, credit.note) for credit in shown),
        method=method,
        round=round,
        judge="" if judgement is None else judgement.judge,
        scale=scale,
        finish=rollout.finish,
        tokens=len(rollout.completion_ids),
        note=note,
        size_unit="byte" if _is_bytes(rollout) else "token",
        rationales=tuple(_readable(rationale) for rationale in rationales),
    )


def _beside(
    steps: tuple[StepView, ...], rationales: Sequence[Rationale], truth: Truth | None, *, middle: float
) -> tuple[StepView, ...]:
    """The steps with what their votes say, and with their labels."""
    threshold = middle if truth is None else truth.threshold
    found = [replace(step, votes=_votes(rationales, number, threshold)) for number, step in enumerate(steps)]
    if truth is None or len(truth.steps) != len(found):  # a solution that was left out has no steps
        return tuple(found)
    labels = zip(found, truth.steps, truth.called, strict=True)
    return tuple(replace(step, truth=label, called=said) for step, label, said in labels)


def _votes(rationales: Sequence[Rationale], number: int, threshold: float) -> VotesView | None:
    asked = [rationale.score_of(number) for rationale in rationales if rationale.covers(number)]
    given = [score for score in asked if score is not None]
    if not given:
        return None
    wrong = sum(score < threshold for score in given)
    return VotesView(len(given), wrong, min(given), fmean(given), max(given), len(asked) - len(given))


def _readable(rationale: Rationale) -> Rationale:
    """With texts that UTF-8 can hold: a lone half of a surrogate pair becomes a question mark."""
    return replace(
        rationale,
        passages=tuple(replace(part, text=_utf8(part.text)) for part in rationale.passages),
        verdict=_utf8(rationale.verdict),
        status=_utf8(rationale.status),
    )


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _is_bytes(rollout: Rollout) -> bool:
    """True if the tokens are the bytes of the text: nobody named a tokenizer, so a number of tokens says nothing."""
    ids = rollout.completion_ids
    return rollout.retokenised and ids.tolist() == list(rollout.text.encode("utf-8", "surrogatepass"))


def _judgement_of(shown: Sequence[Credit]) -> Judgement | None:
    return next((credit.judgement for credit in shown if credit.judgement is not None), None)


def _steps_of(item: Steps | Judgement | Credit, judgement: Judgement | None) -> Steps:
    if judgement is not None:
        return judgement.steps
    return item if isinstance(item, Steps) else item.steps


def _step_views(steps: Steps, judgement: Judgement | None, shown: Sequence[Credit]) -> tuple[StepView, ...]:
    nothing: list[Verdict | None] = [None] * len(steps)
    verdicts = nothing if judgement is None else list(judgement.verdicts)
    cuts = _cuts(steps, shown)
    bounds = list(itertools.pairwise([*cuts.tolist(), len(steps.rollout.completion_ids)]))
    inside = np.searchsorted(steps.starts, cuts, side="right") - 1
    pieces: list[list[PieceView]] = [[] for _ in range(len(steps))]
    for step, (first, last) in zip(inside.tolist(), bounds, strict=True):
        pieces[step].append(_piece(steps, shown, first=first, last=last))
    return tuple(
        _step_view(tuple(cut), verdict, in_answer=bool(answer))
        for cut, verdict, answer in zip(pieces, verdicts, steps.in_answer.tolist(), strict=True)
    )


def _step_view(pieces: tuple[PieceView, ...], verdict: Verdict | None, *, in_answer: bool) -> StepView:
    if verdict is None:
        return StepView(pieces, in_answer=in_answer, judged=False)
    return StepView(pieces, verdict.label, verdict.score, verdict.reason, in_answer)


def _cuts(steps: Steps, shown: Sequence[Credit]) -> Int64[np.ndarray, " C"]:
    """[C] first tokens of the pieces: step starts, and tokens whose advantage differs from the one before."""
    found = [steps.starts.astype(np.int64)]
    for credit in shown:
        values = credit.advantages
        both_nan = np.isnan(values[1:]) & np.isnan(values[:-1])
        found.append(np.flatnonzero((values[1:] != values[:-1]) & ~both_nan) + 1)
    return np.unique(np.concatenate(found))


def _piece(steps: Steps, shown: Sequence[Credit], *, first: int, last: int) -> PieceView:
    rollout = steps.rollout
    start = 0 if first == 0 else int(rollout.char_starts[first])
    end = len(rollout.text) if last == len(rollout.char_starts) else int(rollout.char_starts[last])
    values = (float(credit.advantages[first]) for credit in shown)
    return PieceView(rollout.text[start:end], last - first, tuple(None if np.isnan(v) else v for v in values))
