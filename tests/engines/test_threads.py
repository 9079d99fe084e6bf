"""What a worker process takes for itself."""

import platform
import subprocess
import sys

import pytest

PROGRAM = "from stepcredit.engines.threads import keep_freed_memory; print(keep_freed_memory())"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is told")
def test_glibc_takes_the_bounds_up_to_which_freed_memory_is_kept() -> None:
    """It refuses a bound above its own limit."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, text=True)
    assert done.stdout == "True\n"
