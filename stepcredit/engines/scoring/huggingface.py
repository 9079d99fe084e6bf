"""The local reward model: class logits at tokens by batched forward passes on one worker thread."""

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, final

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int32
from torch import Tensor, nn

from stepcredit.core.arrays import frozen
from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, StepcreditError, UsageError
from stepcredit.core.judge_parts import ClassLogits


@final
@dataclass(frozen=True)
class ScoringSettings:
    """How a local reward model works.

    Args:
        batch_tokens: most tokens of one forward pass, padding included; a longer text goes alone.
        context: most tokens of one text; `None` takes what the model's configuration says.

    Raises:
        UsageError: if a limit is not positive.
    """

    batch_tokens: int = 16384
    context: int | None = None

    def __post_init__(self) -> None:
        if self.batch_tokens < 1 or (self.context is not None and self.context < 1):
            raise UsageError(f"batch_tokens and context must be positive, got {self}")


@final
@dataclass(frozen=True, eq=False)
class _Job:
    ids: Int32[np.ndarray, " X"]
    places: Int32[np.ndarray, " P"]
    future: "Future[Float32[np.ndarray, 'P C']]"


@final
class HuggingFaceClassifier:
    """Implements `core.judge_parts.TokenClassifier` with a `transformers` model in this process.

    Either a model with a class head of its own on the last hidden states (`head`), or a causal LM of which a few
    tokens of the vocabulary are read (`candidates`). Requests that wait share a forward pass, padded at the right,
    where causal attention does not look. It serves any number of event loops. Close it with `close` or `with`.

    Args:
        module: the model without head, or the causal LM; set to evaluation.
        name: names the weights: part of the fingerprint.
        head: [d] -> [C] logits.
        candidates: [C] token ids, in order.
        settings: sizes.

    Raises:
        UsageError: if not exactly one of head and candidates is given, or the head is not [d] -> [C].
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        head: nn.Module | None = None,
        candidates: Int32[np.ndarray, " C"] | None = None,
        settings: ScoringSettings | None = None,
    ) -> None:
        if (head is None) == (candidates is None):
            raise UsageError("a reward model reads either a class head or candidate tokens: give one of the two")
        self._module: Any = module.eval().requires_grad_(requires_grad=False)
        self._head = None if head is None else head.eval().requires_grad_(requires_grad=False)
        self._candidates = None if candidates is None else frozen(candidates, np.int32)
        self._settings = settings or ScoringSettings()
        self._name = name
        self._keeps = "logits_to_keep" in inspect.signature(self._module.forward).parameters
        self._vocabulary = int(self._module.get_input_embeddings().num_embeddings)
        self._device = next(module.parameters()).device
        self._classes = len(candidates) if candidates is not None else self._head_classes()
        self._waiting: deque[_Job] = deque()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stepcredit-scoring")
        self._closed = False

    @property
    def fingerprint(self) -> str:
        """Weights, candidates and context; how requests share passes is no part of it."""
        return digest("HuggingFaceClassifier", self._name, self._candidates, self._limit)

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return self._classes

    async def context(self) -> int | None:
        """Most tokens of one text, by settings or the model's configuration."""
        return self._limit

    async def classify(self, ids: Int32[np.ndarray, " X"], places: Int32[np.ndarray, " P"]) -> ClassLogits:
        """Logits at the places.

        Raises:
            EngineError: if ids or places do not fit the model, a logit is no finite number, the engine is closed, or
                the forward pass failed.
        """
        column, wanted = frozen(ids, np.int32), frozen(places, np.int32)
        self._check(column, wanted)
        if not len(wanted):
            return ClassLogits(np.zeros((0, self._classes), np.float32))
        job = _Job(column, wanted, Future())
        with self._lock:
            if self._closed:
                raise EngineError("the reward model is closed; make a new one")
            self._waiting.append(job)
            self._pool.submit(self._work)
        return ClassLogits(await asyncio.wrap_future(job.future))

    def close(self) -> None:
        """Answer what waits and stop the worker thread. Closing twice is no error."""
        with self._lock:
            self._closed = True
        self._pool.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _limit(self) -> int | None:
        if self._settings.context is not None:
            return self._settings.context
        said = getattr(self._module.config, "max_position_embeddings", None)
        return said if isinstance(said, int) and said > 0 else None

    def _head_classes(self) -> int:
        head, width = self._head, int(self._module.get_input_embeddings().embedding_dim)
        found: tuple[int, ...] = ()
        if head is not None:
            kind = next(head.parameters()).dtype
            try:
                with torch.inference_mode():
                    found = tuple(head(torch.zeros(1, width, dtype=kind, device=self._device)).shape)
            except RuntimeError as error:
                raise UsageError(f"the head does not take hidden states of width {width}: {error}") from error
        if len(found) != 2:
            raise UsageError(f"the head should give [1, C] logits for one state, got shape {found}")
        return found[1]

    def _check(self, ids: Int32[np.ndarray, " X"], places: Int32[np.ndarray, " P"]) -> None:
        limit = self._limit
        if limit is not None and len(ids) > limit:
            raise EngineError(f"{len(ids)} tokens do not fit the model's {limit}")
        if len(places) and not 0 <= places.min() <= places.max() < len(ids):
            raise EngineError(f"places must be in 0..{len(ids) - 1}, got {places.min()}..{places.max()}")
        if len(ids) and not 0 <= ids.min() <= ids.max() < self._vocabulary:
            raise EngineError(f"an id is outside the vocabulary of {self._vocabulary}: another tokenizer's?")

    def _work(self) -> None:
        """On the worker thread: answer all that waits, shortest first."""
        with self._lock:
            jobs = sorted(self._waiting, key=lambda job: len(job.ids))
            self._waiting.clear()
        batch: list[_Job] = []
        for job in jobs:
            if batch and len(job.ids) * (len(batch) + 1) > self._settings.batch_tokens:
                self._serve(batch)
                batch = []
            batch.append(job)
        if batch:
            self._serve(batch)

    def _serve(self, batch: Sequence[_Job]) -> None:
        jobs = [job for job in batch if job.future.set_running_or_notify_cancel()]
        try:
            found = self._forward(jobs) if jobs else []
        except Exception as error:  # noqa: BLE001 -- whatever it is, nobody may wait for ever
            text = str(error) if isinstance(error, StepcreditError) else f"{type(error).__name__}: {error}"
            for job in jobs:
                failure = EngineError(f"the forward pass of {len(jobs)} texts failed: {text}")
                failure.__cause__ = error
                job.future.set_exception(failure)
            return
        for job, values in zip(jobs, found, strict=True):
            if np.isfinite(values).all():
                job.future.set_result(values)
            else:
                job.future.set_exception(EngineError("a logit of the reward model is not finite"))

    @torch.inference_mode()
    def _forward(self, jobs: Sequence[_Job]) -> list[Float32[np.ndarray, "P C"]]:
        longest = max(len(job.ids) for job in jobs)
        ids = torch.zeros((len(jobs), longest), dtype=torch.int64)
        mask = torch.zeros((len(jobs), longest), dtype=torch.int64)
        for row, job in enumerate(jobs):
            ids[row, : len(job.ids)] = torch.from_numpy(job.ids.astype(np.int64))
            mask[row, : len(job.ids)] = 1
        given = {"input_ids": ids.to(self._device), "attention_mask": mask.to(self._device), "use_cache": False}
        rows = torch.cat([torch.full((len(job.places),), row) for row, job in enumerate(jobs)]).to(self._device)
        places = torch.from_numpy(np.concatenate([job.places for job in jobs]).astype(np.int64)).to(self._device)
        logits = self._from_vocabulary(given, rows, places) if self._head is None else None
        if self._head is not None:
            states: Tensor = self._module(**given).last_hidden_state[rows, places]
            logits = self._head(states.to(next(self._head.parameters()).dtype))
        values = torch.as_tensor(logits).float().cpu().numpy()
        ends = np.cumsum([len(job.places) for job in jobs])
        return [frozen(part, np.float32) for part in np.split(values, ends[:-1])]

    def _from_vocabulary(
        self, given: dict[str, Any], rows: Int[Tensor, " R"], places: Int[Tensor, " R"]
    ) -> Float[Tensor, "R C"]:
        """Candidates' logits; logits of other tokens are not made where the model can leave them out."""
        kept, index = torch.unique(places, return_inverse=True)
        if self._keeps:
            logits: Tensor = self._module(**given, logits_to_keep=kept).logits[rows, index]
        else:
            logits = self._module(**given).logits[rows, places]
        candidates = torch.from_numpy(np.asarray(self._candidates, np.int64)).to(self._device)
        return logits[:, candidates]
