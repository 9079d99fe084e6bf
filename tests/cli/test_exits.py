"""How verbs end: one line on standard error and the exit code of DESIGN.md 6."""

from pathlib import Path

import pytest

from stepcredit import cli
from stepcredit.cli import exits
from stepcredit.core.errors import BudgetError, MachineError, PartialError, StoreError, UsageError


def end_of(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("no such key alfa; did you mean alpha?"), 2, "error: no such key alfa; did you mean alpha?"),
        (UsageError("no `gold`", item="x.jsonl:3"), 2, "error: x.jsonl:3: no `gold`"),
        (MachineError("no torch"), 3, "error: no torch"),
        (StoreError("the disk is full"), 3, "error: the disk is full"),
        (BudgetError("1,000 calls made"), 4, "error: 1,000 calls made"),
        (PartialError("the gate was missed"), 5, "error: the gate was missed"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on where it stopped"),
        (OSError(28, "No space left on device", "r/x"), 3, "error: r/x: No space left on device"),
        (ValueError("two\nlines"), 1, "error: ValueError: two lines"),
    ],
)
def test_every_error_is_one_line_and_a_code(error: BaseException, code: int, line: str) -> None:
    assert exits.explain(error) == (code, line)


def test_a_bug_says_how_to_see_where(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(exits.TRACEBACK, raising=False)
    assert exits.report_error(ValueError("oops")) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: ValueError: oops",
        "this is a bug; STEPCREDIT_TRACEBACK=1 in front of the same command shows where",
    ]
    monkeypatch.setenv(exits.TRACEBACK, "1")
    exits.report_error(ValueError("oops"))
    assert "this is a bug" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("jugde",), 2, "No such command 'jugde'"),
        (("judge",), 2, "Missing argument"),
        (("judge", "x.jsonl", "--judge", "critc"), 2, "'critc' is not one of"),
        (("judge", "x.jsonl", "--judge", "critic"), 2, "give --server URL"),
        (("report", "nowhere"), 2, "nowhere: no such run folder"),
        (("status", "nowhere"), 2, "nowhere: no such run folder"),
        (("recipes", "dmeo"), 2, "no recipe 'dmeo'; these ship: demo"),
        (("demo", "--seeds", "0"), 2, "--seeds"),
    ],
)
def test_misuse_is_one_line_with_the_mend(
    words: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(*words) == code
    said = capsys.readouterr().err
    assert not Path("nowhere").exists()
    assert says in said
    assert len(said.splitlines()) == 1


def test_help_names_every_verb_and_the_words_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of("--help") == 0
    said = capsys.readouterr().out
    for word in ("demo", "judge", "run", "report", "status", "recipes", "doctor", "verifier", "reward model", "trace"):
        assert word in said


def test_no_verb_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of() == 0
    assert "Usage" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of("--version") == 0
    assert capsys.readouterr().out.startswith("stepcredit ")


def test_an_interrupt_in_a_verb_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Typer answers an interrupt by returning 130: the line was lost."""
    from stepcredit.recipes import status

    def stopped(_run: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "run_status", stopped)
    assert end_of("status", str(tmp_path)) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on where it stopped\n"
