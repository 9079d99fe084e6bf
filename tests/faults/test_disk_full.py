"""A full disk: short writes, no space at any moment, a real small file system; the run stops cleanly and goes on."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import ran
from killing import rows_of
from recorded_cases import RIGHT, WRONG, byte_level, row, write_rows

from stepcredit.core.errors import StoreError
from stepcredit.recipes.recorded import RecordedSettings, run_recorded
from stepcredit.store import files
from stepcredit.store.ledger import Ledger

SIZE = 2 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no small file system can be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def test_a_real_disk_that_fills_stops_the_run_and_with_space_it_goes_on(small_disk: Path, tmp_path: Path) -> None:
    rows = (row((RIGHT if k % 2 else WRONG) + f" ({k})" + os.urandom(600).hex(), name=f"s{k}") for k in range(200))
    file = write_rows(tmp_path / "x.jsonl", *rows)
    words = ("judge", file, "--set", "checker.mode=string")
    assert ran(*words, "--out", tmp_path / "whole", at=tmp_path)[0] == 0
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (SIZE - 300_000))
    code, said, _ = ran(*words, "--out", small_disk / "run", at=tmp_path)
    assert code == 3, said
    assert "full" in said[-1]
    assert len([line for line in said if line.startswith("error: ")]) == 1
    with Ledger(small_disk / "run" / "ledger.sqlite", journal=None) as ledger:
        ledger.check()
    filler.unlink()
    code, said, _ = ran(*words, "--out", small_disk / "run", at=tmp_path)
    assert code == 0, said
    stages = ("outcome", "judgement")
    assert rows_of(small_disk / "run", *stages) == rows_of(tmp_path / "whole", *stages)


class Filling:
    """`os.write` on a disk that takes so many bytes more: the last write is cut short, further ones fail."""

    def __init__(self, room: int) -> None:
        self.room, self._write = room, os.write

    def __call__(self, handle: int, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        return self._write(handle, taken)


def test_no_space_at_any_moment_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the manifest's first byte to the report's last, in steps; for the ledger's own rows see `tests/store`."""
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    tokenizer = byte_level(tmp_path / "tokenizer")
    settings = {"tokenizer": tokenizer, "overrides": ("checker.mode=string",)}
    plenty = Filling(10**9)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", plenty)
        run_recorded(file, RecordedSettings(tmp_path / "whole", **settings))  # type: ignore[arg-type]
    size = 10**9 - plenty.room - 100  # wall times are written too, and their lengths differ
    stages = ("outcome", "judgement", "credit")
    want = rows_of(tmp_path / "whole", *stages)
    for room in [*range(0, size, size // 12), size]:
        asked = RecordedSettings(tmp_path / f"room{room}", **settings)  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "write", Filling(room))
            with pytest.raises(
                StoreError, match="the disk is full; free some space and run the same command"
            ) as caught:
                run_recorded(file, asked)
        assert caught.value.exit_code == 3
        run_recorded(file, asked)
        assert rows_of(asked.out, *stages) == want
        assert list(asked.out.rglob("*.part")) == []
