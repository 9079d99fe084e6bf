"""Kill -9 at random moments of `judge FILE` and `run --input`: the same verdicts, credit and files at the end."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from killing import KILLS, Killed, files_of, in_a_zygote, rows_of, show
from recorded_cases import RIGHT, WRONG, byte_level, row, write_rows

from stepcredit.core.protocols import Message
from stepcredit.store.run_folder import read_json
from stepcredit.testing import Manners, ScriptedServer

FIFTY = pytest.param(50, marks=pytest.mark.slow)
ITEMS, IN_FLIGHT = 240, 8
MANY_DEATHS = ("--set", "limits.deaths=1000")
"""Fifty kills can hit one solution three times while it is worked on alone, on a busy machine most of all. That is how
a solution that kills its process looks; tests/faults/test_quarantine.py has those."""

WALL = {"seconds", "stage_seconds", "calls", "resumed"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Solutions that all differ, right and wrong ones, some without text."""
    rows = [row((RIGHT if k % 2 else WRONG) + f" ({k})" if k % 17 else "", name=f"s{k}") for k in range(ITEMS)]
    return write_rows(tmp_path_factory.mktemp("input") / "x.jsonl", *rows)


def critic(messages: Sequence[Message]) -> str:
    """A critic whose reply depends on the solution; one in thirteen cannot be read."""
    text = messages[-1].content
    number = int(text.rpartition("(")[2].partition(")")[0])
    return f"I see {number}. " + (f"\\boxed{{{number % 5 - 1}}}" if number % 13 else "Hm.")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(reply=critic, manners=Manners(delay_s=0.003)) as found:
        yield found


def contents(folder: Path) -> dict[str, object]:
    """All that a walk leaves, but for wall times and what the calls cost."""
    summary = {name: value for name, value in read_json(folder, "summary.json").items() if name not in WALL}
    rows = rows_of(folder, "outcome", "judgement", "credit", "quarantine")
    return {**rows, "summary": summary} | files_of(folder, "shards/*", "report.zst", "manifest.json")


def check(told: Killed, kills: int, whole: Path) -> None:
    assert told.failures == []
    assert told.kills["walk"] >= kills
    want = contents(whole)
    for run in told.runs:
        found = contents(Path(run))
        assert sorted(found) == sorted(want)
        assert found == want
        assert list(Path(run).rglob("*.part")) == []
        assert not (Path(run) / "under-way").exists()


@pytest.mark.parametrize("kills", [KILLS, FIFTY])
def test_judge_with_a_server(kills: int, file: Path, server: ScriptedServer, tmp_path: Path) -> None:
    few = (
        "--set",
        f"server.max_in_flight={IN_FLIGHT}",
        "--set",
        "checker.mode=string",
        "--set",
        "limits.stop_unknown=1",
        *MANY_DEATHS,
    )
    words = ["judge", str(file), "--judge", "critic", "--server", server.url, "--model", "scripted", *few]
    whole = in_a_zygote("walk", tmp_path / "w", stages={"walk": (9, 9)}, kills=0, words=words)["walk"]
    assert whole.failures == []
    asked = sum(one.route == "chat/completions" for one in server.asked)
    assert asked == len({one.body["messages"][0]["content"] for one in server.asked if one.route == "chat/completions"})
    told = in_a_zygote("walk", tmp_path, stages={"walk": (0.05, 0.35)}, kills=kills, words=words)["walk"]
    check(told, kills, Path(whole.runs[0]))
    calls = Counter(one.body["messages"][0]["content"] for one in server.asked if one.route == "chat/completions")
    repeated = sum(calls.values()) - asked * (1 + len(told.runs))
    show(f"judge: {sum(told.kills.values())} kills, {len(told.runs)} runs, {repeated} calls repeated")
    # Those under way, and answers of the last tenth of a second, which were not committed yet.
    assert 0 <= repeated <= (IN_FLIGHT + 64) * sum(told.kills.values())


@pytest.mark.parametrize("kills", [KILLS, FIFTY])
def test_run_to_exported_credit(kills: int, file: Path, tmp_path: Path) -> None:
    tokenizer = byte_level(tmp_path / "tokenizer")
    words = ["run", "--input", str(file), "--tokenizer", str(tokenizer), "--set", "checker.mode=string"]
    words += MANY_DEATHS
    whole = in_a_zygote("walk", tmp_path / "w", stages={"walk": (9, 9)}, kills=0, words=words)["walk"]
    told = in_a_zygote("walk", tmp_path, stages={"walk": (0.02, 0.5)}, kills=kills, words=words)["walk"]
    assert whole.failures == []
    check(told, kills, Path(whole.runs[0]))
    show(f"run to credit: {sum(told.kills.values())} kills, {len(told.runs)} runs")
    assert len(list((Path(told.runs[-1]) / "shards").iterdir())) == 1
