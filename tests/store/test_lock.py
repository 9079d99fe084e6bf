"""The lock of a run folder: dead owners, numbers that are used again, other machines, file systems without locks."""

import errno
import fcntl
import os
from dataclasses import asdict, replace
from pathlib import Path

import orjson
import pytest

from stepcredit.core.errors import StoreError
from stepcredit.store.lock import FolderLock, Owner, is_held, owner_of, this_process

HERE = this_process()
GONE = replace(HERE, pid=2**22 + 1)


def left_by(path: Path, owner: Owner) -> Path:
    """A lock file whose owner did not release it."""
    path.write_bytes(orjson.dumps(asdict(owner)))
    return path


def no_locks(_handle: int, _how: int) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_an_owner_knows_whether_it_lives() -> None:
    assert HERE.alive is True
    assert GONE.alive is False
    assert replace(HERE, start="1").alive is False  # the number was given to another process
    assert replace(HERE, boot="another start of this machine").alive is False
    assert replace(HERE, host="elsewhere").alive is None
    assert replace(HERE, space="pid:[1]").alive is None  # in another container


def test_the_lock_names_its_owner_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FolderLock(path) as lock:
        assert owner_of(path) == HERE
        assert lock.died is None
        assert is_held(path)
        with pytest.raises(StoreError, match=f"in use by pid {os.getpid()} on host {HERE.host}; wait for it"):
            FolderLock(path)
    assert owner_of(path) is None
    assert not is_held(path)
    assert not is_held(tmp_path / "nowhere")


@pytest.mark.parametrize("owner", [GONE, replace(HERE, start="1"), replace(HERE, host="elsewhere"), HERE])
def test_kernel_locks_that_reach_everybody_decide_alone(tmp_path: Path, owner: Owner) -> None:
    """Whatever the file says: whoever held the lock has lost it."""
    with FolderLock(left_by(tmp_path / "lock", owner)) as lock:
        assert lock.died == owner
        assert lock.taken_over


@pytest.mark.parametrize("kernel_locks", [True, False])
def test_where_locks_do_not_reach_other_machines_the_name_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel_locks: bool
) -> None:
    if not kernel_locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    path = tmp_path / "lock"
    with FolderLock(left_by(path, GONE), everywhere=False) as lock:
        assert lock.died == GONE
    away = replace(HERE, host="elsewhere", pid=7)
    with pytest.raises(
        StoreError, match=r"in use by pid 7 on host elsewhere; if that process no longer runs, remove .*lock"
    ):
        FolderLock(left_by(path, away), everywhere=False)
    assert owner_of(path) == away  # a refusal changes nothing
    with pytest.raises(StoreError, match="wait for it, or stop that process"):
        FolderLock(left_by(path, HERE), everywhere=False)
    path.write_bytes(b"{")  # a note that was cut: nobody knows
    with pytest.raises(StoreError, match="remove"):
        FolderLock(path, everywhere=False)
    path.unlink()
    FolderLock(path, everywhere=False).release()


def test_without_kernel_locks_a_living_owner_still_counts_as_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert is_held(left_by(tmp_path / "lock", HERE))
    assert not is_held(left_by(tmp_path / "lock", GONE))
