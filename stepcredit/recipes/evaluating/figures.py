"""Figures of a judge on a labelled set: the official metric, and beside it every other that the labels allow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import numpy as np

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Scale
from stepcredit.evaluation.binary_f1 import BinaryF1, binary_f1
from stepcredit.evaluation.by_position import PositionRow, by_group, by_position
from stepcredit.evaluation.calibration import Calibration, calibration
from stepcredit.evaluation.first_error import CLEAN, FirstErrorF1, FirstErrorSplits, first_error_splits
from stepcredit.evaluation.judge_sets import LabelledSolution
from stepcredit.evaluation.mistake import MistakeAccuracy, mistake_accuracy
from stepcredit.evaluation.mr_score import MrScore, mr_score
from stepcredit.evaluation.named_sets import LabelledSet
from stepcredit.evaluation.prmscore import PRMBENCH_GROUPS, PrmScores, prm_scores
from stepcredit.evaluation.threshold import Threshold, choose_threshold
from stepcredit.recipes.evaluating.reading import Reading
from stepcredit.recipes.evaluating.settings import MetricsPart

ALL = "all"
"""Name of the row over all splits together."""

PRMBENCH_CLASSES = tuple(name for members in PRMBENCH_GROUPS.values() for name in members)

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Row:
    """One solution, as the metrics read it.

    Args:
        solution: with its labels.
        reading: what the judge said.
        predicted: index of the first step called wrong, -1 if none is, `None` if that is not known.
        called: [K] True = called right, `None` = unknown.
    """

    solution: LabelledSolution
    reading: Reading
    predicted: int | None
    called: tuple[bool | None, ...]

    @property
    def label(self) -> int:
        """Index of the first wrong step, -1 if none is; sets hold no solution without."""
        return CLEAN if self.solution.label is None else self.solution.label

    @property
    def given_reason(self) -> str | None:
        """What the judge says is wrong with the step that it named, `None` if it says nothing or names none."""
        if not self.reading.reasons or self.predicted is None or self.predicted == CLEAN:
            return None
        return self.reading.reasons[self.predicted] or None


@final
@dataclass(frozen=True)
class Figures:
    """What a judge scored; shares in [0, 1].

    Args:
        rows: solutions that were scored, in order.
        threshold: a step whose score was below it was called wrong.
        chosen: where the threshold was chosen; `None` if it was given.
        first_error: official ProcessBench F1 of each split and their mean.
        binary: ThinkPRM's binary F1 of each split; another metric, in a table of its own.
        prm: PRMScore by class; `None` where no solution has all of its steps labelled and one of them wrong.
        mr: MR-Score of each split and of all together, for sets that it is the metric of.
        mistake: the same of BIG-Bench Mistake's accuracy.
        positions: step verdicts by step position.
        generators: official F1 by the model that wrote the solution, empty where the set does not tell.
        calibration: of the scores as probabilities, `None` for scores that are none.
    """

    rows: tuple[Row, ...]
    threshold: float
    chosen: Threshold | None
    first_error: FirstErrorSplits
    binary: Mapping[str, BinaryF1]
    prm: PrmScores | None
    mr: Mapping[str, MrScore]
    mistake: Mapping[str, MistakeAccuracy]
    positions: tuple[PositionRow, ...]
    generators: Mapping[str, FirstErrorF1]
    calibration: Calibration | None


def measure(
    labelled: LabelledSet,
    readings: Sequence[Reading],
    part: MetricsPart,
    *,
    scale: Scale,
    threshold: float,
    threshold_from: str | None = None,
    reasons: Mapping[str, bool | None] | None = None,
    leave_out: str | None = None,
) -> Figures:
    """All figures of a judge.

    Args:
        labelled: the set.
        readings: [n] what the judge said of each of its solutions.
        part: `[metrics]` of the recipe.
        scale: what the judge's scores mean; only probabilities, and 0 and 1, are looked at for calibration.
        threshold: a step whose score is below it is called wrong.
        threshold_from: split on which a threshold is chosen instead; the figures are then those of the other splits.
        reasons: by id, whether the judge's reason for the first wrong step is the true one; `None` if nobody looked.
        leave_out: split that is not scored.

    Raises:
        UsageError: if there is no such split, or none beside it, or it lacks a class or scores.

    Source: genprm.md 9.2 and 9.5, thinkprm.md 5.1, the papers of the sets. Differs: see the functions it calls.
    """
    rows = rows_of(labelled, readings, threshold)
    chosen: Threshold | None = None
    if threshold_from is not None:
        chosen, rows = _chosen(labelled, readings, threshold_from)
    rows = tuple(row for row in rows if labelled.split_of(row.solution) != leave_out)
    groups = _grouped(rows, labelled.split_of)
    seed, resamples = part.seed, part.resamples
    labels = {name: [row.label for row in mine] for name, mine in groups.items()}
    predictions = {name: [row.predicted for row in mine] for name, mine in groups.items()}
    return Figures(
        rows=rows,
        threshold=threshold if chosen is None else chosen.value,
        chosen=chosen,
        first_error=first_error_splits(labels, predictions, seed=seed, resamples=resamples),
        binary={
            name: binary_f1(labels[name], [_clean(row) for row in mine], seed=seed, resamples=resamples)
            for name, mine in groups.items()
        },
        prm=_prm(rows, labelled, part),
        mr=_with_all(groups, lambda mine: _mr(mine, part, reasons)) if labelled.metric == "mr-score" else {},
        mistake=_with_all(groups, lambda mine: _mistake(mine, part)) if labelled.metric == "mistake" else {},
        positions=by_position(
            [row.solution.step_truth for row in rows], [row.called for row in rows], last=part.last_position
        ),
        generators=_generators(rows, part),
        calibration=_calibration(rows, part, scale),
    )


def rows_of(labelled: LabelledSet, readings: Sequence[Reading], threshold: float) -> tuple[Row, ...]:
    """[n] the set's solutions with what the judge said of them at a threshold."""
    pairs = zip(labelled.solutions, readings, strict=True)
    return tuple(
        Row(solution, reading, reading.first_wrong(threshold), reading.called(threshold)) for solution, reading in pairs
    )


def _chosen(labelled: LabelledSet, readings: Sequence[Reading], split: str) -> tuple[Threshold, tuple[Row, ...]]:
    """The threshold of a split, and the rows of the others read with it."""
    pairs = list(zip(labelled.solutions, readings, strict=True))
    groups: dict[str, list[tuple[LabelledSolution, Reading]]] = {}
    for solution, reading in pairs:
        groups.setdefault(labelled.split_of(solution), []).append((solution, reading))
    if split not in groups or len(groups) < 2:
        wanted = "--threshold-from names one split of several, and the others are scored"
        raise UsageError(f"{wanted}; {labelled.name} has {', '.join(groups)}, got {split!r}")
    mine = groups[split]
    labels = [CLEAN if solution.label is None else solution.label for solution, _ in mine]
    scores = [reading.scores for _, reading in mine]
    chosen = choose_threshold(split, [solution.id for solution, _ in mine], labels, scores)
    rows: list[Row] = []
    for name, others in groups.items():
        if name != split:
            ids, theirs = [solution.id for solution, _ in others], [reading.scores for _, reading in others]
            predicted = chosen.apply(name, ids, theirs)
            called = [reading.called(chosen.value) for _, reading in others]
            rows += [Row(*pair, p, c) for pair, p, c in zip(others, predicted, called, strict=True)]
    return chosen, tuple(rows)


def _grouped(rows: Sequence[Row], name_of: Callable[[LabelledSolution], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(name_of(row.solution), []).append(row)
    return groups


def _with_all(groups: Mapping[str, Sequence[Row]], score: Callable[[Sequence[Row]], T | None]) -> dict[str, T]:
    """The score of each split that has one, and of all together where there are several."""
    every = {**groups, ALL: [row for mine in groups.values() for row in mine]} if len(groups) > 1 else groups
    scores = {name: score(mine) for name, mine in every.items()}
    return {name: found for name, found in scores.items() if found is not None}


def _clean(row: Row) -> bool | None:
    """True if the judge calls the solution error-free."""
    return None if row.predicted is None else row.predicted == CLEAN


def _mr(rows: Sequence[Row], part: MetricsPart, reasons: Mapping[str, bool | None] | None) -> MrScore | None:
    """`None` where no solution is wrong."""
    labels = [row.label for row in rows]
    graded = None if reasons is None else [reasons.get(row.solution.id) for row in rows]
    if all(label == CLEAN for label in labels):
        return None
    return mr_score(labels, [row.predicted for row in rows], graded, seed=part.seed, resamples=part.resamples)


def _mistake(rows: Sequence[Row], part: MetricsPart) -> MistakeAccuracy | None:
    labels, predictions = [row.label for row in rows], [row.predicted for row in rows]
    return mistake_accuracy(labels, predictions, seed=part.seed, resamples=part.resamples)


def _prm(rows: Sequence[Row], labelled: LabelledSet, part: MetricsPart) -> PrmScores | None:
    """PRMBench's nine classes; of other sets the solutions of which every step is labelled, by their kind or split."""
    official = labelled.metric == "prm-score"
    whole = [row for row in rows if row.solution.error_steps is not None]
    mine = [row for row in whole if not official or row.solution.kind in PRMBENCH_CLASSES]
    if not any(row.solution.error_steps for row in mine):
        return None
    classes = [row.solution.kind if official else labelled.split_of(row.solution) for row in mine]
    truth, called = [row.solution.step_truth for row in mine], [row.called for row in mine]
    return prm_scores(classes, truth, called, seed=part.seed, resamples=part.resamples)


def _generators(rows: Sequence[Row], part: MetricsPart) -> dict[str, FirstErrorF1]:
    named = [row for row in rows if row.solution.generator]
    if not named:
        return {}
    labels, predictions = [row.label for row in named], [row.predicted for row in named]
    groups = [row.solution.generator for row in named]
    return by_group(groups, labels, predictions, seed=part.seed, resamples=part.resamples)


def _calibration(rows: Sequence[Row], part: MetricsPart, scale: Scale) -> Calibration | None:
    """Of labelled steps; scores that are no probabilities have none."""
    if scale not in (Scale.PROBABILITY, Scale.BINARY):
        return None
    pairs = [
        (np.nan if score is None else score, bool(right))
        for row in rows
        for score, right in zip(row.reading.scores, row.solution.step_truth, strict=True)
        if right is not None
    ]
    scores = np.array([score for score, _ in pairs], np.float64)
    if not len(scores) or np.isnan(scores).all():
        return None
    right = np.array([label for _, label in pairs], np.bool_)
    return calibration(scores, right, seed=part.seed, bins=part.bins, binning=part.binning, resamples=part.resamples)
