"""What one block of a model's code may take."""

from dataclasses import asdict, dataclass
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError

GRACE_S = 1.0
"""Time after a deadline in which a worker that does not end its program itself is killed."""

PRELOADED = ("sympy", "numpy")
"""Imported by a fork server before the first program; other packages at a program's own cost."""


@final
@dataclass(frozen=True)
class Limits:
    """Bounds on one block; each engine applies those that it has.

    Args:
        wall_s: wall-clock time.
        cpu_s: processor time; bwrap and rlimit round it up to whole seconds.
        native_bytes: address space of a native process.
        wasm_bytes: linear memory of a WebAssembly instance.
        file_bytes: largest file.
        scratch_bytes: all files together (bwrap).
        scratch_files: number of files (bwrap).
        descriptors: open files.
        kept_bytes: of each stream, what is kept.
        killed_bytes: of both streams together, after which the program is killed: dropping alone would not hold it.
        text_chars: characters of output and of a message that are handed on, head and tail.

    Raises:
        UsageError: if one is not positive.

    Source: reliability.md A4, A2.10. Differs: none.
    """

    wall_s: float = 5.0
    cpu_s: float = 5.0
    native_bytes: int = 1 << 30
    wasm_bytes: int = 512 << 20
    file_bytes: int = 16 << 20
    scratch_bytes: int = 32 << 20
    scratch_files: int = 2000
    descriptors: int = 64
    kept_bytes: int = 64 << 10
    killed_bytes: int = 64 << 20
    text_chars: int = 4096

    def __post_init__(self) -> None:
        for name, bound in asdict(self).items():
            if not bound > 0:
                raise UsageError(f"sandbox limit {name} must be more than 0, got {bound}")

    @property
    def fingerprint(self) -> str:
        """Digest of all bounds."""
        return digest(self)[:12]
