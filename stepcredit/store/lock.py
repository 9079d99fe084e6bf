"""The lock of a run folder: one writer; a dead owner's lock is free at once, because the kernel held it."""

import fcntl
import os
import socket
import weakref
from pathlib import Path
from typing import final

import orjson

from stepcredit.core.errors import StoreError
from stepcredit.store.files import named


@final
class FolderLock:
    """Holds `lock` in a run folder for as long as this process lives, or until `release`.

    The file names the owner for messages; what excludes others is the kernel's lock on it, which ends with the owner,
    however it ends. Children made by fork let go of it, so that an orphan cannot keep a dead run locked.

    Args:
        path: the lock file; made if absent.

    Raises:
        StoreError: if another process (or another object in this one) holds the lock; names pid and host.

    Source: reliability.md B3 (two processes on one run). Differs: no heartbeat, no clock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise named(error, path) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _owner(self._handle)
            os.close(self._handle)
            mend = "wait for it, or stop that process"
            raise StoreError(f"the run folder is in use by {owner}; {mend}", item=str(path.parent)) from error
        self.taken_over = os.fstat(self._handle).st_size > 0
        """True if the last owner died without releasing."""
        self._note(orjson.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        handle = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forget(handle()))

    def release(self) -> None:
        """Let the next writer in; releasing twice is harmless."""
        if self._handle >= 0:
            self._note(b"")
            self.forget()

    def forget(self) -> None:
        """Close this process's end of the lock and nothing else."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _note(self, text: bytes) -> None:
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, text, 0)


def _forget(lock: FolderLock | None) -> None:
    if lock is not None:
        lock.forget()


def _owner(handle: int) -> str:
    try:
        body = orjson.loads(os.pread(handle, 4096, 0))
        return f"pid {body['pid']} on host {body['host']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "another process"
