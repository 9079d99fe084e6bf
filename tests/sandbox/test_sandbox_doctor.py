"""`stepcredit doctor` on the sandbox: eight hostile and four benign programs in each engine that runs here."""

import pytest

from stepcredit import cli
from stepcredit.recipes import doctor
from stepcredit.recipes.doctor import examine_sandbox, trials_table
from stepcredit.sandbox import ENGINES, Limits, SandboxSettings
from stepcredit.sandbox.battery import SHORT


def test_every_engine_that_runs_here_holds(reasons: dict[str, str]) -> None:
    findings, trials = examine_sandbox(build=False)
    found = {finding.what: finding for finding in findings}
    there = [name for name, reason in reasons.items() if not reason]
    assert {name: found[f"sandbox {name}"].detail for name in there if found[f"sandbox {name}"].health != "ok"} == {}
    assert [found[f"sandbox {name}"].health for name in reasons if reasons[name]] == ["absent"] * (2 - len(there))
    assert [trial.program.name for trial in trials] == [program.name for program in SHORT] * len(there)
    if there:
        table = trials_table(trials)
        assert table.columns == ("program", *there)
        assert len(table.rows) == 12


def test_what_is_not_there_is_absent_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepcredit.sandbox.bwrap.shutil.which", lambda _: None)
    monkeypatch.setattr("stepcredit.recipes.doctor.component_path", lambda: doctor.Path("not there"))
    findings, trials = examine_sandbox(build=False)
    assert trials == ()
    assert [(one.health, one.mend) for one in findings] == [("absent", "stepcredit doctor --build"), ("absent", "")]
    assert "apt-get install bubblewrap" in findings[1].detail


def test_an_engine_that_leaks_is_bad_and_the_verb_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The unsafe engine in a safe one's place, with one program that it cannot hold and that hurts nobody."""
    leaky = ENGINES["rlimit"](SandboxSettings(limits=Limits(wall_s=10), accept_unsafe_exec=True))
    monkeypatch.setattr(doctor, "SAFE", ("bwrap",))
    monkeypatch.setattr(doctor, "ENGINES", {"bwrap": lambda _: leaky})
    monkeypatch.setattr(doctor, "SHORT", tuple(one for one in SHORT if one.name == "read secrets on disk"))
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor"])
    assert end.value.code == 3
    said = capsys.readouterr()
    assert "sandbox bwrap" in said.err
    assert "it got what it wanted" in " ".join(said.out.split())
