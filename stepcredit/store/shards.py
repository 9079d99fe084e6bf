"""Shards: the token columns of a round as immutable files; the file first, the ledger row that names it after."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from stepcredit.core.errors import StoreError
from stepcredit.store.files import FileWriter

_EPOCH = (1980, 1, 1, 0, 0, 0)


@final
@dataclass(frozen=True)
class Shard:
    """Where the columns of a shard are and what their bytes must be; goes into a ledger row by `asdict`.

    Args:
        name: file name in the shard folder.
        sha256: digest of the file's bytes.
        size_bytes: size of the file.
    """

    name: str
    sha256: str
    size_bytes: int

    def as_payload(self) -> dict[str, Any]:
        """The shard as a ledger payload."""
        return asdict(self)


def shard_bytes(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """The columns as the bytes of an `.npz` file that `numpy.load` reads; equal columns give equal bytes.

    Args:
        columns: name -> array of numbers or booleans, any shape.

    Raises:
        StoreError: for a column of objects.

    >>> shard_bytes({"a": np.arange(3)}) == shard_bytes({"a": np.arange(3)})
    True
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, column in columns.items():
            if column.dtype.hasobject:
                raise StoreError(f"column {name} holds objects, a shard holds numbers")
            part = io.BytesIO()
            np.lib.format.write_array(part, np.asarray(column, order="C"), allow_pickle=False)
            # zipfile would stamp the time of day into the file; a fixed stamp keeps shards byte-identical.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), part.getvalue())
    return buffer.getvalue()


def write_shard(folder: Path, stem: str, *, columns: Mapping[str, NDArray[Any]]) -> Shard:
    """Write columns as one immutable file named `STEM-DIGEST.npz`.

    The digest in the name lets a stage that was killed before its ledger row write other content when it runs again.

    Args:
        folder: the run's shard folder.
        stem: what the columns are, such as `round-0003`.
        columns: name -> array.

    Returns:
        The row to put into the ledger, after this call.

    Raises:
        StoreError: if a column holds objects, or the disk is full.
    """
    data = shard_bytes(columns)
    checksum = sha256(data).hexdigest()
    shard = Shard(f"{stem}-{checksum[:12]}.npz", checksum, len(data))
    FileWriter(folder).write(shard.name, data)
    return shard


def read_shard(folder: Path, shard: Shard) -> dict[str, NDArray[Any]]:
    """Columns of a shard, its digest checked.

    Raises:
        StoreError: if the file is gone or its bytes are not those that were written.
    """
    path = folder / shard.name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"the shard cannot be read: {error.strerror}", item=str(path)) from error
    if sha256(data).hexdigest() != shard.sha256:
        raise StoreError("the shard was changed or cut after it was written", item=str(path))
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
