"""Digest of a module's weights: the fingerprint by which rollouts name the policy that wrote them."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from stepcredit.core.digests import digest


def weights_fingerprint(module: nn.Module) -> str:
    """Digest of all weights and buffers in the state dict, by name; equal weights give equal digests on any device.

    >>> layer = nn.Linear(1, 1)
    >>> weights_fingerprint(layer) == weights_fingerprint(layer)
    True
    """
    state: dict[str, Tensor] = module.state_dict()
    return digest([(name, str(t.dtype), list(t.shape), _bytes(t)) for name, t in sorted(state.items())])


def architecture(module: nn.Module) -> str:
    """Digest of the names, shapes and types of the weights."""
    state: dict[str, Tensor] = module.state_dict()
    return digest([(name, str(t.dtype), list(t.shape)) for name, t in sorted(state.items())])


def _bytes(tensor: Tensor) -> UInt8[np.ndarray, " n"]:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
