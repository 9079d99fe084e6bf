"""Problem sets and recorded responses from files: one JSON object a line, plain, `.gz` or `.zst`.

Both spellings are read: `problem` or `question`, `gold` or `answer`, `response` or `completion`. Further keys
are ignored. Every error is one line that names file and line, and how to mend it.
"""

import difflib
import gzip
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, final

import orjson
import zstandard

from stepcredit.core.digests import digest
from stepcredit.core.errors import MachineError, UsageError
from stepcredit.core.records import Finish, Problem
from stepcredit.core.seeds import derive

_SPELLINGS = {
    "problem": ("problem", "question"),
    "gold": ("gold", "answer"),
    "response": ("response", "completion"),
}


@final
@dataclass(frozen=True)
class RecordedResponse:
    """A response that somebody recorded.

    Args:
        id: `id` of the line, or `file:line`.
        problem: responses to one problem (equal text and reference) share its id.
        response: the text; where a line gives `steps` only, these joined by blank lines.
        model: `model` of the line, or empty.
        steps: `steps` of the line, `None` if it has none.
        finish: `length` where the line says `finished: false`, else `stop`.
        line: line number in the file, from 1.
    """

    id: str
    problem: Problem
    response: str
    model: str
    steps: tuple[str, ...] | None
    finish: Finish
    line: int


@final
@dataclass(frozen=True)
class JsonlSet:
    """A problem set in a file; a `TaskSet`.

    Args:
        name: name of the set, the problems' `source`.
        all: its problems, in the file's order.
    """

    name: str
    all: tuple[Problem, ...]

    def problems(self, count: int, *, seed: int) -> tuple[Problem, ...]:
        """`count` different problems drawn with the seed.

        Raises:
            UsageError: if the set is smaller than `count`.
        """
        if count > len(self.all):
            raise UsageError(f"{self.name} holds {len(self.all)} problems, {count} were asked for")
        return tuple(Random(derive(seed, "jsonl", self.name)).sample(self.all, count))


def read_problems(path: Path) -> JsonlSet:
    """A problem set: `problem`, `gold` (null: no reference, outcomes will be unscorable), optional `id`.

    A list of answers (OlympiadBench) means that all are asked for; they are joined by commas.

    Raises:
        UsageError: for a file or line that cannot be used; names file and line.
        MachineError: if the file may not be read.
    """
    name = _stem(path)
    seen: dict[str, str] = {}
    problems: list[Problem] = []
    for place, number, row in _rows(path):
        identifier = _identifier(row, place, f"{name}:{number}", seen)
        problems.append(Problem(identifier, _text(row, "problem", place), _reference(row, place), name))
    return JsonlSet(name, tuple(problems))


def read_responses(path: Path) -> tuple[RecordedResponse, ...]:
    """Recorded responses: `problem`, `gold` (or null), `response` (or `steps`), optional `id`, `model`, `finished`.

    Raises:
        UsageError: for a file or line that cannot be used; names file and line.
        MachineError: if the file may not be read.
    """
    return _responses(_rows(path), _stem(path))


def responses_of(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[RecordedResponse, ...]:
    """The same from mappings with the keys of a file's lines, as a program has them.

    Args:
        rows: one mapping a response.
        name: what the set is called; stands in ids and errors.

    Raises:
        UsageError: if there are none, or one cannot be used; names its place, counted from 1.

    >>> responses_of([{"problem": "1 + 1", "gold": "2", "response": "2"}], "mine")[0].id
    'mine:1'
    """
    if not rows:
        raise UsageError("no solutions were given; one mapping each is needed", item=name)
    return _responses(((f"{name}:{number}", number, row) for number, row in enumerate(rows, 1)), name)


def _responses(rows: Iterable[tuple[str, int, Mapping[str, Any]]], name: str) -> tuple[RecordedResponse, ...]:
    seen: dict[str, str] = {}
    responses: list[RecordedResponse] = []
    for place, number, row in rows:
        identifier = _identifier(row, place, f"{name}:{number}", seen)
        text, reference = _text(row, "problem", place), _reference(row, place)
        problem = Problem(f"{name}/{digest(text, reference)[:12]}", text, reference, name)
        steps = _steps(row, place)
        written = any(key in row for key in _SPELLINGS["response"])
        response = "\n\n".join(steps) if steps is not None and not written else _text(row, "response", place)
        model = row.get("model")
        finish: Finish = "length" if row.get("finished") is False else "stop"
        responses.append(
            RecordedResponse(identifier, problem, response, "" if model is None else str(model), steps, finish, number)
        )
    return tuple(responses)


def _rows(path: Path) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """(`file:line`, line, object) of every line that is not blank."""
    empty = True
    for number, raw in enumerate(io.BytesIO(_bytes(path)), 1):
        place = f"{path}:{number}"
        line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        if not line.strip():
            continue
        empty = False
        yield place, number, _object(line, place)
    if empty:
        raise UsageError("the file is empty; it needs one JSON object a line", item=str(path))


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            return gzip.decompress(data)
        if path.suffix in (".zst", ".zstd"):
            return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    except FileNotFoundError:
        raise UsageError("no such file", item=str(path)) from None
    except IsADirectoryError:
        raise UsageError("this is a folder; name a JSONL file in it", item=str(path)) from None
    except PermissionError:
        raise MachineError("no permission to read the file", item=str(path)) from None
    except (gzip.BadGzipFile, EOFError, zstandard.ZstdError) as error:
        raise UsageError(f"cannot be unpacked ({error}); the name must tell the format", item=str(path)) from None
    return data


def _object(line: bytes, place: str) -> Mapping[str, Any]:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        mend = "save it as UTF-8 (`iconv -f OLD -t UTF-8`)"
        raise UsageError(f"byte {error.start + 1} of the line is not UTF-8; {mend}", item=place) from None
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        mend = "a JSON array must become one object a line" if line.lstrip()[:1] == b"[" else "one JSON object a line"
        raise UsageError(f"not JSON ({error}); wanted: {mend}", item=place) from None
    if not isinstance(row, dict):
        raise UsageError(f"a {type(row).__name__}, wanted one JSON object a line", item=place)
    return row


def _find(row: Mapping[str, Any], name: str, place: str) -> Any:
    """Value under one of the spellings of a key.

    Raises:
        UsageError: if none is there; names the nearest key that is.
    """
    spellings = _SPELLINGS[name]
    for key in spellings:
        if key in row:
            return row[key]
    wanted = " or ".join(f"`{key}`" for key in spellings)
    near = [match for key in spellings for match in difflib.get_close_matches(key, row, 1, 0.6)]
    hint = f"rename `{near[0]}`" if near else f"the keys are {', '.join(f'`{key}`' for key in row) or 'none'}"
    null = "; write null if no reference answer is known" if name == "gold" else ""
    raise UsageError(f"no key {wanted}; {hint}{null}", item=place)


def _text(row: Mapping[str, Any], name: str, place: str) -> str:
    value = _find(row, name, place)
    if not isinstance(value, str):
        raise UsageError(f"`{name}` must be a text, got {_kind(value)}", item=place)
    return value


def _reference(row: Mapping[str, Any], place: str) -> str | None:
    value = _find(row, "gold", place)
    if value is None:
        return None
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
        wanted = "a text, a number, a list of these, or null"
        raise UsageError(f"`gold` must be {wanted}, got {_kind(value)}", item=place)
    return ", ".join(str(part) for part in parts)


def _steps(row: Mapping[str, Any], place: str) -> tuple[str, ...] | None:
    value = row.get("steps")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(step, str) for step in value):
        raise UsageError("`steps` must be a list of texts", item=place)
    return tuple(value)


def _identifier(row: Mapping[str, Any], place: str, default: str, seen: dict[str, str]) -> str:
    value = row.get("id")
    identifier = default if value is None else str(value)
    if identifier in seen:
        raise UsageError(f"id `{identifier}` stands in {seen[identifier]} too; ids must differ", item=place)
    seen[identifier] = place
    return identifier


def _kind(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def _stem(path: Path) -> str:
    return path.name.split(".")[0]
