"""GenPRM with its code run: the real sandbox between a scripted checkpoint and its verdicts, and what is refused."""

from pathlib import Path

import pytest
from markupsafe import escape
from recorded_cases import RIGHT, WRONG, call, row, write_rows
from writing_cases import genprm_next, model_folder, served

from stepcredit.core.errors import MachineError, UsageError
from stepcredit.core.protocols import Writing
from stepcredit.recipes.recorded.code_running import UNSAFE, SandboxPart, opened_runner
from stepcredit.recipes.report_run import saved_views
from stepcredit.sandbox.battery import ALL
from stepcredit.sandbox.battery.start import START
from stepcredit.store.run_folder import read_json

UNSAFE_WORDS = ("--sandbox", "rlimit", "--i-accept-unsafe-exec")
OFF = ("--set", "sandbox.battery=false")


def engine() -> str:
    """The first safe engine that runs here; skips where there is none."""
    for name in ("bwrap", "wasm"):
        try:
            with opened_runner(SandboxPart(engine=name)):
                return name
        except MachineError as error:
            said = str(error)
    pytest.skip(f"no sandbox runs here: {said}")


def writes_code(prompt: str, writing: Writing) -> str:
    """An analysis, a block that prints 6 * 7, and once its output was shown, the end."""
    if "</analyze>\n" in writing.stop:
        return "I look at it.\n</analyze>\n"
    last = prompt.rpartition("<｜User｜>")[2]
    if "[Code Output]" in last:
        return "So it printed.\n</verify>\n"
    return "print(6 * 7)\n```\n"


def test_the_code_is_run_and_its_real_output_is_what_the_model_reads(tmp_path: Path) -> None:
    model, name = model_folder(tmp_path / "model"), engine()
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT, name="a"), row(WRONG, name="b"))
    read: list[str] = []

    def reply(prompt: str, writing: Writing) -> str:
        read.append(prompt)
        return writes_code(prompt, writing)

    with served(model, "genprm", reply=reply, following=genprm_next) as server:
        words = ("--judge", "genprm", "--server", server.url, "--tokenizer", model, "--set", "checker.mode=string")
        assert call("judge", file, "--out", tmp_path / "run", *words, "--sandbox", name) == 0
    assert any("[Code Output]\n\n```\n42\n```" in text for text in read)
    told = read_json(tmp_path / "run", "summary.json")
    assert (told["judged"], told["settings"]["mode"], told["settings"]["sandbox"]) == (2, "full", name)
    assert told["signatures"]["code_ok"] == 8
    scores = [step.score for view in saved_views(tmp_path / "run").solutions for step in view.steps]
    assert len(scores) == 8
    assert None not in scores


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--judge", "markers", "--sandbox", "auto"), "judge markers runs no code; leave --sandbox out"),
        (("--judge", "genprm", "--set", "genprm.mode=full"), "runs code, and the sandbox is off; give --sandbox auto"),
        (("--judge", "genprm", "--sandbox", "auto", "--i-accept-unsafe-exec"), "is for --sandbox rlimit, not auto"),
        (("--judge", "genprm", "--sandbox", "rlimit"), "--i-accept-unsafe-exec"),
    ],
)
def test_what_is_refused_before_a_server_is_asked(
    words: tuple[str, ...], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_folder(tmp_path / "model")
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    with served(model, "genprm") as server:
        more = () if "markers" in words else ("--server", server.url, "--tokenizer", model, "--model", "scripted")
        assert call("judge", file, "--out", tmp_path / "run", *words, *more) == 2
        assert not server.asked
    assert line in " ".join(capsys.readouterr().err.split())


def test_a_sandbox_without_consent_is_not_opened() -> None:
    with pytest.raises(UsageError, match="accept_unsafe_exec"), opened_runner(SandboxPart(engine="rlimit")):
        pass


def test_a_sandbox_that_holds_is_tried_before_the_run_and_the_trial_is_kept(tmp_path: Path) -> None:
    model, name = model_folder(tmp_path / "model"), engine()
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    with served(model, "genprm", reply=writes_code, following=genprm_next) as server:
        words = ("--judge", "genprm", "--server", server.url, "--tokenizer", model, "--set", "checker.mode=string")
        assert call("judge", file, "--out", tmp_path / "run", *words, "--sandbox", name) == 0
        assert call("judge", file, "--out", tmp_path / "other", *words, "--sandbox", name, *OFF) == 0
    tried = read_json(tmp_path / "run", "sandbox.json")
    assert tried[name]["arithmetic"] == "ended"
    assert len(tried[name]) == len(START[name])
    assert read_json(tmp_path / "other", "sandbox.json") is None


def test_a_sandbox_that_does_not_hold_ends_the_run_before_a_server_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine that confines nothing, held to what a safe one promises: the file is read in earnest."""
    monkeypatch.setitem(START, "rlimit", tuple(one.number for one in ALL if one.name == "read secrets on disk"))
    model = model_folder(tmp_path / "model")
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    with served(model, "genprm", reply=writes_code, following=genprm_next) as server:
        words = ("--judge", "genprm", "--server", server.url, "--model", "scripted", "--tokenizer", model)
        assert call("judge", file, "--out", tmp_path / "run", *words, *UNSAFE_WORDS) == 3
        assert not server.asked
    said = " ".join(capsys.readouterr().err.split())
    assert "sandbox rlimit does not hold here, so no model's code is run (read secrets on disk: it got" in said
    assert "--set sandbox.battery=false" in said
    assert not (tmp_path / "run").exists()


def test_an_unsafe_sandbox_is_said_at_the_start_and_stands_red_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_folder(tmp_path / "model")
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    with served(model, "genprm", reply=writes_code, following=genprm_next) as server:
        words = ("--judge", "genprm", "--server", server.url, "--tokenizer", model, "--set", "checker.mode=string")
        assert call("judge", file, "--out", tmp_path / "run", *words, *UNSAFE_WORDS) == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"WARNING: {UNSAFE}")
    assert UNSAFE in " ".join(said.out.split())
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert f'<p class="badge" role="alert">{escape(UNSAFE)}</p>' in page
    assert [*read_json(tmp_path / "run", "sandbox.json")] == ["rlimit"]


def test_a_safe_run_has_no_badge(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    assert call("judge", file, "--out", tmp_path / "run", "--set", "checker.mode=string") == 0
    assert 'class="badge"' not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
