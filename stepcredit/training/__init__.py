"""Training: rounds of sample, evaluate, train over a run folder (tp_grpo.md 1.8)."""
