"""A temperature fitted on one split of a labelled set, and what it does to the scores of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.calibration import Calibration, Temperature, calibration, fit_temperature, tempered
from stepcredit.evaluation.judge_sets import LabelledSolution
from stepcredit.evaluation.named_sets import LabelledSet
from stepcredit.recipes.evaluating.reading import Reading
from stepcredit.recipes.evaluating.settings import MetricsPart
from stepcredit.recipes.recorded.wrapping import SavedCalibration, as_json

Pairs = Sequence[tuple[LabelledSolution, Reading]]


@final
@dataclass(frozen=True)
class Fitted:
    """A temperature and its effect.

    Args:
        split: on which it was fitted.
        temperature: the fit.
        before: of the scores of the other splits as the judge gave them; `None` where they have none.
        after: the same at the temperature.
    """

    split: str
    temperature: Temperature
    before: Calibration | None
    after: Calibration | None

    @property
    def warning(self) -> str:
        """One line where the fit says nothing, empty otherwise."""
        if not self.temperature.at_bound:
            return ""
        why = "its scores part right from wrong steps completely, or do not tell them apart"
        return f"warning: the temperature fitted on {self.split} ran to the end of its range: {why}; do not use it"

    def saved(self, labelled: LabelledSet, *, judge: str, model: str, settings: Mapping[str, Any]) -> SavedCalibration:
        """What `calibration.json` holds."""
        found = self.temperature
        return SavedCalibration(
            found.value,
            judge,
            model,
            as_json(settings),
            labelled.name,
            labelled.sha256,
            self.split,
            found.steps,
            found.at_bound,
            (found.before, found.after),
            None if self.before is None or self.after is None else (self.before.ece.value, self.after.ece.value),
        )


def fit_on(labelled: LabelledSet, readings: Sequence[Reading], split: str, part: MetricsPart) -> Fitted:
    """Fit on one split, measure on the others.

    Args:
        labelled: the set.
        readings: [n] what the judge said of each of its solutions; scores are probabilities.
        split: its labelled steps are fitted on.
        part: `[metrics]`: bins and seed.

    Raises:
        UsageError: if there is no such split, none beside it, or it has no labelled step with a score.

    Source: Guo et al. 2017, arXiv:1706.04599. Differs: none.
    """
    pairs = list(zip(labelled.solutions, readings, strict=True))
    names = list(dict.fromkeys(labelled.split_of(solution) for solution, _ in pairs))
    if split not in names or len(names) < 2:
        wanted = "--calibrate-from names one split of several, and the others show what it does"
        raise UsageError(f"{wanted}; {labelled.name} has {', '.join(names)}, got {split!r}")
    scores, right = _steps([pair for pair in pairs if labelled.split_of(pair[0]) == split])
    if np.isnan(scores).all():
        raise UsageError(f"no labelled step of {split} has a score, so there is no temperature to fit")
    found = fit_temperature(scores, right)
    others, labels = _steps([pair for pair in pairs if labelled.split_of(pair[0]) != split])
    if np.isnan(others).all():
        return Fitted(split, found, None, None)
    before, after = (
        calibration(values, labels, seed=part.seed, bins=part.bins, binning=part.binning, resamples=part.resamples)
        for values in (others, tempered(others, found.value))
    )
    return Fitted(split, found, before, after)


def _steps(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Score and label of every labelled step; NaN is unknown."""
    found = [
        (np.nan if score is None else score, bool(right))
        for solution, reading in pairs
        for score, right in zip(reading.scores, solution.step_truth, strict=True)
        if right is not None
    ]
    return np.array([score for score, _ in found], np.float64), np.array([right for _, right in found], np.bool_)
