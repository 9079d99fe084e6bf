"""Any credit rule in an arm: its settings, the signals that it reads, and its credit over a round."""
