"""Evaluation: judges on step-labelled solutions, with official metrics, in a resumable folder."""

from stepcredit.recipes.evaluating.run import EvaluationResult, run_evaluation
from stepcredit.recipes.evaluating.settings import EvaluateSettings

__all__ = ["EvaluateSettings", "EvaluationResult", "run_evaluation"]
