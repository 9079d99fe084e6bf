"""`evaluate` of judges of which theory knows the figures: a sample here, all in benchmarks/judge_theory.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"


@pytest.mark.parametrize("name", ["processbench", "prmbench", "mr-gsm8k", "bigbench-mistake"])
def test_perfect_constant_random_and_markers_score_what_theory_says(name: str) -> None:
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data")
    script = ROOT / "benchmarks" / "judge_theory.py"
    command = [sys.executable, script, "--data", DATA, "--sets", name, "--limit", "80", "--resamples", "10"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(" figures, 0 not as theory says")
    assert int(done.stdout.splitlines()[-1].split()[0]) > 15
