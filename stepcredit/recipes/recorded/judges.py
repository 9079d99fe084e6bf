"""Judges and checkers of recorded solutions: built from the recipe, with what must be closed after them."""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, fields
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from stepcredit.core.errors import BudgetError, UsageError
from stepcredit.core.protocols import Judge
from stepcredit.engines.server.budget import Budget, Prices
from stepcredit.engines.server.settings import ServerSettings
from stepcredit.judges.cache import MemoryCache, VerdictCache
from stepcredit.judges.critic import CriticJudge, CriticSettings
from stepcredit.judges.intrinsic.judge import IntrinsicJudge, IntrinsicSettings
from stepcredit.judges.intrinsic.markers import text_markers
from stepcredit.judges.intrinsic.server import ServerReader, ServerReaderSettings
from stepcredit.judges.metering import Meter
from stepcredit.judges.step_critic import StepCritic, StepCriticSettings
from stepcredit.judges.tallies import OnTally, Tally, no_tally
from stepcredit.recipes.extras import missing_modules
from stepcredit.recipes.recorded.code_running import check_sandbox, opened_runner, try_sandbox
from stepcredit.recipes.recorded.meeting import Identity
from stepcredit.recipes.recorded.outcome_parts import OUTCOME, outcome_settings
from stepcredit.recipes.recorded.reading import ReadingJudge, ReadingLog, RequestFields
from stepcredit.recipes.recorded.scoring import check_scoring, opened_scoring, scoring_settings
from stepcredit.recipes.recorded.settings import (
    CheckerPart,
    FileJudge,
    JudgePart,
    RecordedRecipe,
    ServerPart,
    given,
    refuse_others,
)
from stepcredit.recipes.recorded.wrapping import calibrated
from stepcredit.recipes.recorded.writing_judges import writing_judge, writing_settings
from stepcredit.recipes.recorded.writing_parts import WRITING
from stepcredit.store.attempts import AttemptRecord, AttemptTotals
from stepcredit.tasks.checking import MathChecker
from stepcredit.tasks.math_pool import MathPool

_MARKERS = ("merged", "retries")
_INTRINSIC = (*_MARKERS, "votes")
_READER = tuple(field.name for field in fields(ServerReaderSettings))
_STEP_CRITIC = ("variant", "max_tokens", "temperature", "seed")
_CRITIC = ("max_tokens", "temperature", "seed", "votes")
_PRICES = ("input_price", "output_price")
_LIMITS = ("max_calls", "max_cost", *_PRICES)

TEXT_ONLY = (
    "math-verify is not installed: answers are compared as text, letters and numbers, and formulas stay unscorable"
    " (pip install 'stepcredit[math]' compares them too)"
)
"""Said where the checker had to do without math-verify."""


OPENING = (
    "opening the judge's server takes up to 4 requests a session (the list of models, and a look at the weights),"
    " and up to 12 more for thinkprm and genprm (what it can do), before any solution"
)
"""Said where a limit on calls leaves no room for these."""

_COUNTED = ("chat/completions", "completions", "/pooling")
"""Routes whose answers tell tokens."""


async def _none() -> NDArray[np.float32] | None:
    return None


@final
class CallLog:
    """Where a judge's calls are written: kept until a ledger is there, then passed on to it; counts against a budget.

    Args:
        budget: its counters are raised by what earlier processes spent.

    Attributes:
        identity: gives log probabilities by which the model's weights are known again, `None` if it has none.
        on_tally: gets what the judge's model did on each solution.
        readings: parse statistics of a judge that has them.
        meter: counts the tokens of answers, those of earlier sessions too.
        cache: where replies are kept for a judge that reads many for one verdict.
        sandbox: what the battery's programs did in each engine, empty if no code is run.
    """

    def __init__(self, budget: Budget) -> None:
        self.readings = ReadingLog()
        self.sandbox: dict[str, Any] = {}
        self.cache: VerdictCache = MemoryCache()
        self.meter = Meter()
        self._budget = budget
        self._waiting: list[AttemptRecord] = []
        self._write: Callable[[AttemptRecord], None] = self._waiting.append
        self.identity: Identity = _none
        self.on_tally: OnTally = no_tally

    async def look(self) -> NDArray[np.float32] | None:
        """`identity`, which opens the server where nothing has asked it yet.

        Raises:
            BudgetError: if a limit is reached; says what opening takes.
        """
        try:
            return await self.identity()
        except BudgetError as error:
            raise BudgetError(f"{error}; {OPENING}") from error

    @property
    def budget(self) -> Budget:
        """What calls count against, for others who ask in the same run."""
        return self._budget

    def drain(self) -> None:
        """From now on no request is begun."""
        self._budget.drain()

    def tell(self, rollout: str, tally: Tally) -> None:
        """What the judge's model did on one solution."""
        self.on_tally(rollout, tally)

    def take(self, record: AttemptRecord) -> None:
        """One attempt."""
        self._write(record)
        if not record.error and record.route in _COUNTED:
            self.meter.spend(record.input_tokens, record.output_tokens)

    def open(self, write: Callable[[AttemptRecord], None], *, spent: AttemptTotals | None = None) -> None:
        """From now on attempts go to `write`; those that waited go first."""
        if spent is not None:
            self._budget.calls += spent.attempts
            self._budget.cost += spent.cost or 0.0
            if spent.calls:
                self.meter.spend(spent.input_tokens or 0, spent.output_tokens or 0)
        self._write = write
        for record in self._waiting:
            write(record)
        self._waiting.clear()


@asynccontextmanager
async def opened_judge(
    name: FileJudge,
    recipe: RecordedRecipe,
    *,
    server: str | None,
    model: str | None,
    max_calls: int | None = None,
    max_cost: float | None = None,
    tokenizer: str | None = None,
    ask: bool = True,
) -> AsyncGenerator[tuple[Judge, CallLog]]:
    """The judge by name, ready to be asked, with scores corrected as `[calibration]` says.

    Args:
        name: of the judge.
        recipe: `[server]` and the sections of the judge are read.
        server: address of the judge's server.
        model: its model; `None` asks the server for its only one.
        max_calls: goes before the recipe's.
        max_cost: goes before the recipe's.
        tokenizer: folder or hub id of the model's tokenizer, for a judge that writes.
        ask: a server whose model is not named is asked for it now; else by the first `CallLog.look`.

    Raises:
        UsageError: for keys that the judge does not have, an address that is none, or a calibration of another judge.
        MachineError: if there is no server.
    """
    opened = _opened(
        name, recipe, server=server, model=model, limits=(max_calls, max_cost), tokenizer=tokenizer, ask=ask
    )
    async with opened as (judge, log):
        settings = judge_settings(name, recipe)
        yield calibrated(judge, recipe.calibration, name=name, model=model, settings=settings), log


@asynccontextmanager
async def _opened(
    name: FileJudge,
    recipe: RecordedRecipe,
    *,
    server: str | None,
    model: str | None,
    limits: tuple[int | None, float | None],
    tokenizer: str | None,
    ask: bool,
) -> AsyncGenerator[tuple[Judge, CallLog]]:
    """As `opened_judge`, with the judge's own scores."""
    if name == "markers":
        yield _markers(recipe.judge), CallLog(Budget())
        return
    refuse_whole(name)
    budget = budget_of(recipe.server, *limits)
    log = CallLog(budget)
    judge_settings(name, recipe)  # keys are refused before a server is asked
    asked = RequestFields()
    if name == "discriminative":
        check_scoring(server, model, tokenizer)
        where = None if server is None else server_settings(recipe.server, server, model, asked)
        opened = opened_scoring(
            recipe.discriminative, server=where, model=model or "", tokenizer=tokenizer, budget=budget,
            on_attempt=log.take)  # fmt: skip
        async with opened as scoring:
            yield scoring, log
        return
    from stepcredit.engines.server.client import ServerClient  # noqa: PLC0415 -- loads the HTTP client

    settings = server_settings(recipe.server, server or "", model, asked)
    async with ServerClient(settings, budget=budget, on_attempt=log.take) as client:
        log.identity = client.identity
        if ask and not model:
            await log.look()
        if name in WRITING:
            log.sandbox = try_sandbox(recipe.sandbox)
            with opened_runner(recipe.sandbox) as runner:
                yield writing_judge(name, client, recipe, tokenizer=tokenizer, runner=runner, on_tally=log.tell), log
            return
        if name == "critic":
            yield CriticJudge(client, _critic_settings(recipe.judge)), log
            return
        if name == "step-critic":
            yield StepCritic(client, _step_critic_settings(recipe.judge)), log
            return
        reading, how, decompose = _intrinsic_settings(recipe.judge)
        reader = ServerReader(client, how, fields=asked.set)
        yield ReadingJudge(reader, reading, decompose=decompose, log=log.readings), log


def refuse_whole(name: str) -> None:
    """Refuse a judge of whole solutions where verdicts on steps are wanted.

    Raises:
        UsageError: saying where it can be asked.
    """
    if name in OUTCOME:
        mend = f"stepcredit judge FILE --judge {name} (in Python: judge_file) gives one score a solution"
        raise UsageError(f"judge {name} scores whole solutions, and verdicts on steps are wanted here; {mend}")


def server_settings(part: ServerPart, url: str, model: str | None, fields: RequestFields) -> ServerSettings:
    """How a server is asked; `fields` go with every request."""
    waits = {key: value for key, value in given(part).items() if key not in _LIMITS}
    return ServerSettings(url, model=model or "", extra=fields, **waits)


def judge_settings(name: FileJudge, recipe: RecordedRecipe) -> dict[str, Any]:
    """All settings of the judge by name, defaults included.

    Raises:
        UsageError: for keys that the judge does not have, or a sandbox that it has no use for.
    """
    check_sandbox(name, recipe.sandbox)
    if name in WRITING:
        return writing_settings(name, recipe)
    if name in OUTCOME:
        refuse_others(recipe.judge, (), section="judge", of=name)
        return outcome_settings(recipe.spct if name == "spct" else recipe.think_rm)
    if name == "intrinsic":
        reading, how, decompose = _intrinsic_settings(recipe.judge)
        return {**asdict(reading), **asdict(how), "decompose": decompose}
    if name == "discriminative":
        refuse_others(recipe.judge, (), section="judge", of=name)
        return scoring_settings(recipe.discriminative)
    if name == "step-critic":
        return asdict(_step_critic_settings(recipe.judge))
    return asdict(_markers_settings(recipe.judge) if name == "markers" else _critic_settings(recipe.judge))


def checker_of(part: CheckerPart) -> tuple[MathChecker, MathPool | None]:
    """The checker, and its processes, which the caller closes.

    Raises:
        MachineError: if math mode is asked for and math-verify is not installed.
    """
    cut: dict[str, Any] = given(part, "cut")
    if part.mode == "string" or (part.mode == "auto" and missing_modules("math")):
        return MathChecker(mode="string", **cut), None
    workers = part.workers or max(1, (os.cpu_count() or 2) - 1)
    pool = MathPool(workers, **given(part, "timeout_s", "retry_timeout_s"))
    return MathChecker(pool, **cut), pool


def _markers(part: JudgePart) -> Judge:
    return IntrinsicJudge(text_markers(), _markers_settings(part))


def _markers_settings(part: JudgePart) -> IntrinsicSettings:
    refuse_others(part, _MARKERS, section="judge", of="markers")
    return IntrinsicSettings(**given(part))


def _intrinsic_settings(part: JudgePart) -> tuple[IntrinsicSettings, ServerReaderSettings, bool]:
    """How the judge asks, how its model is asked, and whether it cuts the steps."""
    reading = IntrinsicSettings(**given(part, *_INTRINSIC))
    how = ServerReaderSettings(**given(part, *_READER))
    if reading.votes > 1 and not how.temperature:
        raise UsageError("judge.votes at temperature 0 would ask the same again; set judge.temperature, such as 0.7")
    return reading, how, part.decompose is not False


def _critic_settings(part: JudgePart) -> CriticSettings:
    refuse_others(part, _CRITIC, section="judge", of="critic")
    return CriticSettings(**given(part))


def _step_critic_settings(part: JudgePart) -> StepCriticSettings:
    refuse_others(part, _STEP_CRITIC, section="judge", of="step-critic")
    return StepCriticSettings(**given(part))


def budget_of(part: ServerPart, max_calls: int | None = None, max_cost: float | None = None) -> Budget:
    """Limits and prices of `[server]`; limits that are given go before the recipe's."""
    prices = given(part, *_PRICES)
    priced = Prices(prices.get("input_price", 0.0), prices.get("output_price", 0.0)) if prices else None
    calls = part.max_calls if max_calls is None else max_calls
    return Budget(max_calls=calls, max_cost=part.max_cost if max_cost is None else max_cost, prices=priced)
