"""Tasks: where problems come from, and what checks their answers (Rollout -> Outcome)."""
