"""Ctrl-C once and twice, limits on calls and cost: a run that stops cleanly, says how to go on, and goes on."""

import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from commands import Gate, end_of, heard, ran, running, until, words_of
from process_groups import group_lives
from recorded_cases import RIGHT, call, row, write_rows

from stepcredit.core.errors import DrainedError
from stepcredit.core.protocols import Message
from stepcredit.recipes.recorded import judges as recorded_judges
from stepcredit.recipes.session import read_session
from stepcredit.recipes.status import run_status
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import read_json
from stepcredit.testing import Fault, Manners, ScriptedServer

ITEMS = 24
CRITIC = ("--judge", "critic", "--model", "scripted", "--set", "checker.mode=string", "--set", "server.max_in_flight=4")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "x.jsonl", *(row(f"{RIGHT} ({k})", name=f"s{k}") for k in range(ITEMS)))


def fine(_messages: Sequence[Message]) -> str:
    return "\\boxed{-1}"


def asked_by_item(server: ScriptedServer) -> Counter[str]:
    return Counter(one.body["messages"][0]["content"] for one in server.asked if one.route == "chat/completions")


def chats(server: ScriptedServer) -> int:
    return sum(asked_by_item(server).values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains_and_the_printed_command_goes_on(
    number: signal.Signals, file: Path, tmp_path: Path
) -> None:
    gate = Gate(6)

    def held(messages: Sequence[Message]) -> str:
        gate.pass_()
        return fine(messages)

    with ScriptedServer(reply=held) as server:
        words = ("judge", file.name, *CRITIC, "--server", server.url, "--out", "my run")
        with running(*words, at=tmp_path) as process:
            until(lambda: gate.holds)
            os.kill(process.pid, number)
            heard(process, "stopping: ")
            gate.open()
            code, said, _ = end_of(process)
        assert code == 130
        assert any(line.startswith("stopping: what is under way ends") for line in said)
        assert said[-2] == "interrupted: stopped as asked, with everything saved"
        kept = chats(server)
        assert kept < ITEMS
        found = run_status(tmp_path / "my run")
        assert found.state == "interrupted"
        assert dict(found.coverage)["answered"] == kept  # what was under way was saved
        assert said[-1] == f"go on with: {found.command}"
        code, _, out = ran(*words_of(found.command), at=tmp_path)
        assert code == 0
        assert f"{ITEMS} of {ITEMS} solutions judged" in " ".join(out.split())
        assert set(asked_by_item(server).values()) == {1}


def test_the_second_signal_stops_at_once(file: Path, tmp_path: Path) -> None:
    """The server answers some and then hangs; nobody waits for it."""
    hang = lambda asked: Fault("hang") if asked.number > 8 else None  # noqa: E731
    with ScriptedServer(reply=fine, faults=hang) as server:
        words = ("judge", file.name, *CRITIC, "--server", server.url, "--out", "run")
        with running(*words, at=tmp_path) as process:
            until(lambda: chats(server) >= 10)
            os.kill(process.pid, signal.SIGINT)
            heard(process, "stopping: ")
            os.kill(process.pid, signal.SIGINT)
            code, said, _ = end_of(process)
        assert code == 130
        assert not any(line.startswith("interrupted: stopped as asked") for line in said)  # nor was it waited for
        assert said[-1].startswith("go on with: stepcredit judge x.jsonl")
    assert run_status(tmp_path / "run").state == "interrupted"
    with ScriptedServer(reply=fine) as server:
        again = [*words[: words.index("--server")], "--server", server.url, "--out", "run"]
        code, said, _ = ran(*again, at=tmp_path)
        assert code == 2  # another server is another judge
        assert "made with judge.server" in said[-1]


async def test_work_that_does_not_end_in_time_is_left(tmp_path: Path) -> None:
    from stepcredit.recipes.draining import Drain
    from stepcredit.recipes.recorded.input import read_input
    from stepcredit.recipes.recorded.plan import splitter_of
    from stepcredit.recipes.recorded.rollouts import RolloutMaker
    from stepcredit.recipes.recorded.settings import load_recorded
    from stepcredit.recipes.recorded.walk import Walked, WalkParts, walk_each

    recipe = load_recorded(("checker.mode=string",))
    read = read_input(write_rows(tmp_path / "x.jsonl", row(RIGHT), row(RIGHT)), group_by="problem", skip_bad=False)
    checker, _ = recorded_judges.checker_of(recipe.checker)
    drain = Drain(grace_s=0.2)
    found: list[Walked] = []

    class Hanging:
        fingerprint, scale = "hanging", None

        async def judge(self, _steps: object) -> tuple[()]:
            import asyncio

            drain.ask()
            await asyncio.sleep(600)
            return ()

    from stepcredit.engines.byte_tokenizer import ByteTokenizer

    parts = WalkParts(
        RolloutMaker(ByteTokenizer(), "x"), checker, splitter_of(recipe.steps), Hanging(), ledger=None, source="x"
    )  # type: ignore[arg-type]
    with pytest.raises(DrainedError):
        await walk_each(
            parts, read.items(), grouping=read.grouping, take=lambda _place, item: found.append(item), drain=drain
        )
    assert found == []


def test_max_calls_stops_cleanly_and_the_printed_command_goes_on(file: Path, tmp_path: Path) -> None:
    with ScriptedServer(reply=fine, manners=Manners(delay_s=0.01)) as server:
        words = ["judge", file, *CRITIC, "--server", server.url, "--out", tmp_path / "run", "--max-calls", "10"]
        assert call(*words) == 4
        assert len(server.asked) == 10
        found = run_status(tmp_path / "run")
        assert found.state == "budget"
        assert found.why == "--max-calls 10 is reached; raise it and run the same command to go on"
        coverage = dict(found.coverage)
        assert coverage["answered"] == chats(server) == 8  # the list of models and the look at the weights count too
        assert coverage["asked"] == ITEMS
        assert coverage["answered"] + coverage["not yet"] == ITEMS
        assert not (tmp_path / "run" / "summary.json").exists()
        assert "--max-calls 20" in found.command
        assert call(*words) == 4  # the same limit over all sessions: nothing is asked
        assert len(server.asked) == 10
        assert call(*words_of(found.command)) == 4
        assert call(*words_of(run_status(tmp_path / "run").command)) == 0
        assert set(asked_by_item(server).values()) == {1}
    told = read_json(tmp_path / "run", "summary.json")
    assert told["coverage"] == {"asked": ITEMS, "answered": ITEMS, "unknown": 0, "failed": 0, "quarantined": 0}
    assert run_status(tmp_path / "run").state == "complete"


def test_max_cost_counts_the_tokens_of_all_sessions(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer(reply=fine, manners=Manners(delay_s=0.002)) as server:
        words = ["judge", file, *CRITIC, "--server", server.url, "--out", tmp_path / "run"]
        assert call(*words, "--max-cost", "1") == 2
        assert "--max-cost needs the prices of tokens; add --set server.input_price=P" in capsys.readouterr().err
        assert call(*words, "--max-cost", "0") == 2  # of which twice as much was advised
        assert "--max-cost must be more than 0, got 0" in capsys.readouterr().err
        prices = ("--set", "server.input_price=1000", "--set", "server.output_price=2000")
        assert call(*words, *prices, "--max-cost", "1.5") == 4
        with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
            attempts = list(ledger.attempts())
        costs = [one.cost for one in attempts if one.cost is not None and one.route == "chat/completions"]
        assert sum(costs) >= 1.5
        assert sum(costs[: -4 - 1]) < 1.5  # over the limit only by what was under way
        note = read_session(tmp_path / "run")
        assert note is not None
        assert note.ending == "budget"
        assert "--max-cost 3" in note.next_command
        assert call(*words_of(note.next_command)[:-2], "--max-cost", "1000") == 0
        assert set(asked_by_item(server).values()) == {1}


def test_a_server_that_tells_no_tokens_and_a_limit_on_cost_do_not_go_together(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = b'{"choices": [{"index": 0, "message": {"content": "\\\\boxed{-1}"}, "finish_reason": "stop"}]}'
    silent = lambda asked: Fault("body", body=body) if asked.route == "chat/completions" else None  # noqa: E731
    prices = ("--set", "server.input_price=1", "--set", "server.output_price=2", "--max-cost", "9")
    with ScriptedServer(faults=silent) as server:
        assert call("judge", file, *CRITIC, *prices, "--server", server.url, "--out", tmp_path / "run") == 2
        assert chats(server) <= 8  # those under way
    assert "does not tell token counts, so --max-cost cannot be held; use --max-calls" in capsys.readouterr().err
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        assert ledger.count("judgement") == 0


def test_status_names_the_process_that_runs_and_one_that_died(file: Path, tmp_path: Path) -> None:
    hang = lambda asked: Fault("hang") if asked.number > 6 else None  # noqa: E731
    with ScriptedServer(reply=fine, faults=hang) as server:
        words = ("judge", file.name, *CRITIC, "--server", server.url, "--out", "run")
        with running(*words, at=tmp_path) as process:
            until(lambda: chats(server) >= 6)
            found = run_status(tmp_path / "run")
            assert found.state == "running"
            assert f"pid {process.pid} on host" in found.next_step
            second = ran(*words, at=tmp_path)
            assert second[0] == 3
            assert f"the run folder is in use by pid {process.pid} on host" in second[1][-1]
            process.kill()
            process.wait()
    found = run_status(tmp_path / "run")
    assert found.state == "crashed"
    assert f"pid {process.pid} on host" in found.next_step
    assert found.command.startswith("stepcredit judge x.jsonl --judge critic")


NAMES = ("whole", "run")
SMALL = (
    "gate.accuracy=0",
    "gate.forward_facts=0",
    "gate.caught=0",
    "gate.problems=16",
    "pretrain.updates=12",
    "rounds.rounds=14",
    "rounds.problems=8",
    "measure.problems=16",
    "measure.final_problems=16",
    "measure.pass_problems=8",
)


@pytest.mark.slow
@pytest.mark.learning
def test_a_training_run_drains_goes_on_and_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    """Ctrl-C as a terminal sends it: to the command and its workers. Then a kill -9, then to the end."""
    words = [word for change in SMALL for word in ("--set", change)]
    code, said, _ = ran("train", "--arm", "grpo", *words, "--out", "whole", at=tmp_path)
    assert code == 0, said
    rounds = tmp_path / "run" / "arms" / "grpo-seed0" / "metrics.jsonl"

    def lines() -> int:
        return rounds.read_bytes().count(b"\n") if rounds.exists() else 0

    with running("train", "--arm", "grpo", *words, "--out", "run", at=tmp_path) as process:
        until(lambda: lines() > 6)
        os.killpg(process.pid, signal.SIGINT)
        code, said, _ = end_of(process)
    assert code == 130, said
    found = run_status(tmp_path / "run")
    assert found.state == "interrupted"
    assert said[-1] == f"go on with: {found.command}"
    before = lines()
    with running(*words_of(found.command), at=tmp_path) as process:
        until(lambda: lines() > before + 6)
        process.kill()
        process.wait()
        until(lambda: not group_lives(process.pid))  # the workers end with it
    assert run_status(tmp_path / "run").state == "crashed"
    code, said, _ = ran(*words_of(run_status(tmp_path / "run").command), at=tmp_path)
    assert code == 0, said
    one, two = (read_json(tmp_path / name, "summary.json")["methods"]["grpo"] for name in NAMES)
    assert one["accuracy"] == two["accuracy"]
    final = [learnt(tmp_path / name / "arms" / "grpo-seed0" / "checkpoints" / "learner-0014.bin") for name in NAMES]
    assert final[0] == final[1]


def learnt(checkpoint: Path) -> dict[str, bytes]:
    """Weights bit for bit; the state of torch's own draws is that of the worker, which did other jobs before."""
    from stepcredit.engines.learner.state import unpack_state

    data = checkpoint.read_bytes().split(b"\n", 2)[2]
    return {name: weight.numpy().tobytes() for name, weight in unpack_state(data)["weights"].items()}
