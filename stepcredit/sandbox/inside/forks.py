"""The fork server inside bubblewrap: packages are imported once, every program runs in a fork of its own.

Started as `python -c SOURCE`, or, for engine `rlimit`, without a wall around it: then a filter of `None` comes in the
first frame, and a program gets limits only. A run is two forks: a supervisor, which makes new pid, mount and ipc
namespaces and a scratch folder of its own, and under it the program, pid 1 of them, which gives up the user
namespace, all capabilities, and system calls. The supervisor is ours: it alone reads the pipes, waits, kills and
answers, and it believes the wait status, the resource usage and the bytes of the two streams (reliability.md A2.9).
Two more pipes carry text that the program may forge without gain: the message of an exception, and the end of the
replay.
"""

import base64
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
from typing import Any, BinaryIO

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID = 0x20000, 0x08000000, 0x10000000, 0x20000000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 2, 4, 1 << 14, 1 << 18
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2
_ENDED, _RAISED, _EXITED, _BROKEN = 70, 71, 72, 73
_SCRATCH = "/scratch"
_NEARLY = 0.9


def main() -> None:
    """Answer frames until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    boot = read_frame(requests)
    if boot is None:
        return
    if boot["filter"] is not None:
        sys.path.append("/site")
    loaded = [name for name in boot["preload"] if _loads(name)]
    gc.collect()
    gc.freeze()
    write_frame(replies, {"ready": loaded, "python": sys.version.split()[0]})
    while (job := read_frame(requests)) is not None:
        # A pipe of the server's own: should the supervisor die, the parent still gets an answer.
        pid = os.fork()
        if pid == 0:
            _supervise(job, boot, replies)
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            write_frame(replies, {"exit": "broken", "error": _text(b"the supervisor of the run died")})


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The next frame, `None` at the end."""
    head = stream.read(4)
    return json.loads(stream.read(struct.unpack(">I", head)[0])) if len(head) == 4 else None


def write_frame(stream: BinaryIO, value: dict[str, Any]) -> None:
    """Write one frame."""
    data = json.dumps(value).encode()
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


def _loads(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _supervise(job: dict[str, Any], boot: dict[str, Any], replies: BinaryIO) -> None:
    """Run one program and answer; the namespaces end with it."""
    libc = ctypes.CDLL(None, use_errno=True)
    confined = boot["filter"] is not None
    scratch = _scratch_of_its_own(boot["limits"], libc) if confined else tempfile.mkdtemp(prefix="stepcredit-run-")
    pipes = [os.pipe() for _ in range(4)]
    pid = os.fork()
    if pid == 0:
        for end, _ in pipes:
            os.close(end)
        try:
            _become_program(job, boot, scratch, [end for _, end in pipes])
        finally:
            os._exit(_BROKEN)
    for _, end in pipes:
        os.close(end)
    found = _watch(pid, [end for end, _ in pipes], job, boot["limits"])
    if not confined:
        _kill(-pid)
        shutil.rmtree(scratch, ignore_errors=True)
    write_frame(replies, found)


def _scratch_of_its_own(limits: dict[str, Any], libc: Any) -> str:
    size = f"size={limits['scratch_bytes']},nr_inodes={limits['scratch_files']},mode=700".encode()
    _done("unshare", libc.unshare(_NEWPID | _NEWNS | _NEWIPC))
    _done("private mounts", libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    _done("scratch", libc.mount(b"scratch", _SCRATCH.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, size))
    return _SCRATCH


def _kill(pid: int) -> None:
    """Kill a process, or a group by its negated number; one that is gone is no error."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _watch(pid: int, pipes: list[int], job: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """Read until the program is gone; kill at a limit."""
    out, err, error, marker = pipes
    kept, closed = {end: bytearray() for end in pipes}, set[int]()
    written, killed, began = 0, "", time.monotonic()
    replaying = bool(job["earlier"])
    deadline = began + (job["replay_s"] if replaying else limits["wall_s"])
    poll = select.poll()
    for end in pipes:
        poll.register(end, select.POLLIN)
    while len(kept) > len(closed) and not killed:
        for end, data in _arrived(poll, deadline):
            if not data:
                poll.unregister(end)
                closed.add(end)
            kept[end] += data[: max(0, limits["kept_bytes"] - len(kept[end]))]
            written += len(data) * (end in (out, err))
        if replaying and b"." in kept[marker]:
            replaying, began = False, time.monotonic()
            deadline = began + limits["wall_s"]
        if written > limits["killed_bytes"]:
            killed = "output"
        elif time.monotonic() > deadline:
            killed = "wall"
    if killed:
        _kill(pid)
    # A program may close its streams and go on: the wait has the same deadline.
    status, usage, late = _wait(pid, deadline)
    cpu_s = usage.ru_utime + usage.ru_stime
    ended = killed or late or _exit_of(status, cpu_s, limits)
    if replaying:
        ended = "lost"
    return {
        "exit": ended if kept[marker] else "broken",
        "error": _text(bytes(kept[error])),
        "out": _text(bytes(kept[out])),
        "err": _text(bytes(kept[err])),
        "output_bytes": written,
        "seconds": time.monotonic() - began,
        "cpu_s": cpu_s,
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def _arrived(poll: select.poll, deadline: float) -> list[tuple[int, bytes]]:
    """What can be read now, or comes before the deadline."""
    return [(end, os.read(end, 1 << 18)) for end, _ in poll.poll(max(deadline - time.monotonic(), 0) * 1000)]


def _wait(pid: int, deadline: float) -> tuple[int, Any, str]:
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return status, usage, ""
        if time.monotonic() > deadline:
            _kill(pid)
            _, status, usage = os.wait4(pid, 0)
            return status, usage, "wall"
        time.sleep(0.0005)


def _exit_of(status: int, cpu_s: float, limits: dict[str, Any]) -> str:
    """The end in words."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        spent = cpu_s >= _NEARLY * limits["cpu_s"]  # the kernel's clock for the limit is not that of the usage
        return "cpu" if spent and -code in (signal.SIGKILL, signal.SIGXCPU) else f"signal {-code}"
    return {_ENDED: "ended", _RAISED: "raised", _EXITED: "exit"}.get(code, f"exit {code}")


def _become_program(job: dict[str, Any], boot: dict[str, Any], scratch: str, ends: list[int]) -> None:
    """Give everything up, then run the program; never returns to the caller's stack but to end."""
    ends = [*ends, os.open(os.devnull, os.O_RDWR)]
    for target, end in enumerate(ends, start=1):
        os.dup2(end, 100 + target)
    os.closerange(3, 101)
    for target in range(1, len(ends) + 1):
        os.dup2(100 + target, target)
    os.closerange(len(ends) + 1, 1024)
    os.chdir(scratch)
    _limit(job, boot["limits"])
    os.setsid()  # a signal to the own process group would reach the server through every namespace
    if boot["filter"] is not None:
        _confine(base64.b64decode(boot["filter"]))
    os.write(4, b"s")  # before a word of the program: without it the fault is ours
    os._exit(_run(job))


def _limit(job: dict[str, Any], limits: dict[str, Any]) -> None:
    cpu = int(limits["cpu_s"] + (job["replay_s"] if job["earlier"] else 0) + 0.999)
    bounds = {
        resource.RLIMIT_CPU: cpu,
        resource.RLIMIT_AS: limits["native_bytes"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: limits["descriptors"],
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for name, bound in bounds.items():
        most = resource.getrlimit(name)[1]
        bound = bound if most == resource.RLIM_INFINITY else min(bound, most)  # noqa: PLW2901
        resource.setrlimit(name, (bound, bound))


def _confine(code: bytes) -> None:
    """A user namespace without a map, no capability, no new privileges, the filter of system calls."""
    libc = ctypes.CDLL(None, use_errno=True)
    _done("user namespace", libc.unshare(_NEWUSER))
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    _done("capabilities", libc.capset(header, none))
    _done("no new privileges", libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
    rules = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(rules)))
    _done("filter", libc.prctl(_SECCOMP, _FILTER, program, 0, 0))


def _run(job: dict[str, Any]) -> int:
    """Replay the session's earlier blocks unseen, then run the block; the code to exit with."""
    space: dict[str, Any] = {"__name__": "__main__"}
    _seed()
    if job["earlier"]:
        keep_out, keep_err = os.dup(1), os.dup(2)
        os.dup2(5, 1)
        os.dup2(5, 2)
        _open_streams()
        for source in job["earlier"]:
            _block(source, space)
        _flush()
        os.dup2(keep_out, 1)
        os.dup2(keep_err, 2)
        os.close(keep_out)
        os.close(keep_err)
    os.write(4, b".")
    os.close(4)
    _open_streams()
    ending, message = _block(job["source"], space)
    _flush()
    if message:
        os.write(3, message[:60000])
    return ending


def _seed() -> None:
    """Every program finds random numbers in the same state, so that a replay repeats what it replays."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


def _open_streams() -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        raw = io.FileIO(number, "w", closefd=False)
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", errors="backslashreplace"))


def _block(source: str, space: dict[str, Any]) -> tuple[int, bytes]:
    try:
        exec(compile(source, "<string>", "exec"), space)  # noqa: S102 -- this is the place for it
    except SystemExit as end:
        return _EXITED, _message(end)
    except BaseException as error:  # noqa: BLE001 -- whatever the program raises is its result
        return _RAISED, _message(error)
    return _ENDED, b""


def _message(error: BaseException) -> bytes:
    try:
        said = str(error)
    except BaseException:  # noqa: BLE001
        said = ""
    return f"{type(error).__name__}: {said}".encode("utf-8", "backslashreplace")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):  # the program may have put anything there
            stream.flush()


def _done(what: str, result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
