"""Started as root, this shows a few folders under names that an unprivileged user may reach, becomes one, and goes on.

`python -c SOURCE JSON HANDLE` with {"sources": [[path, name]], "uid": int, "command": [...]}, where `{handle}` is
HANDLE: in a mount namespace of its own each path appears as /tmp/name. An interpreter under a home of mode 0700 is
reachable in no other way (reliability.md A2.3).
"""

import ctypes
import json
import os
import stat
import sys

_NEWNS, _MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 2, 4, 1 << 12, 1 << 14, 1 << 18


def main() -> None:
    """Mount, drop, exec."""
    given = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    _done("new mount namespace", libc.unshare(_NEWNS))
    _done("private mounts", libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    opened = [(os.open(path, os.O_PATH), name) for path, name in given["sources"]]
    _done("mount", libc.mount(b"sources", b"/tmp", b"tmpfs", _MS_NOSUID | _MS_NODEV, b"size=256k,mode=755"))
    for handle, name in opened:
        place = f"/tmp/{name}"  # noqa: S108 -- of this mount namespace alone
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            os.mkdir(place)  # noqa: PTH102 -- -S: nothing more is loaded than must be
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
        _done(name, libc.mount(f"/proc/self/fd/{handle}".encode(), place.encode(), None, _MS_BIND, None))
        os.close(handle)
    os.setgroups([])
    os.setresgid(given["uid"], given["uid"], given["uid"])
    os.setresuid(given["uid"], given["uid"], given["uid"])
    command = [sys.argv[2] if word == "{handle}" else word for word in given["command"]]
    os.execve(command[0], command, {})  # noqa: S606


def _done(what: str, result: int) -> None:
    if result:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
