"""`stepcredit credit`: tables, page and JSON of rollouts that are there; one clear line for what cannot be used."""

import json
from pathlib import Path

import pytest

from stepcredit import cli

SOLUTIONS = Path(__file__).resolve().parents[2] / "examples" / "solutions.jsonl"
QUICK = ("--set", "checker.mode=string")


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
    assert verb(*words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert told in lines[0]
    assert not (tmp_path / "runs").exists()
