"""Recorded solutions: check, split, judge, thoughts and credit of text that somebody kept, in a resumable folder."""

from stepcredit.recipes.recorded.run import RecordedResult, run_recorded
from stepcredit.recipes.recorded.settings import RecordedSettings

__all__ = ["RecordedResult", "RecordedSettings", "run_recorded"]
