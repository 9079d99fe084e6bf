"""The credit X-ray: rollouts that are there already, paid by several credit rules and compared."""
