"""Where a logged reward is cut into right and wrong, what came of it, and when that is worth a warning."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.adapters.logged.formats import LoggedRollout
from stepcredit.core.errors import UsageError
from stepcredit.core.records import Outcome

RIGHT_ABOVE = 0.5
"""A reward above it is right: between 0 and 1, which most checkers of answers give."""

_VALUES = 2


@final
@dataclass(frozen=True)
class OutcomeCounts:
    """Outcomes by status.

    Args:
        right: number of right ones.
        wrong: of wrong ones.
        unscorable: of those that nothing is known of.
        right_above: the reward above which an outcome is right; `None` where a checker said it.
    """

    right: int
    wrong: int
    unscorable: int
    right_above: float | None = None

    def __str__(self) -> str:
        """One line.

        >>> str(OutcomeCounts(3, 1, 0, 0.5))
        '3 right, 1 wrong, 0 unscorable; right is a reward above 0.5'
        """
        counts = f"{self.right} right, {self.wrong} wrong, {self.unscorable} unscorable"
        return counts if self.right_above is None else f"{counts}; right is a reward above {self.right_above:g}"


def counted(outcomes: Sequence[Outcome], right_above: float | None = None) -> OutcomeCounts:
    """Outcomes by status.

    Args:
        outcomes: any number.
        right_above: where rewards were cut, if they were.
    """
    tally = Counter(outcome.status for outcome in outcomes)
    return OutcomeCounts(tally["right"], tally["wrong"], tally["unscorable"], right_above)


def check_threshold(right_above: float) -> None:
    """Refuse a threshold that no reward lies above, or each.

    Raises:
        UsageError: if it is not finite.
    """
    if not math.isfinite(right_above):
        raise UsageError(f"--right-above (in Python: right_above) must be a finite number, got {right_above}")


def threshold_warning(rows: Sequence[LoggedRollout], right_above: float) -> str:
    """What is to be feared of cutting these rewards there, in one line; empty if nothing is.

    Args:
        rows: as `read_log` gives them.
        right_above: a reward above it is right.
    """
    known = [row.reward for row in rows if row.reward is not None]
    values, mend = sorted(set(known)), "--right-above (in Python: right_above) moves it"
    told: list[str] = []
    if len(values) > _VALUES:
        told.append(f"rewards take {len(values)} values from {values[0]:g} to {values[-1]:g}")
    if values and values[0] > right_above:
        told.append(f"all {len(known)} known rewards lie above it, so that none is wrong")
    elif values and values[-1] <= right_above:
        told.append(f"no one of {len(known)} known rewards lies above it, so that none is right")
    return f"rewards are cut at {right_above:g}: {'; '.join(told)}; {mend}" if told else ""
