"""One token further for many sequences: the model's forward pass over a preallocated key/value cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor
from torch.nn import functional

from stepcredit.engines.embedded.model import CausalLM, rotate


@final
@dataclass(frozen=True)
class _Layer:
    """One layer's weights, ready to multiply: matrices stand transposed, those with one input side by side."""

    attention_norm: Tensor
    query_key_value: Tensor
    output: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


def _layer(module: Any) -> _Layer:
    attention, mlp = module.self_attn, module.mlp
    return _Layer(
        module.input_layernorm.weight,
        attention.weight().T.contiguous(),
        attention.o_proj.weight.T.contiguous(),
        module.post_attention_layernorm.weight,
        torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]).T.contiguous(),
        mlp.down_proj.weight.T.contiguous(),
    )


@final
class CachedDecoder:
    """Keys and values of `slots` sequences of at most `capacity` tokens, and the pass that extends them.

    Args:
        model: the language model; its weights are read at construction and at `refresh`.
        slots: sequences in the cache.
        capacity: tokens a sequence may have, rounded up to a multiple of 16 (cache lines).
    """

    def __init__(self, model: CausalLM, *, slots: int, capacity: int) -> None:
        config = model.config
        self.model = model
        self.slots = slots
        self.capacity = capacity
        weight = model.lm_head.weight
        room = -(-capacity // 16) * 16
        shape = (config.layers, 2, slots, config.kv_heads, room, config.head_dim)
        self._cache = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        self._places = torch.arange(room, device=weight.device)
        self._rows = torch.arange(slots * config.kv_heads, device=weight.device)
        self._layers: list[_Layer] = []
        self.refresh()

    @property
    def device(self) -> torch.device:
        """Where weights and cache are."""
        return self._cache.device

    def refresh(self) -> None:
        """Read the model's weights again; call it after they changed."""
        with torch.no_grad():
            layers: Any = self.model.model.layers
            self._layers = [_layer(module) for module in layers]

    def prefill(
        self, prompts: Sequence[Int32[np.ndarray, " P"]], slots: Sequence[Sequence[int]]
    ) -> Float[Tensor, "U V"]:
        """Read prompts and put each one's keys and values into all slots that ask for it.

        Args:
            prompts: U prompts.
            slots: for each prompt, the slots that continue it.

        Returns:
            [U, V] logits of each prompt's next token.
        """
        lengths = np.array([len(prompt) for prompt in prompts])
        starts = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.concatenate([np.arange(length) for length in lengths])
        sink: list[Tensor] = []
        ids, ends = self._tensor(np.concatenate(prompts)), self._tensor(starts[1:] - 1)
        hidden = self.model.hidden(ids, self._tensor(positions), torch.from_numpy(starts), ends, sink=sink)
        copies = [(u, slot) for u, wanted in enumerate(slots) for slot in wanted]
        source = self._tensor(np.concatenate([np.arange(starts[u], starts[u + 1]) for u, _ in copies]))
        slot = self._tensor(np.repeat([slot for _, slot in copies], [lengths[u] for u, _ in copies]))
        place = self._tensor(np.concatenate([np.arange(lengths[u]) for u, _ in copies]))
        kv_heads = self.model.config.kv_heads
        for layer, both in enumerate(sink):
            self._cache[layer, 0, slot, :, place] = both[source, :kv_heads]
            self._cache[layer, 1, slot, :, place] = both[source, kv_heads:]
        return self.model.head(hidden)

    def extend(
        self, rows: slice, ids: Int32[np.ndarray, " n"], positions: Int64[np.ndarray, " n"], *, width: int
    ) -> Float[Tensor, "n V"]:
        """Read one token a slot.

        Args:
            rows: the n slots.
            ids: [n] the tokens.
            positions: [n] their positions; all before are in the cache.
            width: places of the cache that attention looks at; more than the largest position.

        Returns:
            [n, V] logits of the next token.
        """
        model, config, count = self.model, self.model.config, len(ids)
        place = self._tensor(positions)
        bias = torch.zeros(count, 1, width, dtype=self._cache.dtype, device=self.device)
        bias.masked_fill_((self._places[:width] > place[:, None])[:, None], float("-inf"))
        bias, spot = bias.repeat_interleave(config.kv_heads, 0), place.repeat_interleave(config.kv_heads)
        cos, sin = model.rope[:, place, None].to(self._cache.dtype)
        states = model.model.embed_tokens(self._tensor(ids))
        for index, layer in enumerate(self._layers):
            normed = torch.rms_norm(states, states.shape[1:], layer.attention_norm, config.norm_eps)
            heads = torch.mm(normed, layer.query_key_value).view(count, -1, config.head_dim)
            mixed = self._attend(self._cache[index, :, rows], heads, cos, sin, bias, spot)
            states = torch.addmm(states, mixed, layer.output)
            normed = torch.rms_norm(states, states.shape[1:], layer.mlp_norm, config.norm_eps)
            gate, up = torch.mm(normed, layer.gate_up).chunk(2, dim=1)
            states = torch.addmm(states, functional.silu(gate).mul_(up), layer.down)
        return model.head(model.model.norm(states))

    def move(self, source: list[int], target: list[int], *, width: int) -> None:
        """Copy the first `width` places of some slots onto others."""
        self._cache[:, :, target, :, :width] = self._cache[:, :, source, :, :width]

    def _attend(
        self, cache: Tensor, heads: Tensor, cos: Tensor, sin: Tensor, bias: Tensor, spot: Tensor
    ) -> Float[Tensor, "n dim"]:
        config, count, width = self.model.config, len(heads), bias.shape[-1]
        turned = rotate(heads[:, : config.heads + config.kv_heads], cos, sin)
        keys, values = cache.view(2, count * config.kv_heads, -1, config.head_dim)
        every = self._rows[: len(keys)]
        keys[every, spot] = turned[:, config.heads :].reshape(-1, config.head_dim)
        values[every, spot] = heads[:, config.heads + config.kv_heads :].reshape(-1, config.head_dim)
        query = turned[:, : config.heads].reshape(count * config.kv_heads, -1, config.head_dim)
        scores = torch.baddbmm(bias, query, keys[:, :width].transpose(1, 2), alpha=config.head_dim**-0.5)
        return torch.bmm(scores.softmax(dim=-1), values[:, :width]).reshape(count, config.dim)

    def _tensor(self, column: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(column, np.int64)).to(self.device)
