"""What the file system under a run folder can do: WAL needs shared memory, which network file systems lack."""

from pathlib import Path

from stepcredit.store.ledger import Journal

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "gpfs", "beegfs", "ceph", "afs", "fuse.sshfs"})


def journal_of(path: Path) -> Journal:
    """The ledger's journal for a folder: `delete` on network file systems, else `wal`.

    Args:
        path: an existing folder.

    Source: reliability.md B2. Differs: reads the mount table; where there is none, `wal` is assumed.
    """
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "wal"
    return "delete" if mount_type(path.resolve(), mounts.read_text(errors="replace")) in _NETWORK else "wal"


def mount_type(path: Path, mounts: str) -> str:
    r"""File system type of a path.

    Args:
        path: absolute path.
        mounts: a mount table, one `device folder type options ...` a line.

    >>> mount_type(Path("/data/run"), "/dev/sda / ext4 rw\nhost:/d /data nfs4 rw")
    'nfs4'
    """
    best, found = -1, ""
    for line in mounts.splitlines():
        parts = line.split()
        if len(parts) >= 3:
            folder = Path(parts[1].replace("\\040", " "))
            if path.is_relative_to(folder) and len(folder.parts) > best:
                best, found = len(folder.parts), parts[2]
    return found
