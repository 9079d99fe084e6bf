"""Judges and checkers of recorded solutions: built from the recipe, with what must be closed after them."""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from stepcredit.core.protocols import Judge
from stepcredit.engines.server.budget import Budget, Prices
from stepcredit.engines.server.settings import ServerSettings
from stepcredit.judges.critic import CriticJudge, CriticSettings
from stepcredit.judges.intrinsic.judge import IntrinsicJudge, IntrinsicSettings
from stepcredit.judges.intrinsic.markers import text_markers
from stepcredit.recipes.extras import missing_modules
from stepcredit.recipes.recorded.settings import (
    CheckerPart,
    FileJudge,
    JudgePart,
    RecordedRecipe,
    ServerPart,
    given,
    refuse_others,
)
from stepcredit.store.attempts import AttemptRecord, AttemptTotals
from stepcredit.tasks.checking import MathChecker
from stepcredit.tasks.math_pool import MathPool

_INTRINSIC = ("merged", "retries")
_CRITIC = ("max_tokens", "temperature", "seed", "votes")
_PRICES = ("input_price", "output_price")
_LIMITS = ("max_calls", "max_cost", *_PRICES)

TEXT_ONLY = (
    "math-verify is not installed: answers are compared as text, letters and numbers, and formulas stay unscorable"
    " (pip install 'stepcredit[math]' compares them too)"
)
"""Said where the checker had to do without math-verify."""


class CallLog:
    """Where a judge's calls are written: kept until a ledger is there, then passed on to it; counts against a budget.

    Args:
        budget: its counters are raised by what earlier processes spent.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._waiting: list[AttemptRecord] = []
        self._write: Callable[[AttemptRecord], None] = self._waiting.append

    def take(self, record: AttemptRecord) -> None:
        """One attempt."""
        self._write(record)

    def open(self, write: Callable[[AttemptRecord], None], *, spent: AttemptTotals | None = None) -> None:
        """From now on attempts go to `write`; those that waited go first."""
        if spent is not None:
            self._budget.calls += spent.attempts
            self._budget.cost += spent.cost or 0.0
        self._write = write
        for record in self._waiting:
            write(record)
        self._waiting.clear()


@asynccontextmanager
async def opened_judge(
    name: FileJudge, recipe: RecordedRecipe, *, server: str | None, model: str | None
) -> AsyncGenerator[tuple[Judge, CallLog]]:
    """The judge by name, ready to be asked.

    Args:
        name: `markers` or `critic`.
        recipe: sections `[judge]` and `[server]` are read.
        server: address of the critic's server.
        model: its model; `None` asks the server for its only one.

    Raises:
        UsageError: for keys that the judge does not have, or an address that is none.
        MachineError: if there is no server.
    """
    budget = _budget(recipe.server)
    log = CallLog(budget)
    if name == "markers":
        yield _markers(recipe.judge), log
        return
    refuse_others(recipe.judge, _CRITIC, section="judge", of="critic")
    from stepcredit.engines.server.client import ServerClient  # noqa: PLC0415 -- loads the HTTP client

    limits = {key: value for key, value in given(recipe.server).items() if key not in _LIMITS}
    settings = ServerSettings(server or "", model=model or "", **limits)
    async with ServerClient(settings, budget=budget, on_attempt=log.take) as client:
        if not model:
            await client.probe()
        yield CriticJudge(client, CriticSettings(**given(recipe.judge))), log


def checker_of(part: CheckerPart) -> tuple[MathChecker, MathPool | None]:
    """The checker, and its processes, which the caller closes.

    Raises:
        MachineError: if math mode is asked for and math-verify is not installed.
    """
    cut: dict[str, Any] = given(part, "cut")
    if part.mode == "string" or (part.mode == "auto" and missing_modules("math")):
        return MathChecker(mode="string", **cut), None
    workers = part.workers or max(1, (os.cpu_count() or 2) - 1)
    pool = MathPool(workers, **given(part, "timeout_s"))
    return MathChecker(pool, **cut), pool


def _markers(part: JudgePart) -> Judge:
    refuse_others(part, _INTRINSIC, section="judge", of="markers")
    return IntrinsicJudge(text_markers(), IntrinsicSettings(**given(part)))


def _budget(part: ServerPart) -> Budget:
    prices = given(part, *_PRICES)
    priced = Prices(prices.get("input_price", 0.0), prices.get("output_price", 0.0)) if prices else None
    return Budget(max_calls=part.max_calls, max_cost=part.max_cost, prices=priced)
