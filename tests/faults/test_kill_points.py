"""Kill between write and rename, and at every other system call of the store: the old file or the new one."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from killing import FAULTS


def points(case: str, root: Path) -> list[tuple[str, str]]:
    environment = {**os.environ, "PYTHONPATH": str(FAULTS.parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(FAULTS / "kill_points.py"), case, str(root)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=300, text=True)
    assert done.returncode == 0, done.stderr
    return [(point, seen) for point, seen in json.loads(done.stdout)]


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    found = points("file", tmp_path)
    names = [point for point, _ in found]
    assert names.count("before rename") == names.count("after rename") == 1
    assert names.count("before fsync") == 2  # the file, and its folder
    border = names.index("after rename")
    assert {seen for _, seen in found[:border]} == {"old"}
    assert {seen for _, seen in found[border:]} == {"new"}
    assert found[-1] == ("end", "new")


def test_whatever_a_run_marked_as_done_is_whole_and_the_rest_is_done_again(tmp_path: Path) -> None:
    found = points("run", tmp_path)
    assert len(found) > 50
    assert {seen for _, seen in found} == {"done 0", "done 1", "done 2"}
    done = [seen for _, seen in found]
    assert done == sorted(done)  # what was done once stays done
    assert Counter(point.split()[1] for point, _ in found[:-1])["rename"] >= 4
