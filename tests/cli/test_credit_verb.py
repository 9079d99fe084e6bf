"""`stepcredit credit`: tables, page and JSON of rollouts that are there; one clear line for what cannot be used."""

import json
from pathlib import Path

import pytest

from stepcredit import cli

SOLUTIONS = Path(__file__).resolve().parents[2] / "examples" / "solutions.jsonl"
QUICK = ("--set", "checker.mode=string")


def write_log(file: Path, *rewards: float, **more: float) -> Path:
    """A group of TRL's log."""
    asked = {"step": 1, "prompt": "2 + 2?", **more}
    rows = [{**asked, "completion": f"it is {k}", "right": reward} for k, reward in enumerate(rewards)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def verb(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["credit", *(str(word) for word in words)])
    return int(end.value.code or 0)


def test_tables_on_the_screen_and_a_page_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert verb(SOLUTIONS, "--compare", "grpo,tp_grpo", "--compare", "vineppo", "--out", out, *QUICK) == 0
    said = capsys.readouterr().out
    for words in ("What each rule pays", "tp_grpo", "Signs beside the truth of steps: the verdicts of judge markers",
                  "Correlation of the rules", "Left out", "no values (--values FILE"):  # fmt: skip
        assert words in said
    assert f"report: {out / 'report.html'}" in said
    page = (out / "report.html").read_text(encoding="utf-8")
    assert 'id="xray"' in page
    assert json.loads((out / "xray.json").read_text())["left_out"].keys() == {"vineppo"}


def test_json_alone_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(SOLUTIONS, "--compare", "grpo", "--json", "--out", tmp_path / "out", *QUICK) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rules"]["grpo"]["paid"] == 1.0
    assert found["rules"]["grpo"]["monte_carlo"] is None
    assert found == json.loads((tmp_path / "out" / "xray.json").read_text())


def test_without_out_the_folder_is_named_after_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verb(SOLUTIONS, "--compare", "grpo", *QUICK) == 0
    assert (tmp_path / "runs" / "credit-solutions" / "report.html").exists()


def test_a_threshold_that_may_be_the_wrong_one_is_warned_of_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "log.jsonl", -1.0, 0.25)
    assert verb(log, "--compare", "grpo", "--json", "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["outcomes"] == {"right": 0, "wrong": 2, "unscorable": 0, "right_above": 0.5}
    (warned,) = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert "cut at 0.5: no one of 2 known rewards lies above it, so that none is right; --right-above" in warned
    assert verb(log, "--compare", "grpo", "--right-above", "0", "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "right is a reward above 0" in said.out
    assert "right 1  wrong 1  unscorable 0" in " ".join(said.out.splitlines())
    assert "warning" not in said.err


def test_two_inputs_of_one_name_do_not_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.jsonl", "x.log.jsonl"):
        write_log(tmp_path / name, 1.0, 0.0)
    assert verb("x.jsonl", "--compare", "grpo") == 0
    assert verb("x.log.jsonl", "--compare", "grpo") == 2
    assert "x.jsonl; give --out a folder of its own" in capsys.readouterr().err
    assert verb("x.jsonl", "--compare", "grpo") == 0


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nowhere_at_all:RULE", "No module named 'nowhere_at_all'"),
        ("json:RULE", "has no attribute 'RULE'"),
        ("unfinished:RULE", "TypeError: Rule.__init__() missing"),
    ],
)
def test_a_rule_of_a_broken_package_is_the_users_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target: str, told: str
) -> None:
    (tmp_path / "unfinished.py").write_text("from stepcredit.credit import Rule\n\nRULE = Rule()\n")
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stepcredit.rules]\nbroken = {target}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert verb(SOLUTIONS, "--compare", "grpo", "--out", tmp_path / "out", *QUICK) == 2
    said = capsys.readouterr().err
    assert f"error: entry point stepcredit.rules: broken = {target}: cannot be loaded (" in said
    assert told in said
    assert "mend or update the package that names it, or uninstall it" in said
    assert "this is a bug" not in said


def test_a_damaged_run_folder_is_no_bug(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text('{"verb": "judge"}')
    assert verb(tmp_path, "--compare", "grpo", "--out", tmp_path / "out") == 3
    said = capsys.readouterr().err
    assert "manifest.json: the manifest is damaged: under input.name it has nothing, no str" in said
    assert "this is a bug" not in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("none.jsonl",), "none.jsonl: there is no such file or folder"),
        ((SOLUTIONS, "--compare", "tp_grp"), "credit rule 'tp_grp' is unknown; did you mean 'tp_grpo'?"),
        ((SOLUTIONS, "--compare", "prl", *QUICK), "no rule can pay these rollouts: prl: no log_ratio"),
        ((SOLUTIONS, "--arm", "grpo"), "--arm is of a run of demo or train"),
        ((SOLUTIONS, "--compare", "grpo", "--continuations", "3", *QUICK), "has no policy that could go on with it"),
        ((SOLUTIONS, "--compare", "grpo", "--values", "none.jsonl", *QUICK), "none.jsonl: no such file"),
        ((SOLUTIONS, "--compare", "grpo", "--set", "grpo.std=many"), "--set grpo: std = 'many' is unknown"),
        ((".", "--compare", "grpo"), "the folder holds neither"),
        ((SOLUTIONS, "--truth", "labels", "--compare", "grpo", *QUICK), "--truth labels: there are none"),
        (
            (SOLUTIONS, "--outcome", "score"),
            "--outcome is of a log of TRL or verl, and this is a JSONL file of solutions",
        ),
        ((SOLUTIONS, "--judge", "none", "--input", SOLUTIONS), "--input is of a run of judge or run"),
        ((SOLUTIONS, "--compare", "prl", "--set", "prl.eta=banana"), "eta of rule prl wants a number, got 'banana'"),
        (
            ("logs/log.jsonl",),
            "which column is the outcome? name it with --outcome (in Python: outcome=...) among brief, right",
        ),
        (
            ("logs/log.jsonl", "--outcome", "right", "--right-above", "nan"),
            "--right-above (in Python: right_above) must be a",
        ),
        (
            ("logs/log.jsonl", "--outcome", "right", "--group-by", "problem"),
            "--group-by is of a run of judge or run or a JSONL",
        ),
        (("logs/log.jsonl", "--group-size", "1"), "Input should be greater than or equal to 2"),
        ((SOLUTIONS, "--continuations", "0"), "Input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_2(
    words: tuple[str | Path, ...],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    write_log(tmp_path / "logs" / "log.jsonl", 1.0, 0.0, brief=1.0)
    assert verb(*words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert told in lines[0]
    assert not (tmp_path / "runs").exists()
