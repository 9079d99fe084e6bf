"""The battery: hostile programs that an engine must contain and benign ones that must work (reliability.md A5).

`stepcredit doctor` runs the twelve of `SHORT` in each engine, tests run all.
"""

from stepcredit.sandbox.battery.added import ADDED
from stepcredit.sandbox.battery.program import BENIGN, ESCAPED, NEXT, Program
from stepcredit.sandbox.battery.reach import REACHING
from stepcredit.sandbox.battery.resources import TAKING
from stepcredit.sandbox.battery.run import Trial, run_battery
from stepcredit.sandbox.battery.world import World

HOSTILE = tuple(sorted((*TAKING, *REACHING, *ADDED), key=lambda program: program.number))
"""The 50 of the table, then those of its 'still to add' list."""

ALL = (*HOSTILE, *BENIGN)
SHORT = tuple(program for program in ALL if program.in_short)

__all__ = ["ALL", "BENIGN", "ESCAPED", "HOSTILE", "NEXT", "SHORT", "Program", "Trial", "World", "run_battery"]
