"""The intrinsic judge's reader against a real vLLM: a model that has learnt nothing, held to the forms by schemas."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepcredit.engines.server import ServerClient, ServerSettings
from stepcredit.judges.intrinsic.parser import parse
from stepcredit.judges.intrinsic.replies import Reject, RejectReason
from stepcredit.judges.intrinsic.server import ServerReader, ServerReaderSettings
from stepcredit.judges.intrinsic.tasks import (
    MatchTask,
    ReflectTask,
    SplitTask,
    Task,
    TraceTask,
    TraceVerifyTask,
    VerifyTask,
)
from stepcredit.recipes.judge_file import judge_file
from stepcredit.recipes.recorded.reading import RequestFields
from stepcredit.store.attempts import AttemptRecord
from tests.servers.conftest import RealServer, _asked, _vllm
from tests.servers.tiny_model import build

pytestmark = pytest.mark.servers

CONTEXT = 4096
THINK = ("Half of 8 is \\frac{8}{2} = 3.", "So 3 <|end|> it is.", "Wait, that is wrong: it is 4.", "Fine.")
TASKS: tuple[Task, ...] = (
    SplitTask("8 / 2?", THINK),
    ReflectTask("8 / 2?", THINK),
    TraceTask("8 / 2?", THINK[:3]),
    TraceVerifyTask("8 / 2?", THINK[:3]),
    VerifyTask("8 / 2?", THINK[:3], 0, "= 3"),
    MatchTask("8 / 2?", THINK, ("It is 4.",)),
)
EXACT = ("P3", "P4")
"""Tasks whose forms a schema holds wholly."""

UNFORCED = {"cut by length", "not a tiling", "repeated index", "evidence not in the text", "wrong count"}
"""What a schema cannot keep a model from: too much white space, and parts of a reply that do not go together."""


@pytest.fixture(scope="module")
def reading_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A vLLM with the tiny random model, whose rotary positions go on as far as the prompts need."""
    folder = _asked(request, tmp_path_factory)
    build(folder / "model", seed=0)
    config = folder / "model" / "config.json"
    told = json.loads(config.read_text(encoding="utf-8")) | {"max_position_embeddings": CONTEXT}
    config.write_text(json.dumps(told), encoding="utf-8")
    with _vllm(folder, context=CONTEXT) as url:
        yield RealServer(url, folder / "model")


async def _replies(server: RealServer, structured: str, *, count: int) -> tuple[dict[str, list[object]], list[str]]:
    """What was read of `count` replies to each task, by its name; and the errors of the requests."""
    seen: list[AttemptRecord] = []
    fields = RequestFields()
    settings = ServerSettings(server.url, key_variable="NO_SUCH_KEY", extra=fields)
    async with ServerClient(settings, on_attempt=seen.append) as client:
        how = ServerReaderSettings(temperature=1.0, max_tokens=600, structured=structured)  # type: ignore[arg-type]
        reader = ServerReader(client, how, fields=fields.set)

        async def one(task: Task, attempt: int) -> tuple[str, object]:
            reply = await reader.answer(task, attempt=attempt, error="")
            assert reply.call
            assert reply.input_tokens
            return task.name, reply.fault or parse(task, reply.text)

        found = await asyncio.gather(*(one(task, k) for task in TASKS for k in range(count)))
    read: dict[str, list[object]] = {}
    for name, reply in found:
        read.setdefault(name, []).append(reply)
    return read, [record.error for record in seen if record.error]


def test_a_model_that_has_learnt_nothing_keeps_to_the_forms_where_schemas_hold_it(reading_server: RealServer) -> None:
    read, errors = asyncio.run(_replies(reading_server, "on", count=6))
    assert errors == []  # vLLM takes every schema
    for name, replies in read.items():
        reasons = {str(reply.reason) for reply in replies if isinstance(reply, Reject)}
        assert reasons <= ({"cut by length"} if name in EXACT else UNFORCED), (name, replies)
    for name in EXACT:
        assert sum(not isinstance(reply, Reject) for reply in read[name]) >= 3, read[name]


def test_without_schemas_it_writes_nothing_that_is_taken_for_an_answer(reading_server: RealServer) -> None:
    read, _ = asyncio.run(_replies(reading_server, "off", count=2))
    replies = [reply for some in read.values() for reply in some]
    assert all(isinstance(reply, Reject) for reply in replies)
    assert {reply.reason for reply in replies if isinstance(reply, Reject)} <= {
        RejectReason.NOT_JSON,
        RejectReason.CUT,
        RejectReason.EMPTY,
        RejectReason.CHAT_TOKENS,
        RejectReason.TEXT_AROUND,
    }


def test_a_file_is_judged_end_to_end(reading_server: RealServer, tmp_path: Path) -> None:
    closing = "\n</think>\n\nSo it is \\boxed{%s}, and that is the answer to what was asked above here."
    rows = [
        {
            "problem": "8 / 2?",
            "answer": "4",
            "completion": "\n\n".join(f"{text} And on it goes." for text in THINK) + end,
        }
        for end in (closing % 4, closing % 3)
    ]
    file = tmp_path / "x.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    more = ("judge.decompose=false", "judge.temperature=1.0", "judge.retry_temperature=1.0", "judge.max_tokens=600")
    result = judge_file(
        file,
        out=tmp_path / "run",
        judge="intrinsic",
        server=reading_server.url,
        overrides=("checker.mode=string", "server.key_variable=NO_SUCH_KEY", *more),
    )
    told = result.summary
    assert told["checker"] == {"right": 1, "wrong": 1, "unscorable": 0}
    assert told["calls"]["errors"] == {}
    read = told["reading"]["tasks"]
    assert sum(told["reading"]["solutions"].values()) == 2
    assert read["P4 (wrong)"]["failed"] == 0
    for task in read.values():
        assert task["asked"] == task["first_try"] + task["after_retry"] + task["failed"]
        assert set(task["rejects"]) <= UNFORCED | {"source not before the reflection"}
    wrong = result.judgements[1]
    assert all(verdict.label in ("matched", "mismatched") for verdict in wrong.verdicts)
