"""The ThinkPRM judge: a reasoning model writes a critique of every step, then answers yes or no (thinkprm.md)."""
