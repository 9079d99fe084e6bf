"""The one writer of files: a reader sees the old file or the new one, never a mix (reliability.md B3, B4)."""

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import final

from stepcredit.core.errors import MachineError, StepcreditError, StoreError


@final
class FileWriter:
    """Writes whole files under one folder: temporary name, flush, rename, flush of the folder.

    Args:
        root: the folder; made, with its parents, if absent.

    Raises:
        MachineError: if the folder cannot be made or written.

    Source: reliability.md B4. Differs: none.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        with _errors_named(root):
            root.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, data: bytes | str) -> Path:
        """Write one whole file; text is written as UTF-8.

        Raises:
            StoreError: if the disk is full or fails; the file that was there before is still there.
            MachineError: if there is no permission to write.
        """
        with self.stream(name) as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
        return self.root / name

    @contextmanager
    def stream(self, name: str) -> Generator["FileStream"]:
        """Write one file piece by piece; it takes its name only if the block ends without an exception."""
        path = self.root / name
        scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
        with _errors_named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            try:
                yield FileStream(handle, path)
                with _errors_named(path):
                    os.fsync(handle)
            finally:
                os.close(handle)
            with _errors_named(path):
                scratch.replace(path)
                _sync_folder(path.parent)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


@final
class FileStream:
    """The open end of a file that has not its name yet.

    Args:
        handle: descriptor open for writing.
        path: the name it will take, for messages.
    """

    def __init__(self, handle: int, path: Path) -> None:
        self._handle, self._path = handle, path

    def write(self, data: bytes) -> None:
        """Append all of `data`; `os.write` may take fewer bytes than asked, without an error, on a full disk."""
        with _errors_named(self._path):
            _write_all(self._handle, data)


@final
class LineFile:
    """A file of lines that only grows; a torn last line (no newline at its end) is cut off when it is opened.

    Args:
        path: the file; made if absent.

    Raises:
        MachineError: if it cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _errors_named(path):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._size = whole_lines(path)
            os.ftruncate(self._handle, self._size)

    def append(self, line: bytes) -> None:
        """Append one line durably.

        Args:
            line: without newline, and without one inside.

        Raises:
            StoreError: if the line has a newline inside, or the disk is full; a part that was written is taken back.
        """
        if b"\n" in line:
            raise StoreError("a line may not hold a newline", item=str(self._path))
        with _errors_named(self._path):
            try:
                _write_all(self._handle, line + b"\n")
                os.fsync(self._handle)
            except OSError:
                os.ftruncate(self._handle, self._size)
                raise
        self._size += len(line) + 1

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def sweep(folder: Path) -> None:
    """Remove what killed writers left under temporary names; only for one who knows that nobody else writes here."""
    for scratch in folder.glob(".*.part"):
        scratch.unlink(missing_ok=True)


def whole_lines(path: Path) -> int:
    """Size in bytes of the file up to and with its last newline.

    Raises:
        OSError: if the file cannot be read.
    """
    end = path.stat().st_size
    with path.open("rb") as file:
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _errors_named(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise named(error, path) from error


def named(error: OSError, path: Path) -> StepcreditError:
    """The error of ours that an operating system error on a path stands for, in one line with the mend.

    >>> named(OSError(28, "No space left on device"), Path("r/x")).exit_code
    3
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError("the disk is full; free some space and run the same command again", item=str(path))
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return MachineError("no permission to write here; choose another folder with --out", item=str(path))
    if isinstance(error, NotADirectoryError | FileExistsError):
        return MachineError("a file stands where a folder is needed; choose another folder with --out", item=str(path))
    return StoreError(f"cannot write: {error.strerror or error}", item=str(path))
