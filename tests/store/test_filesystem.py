"""The trial of a file system: real processes, and file systems that are played."""

import fcntl
from pathlib import Path

import pytest

from stepcredit.store import filesystem
from stepcredit.store.filesystem import examine_place, mount_of, try_place
from stepcredit.store.run_folder import RunFolder

MOUNT = "host:/x {} {} {} 0 0\n"


def test_the_trial_passes_here_and_leaves_nothing(tmp_path: Path) -> None:
    assert try_place(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_locks_that_shut_nobody_out_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda _handle, _how: None)  # this process then holds no lock at all
    assert try_place(tmp_path) == {"lock": "a lock does not shut out a second process"}


def test_a_ledger_that_two_processes_do_not_share_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = filesystem._SECOND.replace('"/ledger"', '"/elsewhere"')
    monkeypatch.setattr(filesystem, "_SECOND", other)
    assert try_place(tmp_path) == {"ledger": "two processes do not see one ledger"}


def test_a_trial_that_cannot_be_made_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem.sys, "executable", str(tmp_path / "no-python"))
    assert "FileNotFoundError" in try_place(tmp_path)["ledger"]


@pytest.mark.parametrize(
    ("kind", "options", "journal", "locks"),
    [
        ("ext4", "rw", "wal", True),
        ("nfs4", "rw,vers=4.2", "delete", True),
        ("nfs", "rw,nolock", "delete", False),
        ("nfs", "rw,local_lock=all", "delete", False),
        ("fuse.sshfs", "rw", "delete", False),
        ("virtiofs", "rw", "wal", True),  # unknown: the trial decides
    ],
)
def test_what_follows_from_the_mount_table(tmp_path: Path, kind: str, options: str, journal: str, locks: bool) -> None:
    place = examine_place(tmp_path, mounts=MOUNT.format(tmp_path.resolve(), kind, options))
    assert (place.kind, place.journal, place.locks) == (kind, journal, locks)
    assert bool(place.notes) == (journal == "delete")


def test_an_unknown_file_system_that_fails_gets_the_rollback_journal_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = {"ledger": "SQLite keeps no write-ahead log there"}
    monkeypatch.setattr(filesystem, "try_place", lambda _folder: failed)
    monkeypatch.setattr(filesystem, "_mounts", lambda: MOUNT.format(tmp_path.resolve(), "virtiofs", "rw"))
    with RunFolder.create_or_open(tmp_path / "run", {"seed": 1}) as folder:
        told = "the file system (virtiofs) failed a trial (SQLite keeps no write-ahead log there): the ledger keeps"
        assert folder.notes[0].startswith(told)
        folder.ledger.put("s", "k", {})
        folder.ledger.flush()
        assert not (tmp_path / "run" / "ledger.sqlite-wal").exists()
        with pytest.raises(Exception, match="in use by"):
            RunFolder.create_or_open(tmp_path / "run", {"seed": 1})


def test_of_two_mounts_on_one_folder_the_later_counts() -> None:
    table = "a /data ext4 rw 0 0\nb /data nfs4 rw 0 0\nc /data/inner xfs rw 0 0\n"
    assert mount_of(Path("/data/x"), table)[0] == "nfs4"
    assert mount_of(Path("/data/inner/x"), table)[0] == "xfs"
    assert mount_of(Path("/else"), table) == ("", ())
