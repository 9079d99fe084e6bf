"""`evaluate` under Ctrl-C and kill -9: what was judged is kept, nothing is lost, the end is that of a quiet run."""

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from commands import end_of, ran, running, until, words_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes"))
from labelled_cases import critic, solution, write_set

from stepcredit.recipes.status import run_status
from stepcredit.store.run_folder import read_json
from stepcredit.testing import Manners, ScriptedServer

ITEMS, IN_FLIGHT = 40, 4
GROUP_S = 0.1
"""Age at which the ledger commits what it holds: the answers of this last moment are asked again after kill -9."""

QUICK = ("--set", f"server.max_in_flight={IN_FLIGHT}", "--set", "metrics.resamples=20", "--model", "scripted")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_set(tmp_path / "x.jsonl", *(solution(f"s{k}", k % 3 - 1) for k in range(ITEMS)))


def asked_by_item(server: ScriptedServer) -> Counter[str]:
    chats = (one for one in list(server.asked) if one.route == "chat/completions" and one.body["max_tokens"] == 8192)
    return Counter(one.body["messages"][0]["content"] for one in chats)


def test_the_first_signal_drains_and_the_printed_command_goes_on(file: Path, tmp_path: Path) -> None:
    with ScriptedServer(reply=critic, manners=Manners(delay_s=0.2)) as server:
        words = ("evaluate", file.name, "--judge", "critic", *QUICK, "--server", server.url, "--out", "run")
        with running(*words, at=tmp_path) as process:
            until(lambda: asked_by_item(server).total() >= 6)
            os.kill(process.pid, signal.SIGINT)
            began = time.monotonic()
            code, said, _ = end_of(process)
        assert time.monotonic() - began < 10
        assert code == 130
        kept = asked_by_item(server).total()
        assert kept < ITEMS
        found = run_status(tmp_path / "run")
        assert found.state == "interrupted"
        assert dict(found.coverage)["answered"] == kept
        assert said[-1] == f"go on with: {found.command}"
        code, _, _ = ran(*words_of(found.command), at=tmp_path)
        assert code == 0
        assert set(asked_by_item(server).values()) == {1}
    assert read_json(tmp_path / "run", "summary.json")["score"]["value"] == 1.0


def test_kill_9_loses_no_verdict_and_the_predictions_are_those_of_a_quiet_run(file: Path, tmp_path: Path) -> None:
    with ScriptedServer(reply=critic, manners=Manners(delay_s=3 * GROUP_S)) as server:
        words = ("evaluate", file.name, "--judge", "critic", *QUICK, "--server", server.url, "--out")
        assert ran(*words, "quiet", at=tmp_path)[0] == 0
        once = asked_by_item(server).total()
        kills = 0
        for number in (3, 18):
            with running(*words, "run", at=tmp_path) as process:
                until(
                    lambda number=number: asked_by_item(server).total() - once >= number or process.poll() is not None
                )
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    kills += 1
                process.wait()
        assert kills == 2
        assert ran(*words, "run", at=tmp_path)[0] == 0
        # A kill costs what is in flight and what the ledger's last group held: at this delay no more than one each.
        assert asked_by_item(server).total() - once <= ITEMS + kills * 2 * IN_FLIGHT
    told = [read_json(tmp_path / name, "summary.json") for name in ("quiet", "run")]
    for one in told:
        for wall in ("seconds", "stage_seconds", "calls", "resumed"):
            one.pop(wall)
    assert told[0] == told[1]
    written = [(tmp_path / name / "predictions.jsonl").read_bytes() for name in ("quiet", "run")]
    assert written[0] == written[1]
