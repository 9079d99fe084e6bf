"""Payload: views to the page's data: one small index of all solutions, and chunks that are read when opened."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from stepcredit.core.rationales import Rationale
from stepcredit.core.records import Label
from stepcredit.report.views import RolloutView, StepView, judge_name

CHUNK = 200
"""Solutions a chunk: small enough to parse in a frame, large enough to keep the page's element count low."""

LETTERS = {Label.CORRECT: "c", Label.INCORRECT: "i", Label.MATCHED: "m", Label.MISMATCHED: "n"}
"""One letter a label, for step strips; `u` is unknown, `-` not judged, `0` to `9` a score from low to high."""

_RANGE = {
    "probability": (0.0, 1.0),
    "binary": (0.0, 1.0),
    "signed": (-1.0, 1.0),
    "log-ratio": (-2.0, 2.0),
    "rating": (1.0, 10.0),
}


def script_json(value: object) -> str:
    r"""JSON that may stand inside a script element: no `<`, and none of the line ends that JavaScript adds.

    >>> script_json({"text": "</script><b>"})
    '{"text":"\\u003c/script>\\u003cb>"}'
    """
    text = orjson.dumps(value).decode()
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def index_of(solutions: Sequence[RolloutView]) -> dict[str, Any]:
    """What the list and its filters need, in columns: one entry a solution, names by number.

    Args:
        solutions: N views.

    Returns:
        Columns of length N, the names they point to, and the largest absolute advantage of the page.
    """
    methods = _order(view.method for view in solutions)
    problems = _order(view.problem_id for view in solutions)
    return {
        "size": len(solutions),
        "chunk": CHUNK,
        "methods": [_plain(name) for name in methods],
        "titles": [_title(view) for view in _first_of_each(solutions)],
        "method": [methods[view.method] for view in solutions],
        "problem": [problems[view.problem_id] for view in solutions],
        "round": [view.round for view in solutions],
        "outcome": "".join(view.outcome[0] for view in solutions),
        "unknown": [view.unknown for view in solutions],
        "strip": [strip_of(view) for view in solutions],
        "labelled": any(view.labelled for view in solutions),
        "differs": [view.first_disagreement for view in solutions],
        "peak": max((abs(a) for view in solutions for a in _advantages(view)), default=0.0),
    }


def chunks_of(solutions: Sequence[RolloutView]) -> list[list[dict[str, Any]]]:
    """The solutions whole, `CHUNK` at a time."""
    return [[_solution(view) for view in solutions[first : first + CHUNK]] for first in range(0, len(solutions), CHUNK)]


def strip_of(view: RolloutView) -> str:
    """One character a step: its label, its score in tenths, unknown or not judged (see `LETTERS`)."""
    return "".join(_letter(step, view) for step in view.steps)


def position_of(score: float, *, scale: str | None) -> float:
    """Where a score lies on its judge's scale, from 0 (bad) to 1 (good); beyond the ends it is cut.

    >>> position_of(0.5, scale="signed"), position_of(3.0, scale="log-ratio")
    (0.75, 1.0)
    """
    low, high = _RANGE.get(scale or "probability", (0.0, 1.0))
    return min(1.0, max(0.0, (score - low) / (high - low)))


def _letter(step: StepView, view: RolloutView) -> str:
    if not step.judged:
        return "-"
    if step.label is not None:
        return LETTERS[step.label]
    if step.score is not None:
        return str(min(9, int(10 * position_of(step.score, scale=view.scale))))
    return "u"


def _solution(view: RolloutView) -> dict[str, Any]:
    return {
        "id": _plain(view.id),
        "problem": _plain(view.problem),
        "problem_id": _plain(view.problem_id),
        "reference": _plain(view.reference),
        "answer": _plain(view.answer),
        "outcome_reason": _plain(view.outcome_reason),
        "judge": _plain(view.judge),
        "judge_name": _plain(judge_name(view.judge)),
        "finish": view.finish,
        "tokens": view.tokens,
        "unit": view.size_unit,
        "note": _plain(view.note),
        "rules": [[_plain(rule.name), rule.kept, _plain(rule.note)] for rule in view.rules],
        "steps": [_step(step, view) for step in view.steps],
        "told": [_told(rationale) for rationale in view.rationales],
    }


def _told(rationale: Rationale) -> dict[str, Any]:
    """A vote: scores as the page shows them, passages as [kind, text, step, status]."""
    return {
        "name": _plain(rationale.name),
        "first": rationale.first,
        "scores": [_short(score) for score in rationale.scores],
        "verdict": _plain(rationale.verdict),
        "status": _plain(rationale.status),
        "parts": [[part.kind, _plain(part.text), part.step, _plain(part.status)] for part in rationale.passages],
    }


def _step(step: StepView, view: RolloutView) -> dict[str, Any]:
    pieces = [[_plain(p.text), p.tokens, *(_short(a) for a in p.advantages)] for p in step.pieces]
    entry: dict[str, Any] = {"p": pieces}
    if step.score is not None:
        entry |= {"v": _short(step.score), "at": _short(position_of(step.score, scale=view.scale))}
    if step.reason:
        entry["why"] = _plain(step.reason)
    if step.in_answer:
        entry["answer"] = 1
    if step.votes is not None:
        votes = step.votes
        spread = [position_of(score, scale=view.scale) for score in (votes.low, votes.mean, votes.high)]
        entry["votes"] = [votes.number, votes.wrong, votes.silent, *map(_short, (votes.low, votes.mean, votes.high))]
        entry["spread"] = [_short(place) for place in spread]
    if step.truth is not None:
        entry["truth"] = int(step.truth)
    if step.differs:
        entry["differs"] = 1
    return entry


def _order(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found.setdefault(name, len(found))
    return found


def _first_of_each(solutions: Sequence[RolloutView]) -> list[RolloutView]:
    seen: dict[str, RolloutView] = {}
    for view in solutions:
        seen.setdefault(view.problem_id, view)
    return list(seen.values())


def _title(view: RolloutView) -> str:
    return " ".join((_plain(view.problem) or "").split())[:90]


def _advantages(view: RolloutView) -> Iterable[float]:
    return (a for step in view.steps for piece in step.pieces for a in piece.advantages if a is not None)


def _short(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.4g}")


def _plain(text: str | None) -> str | None:
    """Text that UTF-8 can hold: a lone half of a surrogate pair becomes a question mark."""
    return None if text is None else text.encode("utf-8", "replace").decode()
