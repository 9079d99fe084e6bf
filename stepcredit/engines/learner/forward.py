"""Forward passes over packs: log probabilities of the trained tokens, with or without gradient."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stepcredit.core.pack import Pack
from stepcredit.engines.learner.packing import MicroBatch, micro_batches
from stepcredit.engines.learner.settings import Precision
from stepcredit.losses.logprobs import token_logprobs


@runtime_checkable
class PackedModel(Protocol):
    """Reads sequences laid end to end; no sequence sees another.

    It is a `torch.nn.Module`, or holds the one that is trained in an attribute `module`.
    """

    def hidden(
        self,
        ids: Int[Tensor, " X"],
        positions: Int[Tensor, " X"],
        starts: Int[Tensor, " N+1"],
        rows: Int[Tensor, " y"],
    ) -> Float[Tensor, "y d"]:
        """[y, d] last hidden states of `rows`, each named once; row x predicts the token after x.

        `starts` is on the CPU. The rows are named so that the last layer may leave out the others.
        """
        ...

    def head(self, hidden: Float[Tensor, "Y d"]) -> Float[Tensor, "Y V"]:
        """[Y, V] logits."""
        ...


def module_of(model: PackedModel) -> nn.Module:
    """The torch module that is trained: the model itself, or its attribute `module`.

    Raises:
        TypeError: if it is none.
    """
    module = model if isinstance(model, nn.Module) else getattr(model, "module", None)
    if not isinstance(module, nn.Module):
        raise TypeError(f"a learner trains a torch.nn.Module, {type(model).__name__} neither is nor holds one")
    return module


def without_dropout(module: nn.Module) -> nn.Module:
    """Switch dropout off for good.

    By evaluation mode, or, where gradient checkpointing needs training mode, layer by layer.
    """
    checkpointed = any(getattr(part, "gradient_checkpointing", False) is True for part in module.modules())
    module.train(checkpointed)
    for part in module.modules():
        if isinstance(part, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.AlphaDropout):
            part.eval()
    return module


def device_of(model: PackedModel) -> torch.device:
    """Device of the model's first parameter."""
    return next(module_of(model).parameters()).device


def trained_logprobs(
    model: PackedModel, micro: MicroBatch, *, precision: Precision, head_rows: int | None
) -> tuple[Float[Tensor, " y"], Float[Tensor, " y"]]:
    """Log probability of each trained token of a micro-batch, and entropy of its distribution.

    The head runs only on the rows that predict a trained token, `head_rows` of them at once.

    Returns:
        [y] log probabilities in nats, with gradient where enabled, and [y] entropies without.
    """
    with autocast(precision, micro.ids.device):
        states = model.hidden(micro.ids, micro.positions, micro.starts, micro.rows)
        targets = micro.ids[micro.targets]
        if head_rows is None or len(states) <= head_rows:
            return token_logprobs(model.head(states), targets)
        parts = [
            _rescored(model, rows, ids)
            for rows, ids in zip(states.split(head_rows), targets.split(head_rows), strict=True)
        ]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def packed_logprobs(
    model: PackedModel, pack: Pack, *, token_budget: int, precision: Precision = "fp32", head_rows: int | None = None
) -> Float32[np.ndarray, " X"]:
    """[X] log probability in nats of each trained token under `model`, NaN elsewhere; no gradient.

    Serves the policy (old logprobs) and a frozen reference (`Pack.ref_logprobs`) alike.
    """
    result = np.full(len(pack.ids), np.nan, np.float32)
    with torch.no_grad():
        for micro in micro_batches(pack, token_budget=token_budget, device=device_of(model)):
            logprobs, _ = trained_logprobs(model, micro, precision=precision, head_rows=head_rows)
            result[micro.origin.cpu().numpy()] = logprobs.float().cpu().numpy()
    return result


def _rescored(model: PackedModel, rows: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of some rows whose logits are dropped after use and made again in the backward pass."""

    def score(rows: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        return token_logprobs(model.head(rows), ids)

    if not torch.is_grad_enabled():
        return score(rows, ids)
    scores: tuple[Tensor, Tensor] = checkpoint(score, rows, ids, use_reentrant=False)
    return scores


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a forward pass runs at this precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
