"""Which engine a program needs, by its imports, which are found without compiling a word of it."""

import re
import sys

NATIVE = frozenset(
    {
        *("ctypes", "_ctypes", "ssl", "mmap", "fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "curses"),
        *("readline", "bz2", "lzma", "sqlite3", "multiprocessing", "zlib", "gzip", "zipfile", "tarfile"),
    }
)
"""Modules of the standard library that the WebAssembly component lacks, or that ask for what it has not."""

IN_WASM = frozenset(sys.stdlib_module_names) - NATIVE | {"sympy", "mpmath"}
"""Modules that engine `wasm` has."""

_NAME = r"[^\W\d]\w*"
_IMPORT = re.compile(
    rf"(?:^|[;:])[ \t\f]*(?:from[ \t]+({_NAME})[\w. \t]*[ \t]import\b|import[ \t]+([^\n;#]+))", re.MULTILINE
)
_FIRST = re.compile(rf"\s*({_NAME})")


def imports_of(source: str) -> frozenset[str]:
    r"""Top-level modules that a program names in import statements, those inside its texts included.

    Nothing is compiled: the compiler itself can be crashed by a program. What is imported by another way
    (`__import__`) is not seen; where the engine lacks it the program gets its own ImportError.

    >>> sorted(imports_of("import numpy as np, math\nfrom sympy.abc import x; import os.path"))
    ['math', 'numpy', 'os', 'sympy']
    """
    found: set[str] = set()
    for one, several in _IMPORT.findall(source.replace("\\\n", " ")):
        names = [one] if one else [match.group(1) for part in several.split(",") if (match := _FIRST.match(part))]
        found.update(names)
    return frozenset(found - {"__future__"})
