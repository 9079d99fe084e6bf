"""Items under way: what a session that died was working on."""

from pathlib import Path

import pytest

from stepcredit.store.lock import FolderLock
from stepcredit.store.run_folder import RunFolder
from stepcredit.store.under_way import UnderWay, left_under_way


def test_what_was_begun_and_not_ended_is_left(tmp_path: Path) -> None:
    path = tmp_path / "u"
    under = UnderWay(path)
    for slot, name in ((3, "c"), (0, "a"), (1, "b"), (5, "a")):
        under.begin(slot, name)
    under.end(1)
    assert left_under_way(path) == ("a", "c")
    under.begin(0, "d")
    assert left_under_way(path) == ("d", "c", "a")
    under.close()
    under.close()
    under.idle(True)
    assert left_under_way(path) == ()


def test_a_process_that_only_waits_dies_of_nothing(tmp_path: Path) -> None:
    under = UnderWay(tmp_path / "u")
    under.begin(0, "a")
    under.idle(True)
    assert left_under_way(tmp_path / "u") == ()
    under.idle(False)
    assert left_under_way(tmp_path / "u") == ("a",)
    under.close()


@pytest.mark.parametrize("died", [True, False])
def test_the_next_session_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, died: bool) -> None:
    folder = RunFolder.create_or_open(tmp_path, {})
    folder.under_way.begin(0, "a")
    if died:
        monkeypatch.setattr(UnderWay, "close", lambda self: None)
        monkeypatch.setattr(FolderLock, "release", FolderLock.forget)
    folder.close()
    monkeypatch.undo()
    with RunFolder.create_or_open(tmp_path, {}) as again:
        assert again.died_with == (("a",) if died else ())
    with RunFolder.create_or_open(tmp_path, {}) as again:
        assert again.died_with == ()


def test_a_machine_that_went_down_blames_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.create_or_open(tmp_path, {})
    folder.under_way.begin(0, "a")
    monkeypatch.setattr(UnderWay, "close", lambda self: None)
    monkeypatch.setattr(FolderLock, "release", FolderLock.forget)
    folder.close()
    monkeypatch.undo()
    note = (tmp_path / "lock").read_text()
    (tmp_path / "lock").write_text(note.replace('"boot":"', '"boot":"x'))
    with RunFolder.create_or_open(tmp_path, {}) as again:
        assert again.died_with == ()
        assert "died" in again.notes[0]


def test_scratch_files_of_killed_writers_are_swept(tmp_path: Path) -> None:
    RunFolder.create_or_open(tmp_path, {}).close()
    (tmp_path / "shards").mkdir()
    for name in (".summary.json.77.part", "shards/.x.npz.77.part"):
        (tmp_path / name).write_bytes(b"half")
    RunFolder.create_or_open(tmp_path, {}).close()
    assert list(tmp_path.rglob("*.part")) == []
