"""What a worker process takes for itself."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from stepcredit.engines.threads import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "kept" else "as it is")
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(50):
    torch.ones(2 << 20)  # 8 MiB
print(faults() - before)
"""


def faults(how: str) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True, text=True)
    told, count = done.stdout.split("\n")[:2]
    return told, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is told")
def test_freed_memory_is_kept() -> None:
    """A process that keeps what it frees has its pages cleared once, not at every step."""
    told, kept = faults("kept")
    if told == "False":
        pytest.skip("the C library is not glibc")
    assert kept < 0.5 * faults("usual")[1]
