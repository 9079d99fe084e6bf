"""Two processes whose groups straddle them are paid as one process is; an error of one is heard by both."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("trl", reason="TRL is not installed: pip install 'stepcredit[trl]'")

HERE = Path(__file__).parent


def train(folder: Path, *words: str, processes: int) -> list["subprocess.CompletedProcess[str]"]:
    """Run the worker in so many processes side by side."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started: list[subprocess.Popen[str]] = []
    for rank in range(processes):
        variables = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]),
        }
        if processes > 1:
            variables |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
        command = [sys.executable, str(HERE / "trl_worker.py"), str(folder), *words]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=variables, text=True, stdout=pipe, stderr=pipe))
    done = [(process, *process.communicate(timeout=900)) for process in started]
    return [subprocess.CompletedProcess(p.args, p.returncode, out, error) for p, out, error in done]


def columns(folder: Path, rank: int) -> dict[str, np.ndarray]:
    with np.load(folder / f"{rank}.npz") as file:
        return {name: file[name] for name in file.files}


def test_groups_that_straddle_two_processes_are_paid_as_in_one(tmp_path: Path) -> None:
    """12 completions in groups of 4, six a process: the second group has two on either side."""
    for name, size, processes in (("one", 12, 1), ("two", 6, 2)):
        (tmp_path / name).mkdir()
        for done in train(tmp_path / name, str(size), processes=processes):
            assert done.returncode == 0, done.stderr[-3000:]
    one = columns(tmp_path / "one", 0)
    two = [columns(tmp_path / "two", rank) for rank in (0, 1)]
    for batch in (0, 1):
        ids = np.concatenate([part[f"completion_ids{batch}"] for part in two])
        np.testing.assert_array_equal(ids, one[f"completion_ids{batch}"])
        advantages = np.concatenate([part[f"advantages{batch}"] for part in two])
        np.testing.assert_array_equal(advantages, one[f"advantages{batch}"])
        assert len(np.unique(advantages[4:8])) > 2
    assert two[0]["figures"] == two[1]["figures"] == one["figures"]
    np.testing.assert_allclose(two[0]["weights"], one["weights"], atol=1e-6, rtol=0)


def test_an_error_in_one_process_ends_both(tmp_path: Path) -> None:
    first, second = train(tmp_path, "6", "break", processes=2)
    assert second.returncode != 0
    assert "the judge lost its head" in second.stderr
    assert first.returncode != 0
    assert "process 1: the judge lost its head" in first.stderr
