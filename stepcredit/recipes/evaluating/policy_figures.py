"""Figures of policies on recorded attempts: avg@n, pass@k, maj@k and weighted maj@k, model by model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.intervals import Interval
from stepcredit.evaluation.majority import VoteScore, maj_at_k, weighted_maj_at_k
from stepcredit.evaluation.policy import mean_interval, pass_at_k
from stepcredit.evaluation.resampling import Coverage
from stepcredit.evaluation.votes import RIGHT, powers, votes_of
from stepcredit.recipes.evaluating.attempts import Attempt
from stepcredit.recipes.evaluating.settings import MetricsPart

Status = Literal["right", "wrong", "unscorable", "quarantined"]


@final
@dataclass(frozen=True)
class Checked:
    """What became of one attempt.

    Args:
        attempt: the attempt.
        status: `unscorable` and `quarantined` count as not right, and in the coverage.
        answer: as it was read, `None` if there was none.
        reason: why, in a few words.
        resumed: True if an earlier session had checked it.
    """

    attempt: Attempt
    status: Status
    answer: str | None = None
    reason: str = ""
    resumed: bool = False


@final
@dataclass(frozen=True)
class AtK:
    """Figures of k attempts, over the problems with as many.

    Args:
        k: attempts.
        problems: how many problems have k attempts.
        passed: unbiased pass@k.
        majority: maj@k; `None` where answers are programs, which do not vote.
        weighted: maj@k weighted by the attempts' scores; `None` if no attempt has one.
    """

    k: int
    problems: int
    passed: Interval
    majority: VoteScore | None
    weighted: VoteScore | None


@final
@dataclass(frozen=True)
class PolicyFigures:
    """Figures of one model; shares in [0, 1].

    Args:
        problems: problems that it attempted.
        fewest: fewest attempts at one of them.
        most: most attempts at one of them.
        average: avg@n: mean over problems of the share of right attempts.
        at: for each k.
        coverage: in attempts; one that could not be checked counts as not right.
    """

    problems: int
    fewest: int
    most: int
    average: Interval
    at: tuple[AtK, ...]
    coverage: Coverage


def measure_policies(
    checked: Sequence[Checked], part: MetricsPart, *, ks: Sequence[int] = (), votes: bool = True
) -> dict[str, PolicyFigures]:
    """Figures of each model, in the order of its first attempt.

    Args:
        checked: all attempts.
        part: `[metrics]` of the recipe.
        ks: attempts to count; empty takes 1, 2, 4 ... and the fewest attempts at a problem.
        votes: answers can vote; False for programs.

    Raises:
        UsageError: if a k is above the most attempts that any model made at a problem.

    Source: Chen et al. 2021, arXiv:2107.03374 (pass@k); Wang et al. 2022, arXiv:2203.11171 (majority). Differs: an
    attempt that could not be checked is not right; problems with fewer than k attempts are left out of that k.
    """
    models: dict[str, dict[str, list[Checked]]] = {}
    for one in checked:
        models.setdefault(one.attempt.model, {}).setdefault(one.attempt.problem.id, []).append(one)
    most = max((len(rows) for problems in models.values() for rows in problems.values()), default=0)
    if ks and max(ks) > most:
        raise UsageError(f"--k {max(ks)} needs as many attempts at a problem; the most that a model made are {most}")
    return {model: _figures(problems, part, ks=ks, votes=votes) for model, problems in models.items()}


def _figures(
    problems: Mapping[str, Sequence[Checked]], part: MetricsPart, *, ks: Sequence[int], votes: bool
) -> PolicyFigures:
    sizes = [len(rows) for rows in problems.values()]
    fewest = min(sizes)
    wanted = tuple(sorted(set(ks))) if ks else powers(fewest)
    shares = np.array([np.mean([one.status == "right" for one in rows]) for rows in problems.values()])
    scored = sum(one.status in ("right", "wrong") for rows in problems.values() for one in rows)
    return PolicyFigures(
        problems=len(problems),
        fewest=fewest,
        most=max(sizes),
        average=mean_interval(shares, seed=part.seed),
        at=tuple(_at(problems, k, part, votes=votes) for k in wanted if k <= max(sizes)),
        coverage=Coverage(sum(sizes), scored),
    )


def _at(problems: Mapping[str, Sequence[Checked]], k: int, part: MetricsPart, *, votes: bool) -> AtK:
    rows = [row for row in problems.values() if len(row) >= k]
    passed = np.array([pass_at_k(np.array([[one.status == "right" for one in row]]), k)[0] for row in rows])
    said = [votes_of([(one.status == "right", one.answer) for one in row]) for row in rows]
    weights = [[one.attempt.weight for one in row] for row in rows]
    answers = [RIGHT] * len(rows)
    majority = maj_at_k(said, answers, k, seed=part.seed) if votes else None
    weighted = None
    if votes and any(weight is not None for row in weights for weight in row):
        weighted = weighted_maj_at_k(said, weights, answers, k, seed=part.seed)
    return AtK(k, len(rows), mean_interval(passed, seed=part.seed), majority, weighted)
