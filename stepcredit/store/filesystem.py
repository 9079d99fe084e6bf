"""What the file system under a run folder can do: WAL needs shared memory, and locks need to hold for everybody."""

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import final

from stepcredit.store.ledger import Journal

_LOCAL = frozenset({
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "overlay", "bcachefs", "jfs", "nilfs2"
})  # fmt: skip
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "gpfs", "beegfs", "ceph", "afs", "fuse.sshfs"})
_HERE_ONLY = ("nolock", "local_lock=flock", "local_lock=all")
_PROBE_S = 20.0

# Without -S and with packages this would take ten times as long.
_SECOND = """
import fcntl, os, sqlite3, sys
folder = sys.argv[1]
try:
    fcntl.flock(os.open(folder + "/lock", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("free")
except OSError:
    print("held")
db = sqlite3.connect(folder + "/ledger", timeout=0, isolation_level=None)
try:
    db.execute("BEGIN IMMEDIATE")
    print("free", flush=True)
except sqlite3.OperationalError:
    print("held", flush=True)
sys.stdin.readline()
db.execute("INSERT INTO t VALUES (2)")
print(*(row[0] for row in db.execute("SELECT i FROM t ORDER BY i")), sep=",", flush=True)
"""


@final
@dataclass(frozen=True)
class Place:
    """What a folder's file system can be trusted with.

    Args:
        kind: its type, empty where the system has no mount table.
        journal: the ledger's journal.
        locks: True if a kernel lock shuts out every process that could reach the folder, on other machines too.
        notes: what the reader of a run should know, one sentence each.
    """

    kind: str
    journal: Journal
    locks: bool
    notes: tuple[str, ...] = ()


def examine_place(folder: Path, *, mounts: str | None = None) -> Place:
    """Find out what a folder's file system can do.

    Local ones that are known need no trial; on all others a lock and a WAL database are made and tried from a second
    process.

    Args:
        folder: an existing folder.
        mounts: a mount table; read from the system by default.

    Source: reliability.md B2. Differs: file systems that are known to be local are not tried.
    """
    table = _mounts() if mounts is None else mounts
    kind, options = mount_of(folder.resolve(), table)
    if kind in _LOCAL:
        return Place(kind, "wal", locks=True)
    wrong = try_place(folder)
    named = f"the file system ({kind or 'of unknown type'})"
    if kind in _NETWORK:
        locks = kind in ("nfs", "nfs4") and not any(option in options for option in _HERE_ONLY) and "lock" not in wrong
        told = f"{named} is a network file system: the ledger keeps a rollback journal, which is safe there and slower"
        return Place(kind, "delete", locks=locks, notes=(told,))
    if not wrong:
        return Place(kind, "wal", locks=True)
    told = f"{named} failed a trial ({'; '.join(wrong.values())}): the ledger keeps a rollback journal"
    return Place(kind, "delete", locks="lock" not in wrong, notes=(told,))


def journal_of(path: Path) -> Journal:
    """The ledger's journal for a folder by its type alone: `delete` on network file systems, else `wal`."""
    return "delete" if mount_of(path.resolve(), _mounts())[0] in _NETWORK else "wal"


def try_place(folder: Path) -> dict[str, str]:
    """Hold a lock and a write transaction here, and see whether a second process is shut out and reads what is written.

    Args:
        folder: an existing folder; a subfolder is made and removed.

    Returns:
        What failed, in words: by `lock`, `ledger`; empty if all is well.
    """
    wrong: dict[str, str] = {}
    scratch = Path(tempfile.mkdtemp(prefix=".trial-", dir=folder))
    try:
        _try_in(scratch, wrong)
    except (OSError, sqlite3.Error, subprocess.SubprocessError) as error:
        wrong["ledger"] = f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return wrong


def _try_in(scratch: Path, wrong: dict[str, str]) -> None:
    handle = os.open(scratch / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            wrong["lock"] = f"files cannot be locked: {error.strerror}"
        with closing(sqlite3.connect(scratch / "ledger", timeout=0, isolation_level=None)) as db:
            mode = str(db.execute("PRAGMA journal_mode=wal").fetchone()[0])
            db.execute("CREATE TABLE t (i INTEGER)")
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO t VALUES (1)")
            _ask_second(scratch, db, wrong)
            if mode != "wal":
                wrong["ledger"] = "SQLite keeps no write-ahead log there"
    finally:
        os.close(handle)


def _ask_second(scratch: Path, db: sqlite3.Connection, wrong: dict[str, str]) -> None:
    command = [sys.executable, "-I", "-S", "-c", _SECOND, str(scratch)]
    with subprocess.Popen(  # noqa: S603 -- our own interpreter and words
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as second:
        try:
            if second.stdin is None or second.stdout is None:
                return
            lock, ledger = second.stdout.readline().strip(), second.stdout.readline().strip()
            db.execute("COMMIT")
            seen, _ = second.communicate("go\n", timeout=_PROBE_S)
        finally:
            second.kill()
    if lock != "held":
        wrong.setdefault("lock", "a lock does not shut out a second process")
    rows = [row[0] for row in db.execute("SELECT i FROM t ORDER BY i")]
    if ledger != "held" or seen.strip() != "1,2" or rows != [1, 2]:
        wrong["ledger"] = "two processes do not see one ledger"


def mount_type(path: Path, mounts: str) -> str:
    r"""File system type of a path.

    >>> mount_type(Path("/data/run"), "/dev/sda / ext4 rw\nhost:/d /data nfs4 rw")
    'nfs4'
    """
    return mount_of(path, mounts)[0]


def mount_of(path: Path, mounts: str) -> tuple[str, tuple[str, ...]]:
    r"""File system type and mount options of a path, empty where the table does not hold it.

    Args:
        path: absolute path.
        mounts: a mount table, one `device folder type options ...` a line.

    >>> mount_of(Path("/data/run"), "/dev/sda / ext4 rw\nhost:/d /data nfs4 rw,nolock 0 0")
    ('nfs4', ('rw', 'nolock'))
    """
    best, found, options = -1, "", ()
    for line in mounts.splitlines():
        parts = line.split()
        if len(parts) >= 4:
            folder = Path(parts[1].replace("\\040", " "))
            # Of two mounts on one folder the later hides the earlier.
            if path.is_relative_to(folder) and len(folder.parts) >= best:
                best, found, options = len(folder.parts), parts[2], tuple(parts[3].split(","))
    return found, options


def _mounts() -> str:
    table = Path("/proc/self/mounts")
    return table.read_text(errors="replace") if table.exists() else ""
