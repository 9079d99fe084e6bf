"""A judge that is asked once its model was met: is it that of the sessions before, and can its server be asked?"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import final

import numpy as np
from numpy.typing import NDArray

from stepcredit.core.errors import ChangedModelError, EngineError, JudgeError
from stepcredit.core.protocols import Judge, Scale
from stepcredit.core.records import Steps, Verdict
from stepcredit.recipes.recorded.reading import Proposal, ReadingJudge, each
from stepcredit.store.ledger import Ledger

MODEL = "model"
"""Stage of the ledger: log probabilities by which the judge's model is known again in the next session."""

Identity = Callable[[], Awaitable[NDArray[np.float32] | None]]
"""Gives log probabilities by which a model's weights are known again, `None` if it has none."""


@final
class MetJudge:
    """Asks the judge once its model was met; implements `Judge`.

    Args:
        judge: who is asked.
        meet: looks at its model; asked before the first judgement, and again where it failed.
        failed: what is said where the model does not answer.
    """

    def __init__(self, judge: Judge, meet: Callable[[], Awaitable[None]], *, failed: str) -> None:
        self._judge, self._look, self._failed = judge, meet, failed
        self._met, self._lock = False, asyncio.Lock()

    @property
    def fingerprint(self) -> str:
        """That of the judge."""
        return self._judge.fingerprint

    @property
    def scale(self) -> Scale:
        """That of the judge."""
        return self._judge.scale

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts.

        Raises:
            JudgeError: if the judge failed, or its model could not be met; else as `meet`.
        """
        await self._before(steps)
        return await self._judge.judge(steps)

    async def propose(self, steps: Steps, given: bool = False) -> Proposal:  # noqa: FBT001, FBT002 -- a walk's `Propose`
        """How the judge cuts the steps, if it does; raises as `judge`."""
        if not isinstance(self._judge, ReadingJudge):
            return Proposal(each(len(steps)))
        await self._before(steps)
        return await self._judge.propose(steps, given)

    async def meet(self) -> None:
        """Meet the model, if it was not met yet.

        Raises:
            EngineError: if it does not answer.
            UsageError, ChangedModelError: as what was given says.
        """
        async with self._lock:
            if not self._met:
                await self._look()
                self._met = True

    async def _before(self, steps: Steps) -> None:
        try:
            await self.meet()
        except EngineError as error:
            raise JudgeError(f"{self._failed}: {error}", item=steps.rollout.id) from error


def same_model(judge: Judge, identity: Identity, ledger: Ledger) -> MetJudge:
    """The judge, asked once it is known that its model is that of the sessions before.

    Where the model gives no log probabilities of a prompt only its name can tell, which the client looks at. Another
    model is a ChangedModelError.

    Args:
        judge: who is asked.
        identity: see `CallLog`.
        ledger: keeps the identity.
    """

    async def recognise() -> None:
        from stepcredit.engines.server.client import same_weights  # noqa: PLC0415 -- loads the HTTP client

        now = await identity()
        kept = ledger.get(MODEL, judge.fingerprint)
        if now is None:
            return
        if kept is None:
            ledger.put(MODEL, judge.fingerprint, {"logprobs": now.tolist()})
            ledger.flush()
        elif not same_weights(np.array(kept["logprobs"], np.float32), now):
            mend = "serve the model of this run again, or start a new one with --out"
            raise ChangedModelError(f"the server has other weights under its name than when this run began; {mend}")

    return MetJudge(judge, recognise, failed="the judge's model could not be looked at")
