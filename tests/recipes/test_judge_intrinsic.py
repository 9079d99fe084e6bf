"""`stepcredit judge FILE --judge intrinsic`: the reading tasks asked of a chat server, over a resumable folder."""

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from recorded_cases import OPEN, PROBLEM, RIGHT, WRONG, Heard, byte_level, call, row, write_rows

import stepcredit
from stepcredit.core.errors import BudgetError, PartialError, UsageError
from stepcredit.core.protocols import Message
from stepcredit.core.records import Label
from stepcredit.judges.intrinsic.replies import Matches, Reflections, TracedVerification
from stepcredit.judges.intrinsic.text_markers import TextGrammar
from stepcredit.recipes.judge_file import judge_file
from stepcredit.recipes.recorded import RecordedResult, RecordedSettings, run_recorded
from stepcredit.recipes.recorded.reading import READING, RequestFields
from stepcredit.recipes.report_run import saved_views
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import read_json, read_manifest
from stepcredit.testing import Asked, Fault, Manners, ScriptedServer

STRING = ("checker.mode=string",)
PLAIN = (*STRING, "judge.decompose=false")
GRAMMAR = TextGrammar()


def shown(prompt: str, *, mark: str = "") -> tuple[str, ...]:
    """The texts that a prompt quotes, in order."""
    rows = [line for line in prompt.split("\n") if line.startswith(f"[{mark}") and '"' in line]
    rows = [line for line in rows if mark or not line.startswith("[answer")]
    return tuple(json.loads(line[line.index('"') : line.rindex('"') + 1]) for line in rows)


def task_of(prompt: str) -> str:
    marks = {"Group the paragraphs": "P0", "answer block": "P4", "looks back": "P1", "verdicts holds": "P23"}
    return next((name for mark, name in marks.items() if mark in prompt), "?")


def reads_like_markers(messages: Sequence[Message]) -> str:
    """A model that sees the prompt alone, and reads it as the marker rules do."""
    (message,) = messages
    texts = shown(message.content)
    match task_of(message.content):
        case "P0":
            return json.dumps({"steps": [[0, len(texts) - 1]]})
        case "P1":
            return Reflections(GRAMMAR.reflections(texts)).write()
        case "P23":
            trace = GRAMMAR.trace(PROBLEM, texts)
            wrong = () if trace.source is None else GRAMMAR.wrong(PROBLEM, texts, source=trace.source)
            return TracedVerification(trace.source, trace.evidence, wrong).write()
        case "P4":
            return Matches(GRAMMAR.matched(PROBLEM, texts, answer=shown(message.content, mark="answer"))).write()
        case _:
            return "?"


def judged(file: Path, out: Path, server: ScriptedServer, *overrides: str, **more: Any) -> RecordedResult:
    chosen = overrides or PLAIN
    return judge_file(file, out=out, judge="intrinsic", server=server.url, model="scripted", overrides=chosen, **more)


def labels(result: RecordedResult) -> list[list[Label | None]]:
    return [[verdict.label for verdict in judgement.verdicts] for judgement in result.judgements]


def tasks_asked(server: ScriptedServer) -> list[str]:
    chats = [asked.body for asked in server.asked if asked.route == "chat/completions"]
    return sorted(task_of(body["messages"][0]["content"]) for body in chats)


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
    fields = RequestFields()

    async def one(k: int) -> bool:
        with fields.set({"k": k}):
            await asyncio.sleep(0.001 * (k % 3))
            return dict(fields) == {"k": k}

    async def go() -> list[bool]:
        return await asyncio.gather(*(one(k) for k in range(30)))

    assert all(asyncio.run(go()))
    seen: list[int] = []
    with fields.set({"k": 1}):
        thread = threading.Thread(target=lambda: seen.append(len(fields)))
        thread.start()
        thread.join()
    assert seen == [0]


def test_votes_need_a_temperature(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(WRONG))
    with ScriptedServer(reply=reads_like_markers) as server:
        with pytest.raises(UsageError, match=r"judge\.votes at temperature 0 would ask the same again"):
            judged(file, tmp_path / "run", server, *PLAIN, "judge.votes=3")
        assert server.asked == []
        judged(file, tmp_path / "run", server, *PLAIN, "judge.votes=3", "judge.temperature=0.7")
        assert tasks_asked(server) == ["P4"] * 3


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


def test_the_facade_reads_and_cuts_as_the_command_does(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    with ScriptedServer(reply=reads_like_markers) as server:
        result = judged(file, tmp_path / "run", server, *STRING)
        (solution,) = stepcredit.judge(file, judge="intrinsic", server=server.url, overrides=STRING)
    assert [step.text for step in solution.steps] == list(result.judgements[0].steps.texts)
    assert [step.label for step in solution.steps] == labels(result)[0]


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
