"""The walk of an evaluation: every item once, those that a session died with alone."""

from collections.abc import Callable, Sequence
from typing import Any

from stepcredit.core.errors import PartialError
from stepcredit.recipes.draining import Drain
from stepcredit.recipes.recorded.limits import Quarantine, Turn
from stepcredit.recipes.recorded.rollouts import grouped
from stepcredit.recipes.recorded.walk import Placed, Walked, WalkParts, walk_each

_TURNS: tuple[tuple[Turn, dict[str, Any]], ...] = (
    ("first", {"in_flight": 1}),
    ("beside", {}),
    ("last", {"in_flight": 1}),
)


async def walk_items(
    parts: WalkParts,
    items: Sequence[Placed],
    *,
    quarantine: Quarantine,
    take: Callable[[int, Walked], None],
    drain: Drain,
) -> None:
    """Walk items that are all in memory.

    Args:
        parts: the parts.
        items: with their places.
        quarantine: says which are tried alone, and which not at all.
        take: gets each when it is done, in any order.
        drain: once it is asked nothing is begun.

    Raises:
        StepcreditError: as `walk_each`.
    """
    grouping = grouped((item for _, item in items), "problem-and-model")
    order = {place: quarantine.turn(item.id) for place, item in items} if quarantine.any_suspect else {}
    for turn, more in _TURNS:
        mine = [one for one in items if order.get(one[0], "beside") == turn]
        if mine:
            await walk_each(parts, iter(mine), grouping=grouping, take=take, drain=drain, **more)


def refuse_holes(failed: int, left_out: int, *, what: str) -> None:
    """End a run in which items are missing.

    Args:
        failed: items on which the judge or checker failed.
        left_out: items in quarantine.
        what: what the items are.

    Raises:
        PartialError: if there are any; says the mend.
    """
    if failed:
        why = f"the judge failed on {failed} {what}, report.html says why; the same command asks again"
        raise PartialError(why + (f" ({left_out} more are in quarantine)" if left_out else ""))
    if left_out:
        mend = "report.html says why; --set limits.deaths=0 tries them again"
        raise PartialError(f"{left_out} {what} are in quarantine and were left out; {mend}")
