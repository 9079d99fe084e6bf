"""The one strict parser of the intrinsic judge: a reader's text to a typed answer, or a named reject.

No text raises, and no label is ever invented: what is not exactly the form that was asked for is a `Reject`.
Entries that name a step may give their grounds in one more key, `because`: a string that is read by people alone.
Rejected are: text around the JSON, missing, extra or repeated keys, numbers that are not whole indices, words that
were not offered, indices out of range, a wrong count, a source at or after its reflection, a quotation that is not
in the steps shown, ranges that do not tile.

Source: tp_grpo.md 1.2-1.4 and 3 ("reject when"). Differs: `"source": null` says that no source can be traced.
"""

import json
from typing import Any, Literal, TypeGuard, overload

from stepcredit.judges.intrinsic.replies import (
    Matches,
    Reflection,
    ReflectionKind,
    Reflections,
    Reject,
    RejectReason,
    Tiling,
    Trace,
    TracedVerification,
    Verification,
)
from stepcredit.judges.intrinsic.tasks import (
    MatchTask,
    ReflectTask,
    SplitTask,
    Task,
    TraceTask,
    TraceVerifyTask,
    VerifyTask,
)

Answer = Tiling | Reflections | Trace | Verification | TracedVerification | Matches

_SHOWN = 80


@overload
def parse(task: SplitTask, text: str) -> Tiling | Reject: ...
@overload
def parse(task: ReflectTask, text: str) -> Reflections | Reject: ...
@overload
def parse(task: TraceTask, text: str) -> Trace | Reject: ...
@overload
def parse(task: VerifyTask, text: str) -> Verification | Reject: ...
@overload
def parse(task: TraceVerifyTask, text: str) -> TracedVerification | Reject: ...
@overload
def parse(task: MatchTask, text: str) -> Matches | Reject: ...
@overload
def parse(task: Task, text: str) -> Answer | Reject: ...
def parse(task: Task, text: str) -> Answer | Reject:
    """Read a reply to a task; never raises for any text.

    Args:
        task: what was asked.
        text: the reply; only white space may stand around the JSON object.

    Returns:
        The typed answer, or why it was rejected.

    >>> parse(ReflectTask("", ("a", "no, wrong")), '{"reflections": [{"step": 1, "kind": "error"}]}')
    Reflections(items=(Reflection(step=1, kind='error'),))
    >>> str(parse(MatchTask("", ("a", "b"), ("c",)), '{"matches": [{"step": 0, "verdict": "match"}]}'))
    'wrong count: 1 matches for 2 steps'
    """
    match task:
        case SplitTask():
            return parse_split(task, text)
        case ReflectTask():
            return parse_reflect(task, text)
        case TraceTask():
            return parse_trace(task, text)
        case VerifyTask():
            return parse_verify(task, text)
        case TraceVerifyTask():
            return parse_trace_verify(task, text)
        case MatchTask():
            return parse_match(task, text)


def parse_split(task: SplitTask, text: str) -> Tiling | Reject:
    """P0: `{"steps": [[first, last], ...]}`, inclusive, tiling 0..N-1 in order.

    >>> parse_split(SplitTask("", ("a", "b", "c")), '{"steps": [[0, 1], [2, 2]]}')
    Tiling(ranges=((0, 1), (2, 2)))
    """
    fields = _fields(text, ("steps",))
    if isinstance(fields, Reject):
        return fields
    ranges = fields["steps"]
    if not isinstance(ranges, list):
        return _reject(RejectReason.WRONG_TYPE, "steps must be a list of [first, last]")
    pairs: list[tuple[int, int]] = []
    expected = 0
    for pair in ranges:
        if not (isinstance(pair, list) and len(pair) == 2 and all(_is_index(x) for x in pair)):
            return _reject(RejectReason.WRONG_TYPE, f"a range must be [first, last], got {_short(pair)}")
        first, last = pair
        if first != expected or last < first:
            return _reject(RejectReason.NOT_A_TILING, f"range [{first}, {last}] where {expected} must begin")
        pairs.append((first, last))
        expected = last + 1
    if expected != len(task.paragraphs):
        count = len(task.paragraphs)
        return _reject(RejectReason.NOT_A_TILING, f"ranges end at {expected - 1}, the last paragraph is {count - 1}")
    return Tiling(tuple(pairs))


def parse_reflect(task: ReflectTask, text: str) -> Reflections | Reject:
    """P1: `{"reflections": [{"step": k, "kind": "error", "confirm" or "none"}, ...]}`, each step at most once.

    A reader that goes through all steps says `none` of those that hold no reflection; leaving them out says the same.
    """
    fields = _fields(text, ("reflections",))
    if isinstance(fields, Reject):
        return fields
    items = fields["reflections"]
    if not isinstance(items, list):
        return _reject(RejectReason.WRONG_TYPE, "reflections must be a list")
    kinds: dict[int, ReflectionKind | Literal["none"]] = {}
    for item in items:
        wrong = _entry(item, ("step", "kind"))
        if wrong is not None:
            return wrong
        step, kind = item["step"], item["kind"]
        bad = _index(step, len(task.steps), "step")
        if bad is not None:
            return bad
        if kind not in ("error", "confirm", "none"):
            return _reject(RejectReason.UNKNOWN_WORD, f"kind must be error, confirm or none, got {_short(kind)}")
        if step in kinds:
            return _reject(RejectReason.REPEATED_INDEX, f"step {step} is listed twice")
        kinds[step] = kind
    return Reflections(tuple(Reflection(step, kind) for step, kind in sorted(kinds.items()) if kind != "none"))


def parse_trace(task: TraceTask, text: str) -> Trace | Reject:
    """P2: `{"source": k or null, "evidence": "words of the text"}`."""
    fields = _fields(text, ("source", "evidence"))
    if isinstance(fields, Reject):
        return fields
    return _trace(fields, task.steps)


def parse_verify(task: VerifyTask, text: str) -> Verification | Reject:
    """P3: `{"verdicts": ["wrong" or "right", ...]}`, one for each step of [source, reflection - 1]."""
    fields = _fields(text, ("verdicts",))
    if isinstance(fields, Reject):
        return fields
    wrong = _words(fields["verdicts"], "verdicts", ("wrong", "right"), task.reflection - task.source)
    return wrong if isinstance(wrong, Reject) else Verification(wrong)


def parse_trace_verify(task: TraceVerifyTask, text: str) -> TracedVerification | Reject:
    """P2 and P3: `{"source": ..., "evidence": ..., "verdicts": [...]}`; no verdicts where the source is null."""
    fields = _fields(text, ("source", "evidence", "verdicts"))
    if isinstance(fields, Reject):
        return fields
    trace = _trace(fields, task.steps)
    if isinstance(trace, Reject):
        return trace
    count = 0 if trace.source is None else task.reflection - trace.source
    wrong = _words(fields["verdicts"], "verdicts", ("wrong", "right"), count)
    return wrong if isinstance(wrong, Reject) else TracedVerification(trace.source, trace.evidence, wrong)


def parse_match(task: MatchTask, text: str) -> Matches | Reject:
    """P4: `{"matches": [{"step": k, "verdict": "match" or "no"}, ...]}`, every think step once and in order."""
    fields = _fields(text, ("matches",))
    if isinstance(fields, Reject):
        return fields
    entries = fields["matches"]
    if not isinstance(entries, list):
        return _reject(RejectReason.WRONG_TYPE, "matches must be a list")
    verdicts: list[Any] = []
    for place, entry in enumerate(entries):
        wrong = _entry(entry, ("step", "verdict")) or _index(entry["step"], len(task.steps), "step")
        if wrong is not None:
            return wrong
        if entry["step"] != place:
            return _reject(RejectReason.WRONG_ORDER, f"step {entry['step']} where step {place} must stand")
        verdicts.append(entry["verdict"])
    matched = _words(verdicts, "matches", ("match", "no"), len(task.steps))
    return matched if isinstance(matched, Reject) else Matches(matched)


def _trace(fields: dict[str, Any], steps: tuple[str, ...]) -> Trace | Reject:
    source, evidence = fields["source"], fields["evidence"]
    if not isinstance(evidence, str):
        return _reject(RejectReason.WRONG_TYPE, "evidence must be a string")
    if source is None:
        return Trace(None, evidence)
    bad = _index(source, len(steps), "source")
    if bad is not None:
        return bad
    reflection = len(steps) - 1
    if source >= reflection:
        return _reject(RejectReason.LATE_SOURCE, f"source {source}, reflection {reflection}")
    if not _quoted(evidence, steps, source):
        return _reject(RejectReason.ABSENT_EVIDENCE, f"{_short(evidence)} is not a quotation of the steps shown")
    return Trace(source, evidence)


def _quoted(evidence: str, steps: tuple[str, ...], source: int) -> bool:
    words = " ".join(evidence.split())
    if not words:
        return False
    if evidence in steps[source] or evidence in steps[-1]:
        return True
    return any(words in " ".join(step.split()) for step in (steps[source], *reversed(steps)))


def _words(value: object, name: str, words: tuple[str, str], count: int) -> tuple[bool, ...] | Reject:
    if not isinstance(value, list):
        return _reject(RejectReason.WRONG_TYPE, f"{name} must be a list")
    for word in value:
        if word not in words:
            return _reject(RejectReason.UNKNOWN_WORD, f"{name} holds {_short(word)}, not {words[0]} or {words[1]}")
    if len(value) != count:
        return _reject(RejectReason.WRONG_COUNT, f"{len(value)} {name} for {count} steps")
    return tuple(word == words[0] for word in value)


def _fields(text: str, names: tuple[str, ...]) -> dict[str, Any] | Reject:
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except _RepeatedKeyError as error:
        return _reject(RejectReason.WRONG_KEYS, f"key {_short(str(error))} occurs twice")
    except (ValueError, RecursionError):
        return _reject(RejectReason.NOT_JSON, f"the reply must be one JSON object and nothing else, got {_short(text)}")
    return _keys(value, names) or value


def _entry(value: object, names: tuple[str, ...]) -> Reject | None:
    """Why the value is not an entry with these keys and perhaps `because`."""
    if not isinstance(value, dict) or "because" not in value:
        return _keys(value, names)
    if not isinstance(value["because"], str):
        return _reject(RejectReason.WRONG_TYPE, "because must be a string")
    return _keys(value, (*names, "because"))


def _keys(value: object, names: tuple[str, ...]) -> Reject | None:
    if not isinstance(value, dict):
        return _reject(RejectReason.NOT_AN_OBJECT, f"expected an object with {', '.join(names)}, got {_short(value)}")
    if set(value) != set(names):
        return _reject(
            RejectReason.WRONG_KEYS, f"expected {', '.join(names)}, got {_short(', '.join(map(str, value)))}"
        )
    return None


class _RepeatedKeyError(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise _RepeatedKeyError(key)
        fields[key] = value
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _index(value: object, size: int, name: str) -> Reject | None:
    if not _is_index(value):
        return _reject(RejectReason.WRONG_TYPE, f"{name} must be a whole number, got {_short(value)}")
    if not 0 <= value < size:
        return _reject(RejectReason.UNKNOWN_INDEX, f"{name} {_short(value)} of {size} steps")
    return None


def _is_index(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: object) -> str:
    if not isinstance(value, str | int):
        return type(value).__name__
    text = str(value)
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return repr(shown) if isinstance(value, str) else shown


def _reject(reason: RejectReason, detail: str) -> Reject:
    return Reject(reason, detail)
