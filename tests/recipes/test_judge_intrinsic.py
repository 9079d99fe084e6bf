"""`stepcredit judge FILE --judge intrinsic`: the reading tasks asked of a chat server, over a resumable folder."""

import asyncio
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from intrinsic_cases import PLAIN, STRING, judged, labels, reads_like_markers, task_of, tasks_asked
from recorded_cases import OPEN, RIGHT, WRONG, byte_level, call, row, write_rows

import stepcredit
from stepcredit.core.errors import UsageError
from stepcredit.core.records import Label
from stepcredit.judges.intrinsic.judge import IntrinsicSettings
from stepcredit.judges.intrinsic.server import ServerReader, ServerReaderSettings
from stepcredit.recipes.judge_file import judge_file
from stepcredit.recipes.recorded import RecordedSettings, run_recorded
from stepcredit.recipes.recorded.reading import ReadingJudge, ReadingLog, RequestFields
from stepcredit.recipes.report_run import saved_views
from stepcredit.store.run_folder import read_json, read_manifest
from stepcredit.testing import Manners, ScriptedChat, ScriptedServer

OTHER_ASKS: dict[str, Any] = {"merged": False, "retries": 1, "include_reflection": True, "votes": 3}
OTHER_READS: dict[str, Any] = {
    "max_tokens": 9,
    "temperature": 0.5,
    "retry_temperature": 0.1,
    "seed": 1,
    "split_prompt": "finest",
    "trace_prompt": "quote-first",
    "structured": "on",
    "thinking": "off",
    "fences": "open",
}


def test_a_model_that_reads_like_the_markers_gives_the_labels_of_the_markers(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG), row(OPEN, answer="20"), row(WRONG, answer=None))
    with ScriptedServer(reply=reads_like_markers) as server:
        result = judged(file, tmp_path / "run", server)
        assert set(tasks_asked(server)) == {"P1", "P23", "P4"}
    assert labels(result) == labels(judge_file(file, out=tmp_path / "markers", overrides=STRING))
    assert Label.INCORRECT in labels(result)[0]
    read = result.summary["reading"]
    assert set(read["tasks"]) == {"P1 (right)", "P23 (right)", "P4 (wrong)"}
    assert all(task["parse_rate"] == 1.0 and task["input_tokens"] > 0 for task in read["tasks"].values())
    assert read["solutions"] == {"judged": 3, "unscorable": 1}
    tables = {table.title for table in saved_views(tmp_path / "run").tables}
    assert "reading tasks" in tables


def test_steps_are_those_that_the_judge_proposes(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG), row(RIGHT, steps=RIGHT.split("\n\n")))
    with ScriptedServer(reply=reads_like_markers) as server:
        result = judged(file, tmp_path / "run", server, *STRING)
        assert tasks_asked(server).count("P0") == 2
    assert [judgement.steps.unit for judgement in result.judgements] == ["proposed"] * 3
    assert [len(judgement.steps) for judgement in result.judgements] == [2, 2, 4]
    assert "".join(result.judgements[0].steps.texts) == RIGHT


def test_a_second_call_asks_the_server_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    with ScriptedServer(reply=reads_like_markers) as server:
        words = ("--judge", "intrinsic", "--server", server.url, "--model", "scripted", "--set", "checker.mode=string")
        assert call("judge", file, "--out", tmp_path / "run", *words) == 0
        asked, told = len(server.asked), read_json(tmp_path / "run", "summary.json") or {}
        assert call("judge", file, "--out", tmp_path / "run", *words) == 0
        assert len(server.asked) == asked
    again = read_json(tmp_path / "run", "summary.json") or {}
    assert again["reading"] == told["reading"]
    assert again["resumed"] == 2


def test_proposed_steps_are_credited_beside_those_that_are_left_out_or_given(tmp_path: Path) -> None:
    rows = [row(RIGHT, model="m"), row(WRONG, model="m"), row(RIGHT, steps=RIGHT.split("\n\n"), model="m")]
    file = write_rows(tmp_path / "x.jsonl", *rows, row("", model="m"))
    folder = byte_level(tmp_path / "tokenizer")
    with ScriptedServer(reply=reads_like_markers) as server:
        for rule in ("tp_grpo", "grpo"):
            settings = RecordedSettings(
                tmp_path / "run",
                "intrinsic",
                credit=rule,
                tokenizer=folder,
                server=server.url,
                model="scripted",
                overrides=STRING,
            )
            result = run_recorded(file, settings)
            assert result.credited is not None
            assert result.credited.summary.groups == 1


def test_a_schema_goes_with_each_request_and_is_left_out_where_it_is_refused(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    with ScriptedServer(reply=reads_like_markers) as server:
        judged(file, tmp_path / "takes", server)
        bodies = [asked.body for asked in server.asked if asked.route == "chat/completions"]
        for body in bodies:
            assert body["response_format"]["json_schema"]["name"] == task_of(body["messages"][0]["content"])
    refuses = Manners(refuses=frozenset({"response_format"}))
    with ScriptedServer(reply=reads_like_markers, manners=refuses) as server:
        result = judged(file, tmp_path / "refuses", server)
        assert result.summary["judged"] == 2
        assert result.summary["calls"]["errors"].keys() == {"http_422", "http_404"}  # 404: it cannot score
        words = ("--judge", "intrinsic", "--server", server.url, "--model", "scripted", "--set", "judge.structured=on")
        assert call("judge", file, "--out", tmp_path / "held", *words, "--set", "checker.mode=string") == 2


def test_thinking_is_switched_off_for_matching_and_on_for_tracing(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    with ScriptedServer(reply=reads_like_markers) as server:
        judged(file, tmp_path / "run", server, *PLAIN, "judge.thinking=trace", "judge.structured=off")
        flags = {
            task_of(asked.body["messages"][0]["content"]): asked.body["chat_template_kwargs"]["enable_thinking"]
            for asked in server.asked
            if asked.route == "chat/completions"
        }
        assert not any("response_format" in asked.body for asked in server.asked)
    assert flags == {"P1": False, "P23": True, "P4": False}


def test_fields_of_requests_side_by_side_do_not_mix() -> None:
    further = RequestFields()

    async def one(k: int) -> bool:
        with further.set({"k": k}):
            await asyncio.sleep(0.001 * (k % 3))
            return dict(further) == {"k": k}

    async def go() -> list[bool]:
        return await asyncio.gather(*(one(k) for k in range(30)))

    assert all(asyncio.run(go()))
    seen: list[int] = []
    with further.set({"k": 1}):
        thread = threading.Thread(target=lambda: seen.append(len(further)))
        thread.start()
        thread.join()
    assert seen == [0]


def test_every_setting_is_part_of_the_run(tmp_path: Path) -> None:
    """Another setting is another judge: the folder is refused, and nothing is asked."""
    file = write_rows(tmp_path / "x.jsonl", row(WRONG))
    changes = ["split_prompt=turns", "trace_prompt=forward", "retry_temperature=0.1", "seed=3", "thinking=on"]
    changes += ["max_tokens=99", "structured=off", "fences=open", "merged=false", "retries=0", "decompose=false"]
    with ScriptedServer(reply=reads_like_markers) as server:
        judged(file, tmp_path / "run", server, *STRING)
        asked = len(server.asked)
        for change in changes:
            with pytest.raises(UsageError, match=change.partition("=")[0]):
                judged(file, tmp_path / "run", server, *STRING, f"judge.{change}")
        assert len(server.asked) == asked
    assert read_manifest(tmp_path / "run")["judge"]["split_prompt"] == "purpose"


def test_every_setting_is_part_of_the_key_under_which_verdicts_are_kept() -> None:
    chat = ScriptedChat([])
    asks = [IntrinsicSettings(), *(IntrinsicSettings(**{name: value}) for name, value in OTHER_ASKS.items())]
    reads = [ServerReaderSettings(), *(ServerReaderSettings(**{name: value}) for name, value in OTHER_READS.items())]
    assert set(OTHER_ASKS) == {field.name for field in fields(IntrinsicSettings)}
    assert set(OTHER_READS) == {field.name for field in fields(ServerReaderSettings)}
    made = [
        ReadingJudge(ServerReader(chat, how, fields=RequestFields().set), ask, decompose=cuts, log=ReadingLog())
        for ask in asks
        for how in reads
        for cuts in (True, False)
    ]
    assert len({judge.fingerprint for judge in made}) == len(made) == 5 * 10 * 2


def test_the_facade_reads_and_cuts_as_the_command_does(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    with ScriptedServer(reply=reads_like_markers) as server:
        result = judged(file, tmp_path / "run", server, *STRING)
        (solution,) = stepcredit.judge(file, judge="intrinsic", server=server.url, overrides=STRING)
    assert [step.text for step in solution.steps] == list(result.judgements[0].steps.texts)
    assert [step.label for step in solution.steps] == labels(result)[0]
