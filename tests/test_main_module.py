"""`python -m stepcredit` is the command."""

import subprocess
import sys


def test_the_module_runs_as_the_command_does() -> None:
    found = subprocess.run([sys.executable, "-m", "stepcredit", "--help"], capture_output=True, text=True, check=True)
    assert "evaluate" in found.stdout
    wrong = subprocess.run([sys.executable, "-m", "stepcredit", "nothing"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
