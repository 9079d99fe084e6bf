"""Verbs that only look: report, status, recipes, doctor; and the extras that verbs ask for."""

import json
from pathlib import Path

import pytest

from stepcredit import cli
from stepcredit.cli.options import told
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
    RunFolder.create_or_open(tmp_path / "r", {"verb": "judge"}).close()
    assert verb("report", str(tmp_path / "r")) == 2
    assert "nothing to report yet" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["report", "status"])
def test_an_ordinary_folder_is_no_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of such a folder report said that the run should come to its end."""
    assert verb(name, str(tmp_path)) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: this is not a run folder (no manifest.json)\n"


def test_report_where_nothing_can_be_written_names_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It named --out, which report does not have."""
    run = tmp_path / "r"
    save_report(run, ReportData("a run", solutions=(SHOWN,)))

    def refuse(*_: object) -> None:
        raise MachineError("no permission to write here; choose another folder with --out")

    monkeypatch.setattr("stepcredit.recipes.report_run.FileWriter.write", refuse)
    assert verb("report", str(run)) == 3
    assert capsys.readouterr().err == f"error: {run}: report.html cannot be written here; --terminal shows it without\n"
    assert verb("report", str(run), "--terminal") == 0


def test_status_of_a_run_that_can_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite makes files beside a ledger that it reads: status ended with `unable to open database file`."""
    run = tmp_path / "r"
    with RunFolder.create_or_open(run, {"verb": "judge"}) as folder:
        folder.ledger.put("outcome", "a", {"status": "right"})
        folder.ledger.flush()
        before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
        monkeypatch.setattr("stepcredit.recipes.status.os.access", lambda *_: False)
        found = run_status(run)
        assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before
    assert (found.state, dict(found.stages)["outcome"]) == ("running", 1)


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
    with RunFolder.create_or_open(run, {"verb": "judge"}) as folder:
        folder.write_json("summary.json", {"tokens": None, "seeds": list(range(8)), "skipped": {}, "ci": [0.5, None]})
    rows = dict(run_status(run).table().rows)
    assert (rows["tokens"], rows["skipped"], rows["ci"]) == ("–", "–", "0.5, –")
    assert rows["seeds"] == "0, 1, 2, 3, 4, 5 and 2 more"


def test_a_run_ends_with_where_its_page_and_its_token_credit_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing told where token credit lies."""
    run = tmp_path / "r"
    RunFolder.create_or_open(run, {"verb": "run"}).close()
    save_report(run, ReportData("a run"))
    for credit, lines in (({"shard": "credit-tp_grpo-1.npz"}, 2), (None, 1)):
        with RunFolder.create_or_open(run, {"verb": "run"}) as folder, told(run):
            folder.write_json("summary.json", {"credit": credit})
        said = capsys.readouterr().out.splitlines()[-lines:]
        where = f"token credit: {run / 'shards' / 'credit-tp_grpo-1.npz'} (numpy.load reads it)"
        assert said == [f"report: {run / 'report.html'}", where][:lines]


def test_recipes_lists_and_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("recipes") == 0
    assert "demo" in capsys.readouterr().out
    assert verb("recipes", "demo") == 0
    assert "[world]" in capsys.readouterr().out


def test_doctor_finds_this_machine_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepcredit.recipes.doctor.SAFE", ())  # tried in tests/sandbox
    assert verb("doctor", "--out", str(tmp_path / "runs")) == 0
    assert "Python" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_doctor_names_a_folder_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("stepcredit.recipes.doctor.tempfile.TemporaryDirectory", refuse)
    found = {finding.what: finding for finding in examine(Path("runs"))}
    assert (found["writing"].health, found["writing"].mend) == ("bad", "choose another folder with --out")


@pytest.mark.parametrize("below", ["", "runs"])
def test_doctor_names_a_file_where_the_folder_should_be(tmp_path: Path, below: str) -> None:
    """It looked at the folder around the file and found it fit."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    found = {finding.what: finding for finding in examine(tmp_path / "file" / below)}
    assert (found["writing"].health, found["writing"].mend) == ("bad", "choose another folder with --out")
    assert found["writing"].detail == f"a file stands where a folder is needed: {tmp_path / 'file'}"


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
