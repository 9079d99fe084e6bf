"""JSON schemas of the replies to the reading tasks, for servers that can hold a model to one.

They hold words, indices and counts as exactly as a schema can; what it cannot (a quotation that is in the text, as many
verdicts as the source asks for) is left to the parser, which reads such a reply as strictly as any other.

Source: own. Differs: none.
"""

from typing import Any

from stepcredit.judges.intrinsic.prompts import TracePrompt
from stepcredit.judges.intrinsic.tasks import (
    MatchTask,
    ReflectTask,
    SplitTask,
    Task,
    TraceTask,
    TraceVerifyTask,
    VerifyTask,
)

Schema = dict[str, Any]


def schema_of(task: Task, *, trace: TracePrompt = "backward") -> Schema:
    """JSON schema of the replies to a task.

    Args:
        task: what is asked.
        trace: variant of P2; the order of the keys is that in which they are written.

    >>> schema_of(VerifyTask("", ("a", "b", "no"), 0, ""))["properties"]["verdicts"]["minItems"]
    2
    """
    match task:
        case SplitTask():
            count = len(task.paragraphs)
            pair = _list(_index(count), least=2, most=2)
            return _object({"steps": _list(pair, least=min(count, 1), most=count)})
        case ReflectTask():
            count = len(task.steps)
            item = _object({"step": _index(count), "kind": _word("error", "confirm")})
            return _object({"reflections": _list(item, least=0, most=count)})
        case TraceTask():
            return _object(_traced(task.reflection, trace))
        case TraceVerifyTask():
            verdicts = _list(_word("wrong", "right"), least=0, most=task.reflection)
            return _object({**_traced(task.reflection, trace), "verdicts": verdicts})
        case VerifyTask():
            count = task.reflection - task.source
            return _object({"verdicts": _list(_word("wrong", "right"), least=count, most=count)})
        case MatchTask():
            count = len(task.steps)
            entries = [_object({"step": _word(k), "verdict": _word("match", "no")}) for k in range(count)]
            form = {"type": "array", "prefixItems": entries, "items": False, "minItems": count, "maxItems": count}
            return _object({"matches": form})


def _traced(reflection: int, trace: TracePrompt) -> Schema:
    source = {"enum": [*range(reflection), None]}
    # No maxLength: grammars that count characters (xgrammar's) then know no escapes, and LaTeX could not be quoted.
    evidence = {"type": "string"}
    if trace == "quote-first":
        return {"evidence": evidence, "source": source}
    return {"source": source, "evidence": evidence}


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: Schema, *, least: int, most: int) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _index(count: int) -> Schema:
    return {"type": "integer", "minimum": 0, "maximum": max(count - 1, 0)}


def _word(*words: str | int) -> Schema:
    return {"enum": list(words)}
