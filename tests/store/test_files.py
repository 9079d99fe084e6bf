"""The one writer: old file or new file, never a mix; torn tails."""

import errno
import os
from pathlib import Path

import pytest

from stepcredit.core.errors import MachineError, StoreError
from stepcredit.store import files
from stepcredit.store.files import FileWriter, LineFile, whole_lines


def test_writes_bytes_and_text(tmp_path: Path):
    writer = FileWriter(tmp_path / "a" / "b")
    assert writer.write("x.bin", b"\x00\x01").read_bytes() == b"\x00\x01"
    assert writer.write("deep/y.txt", "é").read_text() == "é"
    writer.write("x.bin", b"new")
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["deep", "x.bin"]
    assert (tmp_path / "a" / "b" / "x.bin").read_bytes() == b"new"


def test_short_writes_are_looped_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.write
    monkeypatch.setattr(files.os, "write", lambda handle, data: real(handle, bytes(data[:3])))
    assert FileWriter(tmp_path).write("x", b"0123456789").read_bytes() == b"0123456789"


def test_a_full_disk_leaves_the_old_file_and_no_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    writer = FileWriter(tmp_path)
    writer.write("x", b"old")
    real, calls = os.write, []

    def full(handle: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, bytes(data[:4]))

    monkeypatch.setattr(files.os, "write", full)
    with pytest.raises(StoreError, match="disk is full; free some space"):
        writer.write("x", b"0123456789")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_before_the_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str):
    writer = FileWriter(tmp_path)
    writer.write("x", b"old")

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(*((files.os, "fsync") if failing == "fsync" else (Path, "replace")), broken)
    with pytest.raises(StoreError, match="x: cannot write: Input/output error"):
        writer.write("x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_stream_that_fails_leaves_nothing(tmp_path: Path):
    def half() -> None:
        with FileWriter(tmp_path).stream("x") as stream:
            stream.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert list(tmp_path.iterdir()) == []


def test_no_permission_is_one_line_with_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(MachineError, match="no permission to write here; choose another folder") as caught:
        FileWriter(tmp_path / "x")
    assert caught.value.exit_code == 3


def test_a_file_in_place_of_the_folder(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(MachineError, match="a file stands where a folder is needed"):
        FileWriter(tmp_path / "x" / "y")
    with pytest.raises(MachineError, match="a file stands where a folder is needed"):
        FileWriter(tmp_path / "x")


def test_a_torn_tail_is_cut_at_every_byte(tmp_path: Path):
    whole = b'{"a":1}\n{"b":2}\n{"c":3}\n'
    for size in range(len(whole) + 1):
        path = tmp_path / f"{size}.jsonl"
        path.write_bytes(whole[:size])
        lines = LineFile(path)
        lines.append(b'{"d":4}')
        lines.close()
        kept = whole[:size].rfind(b"\n") + 1
        assert path.read_bytes() == whole[:kept] + b'{"d":4}\n'


def test_whole_lines_looks_further_than_one_page(tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(b"ab\n" + b"y" * 200_000)
    assert whole_lines(path) == 3


def test_a_half_written_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "m.jsonl"
    lines = LineFile(path)
    lines.append(b"one")
    real, calls = os.write, []

    def full(handle: int, data: bytes) -> int:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, bytes(data[:2]))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", full)
        with pytest.raises(StoreError, match="disk is full"):
            lines.append(b"two")
    assert path.read_bytes() == b"one\n"
    lines.append(b"three")
    with pytest.raises(StoreError, match="may not hold a newline"):
        lines.append(b"a\nb")
    lines.close()
    lines.close()
    assert path.read_bytes() == b"one\nthree\n"
