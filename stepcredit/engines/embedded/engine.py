"""The embedded engine: async sampling and scoring of a small model, batched on one worker thread."""

import asyncio
import copy
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, final

import numpy as np
import torch
from jaxtyping import Float32, Int32
from torch import Tensor

from stepcredit.core.arrays import frozen
from stepcredit.core.errors import EngineError, StepcreditError
from stepcredit.core.protocols import Completion, Sampling
from stepcredit.engines.embedded.model import CausalLM
from stepcredit.engines.embedded.post import Post
from stepcredit.engines.embedded.sampler import Request, SlotSampler, Written
from stepcredit.engines.learner.weights import weights_fingerprint

SCORE_TOKENS = 4096
"""Tokens scored in one forward pass."""


@final
@dataclass(frozen=True, eq=False)
class _Sample:
    request: Request
    future: "Future[Completion]"


@final
@dataclass(frozen=True, eq=False)
class _Score:
    ids: Int32[np.ndarray, " X"]
    first: int
    future: "Future[Float32[np.ndarray, ' Y']]"


@final
@dataclass(frozen=True, eq=False)
class _Load:
    state: Mapping[str, Tensor]
    future: "Future[str]"


_Job = _Sample | _Score | _Load


@final
class EmbeddedSampler:
    """Samples from and scores with a copy of a small model: a `Sampler` and a `Scorer`.

    Requests wait in one queue and enter the running batch as slots come free; the worker thread sleeps when there is
    none. It serves any number of event loops and threads, at once or one after the other. If a forward pass fails,
    every request that waits gets an EngineError, and the engine goes on with an empty batch. A cancelled request
    gives its slot back. Close it with `close`, `aclose`, `with` or `async with`.

    Args:
        model: copied; later changes to it are not seen, see `load_weights`.
        slots: requests written at once.
        capacity: longest prompt plus completion, in tokens; the model's `max_positions` by default.
        deterministic: a request's bits do not depend on what shares its batch (see `SlotSampler`); slower.

    Raises:
        EngineError: if sizes do not fit the model.
    """

    def __init__(
        self, model: CausalLM, *, slots: int = 256, capacity: int | None = None, deterministic: bool = False
    ) -> None:
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        self._pool = SlotSampler(self._model, slots=slots, capacity=capacity, deterministic=deterministic)
        self._fingerprint = weights_fingerprint(self._model)
        self._running: dict[Request, _Sample] = {}
        self._condition = threading.Condition()
        self._waiting: deque[_Sample | _Load] = deque()
        self._scores: deque[_Score] = deque()
        self._cancelled: list[Request] = []
        self._closed = False
        self._thread: threading.Thread | None = None
        self._post = Post()

    @property
    def fingerprint(self) -> str:
        """Digest of the weights that would write now; a learner with equal weights has the same."""
        return self._fingerprint

    @property
    def capacity(self) -> int:
        """Longest prompt plus completion, in tokens."""
        return self._pool.capacity

    async def sample(self, prompt_ids: Int32[np.ndarray, " P"], sampling: Sampling, *, seed: int) -> Completion:
        """Write one completion.

        Raises:
            EngineError: if the request does not fit the model, the engine is closed, or a forward pass failed.
        """
        job = self._sample_job(prompt_ids, sampling, seed)
        waiter = self._post.waiter(job.future)
        self._put(lambda: self._waiting.append(job))
        return await waiter

    def sample_many(
        self, prompts: Sequence[Int32[np.ndarray, " P"]], sampling: Sampling, seeds: Sequence[int]
    ) -> list[Completion]:
        """Write one completion a prompt and wait for all; for scripts, not for code that runs in an event loop.

        Raises:
            EngineError: as `sample`.
        """
        jobs = [self._sample_job(prompt, sampling, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        if jobs:
            self._put(lambda: self._waiting.extend(jobs))
        return [job.future.result() for job in jobs]

    async def score(self, ids: Int32[np.ndarray, " X"], *, first: int) -> Float32[np.ndarray, " Y"]:
        """[X - first] log probability in nats of `ids[first:]`, each given all ids before it.

        Raises:
            EngineError: if the ids do not fit the model, the engine is closed, or a forward pass failed.
        """
        column = frozen(ids, np.int32)
        config = self._model.config
        if not 1 <= first <= len(column) <= config.max_positions:
            raise EngineError(
                f"score needs 1 <= first <= ids <= {config.max_positions} positions, got {first} and {len(column)}"
            )
        if column.min() < 0 or column.max() >= config.vocab_size:
            raise EngineError(f"an id is outside the vocabulary of {config.vocab_size}: another tokenizer's?")
        job = _Score(column, first, Future())
        waiter = self._post.waiter(job.future)
        self._put(lambda: self._scores.append(job))
        return await waiter

    def load_weights(self, state: Mapping[str, Tensor]) -> str:
        """Take new weights once the requests before this call are written; blocks until then (policy sync).

        Args:
            state: a state dict of the model's architecture, for example `learner_model.state_dict()`.

        Returns:
            The new fingerprint.

        Raises:
            EngineError: if names or shapes differ; the old weights stay.
        """
        job = _Load(state, Future())
        self._put(lambda: self._waiting.append(job))
        return job.future.result()

    def close(self) -> None:
        """Stop the worker thread; requests that still wait get an EngineError. Closing twice is no error."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join()

    async def aclose(self) -> None:
        """`close`, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _sample_job(self, prompt_ids: Int32[np.ndarray, " P"], sampling: Sampling, seed: int) -> _Sample:
        request = Request(frozen(prompt_ids, np.int32), sampling, seed)
        self._pool.check(request)
        job = _Sample(request, Future())
        job.future.add_done_callback(lambda future: self._forget(request) if future.cancelled() else None)
        return job

    def _put(self, append: Callable[[], None]) -> None:
        with self._condition:
            if self._closed:
                raise EngineError("the embedded engine is closed; make a new one")
            append()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="stepcredit-embedded", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def _forget(self, request: Request) -> None:
        with self._condition:
            self._cancelled.append(request)
            self._condition.notify_all()

    def _work(self) -> None:
        """The worker thread: sleep, take what waits, one token further, answer."""
        while True:
            taken: list[_Job] = []
            try:
                with self._condition:
                    self._condition.wait_for(self._awake)
                    if self._closed:
                        break
                    taken = self._take()
                self._serve(taken)
            except Exception as error:  # noqa: BLE001 -- whatever it is, nobody may wait for ever
                text = str(error) if isinstance(error, StepcreditError) else f"{type(error).__name__}: {error}"
                self._fail(f"the embedded engine failed: {text}", taken, error)
        self._fail("the embedded engine was closed before the answer", [], None)

    def _awake(self) -> bool:
        return bool(self._closed or self._waiting or self._scores or self._cancelled or self._running)

    def _take(self) -> list[_Job]:
        """Jobs for this turn; a load is a barrier: it waits for an empty batch, later requests wait for it."""
        for request in self._cancelled:
            if self._running.pop(request, None) is not None:
                self._pool.cancel(request)
        self._cancelled.clear()
        taken: list[_Job] = list(self._scores)
        self._scores.clear()
        free = self._pool.free
        if free < min(self._pool.slots // 8, len(self._waiting)) and self._running:
            return taken  # reading one prompt costs nearly as much as reading a few
        while self._waiting:
            job = self._waiting[0]
            if isinstance(job, _Load):
                if not self._running and not any(isinstance(other, _Sample) for other in taken):
                    taken.append(self._waiting.popleft())
                break
            if not free:
                break
            self._waiting.popleft()
            if not job.future.cancelled():
                taken.append(job)
                free -= 1
        return taken

    def _serve(self, taken: Sequence[_Job]) -> None:
        for job in taken:
            if isinstance(job, _Load):
                self._load(job)
        scores = [job for job in taken if isinstance(job, _Score) and not job.future.cancelled()]
        if scores:
            self._score(scores)
        samples = [job for job in taken if isinstance(job, _Sample)]
        if samples:
            self._running |= {job.request: job for job in samples}
            self._pool.admit([job.request for job in samples])
        if self._running:
            for written in self._pool.step():
                self._answer(written)
            self._post.deliver()

    def _answer(self, written: Written) -> None:
        job = self._running.pop(written.request)
        completion = Completion(written.ids, written.logprobs, written.finish, self._fingerprint)
        _resolve(job.future, completion)

    def _load(self, job: _Load) -> None:
        try:
            before = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
            try:
                self._model.load_state_dict(job.state)
            except RuntimeError:
                self._model.load_state_dict(before)
                raise
        except (RuntimeError, AttributeError, TypeError) as error:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(EngineError(f"these are no weights of this model: {error}"))
            return
        self._pool.refresh()
        self._fingerprint = weights_fingerprint(self._model)
        _resolve(job.future, self._fingerprint)

    @torch.inference_mode()
    def _score(self, jobs: Sequence[_Score]) -> None:
        batch: list[_Score] = []
        for job in sorted(jobs, key=lambda job: len(job.ids)):
            full = sum(len(other.ids) for other in batch) + len(job.ids) > SCORE_TOKENS
            if batch and (full or self._pool.deterministic):
                self._score_batch(batch)
                batch = []
            batch.append(job)
        self._score_batch(batch)

    def _score_batch(self, jobs: Sequence[_Score]) -> None:
        lengths = [len(job.ids) for job in jobs]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.concatenate(
            [np.arange(a + job.first, a + n) for job, a, n in zip(jobs, starts, lengths, strict=False)]
        )
        positions = np.concatenate([np.arange(length) for length in lengths])
        device = self._model.lm_head.weight.device
        ids = torch.from_numpy(np.concatenate([job.ids for job in jobs]).astype(np.int64)).to(device)
        targets = torch.from_numpy(rows).to(device)
        places = torch.from_numpy(positions).to(device)
        hidden = self._model.hidden(ids, places, torch.from_numpy(starts), targets - 1)
        logprobs = self._model.head(hidden).float().log_softmax(dim=-1)
        found = logprobs.gather(1, ids[targets, None]).squeeze(1).cpu().numpy()
        ends = np.cumsum([length - job.first for job, length in zip(jobs, lengths, strict=True)])
        for job, part in zip(jobs, np.split(found, ends[:-1]), strict=True):
            _resolve(job.future, frozen(part, np.float32))
        self._post.deliver()

    def _fail(self, message: str, taken: Sequence[_Job], cause: Exception | None) -> None:
        with self._condition:
            jobs: list[_Job] = [*self._running.values(), *taken, *self._waiting, *self._scores]
            self._running.clear()
            self._waiting.clear()
            self._scores.clear()
            self._pool.reset()
        futures: list[Future[Any]] = [job.future for job in jobs]
        for future in futures:
            if not future.done() and future.set_running_or_notify_cancel():
                error = EngineError(message)
                error.__cause__ = cause
                future.set_exception(error)
        self._post.deliver()


def _resolve(future: "Future[Any]", value: object) -> None:
    """Answer unless the request was cancelled meanwhile."""
    if future.set_running_or_notify_cancel():
        future.set_result(value)
