"""Schemas of the replies: what a server is asked to hold a model to is what the parser takes."""

import json
from typing import Any

import pytest

from stepcredit.judges.intrinsic.forms import schema_of
from stepcredit.judges.intrinsic.parser import parse
from stepcredit.judges.intrinsic.replies import Reject, RejectReason
from stepcredit.judges.intrinsic.tasks import (
    MatchTask,
    ReflectTask,
    SplitTask,
    Task,
    TraceTask,
    TraceVerifyTask,
    VerifyTask,
)

STEPS = ("a = 1", "b = 2", "wait, b = 4", "fine")
TASKS: tuple[Task, ...] = (
    SplitTask("p", STEPS),
    ReflectTask("p", STEPS),
    TraceTask("p", STEPS[:3]),
    VerifyTask("p", STEPS[:3], 0, "a"),
    TraceVerifyTask("p", STEPS[:3]),
    MatchTask("p", STEPS, ("4",)),
)
BETWEEN_PARTS = {
    RejectReason.NOT_A_TILING,
    RejectReason.REPEATED_INDEX,
    RejectReason.ABSENT_EVIDENCE,
    RejectReason.WRONG_COUNT,
}
"""What no schema here can hold: what one part of a reply has to do with another, or with the text."""


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is of a schema, for the few words that ours use."""
    if "enum" in schema:
        return any(value == word and type(value) is type(word) for word in schema["enum"])
    match schema["type"]:
        case "object":
            named = isinstance(value, dict) and list(value) == schema["required"] == list(schema["properties"])
            return named and all(fits(value[name], inner) for name, inner in schema["properties"].items())
        case "array":
            if not isinstance(value, list) or not schema["minItems"] <= len(value) <= schema["maxItems"]:
                return False
            inner = schema.get("prefixItems") or [schema["items"]] * len(value)
            return all(fits(one, part) for one, part in zip(value, inner, strict=True))
        case "integer":
            return type(value) is int and schema["minimum"] <= value <= schema["maximum"]
        case _:
            return isinstance(value, str)


VALUES: tuple[Any, ...] = (
    {"steps": [[0, 1], [2, 3]]},
    {"steps": [[0, 3]]},
    {"steps": [[0, 4]]},
    {"steps": [[0]]},
    {"steps": []},
    {"reflections": []},
    {"reflections": [{"step": 2, "kind": "error"}]},
    {"reflections": [{"step": 4, "kind": "error"}]},
    {"reflections": [{"step": 2, "kind": "doubt"}]},
    {"source": 1, "evidence": "b = 2"},
    {"source": 2, "evidence": "b = 2"},
    {"source": None, "evidence": ""},
    {"source": 1, "evidence": "no such words"},
    {"source": 1, "evidence": "b = 2", "verdicts": ["wrong"]},
    {"source": None, "evidence": "", "verdicts": []},
    {"source": 0, "evidence": "a = 1", "verdicts": ["wrong"]},
    {"verdicts": ["wrong", "right"]},
    {"verdicts": ["wrong"]},
    {"verdicts": ["wrong", True]},
    {"matches": [{"step": k, "verdict": "no"} for k in range(4)]},
    {"matches": [{"step": k, "verdict": "no"} for k in (1, 0, 2, 3)]},
    {"matches": [{"step": k, "verdict": "no"} for k in range(3)]},
    {},
    [],
    None,
)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_what_is_read_fits_the_schema_and_what_fits_is_read_but_for_what_no_schema_holds(task: Task) -> None:
    read = 0
    for value in VALUES:
        found = parse(task, json.dumps(value))
        if isinstance(found, Reject):
            assert not fits(value, schema_of(task)) or found.reason in BETWEEN_PARTS, value
        else:
            assert fits(value, schema_of(task)), value
            read += 1
    assert read >= 1


def test_the_quotation_comes_first_where_the_prompt_asks_for_it_first() -> None:
    for task in (TASKS[2], TASKS[4]):
        assert schema_of(task, trace="quote-first")["required"][:2] == ["evidence", "source"]
        assert schema_of(task)["required"][:2] == ["source", "evidence"]


def test_quotations_have_no_bound_in_characters() -> None:
    """vLLM's grammars of bounded strings know no escapes: LaTeX and quotation marks could not be written."""
    assert schema_of(TASKS[2])["properties"]["evidence"] == {"type": "string"}


def test_steps_that_are_none_have_schemas_too() -> None:
    for task in (SplitTask("p", ()), ReflectTask("p", ()), MatchTask("p", (), ("4",))):
        assert schema_of(task)["type"] == "object"
