"""What a worker process takes for itself."""

import platform
import subprocess
import sys

import pytest

PROGRAM = "from stepcredit.engines.threads import keep_freed_memory; print(keep_freed_memory())"


RARE = """
import gc
from stepcredit.engines.threads import collect_garbage_rarely
collect_garbage_rarely()
before = gc.get_stats()[0]["collections"]
kept = [[] for _ in range(50_000)]
few = gc.get_stats()[0]["collections"] - before
for _ in range(150_000):
    loop = []
    loop.append(loop)
print(few, gc.get_stats()[0]["collections"] - before > 0, gc.get_freeze_count() > 10_000)
"""


def test_cycles_are_looked_for_seldom_but_still_found() -> None:
    done = subprocess.run([sys.executable, "-c", RARE], capture_output=True, check=True, text=True)
    assert done.stdout == "0 True True\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is told")
def test_glibc_takes_the_bounds_up_to_which_freed_memory_is_kept() -> None:
    """It refuses a bound above its own limit."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, text=True)
    assert done.stdout == "True\n"
