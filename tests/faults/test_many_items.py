"""Ten thousand solutions: memory stays flat. A hundred thousand: `benchmarks/soak.py`."""

import json
import os
import subprocess
import sys

import pytest
from killing import FAULTS, show

ROOT = FAULTS.parents[1]


@pytest.mark.parametrize(("judge", "count"), [("markers", 10_000), ("critic", 1_000)])
def test_memory_stays_flat(judge: str, count: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--judge", judge, "--count", str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=300, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    show(str(found))
    # What is kept of each solution: its id, its place, its group; a record alone would be some kilobytes.
    assert found["most_mb"] - found["tenth_mb"] < 25
    assert found["end_mb"] - found["start_mb"] < 60
