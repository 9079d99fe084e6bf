"""What a judge's model did, counted under the names of what can go wrong: one tally a solution."""

from collections.abc import Callable, Mapping

NEAR = 0.01
"""A score within this of 0 or 1 counts as one at the end; scores piled up there order hardly anything."""

Tally = Mapping[str, int]
"""Name -> count."""

OnTally = Callable[[str, Tally], None]
"""Gets the id of a rollout that was judged, and its tally."""


def no_tally(rollout: str, tally: Tally) -> None:
    """Where nobody counts."""
