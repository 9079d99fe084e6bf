"""Evaluation: what policies and judges are worth, always with an interval."""
