"""Limits under which hostile programs end soon, and benign ones end on a busy machine too."""

from stepcredit.sandbox import Limits

QUICK = Limits(wall_s=8.0, cpu_s=1.0)
