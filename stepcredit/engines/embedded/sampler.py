"""Slots: requests enter, a token a step is drawn for each, finished ones leave and make room (Problem -> Rollout)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32
from torch import Tensor

from stepcredit.core.errors import EngineError
from stepcredit.core.protocols import Sampling
from stepcredit.core.records import Finish
from stepcredit.engines.embedded.decoder import CachedDecoder
from stepcredit.engines.embedded.model import CausalLM

TILE = 32
"""Rows of one forward pass in the deterministic mode, unless this machine's kernels need fewer."""

READ_TOKENS = 4096
"""Prompt tokens read in one forward pass, so that its states stay in a processor's cache: 1.4 times as fast as all."""

Prompt = Int32[np.ndarray, " P"]
"""[P] token ids to read."""


@final
@dataclass(frozen=True, eq=False)
class Request:
    """One completion to write.

    Args:
        prompt: [P] token ids to read.
        sampling: how to draw.
        seed: of this request's own uniforms.
    """

    prompt: Prompt
    sampling: Sampling
    seed: int


@final
@dataclass(frozen=True, eq=False)
class Written:
    """What was written for a request.

    Args:
        request: the request.
        ids: [T] token ids.
        logprobs: [T] log probability of each id at temperature 1, in nats.
        finish: `stop` or `length`.
    """

    request: Request
    ids: Int32[np.ndarray, " T"]
    logprobs: Float32[np.ndarray, " T"]
    finish: Finish


def uniforms(seed: int, count: int) -> Float64[np.ndarray, " count"]:
    """[count] uniform numbers of one request, one a position, from its own counter-based generator.

    >>> bool((uniforms(7, 3) == uniforms(7, 5)[:3]).all())
    True
    """
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def draw(logprobs: Tensor, uniform: Tensor, *, temperature: Tensor, top_p: Tensor) -> Tensor:
    """Draw one token a row by inverting the distribution function.

    Args:
        logprobs: [n, V] log probabilities in nats.
        uniform: [n] numbers in [0, 1), float64.
        temperature: [n]; 0 takes the most probable token.
        top_p: [n] nucleus mass; the most probable tokens that reach it are kept.

    Returns:
        [n] token ids.

    Source: Holtzman et al. 2019, arXiv:1904.09751 (nucleus). Differs: none.

    >>> rows = torch.tensor([[0.5, 0.3, 0.2]]).log()
    >>> half, one = torch.tensor([0.75], dtype=torch.float64), torch.tensor([1.0])
    >>> draw(rows, half, temperature=one, top_p=one), draw(rows, half, temperature=one, top_p=one * 0.6)
    (tensor([1]), tensor([1]))
    """
    greedy = temperature == 0
    scale = torch.where(greedy, 1.0, temperature).double()
    chances = (logprobs.double() / scale[:, None]).softmax(dim=-1)
    if (top_p < 1).any():
        chances = torch.where(top_p[:, None] < 1, _nucleus(chances, top_p), chances)
    mass = chances.cumsum(dim=-1)
    found = torch.searchsorted(mass, uniform[:, None] * mass[:, -1:], right=True).squeeze(1)
    last = chances.shape[1] - 1 - (chances.flip(1) > 0).byte().argmax(dim=1)
    found = found.minimum(last)
    return torch.where(greedy, logprobs.argmax(dim=-1), found) if greedy.any() else found


def _nucleus(chances: Tensor, top_p: Tensor) -> Tensor:
    ranked, order = chances.sort(dim=-1, descending=True, stable=True)
    kept = torch.where(ranked.cumsum(dim=-1) - ranked < top_p[:, None], ranked, 0.0)
    return torch.zeros_like(chances).scatter_(1, order, kept)


def _batches(asked: Sequence[tuple[Prompt, list[int]]], *, tokens: int) -> Iterator[list[tuple[Prompt, list[int]]]]:
    """Prompts by length, as many in a batch as `tokens` allow, and at least one."""
    batch: list[tuple[Prompt, list[int]]] = []
    size = 0
    for one in sorted(asked, key=lambda one: len(one[0])):
        if batch and size + len(one[0]) > tokens:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += len(one[0])
    if batch:
        yield batch


@final
class SlotSampler:
    """Writes completions for up to `slots` requests at once.

    A step draws one token for every active slot, lets finished requests go and reads the drawn tokens. Free slots
    can be filled between any two steps. Equal prompts that enter together are read once.

    In the deterministic mode a request's bits do not depend on what shares the batch: prompts are read one by one,
    and every forward pass has the same shape, `tile` rows that look at `capacity` places, whatever is in them.
    `tile` is found by a probe: the largest size at which this machine's kernels treat all rows alike.

    Args:
        model: the language model; the sampler reads it, see `refresh`.
        slots: requests at once; rounded up to whole tiles in the deterministic mode.
        capacity: longest prompt plus completion, in tokens; the model's `max_positions` by default.
        deterministic: see above; about half as fast.

    Raises:
        EngineError: if sizes do not fit the model.
    """

    def __init__(
        self, model: CausalLM, *, slots: int = 256, capacity: int | None = None, deterministic: bool = False
    ) -> None:
        limit = model.config.max_positions
        capacity = limit if capacity is None else capacity
        if slots < 1 or not 2 <= capacity <= limit:
            raise EngineError(f"slots must be >= 1 and capacity 2..{limit} (max_positions), got {slots}, {capacity}")
        slots = -(-slots // TILE) * TILE if deterministic else slots
        self.slots, self.capacity, self.deterministic = slots, capacity, deterministic
        self._model = model
        self._decoder = CachedDecoder(model, slots=slots, capacity=capacity)
        vocabulary = model.config.vocab_size
        self._logits = torch.zeros(slots, vocabulary, device=self._decoder.device)
        self._requests: list[Request | None] = [None] * slots
        self._held = np.zeros(slots, np.bool_)
        self._length = np.zeros(slots, np.int64)
        self._written = np.zeros(slots, np.int64)
        self._limit = np.ones(slots, np.int64)
        self._temperature = np.ones(slots, np.float32)
        self._top_p = np.ones(slots, np.float32)
        self._uniforms = np.zeros((slots, capacity))
        self._stop = np.zeros((slots, vocabulary), np.bool_)
        self._ids = np.zeros((slots, capacity), np.int32)
        self._logprobs = np.zeros((slots, capacity), np.float32)
        self.tile = self._probe() if deterministic else slots

    @property
    def active(self) -> int:
        """Requests being written."""
        return int(self._held.sum())

    @property
    def free(self) -> int:
        """Slots that can take a request."""
        return self.slots - self.active

    def refresh(self) -> None:
        """Read the model's weights again; only while nothing is active, a completion has one policy."""
        if self.active:
            raise EngineError(f"weights cannot change while {self.active} completions are being written")
        self._decoder.refresh()

    def check(self, request: Request) -> None:
        """Refuse a request that cannot be served.

        Raises:
            EngineError: naming what is wrong with it.
        """
        prompt, sampling = request.prompt, request.sampling
        vocabulary = self._stop.shape[1]
        if prompt.ndim != 1 or not len(prompt):
            raise EngineError("the prompt has no tokens")
        if prompt.min() < 0 or prompt.max() >= vocabulary:
            raise EngineError(f"the prompt holds an id outside the vocabulary of {vocabulary}: another tokenizer's?")
        if sampling.max_tokens < 1 or len(prompt) + sampling.max_tokens > self.capacity:
            raise EngineError(
                f"{len(prompt)} prompt + {sampling.max_tokens} completion tokens do not fit into the capacity "
                f"{self.capacity}; lower max_tokens or give the sampler more capacity"
            )
        if not sampling.temperature >= 0 or not 0 < sampling.top_p <= 1:
            raise EngineError(
                f"temperature must be >= 0 and top_p in (0, 1], got {sampling.temperature}, {sampling.top_p}"
            )
        if any(not 0 <= stop < vocabulary for stop in sampling.stop_ids):
            raise EngineError(f"stop_ids {sampling.stop_ids} leave the vocabulary of {vocabulary}")

    @torch.inference_mode()
    def admit(self, requests: Sequence[Request]) -> None:
        """Give free slots to checked requests, at most `free` of them, and read their prompts."""
        places = np.flatnonzero(~self._held)[: len(requests)].tolist()
        if len(places) < len(requests):
            raise EngineError(f"{len(requests)} requests for {len(places)} free slots")
        sharing: dict[bytes, tuple[Prompt, list[int]]] = {}
        for slot, request in zip(places, requests, strict=True):
            self._place(slot, request)
            sharing.setdefault(request.prompt.tobytes(), (request.prompt, []))[1].append(slot)
        for batch in _batches(list(sharing.values()), tokens=0 if self.deterministic else READ_TOKENS):
            logits = self._decoder.prefill([prompt for prompt, _ in batch], [slots for _, slots in batch]).float()
            for row, (_, slots) in zip(logits, batch, strict=True):
                self._logits[slots] = row

    @torch.inference_mode()
    def step(self) -> list[Written]:
        """Draw one token for every active request; returns those that it finished."""
        done: list[Written] = []
        for rows in self._blocks():
            done += self._draw(rows)
        if not self.deterministic:
            self._compact()
        for rows in self._blocks():
            self._read(rows)
        return done

    def cancel(self, request: Request) -> None:
        """Free the slot of a request, if it has one."""
        for slot, held in enumerate(self._requests):
            if held is request:
                self._requests[slot], self._held[slot] = None, False
        if not self.deterministic:
            self._compact()

    def reset(self) -> None:
        """Free all slots."""
        self._requests = [None] * self.slots
        self._held[:] = False

    def _place(self, slot: int, request: Request) -> None:
        sampling = request.sampling
        self._requests[slot], self._held[slot] = request, True
        self._length[slot] = len(request.prompt)
        self._written[slot], self._limit[slot] = 0, sampling.max_tokens
        self._temperature[slot], self._top_p[slot] = sampling.temperature, sampling.top_p
        self._uniforms[slot, : sampling.max_tokens] = uniforms(request.seed, sampling.max_tokens)
        self._stop[slot] = False
        self._stop[slot, list(sampling.stop_ids)] = True

    def _blocks(self) -> Iterator[slice]:
        """Rows of each forward pass: what is active, or every tile with something active in it."""
        if not self.deterministic:
            if self.active:
                yield slice(0, self.active)
            return
        for first in range(0, self.slots, self.tile):
            rows = slice(first, first + self.tile)
            if self._held[rows].any():
                yield rows

    def _draw(self, rows: slice) -> list[Written]:
        slots = np.arange(self.slots)[rows]
        place = self._written[rows]
        logprobs = self._logits[rows].log_softmax(dim=-1)
        columns = (self._uniforms[slots, place], self._temperature[rows], self._top_p[rows])
        uniform, temperature, top_p = (torch.from_numpy(column).to(logprobs.device) for column in columns)
        drawn = draw(logprobs, uniform, temperature=temperature, top_p=top_p)
        ids = drawn.cpu().numpy()
        chosen = logprobs.gather(1, drawn[:, None]).squeeze(1).cpu().numpy()
        self._ids[slots, place], self._logprobs[slots, place] = ids, chosen
        held = self._held[rows]
        if np.isnan(chosen[held]).any():
            raise EngineError("the model's logits are NaN: its weights are damaged (a diverged update?)")
        self._written[rows] += held
        stopped = self._stop[slots, ids] & held
        finished = stopped | ((self._written[rows] >= self._limit[rows]) & held)
        return [self._release(int(slots[i]), "stop" if stopped[i] else "length") for i in np.flatnonzero(finished)]

    def _release(self, slot: int, finish: Finish) -> Written:
        request, count = self._requests[slot], int(self._written[slot])
        if request is None:
            raise EngineError(f"slot {slot} holds no request")
        self._requests[slot], self._held[slot] = None, False
        self._length[slot] = self._written[slot] = 0
        return Written(request, self._ids[slot, :count].copy(), self._logprobs[slot, :count].copy(), finish)

    def _read(self, rows: slice) -> None:
        ids = self._ids[np.arange(self.slots)[rows], np.maximum(self._written[rows] - 1, 0)]
        positions = self._length[rows]
        width = self.capacity if self.deterministic else int(positions.max()) + 1
        self._logits[rows] = self._decoder.extend(rows, ids, positions, width=width).float()
        self._length[rows] += self._held[rows]

    def _compact(self) -> None:
        """Move the last active slots into holes, so that the active ones are the first."""
        count = self.active
        holes = np.flatnonzero(~self._held[:count]).tolist()
        movers = (count + np.flatnonzero(self._held[count:])).tolist()
        if not holes:
            return
        self._decoder.move(movers, holes, width=int(self._length[movers].max()))
        self._logits[holes] = self._logits[movers]
        columns = (self._length, self._written, self._limit, self._temperature, self._top_p)
        for column in (*columns, self._uniforms, self._stop, self._ids, self._logprobs):
            column[holes] = column[movers]
        for mover, hole in zip(movers, holes, strict=True):
            self._requests[hole], self._requests[mover] = self._requests[mover], None
        self._held[:count], self._held[count:] = True, False

    @torch.inference_mode()
    def _probe(self) -> int:
        """The largest tile whose rows all get the same bits for the same content."""
        tile = TILE
        generator = np.random.Generator(np.random.Philox(key=0))
        while tile > 1 and not all(self._alike(tile, int(generator.integers(self._stop.shape[1]))) for _ in range(4)):
            tile //= 2
        return tile

    def _alike(self, tile: int, token: int) -> bool:
        ids, positions = np.full(tile, token, np.int32), np.zeros(tile, np.int64)
        logits = self._decoder.extend(slice(0, tile), ids, positions, width=self.capacity).float()
        logprobs = logits.log_softmax(dim=-1)
        return bool((logits == logits[0]).all() and (logprobs == logprobs[0]).all())
