"""Poison: a solution that kills the process, breaks the judge or makes it fail is left out in the end, and told."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from killing import FAULTS
from recorded_cases import RIGHT, call, row, write_rows

from stepcredit.core.errors import JudgeError, PartialError
from stepcredit.core.records import Steps, Verdict
from stepcredit.recipes.recorded import RecordedResult, RecordedSettings, run_recorded
from stepcredit.recipes.recorded import judges as recorded_judges
from stepcredit.recipes.status import run_status
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import read_json
from stepcredit.testing import Fault, Manners, ScriptedJudge, ScriptedServer

ITEMS = 100
STRING = ("checker.mode=string",)

SESSIONS = """
import json, os, signal, sys
from pathlib import Path
from stepcredit import cli
from stepcredit.core.records import Verdict
from stepcredit.recipes.recorded import judges, run
from stepcredit.testing import ScriptedJudge

class Poisoned:
    '''Waits a little, so that many are under way; dies of one solution.'''
    inner = ScriptedJudge(lambda steps: [Verdict(1.0)] * len(steps))
    fingerprint, scale = inner.fingerprint, inner.scale

    async def judge(self, steps):
        import asyncio
        await asyncio.sleep(0.001)
        if "POISON" in steps.rollout.text:
            os.kill(os.getpid(), signal.SIGKILL)
        return await self.inner.judge(steps)

judges._markers = lambda _part: Poisoned()
found = []
for _ in range(6):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            cli.main(sys.argv[1:])
        except SystemExit as end:
            os._exit(end.code or 0)
    found.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    if found[-1] >= 0:
        break
print(json.dumps(found))
"""


def sessions(*words: object) -> list[int]:
    """Exit codes of the command given again and again, until it ends by itself."""
    environment = {**os.environ, "PYTHONPATH": str(FAULTS.parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SESSIONS, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def solutions(path: Path, *poisoned: int) -> Path:
    texts = (RIGHT + f" ({k})" + (" POISON" if k in poisoned else "") for k in range(ITEMS))
    return write_rows(path, *(row(text, name=f"s{k}") for k, text in enumerate(texts)))


def test_a_solution_that_kills_the_process_is_left_out_after_three_deaths(tmp_path: Path) -> None:
    """It dies beside 63 others, which are then not blamed; alone; and alone again."""
    file = solutions(tmp_path / "x.jsonl", 70)
    assert sessions("judge", file, "--out", tmp_path / "run", "--set", "checker.mode=string") == [-9, -9, -9, 5]
    told = read_json(tmp_path / "run", "summary.json")
    assert told["coverage"] == {"asked": ITEMS, "answered": ITEMS - 1, "unknown": 0, "failed": 0, "quarantined": 1}
    assert told["unknown_reasons"] == {"quarantined": 1}
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        reason = "quarantined after 3 deaths or failures: the process died while it was worked on"
        assert list(ledger.items("quarantine")) == [("s70", {"reason": reason, "deaths": 3})]
    found = run_status(tmp_path / "run")
    assert found.state == "partial"
    assert found.why.startswith("1 solutions are in quarantine and were left out; report.html says why")


def test_two_poisons_cost_two_deaths_each_after_the_first(tmp_path: Path) -> None:
    file = solutions(tmp_path / "x.jsonl", 3, 5)
    codes = sessions("judge", file, "--out", tmp_path / "run", "--set", "checker.mode=string")
    assert codes == [-9, -9, -9, -9, -9, 5]
    assert read_json(tmp_path / "run", "summary.json")["coverage"]["quarantined"] == 2


def run(file: Path, out: Path, *more: str) -> RecordedResult:
    return run_recorded(file, RecordedSettings(out, until="judge", overrides=(*STRING, *more)))


def test_a_judge_that_breaks_on_a_solution_goes_on_with_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of a judge, an IndexError say; the fourth session does not try it any more, and a larger limit does."""
    tried: list[str] = []

    def script(steps: Steps) -> Sequence[Verdict]:
        if steps.rollout.id == "s1":
            tried.append("s1")
            return list(steps.texts[len(steps) :][0])
        return [Verdict(1.0)] * len(steps)

    monkeypatch.setattr(recorded_judges, "_markers", lambda _part: ScriptedJudge(script))
    for session in range(3):
        rows = [row(RIGHT, name=f"s{k}") for k in range(3 + session)]
        # A new solution each time: a failure counts where the judge answers for another one.
        file = write_rows(tmp_path / f"{session}.jsonl", *rows)
        with pytest.raises(PartialError, match="the judge failed on 1 solutions"):
            run(file, tmp_path / f"run{session}")
    assert len(tried) == 3
    out = tmp_path / "run"
    file = write_rows(tmp_path / "x.jsonl", *(row(RIGHT, name=f"s{k}") for k in range(4)))
    with pytest.raises(PartialError, match="the judge failed on 1 solutions"):
        run(file, out)
    told = read_json(out, "summary.json")["coverage"]
    assert told == {"asked": 4, "answered": 3, "unknown": 0, "failed": 1, "quarantined": 0}
    with pytest.raises(PartialError, match="the judge failed on 1"):
        run(file, out)
    with Ledger(out / "ledger.sqlite") as ledger:
        reasons = [payload["reason"] for _, payload in ledger.items("death")]
    # The second session judged nothing else, so its failure is not the solution's fault.
    assert reasons == ["the judge broke: IndexError: tuple index out of range"]


def test_failures_count_over_sessions_and_a_gone_server_is_no_solutions_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One in-flight request at a time; `bad` never gets an answer, and each session stops after few others."""
    rows = [row(RIGHT + f" ({k})", name=f"s{k}") for k in range(12)]
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT + " BAD", name="bad"), *rows)
    broken = Fault("status", status=500)
    bad = lambda asked: broken if " BAD" in str(asked.body.get("messages", "")) else None  # noqa: E731
    quick = ("--set", "checker.mode=string", "--set", "server.max_tries=1", "--set", "server.max_in_flight=1")
    with ScriptedServer(reply=lambda _: "\\boxed{-1}", faults=bad, manners=Manners(delay_s=0.001)) as server:
        words = ("judge", file, "--judge", "critic", "--server", server.url, "--model", "scripted", *quick)
        out = ("--out", tmp_path / "run")
        for limit in (6, 11, 16):  # each session: a list of models, a look at the weights, `bad`, and two others
            assert call(*words, *out, "--max-calls", str(limit)) == 4
        assert "bad is left out from now on: quarantined after 3 deaths or failures: bad: the critic's" in (
            capsys.readouterr().err
        )
        before = len(server.asked)
        assert call(*words, *out) == 5
        assert not any(" BAD" in str(asked.body) for asked in server.asked[before:])
        told = read_json(tmp_path / "run", "summary.json")["coverage"]
        assert told == {"asked": 13, "answered": 12, "unknown": 0, "failed": 0, "quarantined": 1}
        assert call(*words, *out, "--set", "limits.deaths=0") == 5
        assert read_json(tmp_path / "run", "summary.json")["coverage"]["failed"] == 1


def test_a_judge_may_still_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what concerns one solution is kept apart."""

    def script(_steps: Steps) -> Sequence[Verdict]:
        raise JudgeError("no idea", item="s0")

    monkeypatch.setattr(recorded_judges, "_markers", lambda _part: ScriptedJudge(script))
    with pytest.raises(PartialError, match=r"no readable reply \(100.0%\), 50 of them: s0: no idea"):
        run(solutions(tmp_path / "x.jsonl"), tmp_path / "run")
