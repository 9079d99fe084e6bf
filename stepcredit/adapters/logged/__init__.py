"""Retro-credit: rollouts that a run of TRL or verl logged, read in, paid by every rule they allow, and compared."""

from stepcredit.adapters.logged.compare import Compared, RuleFigures, outcomes_of, retro_credit
from stepcredit.adapters.logged.formats import LoggedRollout, read_log
from stepcredit.adapters.logged.threshold import RIGHT_ABOVE, OutcomeCounts, counted, threshold_warning

__all__ = [
    "RIGHT_ABOVE",
    "Compared",
    "LoggedRollout",
    "OutcomeCounts",
    "RuleFigures",
    "counted",
    "outcomes_of",
    "read_log",
    "retro_credit",
    "threshold_warning",
]
