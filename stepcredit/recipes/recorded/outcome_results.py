"""Results of an outcome judge: a score and a rank for each solution, and how far they order right before wrong."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, final

import orjson

from stepcredit.core.protocols import Scale
from stepcredit.recipes.recorded.walk import Walked
from stepcredit.report.views import Cell, TableView

SCORES = "scores.jsonl"
"""File of a run: one solution a line, in the input's order."""


@final
@dataclass(frozen=True)
class ScoredSolution:
    """One solution with its score.

    Args:
        id: of the solution.
        group: of the solutions of its problem.
        problem: id of the problem.
        model: that wrote it.
        outcome: `right`, `wrong` or `unscorable`.
        score: on the judge's scale, `None` if it is not known.
        reason: why not, or how it was made.
    """

    id: str
    group: str
    problem: str
    model: str
    outcome: str
    score: float | None
    reason: str


@final
@dataclass(frozen=True)
class Ordering:
    """How scores order the solutions of one problem, over all problems; unscored solutions are left out.

    Args:
        pairs: pairs of a right and a wrong solution of one problem.
        right_first: of these, the right one is scored higher.
        ties: of these, both are scored alike.
        mixed: problems with a right and a wrong solution.
        best_right: of these, how many have a right solution at the top; of several at the top the share that is right.
    """

    pairs: int
    right_first: int
    ties: int
    mixed: int
    best_right: float

    @property
    def agreement(self) -> float | None:
        """Share of pairs in the right order, a tie half; `None` without a pair."""
        return (self.right_first + self.ties / 2) / self.pairs if self.pairs else None


@final
class Scores:
    """The scores of a walk, as they come.

    Args:
        scale: what they mean.
    """

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._found: dict[int, ScoredSolution] = {}

    def add(self, place: int, item: Walked) -> None:
        """One solution."""
        verdicts = () if item.judgement is None else item.judgement.verdicts
        rollout = item.rollout
        score, reason = (verdicts[0].score, verdicts[0].reason) if verdicts else (None, item.unknown_reason)
        self._found[place] = ScoredSolution(
            rollout.id, rollout.group, rollout.problem.id, rollout.policy, item.outcome.status, score,
            item.failed or item.quarantined or reason,
        )  # fmt: skip

    @property
    def solutions(self) -> tuple[ScoredSolution, ...]:
        """In the order of the file."""
        return tuple(self._found[place] for place in sorted(self._found))

    def lines(self) -> str:
        """What `scores.jsonl` holds; `rank` is 1 for the best of a problem, equal scores share one."""
        groups = {name: _known(mine) for name, mine in _by_group(self.solutions).items()}
        told: list[dict[str, Any]] = []
        for one in self.solutions:
            rank = None if one.score is None else 1 + _above(one.score, groups[one.group])
            told.append(
                {"id": one.id, "problem_id": one.problem, "model": one.model, "outcome": one.outcome,
                 "score": one.score, "rank": rank, "reason": one.reason}
            )  # fmt: skip
        return "".join(f"{orjson.dumps(line).decode()}\n" for line in told)

    def figures(self) -> dict[str, Any]:
        """What `summary.json` holds; unknown is null."""
        known, order = _known(self.solutions), ordering(self.solutions)
        return {
            "scale": self._scale.value,
            "scored": len(known),
            "mean": fmean(known) if known else None,
            "low": min(known, default=None),
            "high": max(known, default=None),
            "pairs": order.pairs,
            "right_first": order.right_first,
            "ties": order.ties,
            "agreement": order.agreement,
            "mixed_problems": order.mixed,
            "best_right": order.best_right / order.mixed if order.mixed else None,
        }

    def tables(self) -> tuple[TableView, ...]:
        """By model; and right before wrong, where a problem has both."""
        columns = ("model", "solutions", "right", "wrong", "unscorable", "scored", "mean score", "of right", "of wrong")
        note = "A rating compares solutions of one problem." if self._scale is Scale.RATING else ""
        found = [TableView("scores by model", columns, self._rows(), note)]
        order = ordering(self.solutions)
        if order.pairs:
            rows: tuple[tuple[Cell, ...], ...] = (
                ("pairs of a right and a wrong solution of one problem", order.pairs),
                ("the right one is scored higher", order.right_first),
                ("both are scored alike", order.ties),
                ("problems with right and wrong solutions", order.mixed),
                ("a right one is scored highest", round(order.best_right, 2)),
            )
            found.append(TableView("right before wrong", ("what", "number"), rows))
        return tuple(found)

    def sentence(self) -> str:
        """How far the scores agree with the answers, empty where nothing can be compared."""
        order = ordering(self.solutions)
        if order.agreement is None:
            return ""
        told = f"Of {order.pairs:,} pairs of a right and a wrong solution of one problem"
        return f" {told} the scores put {order.agreement:.1%} in the right order."

    def _rows(self) -> tuple[tuple[Cell, ...], ...]:
        models: dict[str, list[ScoredSolution]] = {}
        for one in self.solutions:
            models.setdefault(one.model, []).append(one)
        rows: list[tuple[Cell, ...]] = []
        for model, mine in models.items():
            outcomes = [sum(one.outcome == name for one in mine) for name in ("right", "wrong", "unscorable")]
            scored = sum(one.score is not None for one in mine)
            means = (_mean(mine), *(_mean([o for o in mine if o.outcome == name]) for name in ("right", "wrong")))
            rows.append((model or "(not named)", len(mine), *outcomes, scored, *means))
        return tuple(rows)


def ordering(solutions: Sequence[ScoredSolution]) -> Ordering:
    """How scores order right and wrong solutions of one problem.

    >>> made = [("right", 9.0), ("wrong", 4.0), ("wrong", 9.0), ("unscorable", 10.0), ("right", None)]
    >>> ordering([ScoredSolution("r", "g", "p", "", outcome, score, "") for outcome, score in made])
    Ordering(pairs=2, right_first=1, ties=1, mixed=1, best_right=0.5)
    """
    pairs = right_first = ties = mixed = 0
    best = 0.0
    for mine in _by_group(solutions).values():
        right, wrong = (_known([one for one in mine if one.outcome == name]) for name in ("right", "wrong"))
        if not right or not wrong:
            continue
        pairs += len(right) * len(wrong)
        above = sum(_above(score, right) for score in wrong)
        right_first += above
        ties += len(right) * len(wrong) - above - sum(_above(score, wrong) for score in right)
        top = max(right[-1], wrong[-1])
        mixed += 1
        best += right.count(top) / (right.count(top) + wrong.count(top))
    return Ordering(pairs, right_first, ties, mixed, best)


def _by_group(solutions: Iterable[ScoredSolution]) -> dict[str, list[ScoredSolution]]:
    groups: dict[str, list[ScoredSolution]] = {}
    for one in solutions:
        groups.setdefault(one.group, []).append(one)
    return groups


def _known(solutions: Iterable[ScoredSolution]) -> list[float]:
    """Their scores, rising."""
    return sorted(one.score for one in solutions if one.score is not None)


def _above(score: float, rising: Sequence[float]) -> int:
    """How many of rising scores are higher."""
    return len(rising) - bisect_right(rising, score)


def _mean(solutions: Sequence[ScoredSolution]) -> float | None:
    known = _known(solutions)
    return round(fmean(known), 3) if known else None
