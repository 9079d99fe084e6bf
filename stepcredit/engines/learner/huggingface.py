"""Hub models as packed models: any `transformers` causal LM reads sequences end to end, without padding.

Attention is registered with transformers under a name of ours. In a packed call it runs inside each sequence only
(PyTorch's variable-length kernel in half precision on a GPU, else one `scaled_dot_product_attention` a run of equal
lengths). In any other call, generation included, it is transformers' own `sdpa`.
"""

import inspect
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby, pairwise
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from stepcredit.core.errors import EngineError

_NAME = "stepcredit_packed"
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 2e-2
_packed_call: ContextVar[bool] = ContextVar("packed_call", default=False)


@final
@dataclass(frozen=True)
class _Sequences:
    """Where packed sequences start: for loops, and for the kernel."""

    starts: tuple[int, ...]
    on_device: Tensor
    longest: int


@final
class HuggingFacePacked:
    """A `transformers` causal LM that reads packed sequences; trained in place.

    Construction compares a packed forward pass with one sequence at a time and refuses the model if they differ.

    Args:
        module: the causal LM, in float32; its attention implementation becomes `stepcredit_packed`, which equals
            `sdpa` in ordinary calls.
        gradient_checkpointing: True recomputes activations in the backward pass: less memory, about a third slower.

    Raises:
        EngineError: if the model cannot read packed sequences (state-space layers, scaled or capped logits, attention
            of its own).
    """

    def __init__(self, module: PreTrainedModel, *, gradient_checkpointing: bool = False) -> None:
        self.module: Any = module
        _register()
        try:
            module.set_attn_implementation(_NAME)
        except ValueError as error:
            raise EngineError(f"{type(module).__name__} takes no attention implementation from outside") from error
        if gradient_checkpointing:
            _checkpoint_layers(self.module)
        _check(self)

    def hidden(
        self,
        ids: Int[Tensor, " X"],
        positions: Int[Tensor, " X"],
        starts: Int[Tensor, " N+1"],
        rows: Int[Tensor, " y"],
    ) -> Float[Tensor, "y d"]:
        """[y, d] last hidden states of `rows`, after the final norm; row x predicts the token after x."""
        cuts = tuple(starts.tolist())
        longest = max(b - a for a, b in pairwise(cuts))
        sequences = _Sequences(cuts, starts.to(ids.device, torch.int32), longest)
        token = _packed_call.set(True)
        try:
            output = self.module.base_model(
                input_ids=ids[None], position_ids=positions[None], use_cache=False, packed_sequences=sequences
            )
        finally:
            _packed_call.reset(token)
        states: Tensor = output.last_hidden_state
        return states[0, rows]

    def head(self, hidden: Float[Tensor, "Y d"]) -> Float[Tensor, "Y V"]:
        """[Y, V] logits of the next token."""
        logits: Tensor = self.module.get_output_embeddings()(hidden)
        return logits


def _register() -> None:
    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, _mask)


def _checkpoint_layers(module: Any) -> None:
    current = getattr(module, "activation_checkpointing_enable", None)
    enable = current if current is not None else module.gradient_checkpointing_enable  # transformers before 5.23
    enable({"use_reentrant": False})


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Packed attention needs no mask; anything else gets the one of `sdpa`."""
    return None if _packed_call.get() else sdpa_mask(*args, **kwargs)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    sequences: _Sequences | None = kwargs.pop("packed_sequences", None)
    if sequences is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    scale, window = kwargs.get("scaling"), kwargs.get("sliding_window")
    if kwargs.get("softcap") is not None:
        raise EngineError("packed attention has no soft cap")
    query, key, value = (_autocast(part) for part in (query, key, value))
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and _has_varlen():
        return _varlen(query, key, value, sequences, scale=scale, window=window)[None], None
    parts: list[Tensor] = []
    place = 0
    for length, run in groupby(b - a for a, b in pairwise(sequences.starts)):
        size = len(list(run)) * length
        block = [part[0, :, place : place + size].unflatten(1, (-1, length)) for part in (query, key, value)]
        parts.append(_within(block, scale=scale, window=window))
        place += size
    return torch.cat(parts)[None], None


def _within(block: list[Tensor], *, scale: float | None, window: int | None) -> Tensor:
    """[n * L, heads, width] attention inside n sequences of length L, given as three [heads, n, L, width]."""
    query, key, value = (part.transpose(0, 1) for part in block)
    length = query.shape[2]
    mask = None
    if window is not None and length > window:
        mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - window)
    mixed = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )
    return mixed.transpose(1, 2).flatten(0, 1)


def _autocast(part: Tensor) -> Tensor:
    """Rotary embedding may leave float32 under autocast; the kernel wants one type."""
    device = part.device.type
    return part.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else part


@cache
def _has_varlen() -> bool:
    """Whether PyTorch has the kernel with grouped heads; asked at every layer, hence cached."""
    if find_spec("torch.nn.attention.varlen") is None:
        return False
    kernel = import_module("torch.nn.attention.varlen").varlen_attn
    return "enable_gqa" in inspect.signature(kernel).parameters


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, sequences: _Sequences, *, scale: float | None, window: int | None
) -> Tensor:
    """[X, heads, width] attention inside each sequence by PyTorch's variable-length kernel."""
    starts, longest = sequences.on_device, sequences.longest
    rows = [part[0].transpose(0, 1).contiguous() for part in (query, key, value)]
    reach = -1 if window is None else window - 1
    kernel = import_module("torch.nn.attention.varlen").varlen_attn
    mixed: Tensor = kernel(
        *rows, starts, starts, longest, longest, scale=scale, window_size=(reach, 0), enable_gqa=True
    )
    return mixed


def _check(model: HuggingFacePacked) -> None:
    """Compare a packed pass over two short sequences with one pass each."""
    module = model.module
    device = next(module.parameters()).device
    vocabulary = int(module.get_input_embeddings().num_embeddings)
    lengths = (5, 3)
    ids = torch.arange(1, 9, device=device) % vocabulary
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])
    was_training = module.training
    module.eval()
    with torch.no_grad():
        packed = model.head(model.hidden(ids, positions, torch.tensor([0, 5, 8]), torch.arange(8, device=device)))
        alone = torch.cat([module(input_ids=part[None], use_cache=False).logits[0] for part in ids.split(lengths)])
    module.train(was_training)
    gap = float((packed - alone).abs().max() / alone.abs().max().clamp(min=1e-6))
    if not gap <= (_HALF_TOLERANCE if packed.dtype in (torch.float16, torch.bfloat16) else _TOLERANCE):
        raise EngineError(
            f"{type(module).__name__} cannot read packed sequences: its logits differ by {gap:.2g} of their size from "
            "one sequence at a time"
        )
