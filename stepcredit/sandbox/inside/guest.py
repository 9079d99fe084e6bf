"""What becomes the WebAssembly component: CPython with sympy and the standard library already imported.

A snapshot of memory is taken after `preload`; there is no file system after it, so what was not imported never can be.
"""

import contextlib
import importlib
import io
import json
import os
import pkgutil
import random
import sys
from types import ModuleType
from typing import Any

LIBRARIES = ("sympy", "mpmath")
_NOT_LIBRARY = {
    *("this", "antigravity", "idlelib", "tkinter", "turtle", "turtledemo", "test", "lib2to3", "ensurepip", "venv"),
    *("pydoc_data", "__main__", "__phello__", "__hello__", "_pyrepl"),
}
_INNER = (
    *("importlib.resources", "importlib.metadata", "importlib.abc", "importlib.util", "concurrent.futures"),
    *("collections.abc", "xml.etree.ElementTree", "json.decoder", "unittest.mock", "os.path", "urllib.parse"),
    *("html.parser", "email.message", "logging.handlers", "encodings.idna", "encodings.latin_1", "encodings.ascii"),
    *("encodings.utf_16", "encodings.cp1252"),
)
_NOT_SYMPY = {
    *("tests", "benchmarks", "plotting", "testing", "latex", "autolev", "fortran", "c", "interactive", "codegen"),
    *("galgebra", "conftest", "llvmjitcode"),
}
_SPACE: dict[str, Any] = {"__name__": "__main__"}
_ENDED, _RAISED, _EXITED = 0, 1, 2
_PIECE = 4096


def preload() -> None:
    """Import all that programs may use; what cannot be imported here is not there for them either."""
    stand_in = ModuleType("ctypes")  # sympy asks it for the size of a long, and nothing else
    vars(stand_in).update(c_long="long", sizeof=lambda _: 4)
    sys.modules["ctypes"] = stand_in
    for name in (*sorted(sys.stdlib_module_names - _NOT_LIBRARY), *_INNER, *LIBRARIES):
        _load(name)
    for name in LIBRARIES:
        library = importlib.import_module(name)
        for found in pkgutil.walk_packages(library.__path__, f"{name}.", lambda _: None):
            if not _NOT_SYMPY & set(found.name.split(".")):
                _load(found.name)
    for number, name in ((1, "stdout"), (2, "stderr")):
        buffer = io.BufferedWriter(_Pieces(number))
        setattr(sys, name, io.TextIOWrapper(buffer, "utf-8", errors="backslashreplace"))
    random.seed(0)


class _Pieces(io.RawIOBase):
    """A stream that writes a little at a time: of more than 8 KB in one call the host gets the first 8 KB alone."""

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def write(self, data: Any, /) -> int:
        return os.write(self._number, data[:_PIECE])


def _load(name: str) -> None:
    with contextlib.suppress(BaseException):  # modules of other systems fail in their own ways
        importlib.import_module(name)


class WitWorld:
    """The component's exports."""

    def run(self, source: str) -> tuple[int, str]:
        """Run a block, given as a JSON string, in the variables of the blocks before it: how it ended, message."""
        if len(_SPACE) == 1:
            random.seed(0)  # the start of an instance draws a new one
        try:
            exec(compile(json.loads(source), "<string>", "exec"), _SPACE)  # noqa: S102 -- this is the place for it
            ending = (_ENDED, "")
        except SystemExit as end:
            ending = (_EXITED, _message(end))
        except BaseException as error:  # noqa: BLE001 -- whatever the program raises is its result
            ending = (_RAISED, _message(error))
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):  # the program may have put anything there
                stream.flush()
        return ending


def _message(error: BaseException) -> str:
    try:
        said = str(error)
    except BaseException:  # noqa: BLE001
        said = ""
    return f"{type(error).__name__}: {said}"[:60000].encode("utf-8", "backslashreplace").decode()
