"""Retro-credit: rollouts that a run of TRL or verl logged, read in, paid by every rule they allow, and compared."""

from stepcredit.adapters.logged.compare import Compared, RuleFigures, outcomes_of, retro_credit
from stepcredit.adapters.logged.formats import LoggedRollout, read_log

__all__ = ["Compared", "LoggedRollout", "RuleFigures", "outcomes_of", "read_log", "retro_credit"]
