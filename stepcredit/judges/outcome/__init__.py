"""Outcome judges: verdicts on whole solutions of one problem, by score or in pairs."""
