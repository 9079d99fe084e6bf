"""The client of a reward model on vLLM's pooling route: class logits at tokens, each answer checked."""

import asyncio
import math
from typing import Any, cast, final

import numpy as np
from jaxtyping import Float32, Int32

from stepcredit.core.digests import digest
from stepcredit.core.errors import ChangedModelError, EngineError, UsageError
from stepcredit.core.judge_parts import ClassLogits
from stepcredit.engines.server.answers import Body, GarbageError, ignored, usage_of
from stepcredit.engines.server.budget import Budget
from stepcredit.engines.server.listing import served_model
from stepcredit.engines.server.settings import ServerSettings, base_url
from stepcredit.engines.server.transport import OnAttempt, Transport, call_id

ROUTE = "/pooling"

# Probabilities of a half-precision head add up to 1 only as far as its numbers go.
_SUM_WITHIN = 1e-2


@final
class PoolingClient:
    """Implements `core.judge_parts.TokenClassifier` on one server; for one event loop.

    For models with a class head that vLLM serves token by token, such as Qwen2.5-Math-PRM. Token ids are sent, so the
    server can neither add nor read anything; it answers a row for each token, or, with step pooling, for each mark.
    Both are taken, told apart by their number. Use it in an `async with` block, or call `close` at the end.

    Args:
        settings: address, model, limits and waits; `extra` goes with every request.
        classes: C, the number of classes of the model's head.
        budget: limits on calls; may be shared with other clients.
        on_attempt: gets a record of each request, such as `ledger.attempt`.

    Raises:
        UsageError: if there are fewer than two classes: the server's activation of a single one is not known.

    Source: engines.md 4; vLLM's pooling route. Differs: none.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        classes: int = 2,
        budget: Budget | None = None,
        on_attempt: OnAttempt | None = None,
    ) -> None:
        if classes < 2:
            raise UsageError(f"the pooling client needs a head of at least 2 classes, got {classes}")
        self._settings, self._classes = settings, classes
        self._transport = Transport(settings, budget=budget or Budget(), on_attempt=on_attempt)
        self._model = settings.model
        self._context: int | None = None
        self._served = False
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> "PoolingClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    @property
    def fingerprint(self) -> str:
        """Digest of address, model, classes and extra fields.

        Raises:
            EngineError: if the settings name no model and the server was not asked yet.
        """
        if not self._model:
            raise EngineError("the model's name is not known yet; await context() first", item=self._transport.url)
        address = base_url(self._settings.url)
        return digest("PoolingClient", address, self._model, self._classes, dict(self._settings.extra))

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return self._classes

    async def context(self) -> int | None:
        """Most tokens that the server reads at once, as its list of models says.

        Raises:
            MachineError: if there is no server.
            UsageError: if it does not have the model.
        """
        await self._start()
        return self._context

    async def classify(self, ids: Int32[np.ndarray, " X"], places: Int32[np.ndarray, " P"]) -> ClassLogits:
        """Log probabilities of the classes at the places.

        Raises:
            EngineError: if no whole answer came, or the server pools otherwise than token by token, gives no
                probabilities or another number of classes.
            UsageError: if the server refuses the request or has no such route.
            BudgetError: if a limit on calls is reached.
        """
        await self._start()
        given, wanted = np.asarray(ids, np.int32), np.asarray(places, np.int32)
        if not len(wanted):
            return ClassLogits(np.zeros((0, self._classes), np.float32))
        body: dict[str, Any] = {"model": self._model, "input": given.tolist(), "task": "token_classify"}
        body |= {"encoding_format": "float", "use_activation": True, **self._settings.extra}

        def read(answer: Body) -> Float32[np.ndarray, "P C"]:
            self._check_model(answer)
            return self._at_places(rows_of(answer, classes=self._classes), answer, given, wanted)

        values = await self._transport.ask(ROUTE, body, read=read)
        return ClassLogits(values, (call_id(ROUTE, body),))

    def _at_places(
        self,
        rows: Float32[np.ndarray, "R C"],
        answer: Body,
        ids: Int32[np.ndarray, " X"],
        places: Int32[np.ndarray, " P"],
    ) -> Float32[np.ndarray, "P C"]:
        read = usage_of(answer).input_tokens
        if read is not None and read != len(ids):
            raise ignored("input as token ids", got=f"{len(ids)} ids given, {read} tokens read")
        marks = np.flatnonzero(ids == ids[places[0]])
        if len(rows) == len(ids):
            rows = rows[places]
        elif len(rows) != len(places) or not np.array_equal(marks, places):
            raise EngineError(
                f"the server pools {len(rows)} rows from {len(ids)} tokens with {len(places)} steps; serve the model "
                "with token-wise pooling: ALL, or STEP with step_tag_id at the format's mark",
                item=self._transport.url,
            )
        if not (np.abs(rows.sum(axis=1) - 1.0) <= _SUM_WITHIN).all():
            raise ignored("use_activation", got=f"the classes of a token add up to {float(rows.sum(axis=1)[0]):.4g}")
        with np.errstate(divide="ignore"):
            return np.log(rows)

    async def _start(self) -> None:
        """Learn the model's name and context, and that there is a server, before the first call."""
        async with self._starting:
            if self._served:
                return
            self._model, self._context = await served_model(self._transport, self._model)
            self._served = True

    def _check_model(self, answer: Body) -> None:
        name = answer.get("model") or self._model
        if name != self._model:
            said = f"answers come from model {name!r}, not {self._model!r}; results of two models must not be mixed"
            raise ChangedModelError(said, item=self._transport.url)


def rows_of(answer: Body, *, classes: int) -> Float32[np.ndarray, "R C"]:
    """[R, C] numbers of the only text of a pooling answer, each in [0, 1].

    Args:
        answer: body of the answer.
        classes: C.

    Raises:
        GarbageError: if there are no rows of C finite numbers.
        EngineError: if the rows have another number of classes, or a number is no probability.

    >>> rows_of({"data": [{"index": 0, "data": [[0.25, 0.75]]}]}, classes=2).tolist()
    [[0.25, 0.75]]
    """
    data = answer.get("data")
    items = cast("list[Any]", data) if isinstance(data, list) else []
    first = cast("dict[str, Any]", items[0]).get("data") if len(items) == 1 and isinstance(items[0], dict) else None
    if not isinstance(first, list):
        raise GarbageError("no rows of numbers in the answer")
    rows = cast("list[Any]", first)
    if rows and not isinstance(rows[0], list):
        raise EngineError("the server pools the whole text into one row; serve the model with token-wise pooling")
    for row in rows:
        if not isinstance(row, list) or not all(_is_number(value) for value in cast("list[Any]", row)):
            raise GarbageError("a row of the answer is not a list of finite numbers")
        values = cast("list[float]", row)
        if len(values) != classes:
            raise EngineError(f"the server's model has {len(values)} numbers a token, not {classes} classes")
        if not all(-1e-3 <= value <= 1.0 + 1e-3 for value in values):
            raise ignored("use_activation", got=f"{values[0]:.4g} is no probability")
    return np.clip(np.array(rows, np.float32).reshape(len(rows), classes), 0.0, 1.0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
