"""docs/guide/new_rule.md: its package, its commands and its test, as a reader would take them from the page."""

import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from recorded_cases import byte_level, call

from stepcredit.recipes.demo_settings import load_demo
from stepcredit.testing import ScriptedServer

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide" / "new_rule.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The page's `pyproject.toml`, its module put where pip would put it."""
    told = tomllib.loads(block("toml"))
    info = tmp_path / "own_score-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-score\nVersion: 0.1.0\n")
    (entry,) = told["project"]["entry-points"]["stepcredit.rules"].items()
    (info / "entry_points.txt").write_text("[stepcredit.rules]\n" + " = ".join(entry) + "\n")
    (tmp_path / "own_score.py").write_text(block("python"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_score", raising=False)
    return told


def test_the_packaging_is_whole(project: dict[str, Any]) -> None:
    """What pip asks for; hatchling finds the module by the project's name."""
    assert project["build-system"] == {"requires": ["hatchling"], "build-backend": "hatchling.build"}
    assert {"name", "version"} <= project["project"].keys()
    assert project["project"]["name"].replace("-", "_") == "own_score"


@pytest.mark.usefixtures("project")
def test_the_test_of_the_page_passes() -> None:
    space: dict[str, Any] = {}
    exec(compile(block("py"), "test_own_score.py", "exec"), space)
    test: Callable[[], None] = space["test_own_score"]
    test()


@pytest.mark.usefixtures("project")
def test_the_commands_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two that look; of the one that trains, that its recipe is taken."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    credited, compared, trained = (
        shlex.split(line)[1:] for line in block("bash").splitlines() if not line.startswith("#")
    )
    with ScriptedServer(reply=lambda said: _verdicts(str(said))) as server:
        place = {"URL": server.url, "DIR": str(byte_level(tmp_path / "tokenizer"))}
        for words in (credited, compared):
            assert call(*(place.get(word, word) for word in words)) == 0, capsys.readouterr().err
    assert (tmp_path / "runs" / "own-compared" / "report.html").exists()
    assert "own_score" in capsys.readouterr().out
    recipe = load_demo(
        Path(trained[trained.index("--recipe") + 1]),
        overrides=tuple(value for name, value in pairwise(trained) if name == "--set"),
    )
    assert recipe.arms[trained[trained.index("--arm") + 1]].rule == "own_score"


def _verdicts(said: str) -> str:
    """Every other step is right."""
    lines = [f"{k}: {'yes' if k % 2 else 'no'}\n" for k in range(said.count("</step_"))]
    return f"<verdicts>\n{''.join(lines)}</verdicts>"


def test_all_examples_stand_in_fences() -> None:
    inside = "".join(re.findall(r"```pycon\n(.*?)```", GUIDE, re.DOTALL))
    assert GUIDE.count(">>> ") == inside.count(">>> ") > 0
