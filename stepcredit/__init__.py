"""stepcredit: judge every step of a solution, turn verdicts into per-token credit, train on it."""
