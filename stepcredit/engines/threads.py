"""What a process of the torch engines takes: threads (one a worker where several work side by side) and memory."""

import ctypes
import gc
import sys

import torch

_COLLECT_FROM = 100_000
"""Objects made and kept since the last look for cycles; Python's own number is a few hundred to a few thousand."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_KEPT = 32 << 20  # the most that glibc takes
_TRIM_FROM = (1 << 31) - 1


def use_threads(count: int) -> None:
    """Let torch use `count` threads in this process; results depend on the count in their last bits."""
    torch.set_num_threads(count)


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, where the C library is glibc; True if it was told so.

    Sampling and training free and ask again for tensors of a few megabytes at every step. By default glibc hands them
    back to the system each time, and every page is cleared anew: 4% of the demo's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)) and bool(mallopt(_M_TRIM_THRESHOLD, _TRIM_FROM))


def collect_garbage_rarely() -> None:
    """Let this process look for reference cycles seldom, and never again among what it holds by now.

    A round's records are hundreds of thousands of objects without cycles; looking through them was 5% of its time.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_FROM, 20, 100)
