"""Input that was cut or edited: the line and its place in the file are named, or counted; nothing goes silently."""

import gzip
import json
import random
import re
from pathlib import Path

import pytest
import zstandard
from recorded_cases import RIGHT, WRONG, call, row, write_rows

from stepcredit.core.errors import UsageError
from stepcredit.recipes.recorded import RecordedSettings, run_recorded
from stepcredit.store.run_folder import read_json
from stepcredit.tasks.jsonl import SkippedLine, read_responses, stream_responses

STRING = ("checker.mode=string",)


def whole(path: Path) -> bytes:
    return write_rows(
        path, row(RIGHT, name="a"), row(WRONG, name="b"), row("Ünïcödé 2 + 2 = 4.", name="c")
    ).read_bytes()


def test_a_file_cut_at_every_byte_is_read_whole_or_refused_by_line_and_byte(tmp_path: Path) -> None:
    """Only a cut between lines cannot be seen: what is left is then a shorter file."""
    data = whole(tmp_path / "whole.jsonl")
    starts = [0, *(k + 1 for k, byte in enumerate(data) if byte == ord("\n"))]
    ends = {
        start + len(line.rstrip(b"\n")) for start, line in zip(starts, data.splitlines(keepends=True), strict=False)
    }
    path, unseen = tmp_path / "x.jsonl", 0
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        number = sum(start < size for start in starts)
        skipped: list[SkippedLine] = []
        if size == 0 or size in ends or size in starts:
            unseen += 1
            if size:
                assert len(read_responses(path)) == number
            continue
        with pytest.raises(UsageError) as caught:
            read_responses(path)
        line_begins = f"(the line begins at byte {starts[number - 1]} of the file)"
        assert str(caught.value).startswith(f"{path}:{number}: ")
        assert str(caught.value).endswith(line_begins)
        if number > 1:
            assert len(list(stream_responses(path, skipped=skipped))) == number - 1
            assert [line.place for line in skipped] == [f"{path}:{number}"]
    assert unseen == 7  # before, between and after the lines, with the newline and without


@pytest.mark.parametrize("pack", ["gz", "zst"])
def test_a_packed_file_that_was_cut_is_refused(tmp_path: Path, pack: str) -> None:
    data = whole(tmp_path / "whole.jsonl") * 40
    body = gzip.compress(data) if pack == "gz" else zstandard.ZstdCompressor().compress(data)
    path = tmp_path / f"x.jsonl.{pack}"
    for size in range(1, len(body) - 1, len(body) // 9):
        path.write_bytes(body[:size])
        with pytest.raises(UsageError):
            list(stream_responses(path, skipped=[]))


GARBAGE = [
    b"\x00\x01\xff\xfe",
    b"not json",
    b'{"problem": "p"}',
    b"[]",
    b'{"problem": 1, "answer": "1", "completion": "x"}',
    json.dumps(row(RIGHT, name="a")).encode(),  # an id that stands there already
    b'{"problem": "p", "answer": "1", "completion": "x"',
]


def edited(path: Path) -> Path:
    lines = whole(path).splitlines()
    draws = random.Random(5)
    for line in GARBAGE:
        lines.insert(draws.randrange(1, len(lines) + 1), line)
    path.write_bytes(b"\n".join(lines) + b"\n\n")
    return path


def test_garbage_lines_are_refused_or_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = edited(tmp_path / "x.jsonl")
    words = ("judge", file, "--set", STRING[0], "--out", tmp_path / "run")
    assert call(*words) == 2
    assert re.search(r"^error: .*x\.jsonl:\d+: ", capsys.readouterr().err, re.MULTILINE)
    assert not (tmp_path / "run").exists()
    assert call(*words, "--skip-bad") == 0
    said = capsys.readouterr()
    assert f"{len(GARBAGE)} lines of the file cannot be used and are skipped; the first: {file}:" in said.err
    assert "7 lines of the file could not be used and were skipped." in " ".join(said.out.split())
    told = read_json(tmp_path / "run", "summary.json")
    assert (told["responses"], told["skipped_lines"], len(told["skipped"])) == (3, 7, 7)
    assert all(place.startswith(f"{file}:") for place in told["skipped"])


def test_lines_that_are_skipped_change_no_verdict(tmp_path: Path) -> None:
    clean = tmp_path / "clean.jsonl"
    whole(clean)
    settings = {"until": "judge", "overrides": STRING}
    one = run_recorded(clean, RecordedSettings(tmp_path / "one", **settings))  # type: ignore[arg-type]
    file = edited(tmp_path / "x.jsonl")
    two = run_recorded(file, RecordedSettings(tmp_path / "two", skip_bad=True, **settings))  # type: ignore[arg-type]
    assert [j.verdicts for j in one.judgements] == [j.verdicts for j in two.judgements]


def test_a_file_of_bad_lines_only_is_refused_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b"no\nnone\n")
    with pytest.raises(UsageError, match=r"x\.jsonl:1: no line can be used; the first: not JSON"):
        list(stream_responses(tmp_path / "x.jsonl", skipped=[]))
