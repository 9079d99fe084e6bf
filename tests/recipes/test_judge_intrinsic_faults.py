"""What goes wrong under `--judge intrinsic`: unreadable replies, broken servers, limits, settings that do not go."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from intrinsic_cases import PLAIN, STRING, judged, labels, reads_like_markers, task_of, tasks_asked
from recorded_cases import RIGHT, WRONG, Heard, byte_level, call, row, write_rows

from stepcredit.core.errors import BudgetError, PartialError, UsageError
from stepcredit.core.protocols import Message
from stepcredit.recipes.judge_file import judge_file
from stepcredit.recipes.recorded import RecordedSettings, run_recorded
from stepcredit.recipes.recorded.reading import READING
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import read_json
from stepcredit.testing import Asked, Fault, Manners, ScriptedServer


def test_a_limit_on_calls_stops_softly_and_the_rest_is_asked_by_the_next_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(RIGHT.replace("apples", f"apples{k}"), name=str(k)) for k in range(5)]
    file = write_rows(tmp_path / "x.jsonl", *rows)
    with ScriptedServer(reply=reads_like_markers) as server:
        words = ("--judge", "intrinsic", "--server", server.url, "--model", "scripted", "--set", "checker.mode=string")
        assert call("judge", file, "--out", tmp_path / "run", *words, "--max-calls", "9") == 4
        assert "go on with: stepcredit judge" in capsys.readouterr().err
        assert call("judge", file, "--out", tmp_path / "run", *words, "--max-calls", "90") == 0
        chats = [json.dumps(asked.body) for asked in server.asked if asked.route == "chat/completions"]
    told = read_json(tmp_path / "run", "summary.json") or {}
    assert (told["judged"], told["unknown"]) == (5, 0)
    proposals = [body for body in chats if "Group the paragraphs" in body]
    assert len(proposals) == len(set(proposals)) == 5  # none is asked twice


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda text: f"```json\n{text}\n```", "in a code fence"),
        (lambda text: text + "<|im_end|>", "chat tokens"),
        (lambda text: f"Of course. {text}", "text around the JSON"),
        (lambda text: text[: len(text) // 2], "not JSON"),
        (lambda _: '{"matches": [{"step": 77, "verdict": "no"}]}', "unknown index"),
        (lambda text: text + " and so on" * 9000, "cut by length"),
    ],
)
def test_replies_that_cannot_be_read_are_counted_by_name_and_kept(tmp_path: Path, spoil: Any, reason: str) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(WRONG))
    with ScriptedServer(reply=lambda messages: spoil(reads_like_markers(messages))) as server:
        result = judged(file, tmp_path / "run", server)
        assert tasks_asked(server) == ["P4"] * 3
    assert not any(verdict.known for verdict in result.judgements[0].verdicts)
    assert result.judgements[0].verdicts[0].reason.startswith(f"P4 unreadable after 3 replies: {reason}")
    (task,) = result.summary["reading"]["tasks"].values()
    assert (task["asked"], task["failed"], task["rejects"], task["parse_rate"]) == (1, 1, {reason: 3}, 0.0)
    assert result.summary["reading"]["solutions"] == {"failed": 1}
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        ((_, kept),) = ledger.items(READING)
    assert [reply["reason"] for reply in kept["rejected"]] == [reason] * 3
    assert all(reply["raw"] and reply["call"] for reply in kept["rejected"])


def test_a_reply_that_is_mended_after_a_retry_is_counted_so(tmp_path: Path) -> None:
    def reply(messages: Sequence[Message]) -> str:
        good = reads_like_markers(messages)
        return good if "rejected" in messages[0].content else f"```\n{good}\n```"

    file = write_rows(tmp_path / "x.jsonl", row(WRONG))
    with ScriptedServer(reply=reply) as server:
        result = judged(file, tmp_path / "run", server)
        opened = judged(file, tmp_path / "opened", server, *PLAIN, "judge.fences=open")
    (task,) = result.summary["reading"]["tasks"].values()
    assert (task["after_retry"], task["calls"], task["parse_rate"]) == (1, 2, 1.0)
    (task,) = opened.summary["reading"]["tasks"].values()
    assert (task["first_try"], task["calls"]) == (1, 1)
    assert labels(result) == labels(opened)


def test_steps_that_cannot_be_proposed_leave_the_solution_unknown_and_are_not_asked_again(tmp_path: Path) -> None:
    def reply(messages: Sequence[Message]) -> str:
        bad = task_of(messages[0].content) == "P0" and "leaves" in messages[0].content
        return '{"steps": [[0, 7]]}' if bad else reads_like_markers(messages)

    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    limits = ("limits.unknown_from=50",)
    with ScriptedServer(reply=reply) as server:
        result = judged(file, tmp_path / "run", server, *STRING, *limits)
        asked = len(server.asked)
        again = judged(file, tmp_path / "run", server, *STRING, *limits)
        assert len(server.asked) == asked
    for found in (result, again):
        right, wrong = found.judgements
        assert right.steps.unit == wrong.steps.unit == "proposed"
        assert any(verdict.known for verdict in right.verdicts)
        assert wrong.verdicts[0].reason.startswith("P0 unreadable after 3 replies: not a tiling")
        assert len(wrong.verdicts[0].calls) == 3
    assert result.summary["reading"]["tasks"]["P0 (wrong)"]["rejects"] == {"not a tiling": 3}


def test_a_broken_server_fails_solutions_and_the_same_command_asks_again(tmp_path: Path) -> None:
    broken = True

    def faults(asked: Asked) -> Fault | None:
        hit = broken and asked.route == "chat/completions" and "leaves" in json.dumps(asked.body)
        return Fault("status", status=500, body=b"{}") if hit else None

    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    quick = (*STRING, "server.max_tries=1")
    with ScriptedServer(reply=reads_like_markers, faults=faults) as server:
        with pytest.raises(PartialError, match="the judge failed on 1 solutions"):
            judged(file, tmp_path / "run", server, *quick)
        told = read_json(tmp_path / "run", "summary.json") or {}
        assert told["coverage"]["failed"] == 1
        assert told["reading"]["tasks"]["P0 (wrong)"]["broken"] == 1
        broken = False
        result = judged(file, tmp_path / "run", server, *quick)
    assert result.summary["judged"] == 2


def test_a_solution_in_quarantine_is_left_out_in_the_unit_of_the_others(tmp_path: Path) -> None:
    """A failure counts in sessions in which another solution is answered: in each of the first two there is one."""
    session = 0

    def faults(asked: Asked) -> Fault | None:
        said = json.dumps(asked.body)
        hit = asked.route == "chat/completions" and ("leaves" in said or (session == 0 and "bag" in said))
        return Fault("status", status=500, body=b"{}") if hit else None

    words = [*STRING, "server.max_tries=1", "limits.deaths=2"]
    with ScriptedServer(reply=reads_like_markers, faults=faults) as server:
        for session in range(3):
            rows = [row(RIGHT), row(WRONG, name="poison")]
            file = write_rows(tmp_path / "x.jsonl", *rows, row(RIGHT.replace("box", "bag"), name="other"))
            settings = RecordedSettings(
                tmp_path / "run",
                "intrinsic",
                credit="grpo",
                group_by="problem",
                tokenizer=byte_level(tmp_path / "tokenizer"),
                server=server.url,
                model="scripted",
                overrides=(*words, "judge.seed=1"),
            )
            with pytest.raises(PartialError, match=("failed on 2", "failed on 1", "in quarantine")[session]):
                run_recorded(file, settings)
            with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
                asked = ledger.count("proposal")
    assert asked == 2


def test_tasks_that_can_too_seldom_be_read_are_said(tmp_path: Path) -> None:
    file, heard = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG)), Heard()

    def reply(messages: Sequence[Message]) -> str:
        good = reads_like_markers(messages)
        return f"```{good}```" if task_of(messages[0].content) == "P4" else good

    with ScriptedServer(reply=reply) as server:
        judged(file, tmp_path / "run", server, progress=heard)
    warned = [line for line in heard.lines if "could be read" in line]
    assert warned == ["warning: 0 of 1 tasks P4 (wrong) could be read; 3 replies: in a code fence"]


def test_a_solution_that_does_not_fit_the_context_is_unknown_and_ends_no_other(tmp_path: Path) -> None:
    long = WRONG.replace("colour of the leaves matters", "leaves " + "and more leaves " * 3000)
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(long))
    manners = Manners(context=8000)
    with ScriptedServer(reply=reads_like_markers, manners=manners) as server:
        result = judged(file, tmp_path / "run", server, *PLAIN, "judge.max_tokens=500")
    assert result.summary["judged"] == 1
    (reason,) = result.summary["unknown_reasons"]
    assert reason.startswith("P4 unreadable after 1 replies: longer than the model's context")


def test_votes_need_a_temperature(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(WRONG))
    with ScriptedServer(reply=reads_like_markers) as server:
        with pytest.raises(UsageError, match=r"judge\.votes at temperature 0 would ask the same again"):
            judged(file, tmp_path / "run", server, *PLAIN, "judge.votes=3")
        assert server.asked == []
        judged(file, tmp_path / "run", server, *PLAIN, "judge.votes=3", "judge.temperature=0.7")
        assert tasks_asked(server) == ["P4"] * 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "judge intrinsic asks a model; give --server URL"),
        (("--server", "nowhere"), "the server's address must be a URL"),
        (("--set", "judge.split_prompt=sideways", "--server", "http://127.0.0.1:9"), "split_prompt"),
        (("--set", "judge.tracing=back", "--server", "http://127.0.0.1:9"), "judge.tracing"),
        (("--server", "http://127.0.0.1:9", "--model", "m"), "is the server running?"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(WRONG))
    quick = ("--set", "checker.mode=string", "--set", "server.max_tries=1")
    code = call("judge", file, "--judge", "intrinsic", "--out", tmp_path / "run", *words, *quick)
    assert code in (2, 3)
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_settings_of_the_intrinsic_judge_are_none_of_the_others(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(WRONG))
    with pytest.raises(UsageError, match=r"judge\.votes is no setting of markers"):
        judge_file(file, out=tmp_path / "run", overrides=("judge.votes=3",))
    with pytest.raises(UsageError, match=r"judge\.decompose is no setting of critic"):
        judge_file(
            file, out=tmp_path / "run", judge="critic", server="http://127.0.0.1:9", overrides=("judge.decompose=true",)
        )


def test_a_budget_that_ends_inside_a_solution_loses_no_other(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", *(row(RIGHT.replace("box", f"box{k}"), name=str(k)) for k in range(3)))
    with ScriptedServer(reply=reads_like_markers) as server:
        settings = RecordedSettings(
            tmp_path / "run",
            "intrinsic",
            until="judge",
            server=server.url,
            model="scripted",
            overrides=PLAIN,
            max_calls=6,
        )
        with pytest.raises(BudgetError):
            run_recorded(file, settings, verb="judge")
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        assert ledger.attempt_totals().attempts == 6
        kept = sum(payload["solutions"].get("judged", 0) for _, payload in ledger.items(READING))
        assert ledger.count("judgement") == kept
