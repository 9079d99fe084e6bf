"""Content digests: the names under which the store keeps things, and by which groups and models are told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any, Protocol

import numpy as np


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def digest(*parts: Any) -> str:
    """Hexadecimal SHA-256 of the parts' contents, 32 characters.

    Takes None, bool, int, float, str, bytes, numpy arrays (with dtype and shape), and sequences, mappings (sorted
    by key) and dataclasses of these. Equal contents give equal digests on every machine and in every process.

    Raises:
        TypeError: for any other type (its text form might not be stable).

    >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest("a", "1")
    (True, False)
    """
    hasher = sha256()
    _feed(hasher, parts)
    return hasher.hexdigest()[:32]


def _feed(hasher: _Hasher, value: Any) -> None:  # noqa: C901 -- one branch a type, flat
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value)
        _write(hasher, "array", f"{data.dtype.str}{data.shape}".encode())
        _write(hasher, "data", data.tobytes())
    elif isinstance(value, bytes):
        _write(hasher, "bytes", value)
    elif isinstance(value, str):
        _write(hasher, "str", value.encode("utf-8", "surrogatepass"))
    elif value is None or isinstance(value, bool | int | float | np.generic):
        item = value.item() if isinstance(value, np.generic) else value
        _write(hasher, type(item).__name__, repr(item).encode())
    elif is_dataclass(value) and not isinstance(value, type):
        _write(hasher, "record", type(value).__name__.encode())
        for field in fields(value):
            _feed(hasher, field.name)
            _feed(hasher, getattr(value, field.name))
    elif isinstance(value, Mapping):
        _write(hasher, "mapping", str(len(value)).encode())
        for key in sorted(value):
            _feed(hasher, key)
            _feed(hasher, value[key])
    elif isinstance(value, Sequence):
        _write(hasher, "sequence", str(len(value)).encode())
        for item in value:
            _feed(hasher, item)
    else:
        raise TypeError(f"digest cannot take {type(value).__name__}")


def _write(hasher: _Hasher, kind: str, data: bytes) -> None:
    hasher.update(f"{kind}:{len(data)}:".encode() + data)
