"""Shapes (STYLE.md 3): the tests of core, credit and losses again, every annotated array checked as they run.

Property tests draw few examples (`shapes_checked`): what shape an array has does not hang on the numbers in it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

WRONG_SHAPE = """
from jaxtyping import install_import_hook
install_import_hook("stepcredit", "array_checker.check_arrays")
import numpy as np
from stepcredit.core.layout import Layout, select
layout = Layout(np.array([0, 1]), np.array([0, 0]), np.array([0]))
select(layout, np.array([[True]]))
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "tests/shape", "HYPOTHESIS": "few"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=540)


@pytest.mark.parametrize("part", ["core", "credit", "losses"])
def test_annotated_shapes_hold(part: str) -> None:
    folder = f"tests/{part}"
    if not (ROOT / folder).is_dir():
        pytest.skip(f"{folder} does not exist")
    done = run("-m", "pytest", folder, "-q", "-p", "shapes_checked", "-p", "no:cacheprovider", "-p", "no:xdist")
    assert done.returncode == 0, done.stdout[-6000:]


def test_a_wrong_shape_is_noticed() -> None:
    done = run("-c", WRONG_SHAPE)
    assert done.returncode != 0
    assert "parameter 'keep'" in done.stderr
