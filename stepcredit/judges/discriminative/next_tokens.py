"""A reward model that writes `+` or `-`, read through a Writer: one question a step, on any generation server."""

import asyncio
from typing import final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError
from stepcredit.core.judge_parts import ClassLogits
from stepcredit.core.protocols import Writer


@final
class NextTokenClassifier:
    """Implements `core.judge_parts.TokenClassifier` with log probabilities of candidate next tokens.

    For Math-Shepherd and RLHFlow checkpoints behind a server that generates: the prompt up to each place is sent, and
    the server's prefix cache makes a solution of K steps about as dear as one pass. A candidate that the server does
    not name makes the place's row NaN, which is unknown.

    Args:
        writer: the served model.
        candidates: [C] token ids of the classes, in order.
        context: most tokens that the model reads at once, `None` if not known; one more is written.

    Source: genprm.md 9.5 (one greedy token a step). Differs: the probability is read, not the token.
    """

    def __init__(self, writer: Writer, candidates: Int32[np.ndarray, " C"], *, context: int | None = None) -> None:
        self._writer, self._context = writer, context
        self._candidates = frozen(candidates, np.int32)

    @property
    def fingerprint(self) -> str:
        """Candidates and the writer's fingerprint."""
        return digest("NextTokenClassifier", self._candidates, self._writer.fingerprint)

    @property
    def classes(self) -> int:
        """C, the number of candidates."""
        return len(self._candidates)

    async def context(self) -> int | None:
        """Most tokens that it reads: one less than the model's, for the candidate's own place."""
        return None if self._context is None else self._context - 1

    async def classify(self, ids: Int32[np.ndarray, " X"], places: Int32[np.ndarray, " P"]) -> ClassLogits:
        """Log probabilities of the candidates behind each place.

        Raises:
            EngineError: if the writer failed, or a number of its own is not one.
        """
        given = np.asarray(ids, np.int32)
        tasks = [
            asyncio.ensure_future(self._writer.next_tokens(given[: place + 1], self._candidates))
            for place in np.asarray(places).tolist()
        ]
        try:
            found = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        rows = [each.logprobs for each in found]
        if any((row > 0).any() for row in rows):
            raise EngineError("a log probability of a candidate is over 0")
        values = np.array(rows, np.float32).reshape(len(tasks), len(self._candidates))
        return ClassLogits(values, tuple(each.call for each in found if each.call))
