"""How packed sequences meet attention: gathered into a few rectangles of similar lengths, and back, exactly."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor

WASTE = 1.25
"""A rectangle is closed when a sequence would be padded to more than this multiple of its length."""


@final
@dataclass(frozen=True)
class Rectangles:
    """Where each packed token stands in rectangles [B_i, L_i] laid end to end (Y slots in all).

    Args:
        shapes: (B_i, L_i) of each rectangle.
        token_of_slot: [Y] packed token of each slot; slots behind a sequence's end repeat its last token.
        slot_of_token: [X] slot of each packed token.
    """

    shapes: tuple[tuple[int, int], ...]
    token_of_slot: Tensor
    slot_of_token: Tensor


def rectangles(starts: Tensor, *, device: torch.device) -> Rectangles:
    """Place packed sequences into rectangles of similar lengths.

    Args:
        starts: [N + 1] first token of each sequence, and X; best kept on the CPU.
        device: where the index columns will be used.

    >>> plan = rectangles(torch.tensor([0, 3, 5, 8]), device=torch.device("cpu"))
    >>> plan.shapes, plan.token_of_slot.tolist()
    (((1, 2), (2, 3)), [3, 4, 0, 1, 2, 5, 6, 7])
    """
    bounds = starts.cpu()
    lengths = bounds.diff()
    order = torch.argsort(lengths, stable=True)
    cuts = _cuts(lengths[order].tolist())
    tokens: list[Tensor] = []
    shapes: list[tuple[int, int]] = []
    slot_of_token = torch.empty(int(bounds[-1]), dtype=torch.int64)
    base = 0
    for first, last in pairwise(cuts):
        members = order[first:last]
        width = int(lengths[members[-1]])
        places = torch.arange(width).expand(last - first, width)
        token = bounds[members, None] + places.minimum(lengths[members, None] - 1)
        real = places < lengths[members, None]
        slot_of_token[token[real]] = base + real.flatten().nonzero().squeeze(1)
        tokens.append(token.flatten())
        shapes.append((last - first, width))
        base += (last - first) * width
    return Rectangles(tuple(shapes), torch.cat(tokens).to(device), slot_of_token.to(device))


@final
class Gather(torch.autograd.Function):
    """Rows of `rows` at `index`; backward is a gather too.

    `inverse` says where each row of the input stands in the output. Rows taken more than once pass back only the
    gradient of the place that `inverse` names: exact for rectangles, whose padding slots have no gradient.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        """[len(index), ...] rows."""
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """[len(inverse), ...] gradient of the rows."""
        (inverse,) = ctx.saved_tensors
        return grads[0].index_select(0, inverse), None, None


@final
class Scatter(torch.autograd.Function):
    """The way back: rows of `rows` at `index`, each taken at most once; `size` rows get a gradient, others zero."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        """[len(index), ...] rows."""
        ctx.save_for_backward(index)
        ctx.size = len(rows)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """[len(rows), ...] gradient of the rows, zero for those not taken."""
        (index,) = ctx.saved_tensors
        full = grads[0].new_zeros(ctx.size, *grads[0].shape[1:])
        return full.index_copy_(0, index, grads[0]), None


def _cuts(lengths: list[int]) -> list[int]:
    cuts, floor = [0], lengths[0] if lengths else 0
    for index, length in enumerate(lengths):
        if length > WASTE * floor:
            cuts.append(index)
            floor = length
    return [*cuts, len(lengths)] if lengths else [0]
