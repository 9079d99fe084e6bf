"""Limits under which hostile programs end soon."""

from stepcredit.sandbox import Limits

QUICK = Limits(wall_s=0.7, cpu_s=1.0)
