"""A chat server that reads as the marker rules do, and what is asked of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recorded_cases import PROBLEM

from stepcredit.core.protocols import Message
from stepcredit.core.records import Label
from stepcredit.judges.intrinsic.replies import Matches, Reflections, TracedVerification
from stepcredit.judges.intrinsic.text_markers import TextGrammar
from stepcredit.recipes.judge_file import judge_file
from stepcredit.recipes.recorded import RecordedResult
from stepcredit.testing import ScriptedServer

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
