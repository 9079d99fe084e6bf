"""Calls of one judge that are under way together: all of them end, or none goes on."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import TypeVar

from stepcredit.core.errors import BudgetError, DrainedError

AnyT = TypeVar("AnyT")


async def together(coroutines: Iterable[Coroutine[None, None, AnyT]]) -> list[AnyT]:
    """All results in order; if one raises, the others are cancelled and waited for, so that nothing more is spent.

    Where a limit was reached or the run drains, nothing new is admitted: what is under way is paid for, and ends.

    >>> async def one() -> int:
    ...     return 1
    >>> asyncio.run(together([one(), one()]))
    [1, 1]
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    except (BudgetError, DrainedError):
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
