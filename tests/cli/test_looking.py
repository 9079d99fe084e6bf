"""Verbs that only look: report, status, recipes, doctor; and the extras that verbs ask for."""

import json
from pathlib import Path

import pytest

from stepcredit import cli
from stepcredit.core.errors import MachineError
from stepcredit.recipes import extras
from stepcredit.recipes.doctor import examine
from stepcredit.recipes.report_run import save_report
from stepcredit.recipes.status import run_status
from stepcredit.report import PieceView, ReportData, RolloutView, StepView
from stepcredit.store.run_folder import RunFolder

SHOWN = RolloutView("r0", "1 + 1?", "p0", "2", "2", "right", "", (StepView((PieceView("It is 2.", 4),), score=0.9),))


def verb(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    return int(end.value.code or 0)


def test_report_renders_again_what_a_program_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = save_report(tmp_path / "r", ReportData("a run", solutions=(SHOWN,)))
    first = page.read_text(encoding="utf-8")
    page.unlink()
    assert verb("report", str(tmp_path / "r")) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert page.read_text(encoding="utf-8") == first
    assert verb("report", str(tmp_path / "r"), "--terminal") == 0
    assert "It is 2." in capsys.readouterr().out


def test_report_of_a_run_that_showed_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("report", str(tmp_path)) == 2
    assert "nothing to report yet" in capsys.readouterr().err


def test_status_follows_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "r"
    with RunFolder.create_or_open(run, {"verb": "judge"}) as folder:
        folder.ledger.put("outcome", "a", {"status": "right"})
        folder.ledger.flush()
        folder.append_metrics({"x": 1})
        assert run_status(run).state == "running"
    stopped = run_status(run)
    assert (stopped.state, stopped.metrics, dict(stopped.stages)["outcome"]) == ("interrupted", 1, 1)
    assert f"stepcredit judge --out {run}" in stopped.next_step
    with RunFolder.create_or_open(run, {"verb": "judge"}) as folder:
        folder.write_json("summary.json", {"responses": 12, "checker": {"right": 3}, "share": 0.123456})
    assert verb("status", str(run)) == 0
    said = capsys.readouterr().out
    for words in ("complete", "responses", "right 3", "0.1235", f"stepcredit report {run}"):
        assert words in said.replace("\n", "")


def test_recipes_lists_and_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("recipes") == 0
    assert "demo" in capsys.readouterr().out
    assert verb("recipes", "demo") == 0
    assert "[world]" in capsys.readouterr().out


def test_doctor_finds_this_machine_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("doctor", "--out", str(tmp_path / "runs")) == 0
    assert "Python" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_doctor_names_a_folder_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("stepcredit.recipes.doctor.tempfile.TemporaryDirectory", refuse)
    found = {finding.what: finding for finding in examine(Path("runs"))}
    assert (found["writing"].health, found["writing"].mend) == ("bad", "choose another folder with --out")


def test_a_missing_extra_is_one_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(MachineError) as error:
        extras.require_extra("train", job="stepcredit demo")
    assert str(error.value) == "stepcredit demo needs torch; install with: pip install 'stepcredit[train]'"
    assert error.value.exit_code == 3


def test_extras_are_those_of_the_package() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    for name, modules in extras.EXTRAS.items():
        packages = json.dumps(project["optional-dependencies"][name])
        assert all(module.replace("_", "-") in packages for module in modules)
