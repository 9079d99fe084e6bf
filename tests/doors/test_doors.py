"""README's doors: its commands, run from the built wheel in environments that hold nothing else.

`make doors` builds the wheel first. Door one has no torch; the others install the extras that README names.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.doors

ROOT = Path(__file__).resolve().parents[2]
DOOR = re.compile(r"<!-- door: ([\w-]+) -->\n```(\w+)\n(.*?)```", re.DOTALL)
DOOR_ONE_S = 10.0
Run = Callable[[Path, str], "subprocess.CompletedProcess[str]"]


def door(name: str) -> tuple[str, str]:
    """Language and text of the code block that follows `<!-- door: NAME -->` in the README."""
    found = {
        key: (language, text) for key, language, text in DOOR.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    }
    assert name in found, f"README.md has no door {name!r}; it has {sorted(found)}"
    return found[name]


def environment(folder: Path, *, extras: str) -> Path:
    """A new virtual environment with the wheel, and nothing of this one."""
    wheels = sorted((ROOT / "dist").glob("stepcredit-*.whl"))
    assert len(wheels) == 1, "make doors builds the wheel into dist/"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), f"{wheels[0]}{extras}"], check=True, timeout=1800)
    return folder


def walk(
    venv: Path, script: str, *, at: Path, shell: tuple[str, ...] = ("bash", "-euc")
) -> "subprocess.CompletedProcess[str]":
    """Run a door's text in an empty folder that holds the examples, with the environment's programs first."""
    if not (at / "examples").exists():
        shutil.copytree(ROOT / "examples", at / "examples")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    variables["PATH"] = f"{venv / 'bin'}{os.pathsep}{variables['PATH']}"
    return subprocess.run(
        [*shell, script], cwd=at, env=variables, check=False, capture_output=True, text=True, timeout=1200
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("small") / "venv", extras="")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("full") / "venv", extras="[train,math]")


def test_the_small_install_has_no_torch(small: Path, tmp_path: Path) -> None:
    assert walk(small, "python -c 'import torch'", at=tmp_path).returncode != 0


def test_door_judge(small: Path, tmp_path: Path) -> None:
    _, script = door("judge")
    walk(small, "stepcredit --version", at=tmp_path)
    began = time.monotonic()
    done = walk(small, script, at=tmp_path)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("report.html"))
    assert len(pages) == 1
    assert pages[0].stat().st_size > 20_000
    assert seconds < DOOR_ONE_S, f"door one took {seconds:.1f} s"


def test_door_facade(small: Path, tmp_path: Path) -> None:
    language, script = door("facade")
    assert language == "python"
    done = walk(small, script, at=tmp_path, shell=("python", "-c"))
    assert done.returncode == 0, done.stderr
    assert "incorrect" in done.stdout


def test_demo_without_torch_is_one_install_line(small: Path, tmp_path: Path) -> None:
    done = walk(small, "stepcredit demo", at=tmp_path)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'stepcredit[train]'" in done.stderr


def test_door_train(full: Path, tmp_path: Path) -> None:
    _, script = door("train")
    done = walk(full, script, at=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert list(tmp_path.rglob("summary.json"))
