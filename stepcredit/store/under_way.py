"""Which items are under way now, so that a session can see what the one before it died with."""

import os
from pathlib import Path
from typing import final

from stepcredit.store.files import named

_SLOT_BYTES = 64
_WAITS, _WORKS = b"waits\n", b"works\n"


@final
class UnderWay:
    """A small file of slots, each with the name of one item that is being worked on.

    While the process only waits (for a server, say) no item can be what it dies of: `idle` says when that is so.
    Written without flush: it must outlive the process, not the machine; what a power loss left behind says nothing
    about items anyway.

    Args:
        path: the file; emptied.

    Raises:
        MachineError: if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise named(error, path) from error

    def begin(self, slot: int, name: str) -> None:
        """An item is begun.

        Args:
            slot: from 0; what was in it before is done.
            name: ASCII, at most 63 characters; a digest, where names are longer.

        Raises:
            StoreError: if the disk is full.
        """
        self._write(slot, name)

    def end(self, slot: int) -> None:
        """The slot's item is done, well or badly."""
        self._write(slot, "")

    def idle(self, waits: bool) -> None:  # noqa: FBT001 -- called by the event loop at each turn
        """Say that the process begins to wait, or goes on."""
        if self._handle >= 0:
            os.pwrite(self._handle, _WAITS if waits else _WORKS, 0)

    def close(self) -> None:
        """Remove the file: nothing is under way; closing twice is harmless."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
            self._path.unlink(missing_ok=True)

    def _write(self, slot: int, name: str) -> None:
        try:
            os.pwrite(self._handle, name.encode("ascii").ljust(_SLOT_BYTES - 1) + b"\n", (slot + 1) * _SLOT_BYTES)
        except OSError as error:
            raise named(error, self._path) from error


def left_under_way(path: Path) -> tuple[str, ...]:
    """Names of the items that a session was working on when it died, without repeats.

    Empty if it did not die, or died while it only waited.

    >>> left_under_way(Path("no/such/file"))
    ()
    """
    try:
        data = path.read_bytes()
    except OSError:
        return ()
    if data.startswith(_WAITS):
        return ()
    text = data[_SLOT_BYTES:].decode("ascii", "replace")
    return tuple(dict.fromkeys(name for line in text.splitlines() if (name := line.strip("\0 "))))
