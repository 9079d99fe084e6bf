"""The embedded language model: Llama's architecture on packed tokens, with Hugging Face's parameter names."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from stepcredit.core.errors import UsageError
from stepcredit.engines.embedded.packing import Gather, Rectangles, Scatter, rectangles


@final
@dataclass(frozen=True)
class ModelConfig:
    """Shape and initialisation of the model.

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        layers: number of decoder layers.
        heads: query heads; `dim` is a multiple of it, and the head width is even.
        kv_heads: key/value heads (1 = multi-query attention); divides `heads`.
        hidden: width of the SwiGLU layer.
        rope_theta: base of the rotary position embedding.
        max_positions: longest sequence, in tokens.
        norm_eps: epsilon of RMSNorm.
        embedding_std: standard deviation of the token embedding at initialisation.
        matrix_gain: matrices start with standard deviation `matrix_gain / sqrt(inputs)`.

    Raises:
        UsageError: if the sizes do not fit together.

    Source: embedded_world.md 2. Differs: none.
    """

    vocab_size: int
    dim: int = 96
    layers: int = 2
    heads: int = 4
    kv_heads: int = 1
    hidden: int = 256
    rope_theta: float = 1000.0
    max_positions: int = 512
    norm_eps: float = 1e-6
    embedding_std: float = 0.5
    matrix_gain: float = 0.577

    def __post_init__(self) -> None:
        sizes = (self.vocab_size, self.dim, self.layers, self.heads, self.kv_heads, self.hidden, self.max_positions)
        if min(sizes) < 1:
            raise UsageError(f"every size of a ModelConfig must be at least 1, got {sizes}")
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise UsageError(f"dim {self.dim} must be an even multiple of heads {self.heads}")
        if self.heads % self.kv_heads:
            raise UsageError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads


def rope_table(config: ModelConfig) -> Float[Tensor, "2 positions half"]:
    """[2, max_positions, head_dim / 2] cosines and sines of the rotary embedding, float32.

    Source: Su et al. 2021, arXiv:2104.09864. Differs: halves are rotated, not pairs (Hugging Face's Llama).
    """
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    angles = torch.arange(config.max_positions, dtype=torch.float32)[:, None] / config.rope_theta**exponents
    return torch.stack([angles.cos(), angles.sin()])


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate head vectors by their position's angles.

    Args:
        heads: [..., head_dim] vectors.
        cos: [..., head_dim / 2] cosines, broadcastable.
        sin: [..., head_dim / 2] sines.

    >>> rotate(torch.tensor([1.0, 0.0]), torch.tensor([0.0]), torch.tensor([1.0]))
    tensor([0., 1.])
    """
    low, high = heads.chunk(2, dim=-1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


@final
class _Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        narrow = config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.dim, config.dim, bias=False)
        self.k_proj = nn.Linear(config.dim, narrow, bias=False)
        self.v_proj = nn.Linear(config.dim, narrow, bias=False)
        self.o_proj = nn.Linear(config.dim, config.dim, bias=False)

    def weight(self) -> Tensor:
        """[(heads + 2 kv_heads) * head_dim, dim] queries, keys and values in one matrix."""
        return torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])

    def forward(
        self, states: Tensor, cos: Tensor, sin: Tensor, plan: Rectangles, sink: list[Tensor] | None, rows: Tensor | None
    ) -> Tensor:
        config, size = self.config, len(states)
        heads = functional.linear(states, self.weight()).view(size, -1, config.head_dim)
        turned = rotate(heads[:, : config.heads + config.kv_heads], cos, sin)
        heads = torch.cat([turned, heads[:, config.heads + config.kv_heads :]], dim=1)
        if sink is not None:
            sink.append(heads[:, config.heads :])
        slots = Gather.apply(heads, plan.token_of_slot, plan.slot_of_token)
        parts = [_attend(part, config) for part in _split(slots, plan)]
        wanted = plan.slot_of_token if rows is None else plan.slot_of_token[rows]
        return self.o_proj(Scatter.apply(torch.cat(parts), wanted))


def _split(slots: Tensor, plan: Rectangles) -> list[Tensor]:
    parts = slots.split([count * width for count, width in plan.shapes])
    return [part.view(*shape, *part.shape[1:]) for part, shape in zip(parts, plan.shapes, strict=True)]


def _attend(heads: Float[Tensor, "B L heads width"], config: ModelConfig) -> Float[Tensor, "slots dim"]:
    """Causal attention of one rectangle; padding stands behind every real token, so no real token sees it."""
    count, width = heads.shape[:2]
    query, key, value = heads.transpose(1, 2).split([config.heads, config.kv_heads, config.kv_heads], dim=1)
    mixed = functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=config.kv_heads < config.heads
    )
    return mixed.transpose(1, 2).reshape(count * width, config.dim)


@final
class _Mlp(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.dim, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.dim, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.dim, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(states)) * self.up_proj(states))


@final
class _Layer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.dim, config.norm_eps)
        self.self_attn = _Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.dim, config.norm_eps)
        self.mlp = _Mlp(config)

    def forward(
        self, states: Tensor, cos: Tensor, sin: Tensor, plan: Rectangles, sink: list[Tensor] | None, rows: Tensor | None
    ) -> Tensor:
        mixed = self.self_attn(self.input_layernorm(states), cos, sin, plan, sink, rows)
        states = mixed + (states if rows is None else Scatter.apply(states, rows))
        return states + self.mlp(self.post_attention_layernorm(states))


@final
class _Decoder(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)


@final
class CausalLM(nn.Module):
    """Llama-shaped causal language model that reads packed sequences, without padding in its linear layers.

    Parameters carry the names of `transformers.LlamaForCausalLM`. The head is untied from the embedding.

    Args:
        config: shape and initialisation.
        seed: seed of the initial weights.

    Source: Touvron et al. 2023, arXiv:2302.13971 (architecture); embedded_world.md 2. Differs: none.
    """

    rope: Tensor

    def __init__(self, config: ModelConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.model = _Decoder(config)
        self.lm_head = nn.Linear(config.dim, config.vocab_size, bias=False)
        self.register_buffer("rope", rope_table(config), persistent=False)
        self._initialise(seed)

    @property
    def n_params(self) -> int:
        """Number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def hidden(
        self,
        ids: Int[Tensor, " X"],
        positions: Int[Tensor, " X"],
        starts: Int[Tensor, " N+1"],
        rows: Int[Tensor, " y"] | None = None,
        *,
        sink: list[Tensor] | None = None,
    ) -> Float[Tensor, "y dim"]:
        """Last hidden states, after the final norm.

        Args:
            ids: [X] token ids of N sequences, end to end.
            positions: [X] position of each token in its own sequence, below `max_positions`.
            starts: [N + 1] first token of each sequence, and X; best kept on the CPU.
            rows: [y] rows that are wanted, each once; `None` for all. The last layer leaves out the others.
            sink: gets each layer's rotated keys and values, [X, 2 kv_heads, head_dim]; a sampler fills its cache so.

        Returns:
            [y, dim] states; row x predicts the token after x. Feed them to `head`.
        """
        plan = rectangles(starts, device=ids.device)
        states = self.model.embed_tokens(ids)
        cos, sin = self.rope[:, positions, None].to(states.dtype)
        last = len(self.model.layers) - 1
        for index, layer in enumerate(self.model.layers):
            states = layer(states, cos, sin, plan, sink, rows if index == last else None)
        return self.model.norm(states)

    def head(self, hidden: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows V"]:
        """[..., V] logits of the next token."""
        return self.lm_head(hidden)

    def forward(
        self, ids: Int[Tensor, " X"], positions: Int[Tensor, " X"], starts: Int[Tensor, " N+1"]
    ) -> Float[Tensor, "X V"]:
        """[X, V] logits of every row; arguments as in `hidden`."""
        return self.head(self.hidden(ids, positions, starts))

    def _initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.embedding_std, generator=generator)
            elif isinstance(module, nn.Linear):
                std = self.config.matrix_gain / module.in_features**0.5
                nn.init.normal_(module.weight, std=std, generator=generator)
