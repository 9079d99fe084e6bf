"""`stepcredit judge FILE`: door one without torch or math-verify, the critic behind a chat server."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from recorded_cases import PROBLEM, RIGHT, WRONG, call, row, write_rows

from stepcredit.core.protocols import Message
from stepcredit.core.records import Label
from stepcredit.recipes.judge_file import judge_file
from stepcredit.recipes.recorded import judges as recorded_judges
from stepcredit.recipes.recorded.judges import TEXT_ONLY
from stepcredit.recipes.report_run import saved_views
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import read_json
from stepcredit.testing import Fault, Manners, ScriptedServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "solutions.jsonl"
STRING = ("checker.mode=string",)

BARE = """
import sys
for name in ("torch", "transformers", "math_verify", "pebble", "matplotlib"):
    sys.modules[name] = None
from stepcredit.cli import main
main(sys.argv[1:])
"""


def bare(*words: str | Path, at: Path) -> "subprocess.CompletedProcess[str]":
    """The command line in a process where the extras cannot be imported."""
    root = EXAMPLES.parents[1]
    variables = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", BARE, *map(str, words)]
    return subprocess.run(command, cwd=at, env=variables, check=False, capture_output=True, text=True, timeout=120)


def test_door_one_needs_neither_torch_nor_math_verify(tmp_path: Path) -> None:
    done = bare("judge", EXAMPLES, "--judge", "markers", "--out", "r", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert TEXT_ONLY in done.stderr
    assert "12  right 8  wrong 4  unscorable 0  judged 11  unknown 1" in done.stdout
    assert bare("report", "r", at=tmp_path).returncode == 0
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "taken back at step" in page


def test_formulas_need_math_verify_and_the_output_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT.replace("{19}", "{1+x}"), answer="x+1"), row(RIGHT))
    monkeypatch.setattr(recorded_judges, "missing_modules", lambda _extra: ("math_verify",))
    assert call("judge", file, "--out", tmp_path / "run") == 0
    assert TEXT_ONLY in capsys.readouterr().err
    told = read_json(tmp_path / "run", "summary.json")
    assert told["unscorable_reasons"] == {"text and numbers cannot decide; math mode can": 1}
    facts = dict(saved_views(tmp_path / "run").facts)
    assert "/string/" in facts["checker"]
    assert facts["tokenizer"] == "bytes (none was named)"


def test_labels_of_two_solutions(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    result = judge_file(file, out=tmp_path / "run", overrides=STRING)
    assert [[v.label for v in j.verdicts] for j in result.judgements] == [
        [Label.INCORRECT, Label.CORRECT, Label.CORRECT, Label.CORRECT],
        [Label.MATCHED, Label.MISMATCHED, Label.MATCHED, Label.MATCHED],
    ]
    assert "".join(result.judgements[0].steps.texts) == RIGHT


def test_steps_of_the_file_are_judged_as_they_stand(tmp_path: Path) -> None:
    """Three short steps, none merged with the next; the one that states the answer is the answer block."""
    steps = ["3 * 4 = 12", "12 + 7 = 19", "The answer is \\boxed{19}."]
    item = {"problem": PROBLEM, "answer": "19", "steps": steps}
    tagged = row("<think>" + RIGHT, steps=RIGHT.split("\n\n"))
    result = judge_file(write_rows(tmp_path / "x.jsonl", item, tagged), out=tmp_path / "run", overrides=STRING)
    first, second = result.judgements
    assert [text.strip() for text in first.steps.texts] == steps
    assert first.steps.in_answer.tolist() == [False, False, True]
    assert len(second.steps) == 4
    assert "".join(second.steps.texts) == "<think>" + RIGHT
    assert second.verdicts[0].label == Label.INCORRECT


def first_wrong(messages: Sequence[Message]) -> str:
    """A critic that sees `= 20` and nothing else."""
    paragraphs = messages[-1].content.split("<paragraph_")[1:]
    found = next((index for index, text in enumerate(paragraphs) if "= 20" in text), -1)
    return f"I looked.\n\\boxed{{{found}}}"


def test_the_critic_scores_steps_and_its_calls_are_in_the_ledger(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG), row(RIGHT))
    prices = ("server.input_price=1", "server.output_price=2")
    with ScriptedServer(reply=first_wrong) as server:
        result = judge_file(file, out=tmp_path / "run", judge="critic", server=server.url, overrides=(*STRING, *prices))
        chats = [asked.body for asked in server.asked if asked.route == "chat/completions"]
    assert [[v.score for v in j.verdicts] for j in result.judgements] == [[1.0] * 4, [1.0, 1.0, 0.0, None], [1.0] * 4]
    critic = [body for body in chats if body["max_tokens"] == 8192]
    assert len(critic) == 2  # equal contents are asked once
    assert PROBLEM in critic[0]["messages"][0]["content"]
    assert critic[0]["temperature"] == 0.0
    told = result.summary
    assert (told["judged"], told["unknown"], told["thoughts"]) == (3, 0, None)
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        attempts = [attempt for attempt in ledger.attempts() if attempt.route == "chat/completions"]
    asked_tokens = sum(attempt.input_tokens or 0 for attempt in attempts)
    assert asked_tokens > 0
    assert all(attempt.cost is not None for attempt in attempts)
    assert told["calls"]["cost"] > 0
    assert told["calls"]["input_tokens"] >= asked_tokens


def test_replies_that_cannot_be_read_are_unknown_with_a_reason(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG), row(""))
    replies = {"= 20": "paragraph two, I think", "= 19": "\\boxed{77}"}

    def reply(messages: Sequence[Message]) -> str:
        return next((text for mark, text in replies.items() if mark in messages[-1].content), "?")

    with ScriptedServer(reply=reply) as server:
        result = judge_file(
            file, out=tmp_path / "run", judge="critic", server=server.url, model="scripted", overrides=STRING
        )
    assert (result.summary["judged"], result.summary["unknown"]) == (0, 3)
    assert Counter(result.summary["unknown_reasons"].values()) == {1: 3}
    assert "the reply has no \\boxed{} answer" in result.summary["unknown_reasons"]
    assert all(verdict.score is None for judgement in result.judgements for verdict in judgement.verdicts)


def test_any_chat_server_will_do(tmp_path: Path) -> None:
    """One without a list of models, token routes, n or logprobs, that is too busy at first."""
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    manners = Manners(
        refuses=frozenset({"models", "completions", "tokenize", "n", "logprobs", "continue_final_message"})
    )
    busy = Fault("status", status=429, headers={"Retry-After": "0"}, body=b"{}")
    with ScriptedServer(reply=first_wrong, manners=manners, faults=[None, None, busy]) as server:
        result = judge_file(
            file, out=tmp_path / "run", judge="critic", server=server.url, model="scripted", overrides=STRING
        )
    assert result.summary["judged"] == 1
    assert result.summary["calls"]["errors"] == {"http_404": 2, "http_429": 1}


def test_a_second_call_asks_the_server_nothing(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    with ScriptedServer(reply=first_wrong) as server:
        words = ("--judge", "critic", "--server", server.url, "--model", "scripted", "--set", "checker.mode=string")
        assert call("judge", file, "--out", tmp_path / "run", *words) == 0
        asked = len(server.asked)
        assert call("judge", file, "--out", tmp_path / "run", *words) == 0
        assert len(server.asked) == asked
