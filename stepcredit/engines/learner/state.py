"""A learner's state as bytes: a digest, then torch's own format, read back without running code."""

import io
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import torch

from stepcredit.core.errors import EngineError

_MAGIC = b"stepcredit-learner-1\n"
_DIGEST_BYTES = 32


def pack_state(parts: Mapping[str, Any]) -> bytes:
    """Bytes of tensors, numbers and strings under names."""
    buffer = io.BytesIO()
    torch.save(dict(parts), buffer)
    payload = buffer.getvalue()
    return _MAGIC + sha256(payload).digest() + payload


def unpack_state(state: bytes) -> dict[str, Any]:
    """The parts that `pack_state` wrote; tensors on the CPU.

    Raises:
        EngineError: if the bytes are no learner state, or are damaged.
    """
    if not state.startswith(_MAGIC):
        raise EngineError(f"not a learner state: it starts with {state[:16]!r}, not {_MAGIC[:16]!r}")
    head = len(_MAGIC)
    payload = state[head + _DIGEST_BYTES :]
    if sha256(payload).digest() != state[head : head + _DIGEST_BYTES]:
        raise EngineError("the learner state is damaged (its digest does not fit): use an earlier checkpoint")
    parts: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return parts
