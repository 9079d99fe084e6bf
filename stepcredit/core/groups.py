"""Group completion: when the rollouts of one sampling call may be compared."""

from typing import final

from stepcredit.core.errors import LayoutError
from stepcredit.core.records import Failure, Group, Outcome


@final
class GroupCollector:
    """Collects outcomes and failures in any order and hands out complete groups.

    A group is complete when each of its `group_size` samples has an outcome or a named failure.

    Args:
        group_size: G, samples of each group.

    >>> collector = GroupCollector(2)
    >>> collector.fail(Failure("g0", 1, "server gone"))
    >>> collector.fail(Failure("g0", 0, "server gone")).id
    'g0'
    """

    def __init__(self, group_size: int) -> None:
        if group_size < 1:
            raise LayoutError(f"group_size must be at least 1, got {group_size}")
        self._group_size = group_size
        self._open: dict[str, dict[int, Outcome | Failure]] = {}

    def add(self, outcome: Outcome) -> Group | None:
        """Take one outcome; returns the group if this completes it."""
        return self._take(outcome.rollout.group, outcome.rollout.sample, outcome)

    def fail(self, failure: Failure) -> Group | None:
        """Take one named failure; returns the group if this completes it."""
        return self._take(failure.group, failure.sample, failure)

    def close(self) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
        """The deadline: no more samples will come.

        Returns:
            Open groups with at least two scorable outcomes (usable), and the others (given up), sorted by id.
        """
        groups = [self._build(name) for name in sorted(self._open)]
        self._open.clear()
        usable = tuple(g for g in groups if _scorable(g) >= 2)
        return usable, tuple(g for g in groups if _scorable(g) < 2)

    def _take(self, name: str, sample: int, item: Outcome | Failure) -> Group | None:
        members = self._open.setdefault(name, {})
        if sample in members:
            raise LayoutError(f"sample {sample} came twice", item=name)
        if not 0 <= sample < self._group_size:
            raise LayoutError(f"sample {sample} is outside the group size {self._group_size}", item=name)
        members[sample] = item
        if len(members) < self._group_size:
            return None
        group = self._build(name)
        del self._open[name]
        return group

    def _build(self, name: str) -> Group:
        members = [item for _, item in sorted(self._open[name].items())]
        outcomes = tuple(item for item in members if isinstance(item, Outcome))
        failures = tuple(item for item in members if isinstance(item, Failure))
        return Group(name, outcomes, failures)


def _scorable(group: Group) -> int:
    return sum(outcome.status != "unscorable" for outcome in group.outcomes)
