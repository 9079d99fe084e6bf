"""Engine `bwrap`: a fork server inside bubblewrap, for programs that need native packages. Linux."""

import base64
import json
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import final

from stepcredit.core.errors import EngineError, MachineError
from stepcredit.sandbox import seccomp
from stepcredit.sandbox.limits import PRELOADED, Limits
from stepcredit.sandbox.worker import HANDLE, Job, Reply, Worker

PACKAGES = ("sympy", "mpmath", "numpy", "scipy", "networkx", "gmpy2", "pandas", "dateutil", "pytz", "tzdata", "six")
"""Shown to programs where they are installed; pandas with what it needs."""

_NOBODY = 65534
_LIBRARIES = ("/usr/lib", "/lib", "/lib64", "/usr/lib64")
_INSIDE = Path(__file__).parent / "inside"


@final
class BwrapEngine:
    """Programs in forks of one server, each in user, pid, mount and ipc namespaces of its own.

    The server is started with an empty environment, without proc, sys and network, sees the interpreter, the standard
    library and the packages and nothing else, and runs as an unprivileged user where we are root.

    Args:
        limits: on one block.
        packages: top-level modules shown to programs.
        uid: user to become where we are root.

    Raises:
        MachineError: where it cannot run: another system, no bubblewrap, no filter for this processor.

    Source: reliability.md A1, A2. Differs: none.
    """

    name = "bwrap"
    safe = True

    def __init__(self, limits: Limits, *, packages: Sequence[str] = PACKAGES, uid: int = _NOBODY) -> None:
        self.limits = limits
        self.packages = tuple(name for name in packages if find_spec(name) is not None)
        bwrap = shutil.which("bwrap")
        if sys.platform != "linux" or bwrap is None:
            raise MachineError("engine 'bwrap' needs Linux and bubblewrap (Debian: apt-get install bubblewrap)")
        boot = {
            "limits": asdict(limits),
            "filter": base64.b64encode(seccomp.program_filter()).decode(),
            "preload": [name for name in PRELOADED if name in self.packages],
        }
        command = _command(bwrap, self.packages, uid if os.geteuid() == 0 else None)
        self._worker = Worker(command, boot=boot, env={}, handed=seccomp.server_filter())

    @property
    def version(self) -> str:
        """Interpreter and packages that programs see."""
        found = [f"{name} {_version(name)}" for name in self.packages if _version(name)]
        return f"Python {platform.python_version()}, {', '.join(found)}"

    @property
    def pid(self) -> int | None:
        """Of the worker."""
        return self._worker.pid

    def probe(self) -> None:
        """Start it and run one program.

        Raises:
            MachineError: if that fails; with the reason.
        """
        try:
            reply = self.run(Job("print(6 * 7)"))
        except EngineError as error:
            self.close()
            raise MachineError(f"bubblewrap does not work here: {error}") from error
        if (reply.exit, reply.out) != ("ended", b"42\n"):
            self.close()
            said = (reply.error or reply.err).decode("utf-8", "replace")[:200]
            raise MachineError(f"bubblewrap does not work here: its trial ended with {reply.exit} {said}".rstrip())

    def run(self, job: Job) -> Reply:
        """Run one block; blocks until it ends or is killed.

        Raises:
            EngineError: if the sandbox itself failed.
        """
        return self._worker.run(job, self.limits)

    def close(self) -> None:
        """End the server and all that runs in it."""
        self._worker.close()


def _command(bwrap: str, packages: Sequence[str], uid: int | None) -> list[str]:
    """What to start."""
    shown = _shown(packages)
    sources = [(source, f"s{number}") for number, (source, _) in enumerate(shown)]
    binds: list[str] = []
    for (source, place), (_, name) in zip(shown, sources, strict=True):
        binds += ["--ro-bind", source if uid is None else f"/tmp/{name}", place]  # noqa: S108 -- see inside/launch.py
    for folder in _LIBRARIES:
        binds += ["--ro-bind", folder, folder] if Path(folder).is_dir() else []
    python = "/py/bin/python3"
    hidden = Path(sysconfig.get_path("stdlib")) / "site-packages"
    command = [
        *(bwrap, "--unshare-all", "--cap-add", "CAP_SYS_ADMIN", "--die-with-parent", "--new-session"),
        *("--hostname", "sandbox", "--tmpfs", "/", "--dir", "/scratch", "--dir", "/site"),
        *("--dir", "/dev", "--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom"),
        *binds,
        *(("--tmpfs", f"/py/lib/{_python()}/site-packages") if hidden.is_dir() else ()),
        *("--remount-ro", "/", "--chdir", "/"),
        *("--setenv", "OPENBLAS_NUM_THREADS", "1", "--setenv", "OMP_NUM_THREADS", "1"),
        *("--setenv", "PYTHONHASHSEED", "0", "--setenv", "PYTHONHOME", "/py", "--setenv", "LC_ALL", "C.UTF-8"),
        *("--seccomp", HANDLE, "--", python, "-s", "-S", "-P", "-B", "-c"),
        (_INSIDE / "forks.py").read_text(encoding="utf-8"),
    ]
    if uid is None:
        return command
    given = {"sources": sources, "uid": uid, "command": command}
    return [
        *(sys.executable, "-I", "-S", "-c"),
        (_INSIDE / "launch.py").read_text(encoding="utf-8"),
        json.dumps(given),
        HANDLE,
    ]


def _shown(packages: Sequence[str]) -> list[tuple[str, str]]:
    """Path here, path inside: the interpreter, its library, the packages."""
    real = os.path.realpath(sys.executable)
    shown = [(real, "/py/bin/python3"), (sysconfig.get_path("stdlib"), f"/py/lib/{_python()}")]
    shared = Path(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME") or "")
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and shared.is_file():
        shown.append((str(shared), str(shared)))
    for name in packages:
        found = find_spec(name)
        origin = Path((found and found.origin) or "")
        if origin.name == "__init__.py":
            folder = origin.parent
            shown.append((str(folder), f"/site/{name}"))
            libraries = folder.with_name(f"{name}.libs")
            shown += [(str(libraries), f"/site/{libraries.name}")] if libraries.is_dir() else []
        elif origin.is_file():
            shown.append((str(origin), f"/site/{origin.name}"))
    return shown


def _python() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def _version(name: str) -> str:
    try:
        return version("python-dateutil" if name == "dateutil" else name)
    except PackageNotFoundError:
        return ""
