"""`evaluate` under Ctrl-C and kill -9: what was judged is kept, nothing is lost, the end is that of a quiet run."""

import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from commands import Gate, end_of, heard, ran, running, until, words_of
from killing import rows_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes"))
from labelled_cases import critic, solution, write_set

from stepcredit.core.protocols import Message
from stepcredit.recipes.status import run_status
from stepcredit.store.run_folder import read_json
from stepcredit.testing import ScriptedServer

ITEMS, IN_FLIGHT = 40, 4
QUICK = ("--set", f"server.max_in_flight={IN_FLIGHT}", "--set", "metrics.resamples=20", "--model", "scripted")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_set(tmp_path / "x.jsonl", *(solution(f"s{k}", k % 3 - 1) for k in range(ITEMS)))


def asked_by_item(server: ScriptedServer) -> Counter[str]:
    """Requests about each solution, by its id."""
    chats = (one for one in list(server.asked) if one.route == "chat/completions" and one.body["max_tokens"] == 8192)
    return Counter(item_of(one.body["messages"][0]["content"]) for one in chats)


def item_of(prompt: str) -> str:
    found = re.search(r"the problem of (s\d+)", prompt)
    assert found is not None
    return found[1]


class Held:
    """The critic behind a gate that the test sets anew; one at a time is answered, in a moment."""

    def __init__(self) -> None:
        self.gate = Gate(ITEMS * 9)

    def __call__(self, messages: Sequence[Message]) -> str:
        self.gate.pass_()
        return critic(messages)


def test_the_first_signal_drains_and_the_printed_command_goes_on(file: Path, tmp_path: Path) -> None:
    held = Held()
    held.gate = Gate(6)
    with ScriptedServer(reply=held) as server:
        words = ("evaluate", file.name, "--judge", "critic", *QUICK, "--server", server.url, "--out", "run")
        with running(*words, at=tmp_path) as process:
            until(lambda: held.gate.holds)
            os.kill(process.pid, signal.SIGINT)
            heard(process, "stopping: ")
            held.gate.open()
            code, said, _ = end_of(process)
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


def committed(folder: Path) -> frozenset[str]:
    """Solutions whose verdicts stand in the ledger of a run that may be going on."""
    if not (folder / "ledger.sqlite").exists():
        return frozenset()
    return frozenset(key.split(" ")[1].partition("/")[0] for key in rows_of(folder, "judgement") if key[0] == "j")


def test_kill_9_loses_no_verdict_and_the_predictions_are_those_of_a_quiet_run(file: Path, tmp_path: Path) -> None:
    """What was committed is never asked again. The rest is: what was under way, and the ledger's last group."""
    held = Held()
    with ScriptedServer(reply=held) as server:
        words = ("evaluate", file.name, "--judge", "critic", *QUICK, "--server", server.url, "--out")
        assert ran(*words, "quiet", at=tmp_path)[0] == 0
        kept: list[tuple[frozenset[str], Counter[str]]] = []
        for passes in (3, 14):
            held.gate = Gate(passes)
            with running(*words, "run", at=tmp_path) as process:
                until(lambda: held.gate.holds)
                if passes > 3:  # the first may fall before anything is committed
                    until(lambda: committed(tmp_path / "run"))
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            kept.append((committed(tmp_path / "run"), asked_by_item(server)))
            held.gate.open()
        assert ran(*words, "run", at=tmp_path)[0] == 0
        asked = asked_by_item(server)
    for items, then in kept:
        assert {item: asked[item] for item in items} == {item: then[item] for item in items}
    assert len(kept[-1][0]) > 0
    assert len(asked) == ITEMS
    told = [read_json(tmp_path / name, "summary.json") for name in ("quiet", "run")]
    for one in told:
        for wall in ("seconds", "stage_seconds", "calls", "resumed"):
            one.pop(wall)
    assert told[0] == told[1]
    written = [(tmp_path / name / "predictions.jsonl").read_bytes() for name in ("quiet", "run")]
    assert written[0] == written[1]
