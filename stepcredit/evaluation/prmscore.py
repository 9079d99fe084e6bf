"""PRMBench: PRMScore, the mean of the F1 of right steps and the F1 of wrong steps, class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int64

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.intervals import Interval
from stepcredit.evaluation.resampling import Coverage, row_bootstrap, same_length

PRMBENCH_GROUPS = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}
"""The three groups of the nine classes, in the data's own spelling."""


@final
@dataclass(frozen=True)
class PrmScore:
    """PRMScore over the steps of some solutions; shares in [0, 1].

    Args:
        score: weighted mean of the two F1 values; `None` if one of them is.
        right_f1: F1 with right steps as the positive class; `None` if there is no right step.
        wrong_f1: F1 with wrong steps as the positive class (the paper's negative F1); `None` if there is no wrong step.
        right: steps labelled right.
        wrong: steps labelled wrong.
        coverage: in steps; one without a verdict is wrong in either class.
    """

    score: Interval | None
    right_f1: Interval | None
    wrong_f1: Interval | None
    right: int
    wrong: int
    coverage: Coverage


@final
@dataclass(frozen=True)
class PrmScores:
    """PRMScore by class, and over all.

    Args:
        classes: by class, in the order of their names.
        groups: mean score of the classes of each group that are there and have one.
        pooled: over the steps of all classes together.
        mean: mean of the classes that have a score; `None` if none has.
    """

    classes: Mapping[str, PrmScore]
    groups: Mapping[str, float]
    pooled: PrmScore
    mean: float | None


def prm_score(
    labels: Sequence[Sequence[bool | None]],
    verdicts: Sequence[Sequence[bool | None]],
    *,
    seed: int,
    wrong_weight: float = 0.5,
    resamples: int = 1000,
) -> PrmScore:
    """PRMScore of solutions: w F1(wrong steps) + (1 - w) F1(right steps), counted over all their steps.

    Args:
        labels: for each solution, for each step True = right; `None` = not labelled, and not counted.
        verdicts: the same of the judge; `None` = unknown, which is wrong in either class.
        seed: of the bootstrap, which draws whole solutions.
        wrong_weight: w in [0, 1]; the paper's is 0.5.
        resamples: of the bootstrap.

    Raises:
        UsageError: if the numbers differ, no step is labelled, or the weight is out of range.

    Source: Song et al. 2025 (PRMBench), arXiv:2501.03124. Differs: a class without wrong steps has no score.

    >>> score = prm_score([[True, True, False]], [[True, False, False]], seed=0)
    >>> round(score.right_f1.value, 3), round(score.wrong_f1.value, 3), round(score.score.value, 3)
    (0.667, 0.667, 0.667)
    """
    if not 0.0 <= wrong_weight <= 1.0:
        raise UsageError(f"the weight of wrong steps must be in [0, 1], got {wrong_weight}")
    same_length("labelled and judged solutions", len(labels), len(verdicts))
    table = np.array([_counts(truth, said) for truth, said in zip(labels, verdicts, strict=True)], np.int64).reshape(
        -1, 5
    )
    right_steps, wrong_steps = int(table[:, :2].sum()), int(table[:, 2:4].sum())
    if not right_steps + wrong_steps:
        raise UsageError("PRMScore needs at least one labelled step, got none")

    def right_f1(rows: Int64[np.ndarray, " m"]) -> float:
        hit, missed, _, false, _ = table[rows].sum(axis=0).tolist()
        return 2 * hit / max(2 * hit + missed + false, 1)

    def wrong_f1(rows: Int64[np.ndarray, " m"]) -> float:
        _, false, hit, missed, _ = table[rows].sum(axis=0).tolist()
        return 2 * hit / max(2 * hit + missed + false, 1)

    def both(rows: Int64[np.ndarray, " m"]) -> float:
        return wrong_weight * wrong_f1(rows) + (1.0 - wrong_weight) * right_f1(rows)

    n = len(table)
    score = right = wrong = None
    if right_steps:
        right = row_bootstrap(n, right_f1, seed=seed, purpose="prm_score_right", resamples=resamples)
    if wrong_steps:
        wrong = row_bootstrap(n, wrong_f1, seed=seed, purpose="prm_score_wrong", resamples=resamples)
    if right_steps and wrong_steps:
        score = row_bootstrap(n, both, seed=seed, purpose="prm_score", resamples=resamples)
    asked = right_steps + wrong_steps
    return PrmScore(score, right, wrong, right_steps, wrong_steps, Coverage(asked, asked - int(table[:, 4].sum())))


def prm_scores(
    classes: Sequence[str],
    labels: Sequence[Sequence[bool | None]],
    verdicts: Sequence[Sequence[bool | None]],
    *,
    seed: int,
    resamples: int = 1000,
) -> PrmScores:
    """PRMScore of every class, of the three groups, and over all.

    Args:
        classes: [n] the class of each solution.
        labels: as in `prm_score`.
        verdicts: as in `prm_score`.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        UsageError: as `prm_score`.

    Source: Song et al. 2025 (PRMBench), arXiv:2501.03124. Differs: pooled and mean both stand, under their names.

    >>> scores = prm_scores(["circular"], [[True, False]], [[True, False]], seed=0)
    >>> scores.mean, scores.groups
    (1.0, {'simplicity': 1.0})
    """
    same_length("classes, labelled and judged solutions", len(classes), len(labels), len(verdicts))
    by_class: dict[str, PrmScore] = {}
    for name in sorted(set(classes)):
        rows = [i for i, other in enumerate(classes) if other == name]
        mine = [labels[i] for i in rows], [verdicts[i] for i in rows]
        by_class[name] = prm_score(*mine, seed=seed, resamples=resamples)
    values = {name: score.score.value for name, score in by_class.items() if score.score is not None}
    groups: dict[str, float] = {}
    for group, members in PRMBENCH_GROUPS.items():
        if there := [values[name] for name in members if name in values]:
            groups[group] = float(np.mean(there))
    mean = float(np.mean(list(values.values()))) if values else None
    return PrmScores(by_class, groups, prm_score(labels, verdicts, seed=seed, resamples=resamples), mean)


def _counts(labels: Sequence[bool | None], verdicts: Sequence[bool | None]) -> tuple[int, int, int, int, int]:
    """Right called right, right called wrong, wrong called wrong, wrong called right; of these the unknown ones."""
    same_length("labels and verdicts of a solution", len(labels), len(verdicts))
    pairs = [(label, verdict) for label, verdict in zip(labels, verdicts, strict=True) if label is not None]
    hits = [bool(label) for label, verdict in pairs if verdict is not None and bool(verdict) == bool(label)]
    right, unknown = sum(bool(label) for label, _ in pairs), sum(verdict is None for _, verdict in pairs)
    called_right, called_wrong = sum(hits), len(hits) - sum(hits)
    return called_right, right - called_right, called_wrong, len(pairs) - right - called_wrong, unknown
