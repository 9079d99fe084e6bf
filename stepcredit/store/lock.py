"""The lock of a run folder: one writer; a dead owner's lock is free at once, because the kernel held it."""

import errno
import fcntl
import os
import socket
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, final

import orjson

from stepcredit.core.errors import StoreError
from stepcredit.store.files import named

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


@final
@dataclass(frozen=True)
class Owner:
    """A process that writes to a run folder.

    Args:
        pid: its number.
        host: name of its machine.
        boot: id of the machine's start, empty where the system has none; numbers of processes mean nothing after it.
        space: its namespace of process numbers (containers have their own).
        start: when it started, in ticks since boot; tells it from a later process with the same number.
    """

    pid: int
    host: str
    boot: str = ""
    space: str = ""
    start: str = ""

    def __str__(self) -> str:
        return f"pid {self.pid} on host {self.host}"

    @property
    def alive(self) -> bool | None:
        """Whether it still runs; `None` if that cannot be known from this machine or container."""
        here = this_process()
        if self.host != here.host:
            return None
        if self.boot != here.boot:
            return False
        return None if self.space != here.space else _start_of(self.pid) == self.start


def this_process() -> Owner:
    """The calling process."""
    pid = os.getpid()
    return Owner(pid, socket.gethostname(), _read("/proc/sys/kernel/random/boot_id"), _space(), _start_of(pid) or "")


def owner_of(path: Path) -> Owner | None:
    """The process that a lock file names: the one that holds it, or died with it; `None` if it was released."""
    try:
        return _parse(path.read_bytes())
    except OSError:
        return None


def is_held(path: Path) -> bool:
    """True if a living process holds the lock, as far as this machine can tell; the lock is not touched."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        owner = owner_of(path)
        return error.errno not in _NO_LOCKS or (owner is not None and owner.alive is not False)
    finally:
        os.close(handle)
    return False


@final
class FolderLock:
    """Holds `lock` in a run folder for as long as this process lives, or until `release`.

    The file names the owner for messages; what excludes others is the kernel's lock on it, which ends with the owner,
    however it ends: numbers of processes that are used again do not matter. Where the file system's locks do not
    reach other machines, or there are none, the name decides: an owner that is dead is taken over, one that runs, or
    of which this machine cannot know, is not. Children made by fork let go of it, so that an orphan cannot keep a
    dead run locked.

    Args:
        path: the lock file; made if absent.
        everywhere: True if the kernel's locks on this file system shut out other machines too.

    Raises:
        StoreError: if another process (or another object in this one) holds the lock; names pid and host.

    Source: reliability.md B3 (two processes on one run). Differs: no heartbeat, no clock.
    """

    def __init__(self, path: Path, *, everywhere: bool = True) -> None:
        self._path = path
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise named(error, path) from error
        try:
            self.died = self._take(everywhere=everywhere)
        except BaseException:
            self.forget()
            raise
        self._note(orjson.dumps(asdict(this_process())))
        handle = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forget(handle()))

    @property
    def taken_over(self) -> bool:
        """True if the last owner died without releasing."""
        return self.died is not None

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

    def _take(self, *, everywhere: bool) -> Owner | None:
        """Lock the file; gives the last owner, if it died."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise self._refused(self._owner(), "wait for it, or stop that process") from error
            everywhere = False
        if os.fstat(self._handle).st_size == 0:
            return None
        last = self._owner() or Owner(0, "unknown")
        if not everywhere and last.alive is not False:
            mend = f"if that process no longer runs, remove {self._path}"
            raise self._refused(last, mend if last.alive is None else "wait for it, or stop that process")
        return last

    def _refused(self, owner: Owner | None, mend: str) -> StoreError:
        by = "another process" if owner is None else str(owner)
        return StoreError(f"the run folder is in use by {by}; {mend}", item=str(self._path.parent))

    def _owner(self) -> Owner | None:
        return _parse(os.pread(self._handle, 4096, 0))

    def _note(self, text: bytes) -> None:
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, text, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _forget(lock: FolderLock | None) -> None:
    if lock is not None:
        lock.forget()


def _parse(data: bytes) -> Owner | None:
    try:
        return Owner(**orjson.loads(data))
    except (orjson.JSONDecodeError, TypeError):
        return None


def _start_of(pid: int) -> str | None:
    """When a process started, empty where the system does not tell, `None` if there is no such process."""
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return ""
        return ""
    text = _read(f"/proc/{pid}/stat")
    # The name in parentheses may hold blanks and parentheses; state is the first field after it, start the twentieth.
    parts = text.rpartition(")")[2].split()
    return parts[19] if len(parts) > 19 and parts[0] != "Z" else None


def _space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
