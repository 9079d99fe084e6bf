"""Problem sets and recorded responses from files: one JSON object a line, plain, `.gz` or `.zst`.

Both spellings are read: `problem` or `question`, `gold` or `answer`, `response` or `completion`; where a line has
both they must agree. Further keys are ignored. Every error is one line that names file and line, and how to mend it.
"""

import difflib
import gzip
import io
import json
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
_OTHERS = {
    "problem": ("query", "prompt", "instruction", "input"),
    "gold": ("ground_truth", "target", "reference", "reference_answer", "gold_answer", "final_answer"),
    "response": ("output", "generation", "generated_text", "model_output", "prediction"),
}
"""What other tools call them (`docs/glossary.md`): not read, but named where a key is absent."""

_OURS = {"problem": "problem", "gold": "answer", "response": "completion"}


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


@final
@dataclass(frozen=True)
class SkippedLine:
    """A line that could not be used and was left out on request.

    Args:
        place: `file:line`.
        reason: what is wrong with it, with the mend.
    """

    place: str
    reason: str


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
    for place, number, offset, line in _lines(path):
        row = _object(line, place, offset)
        identifier = _identifier(row, place, f"{name}:{number}", seen)
        problems.append(Problem(identifier, _text(row, "problem", place), _reference(row, place), name))
    return JsonlSet(name, tuple(problems))


def read_responses(path: Path) -> tuple[RecordedResponse, ...]:
    """Recorded responses: `problem`, `gold` (or null), `response` (or `steps`), optional `id`, `model`, `finished`.

    Raises:
        UsageError: for a file or line that cannot be used; names file and line.
        MachineError: if the file may not be read.
    """
    return tuple(stream_responses(path))


def stream_responses(path: Path, *, skipped: list[SkippedLine] | None = None) -> Iterator[RecordedResponse]:
    """The same one by one: the file is read as they are asked for, and not held.

    Args:
        path: the file.
        skipped: takes the lines that cannot be used, which are then left out; `None` refuses the file at the first.

    Raises:
        UsageError: for a file that cannot be used, or a line without `skipped`; or if every line is skipped.
        MachineError: if the file may not be read.
    """
    name, seen, any_good = _stem(path), dict[str, str](), False
    for place, number, offset, line in _lines(path):
        try:
            response = _response(_object(line, place, offset), name, seen, place=place, number=number)
        except UsageError as error:
            if skipped is None:
                raise
            skipped.append(SkippedLine(place, str(error).removeprefix(f"{place}: ")))
        else:
            any_good = True
            yield response
    if skipped and not any_good:
        raise UsageError(f"no line can be used; the first: {skipped[0].reason}", item=skipped[0].place)


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
    seen: dict[str, str] = {}
    return tuple(
        _response(row, name, seen, place=f"{name}:{number}", number=number) for number, row in enumerate(rows, 1)
    )


def _response(row: Mapping[str, Any], name: str, seen: dict[str, str], *, place: str, number: int) -> RecordedResponse:
    text, reference = _text(row, "problem", place), _reference(row, place)
    problem = Problem(f"{name}/{digest(text, reference)[:12]}", text, reference, name)
    steps = _steps(row, place)
    written = any(key in row for key in _SPELLINGS["response"])
    response = "\n\n".join(steps) if steps is not None and not written else _text(row, "response", place)
    model = row.get("model")
    finished = row.get("finished")
    if not isinstance(finished, bool | None):
        raise UsageError(f"`finished` must be true, false or null, got {_kind(finished)}", item=place)
    finish: Finish = "length" if finished is False else "stop"
    identifier = _identifier(row, place, f"{name}:{number}", seen)
    return RecordedResponse(identifier, problem, response, "" if model is None else str(model), steps, finish, number)


def read_objects(path: Path, *, bare_nan: bool = False) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(`file:line`, object) of every line that is not blank, read as they are asked for.

    Args:
        path: the file.
        bare_nan: True reads `NaN` and `Infinity`, which are not JSON, as Python's own writer leaves them in logs.

    Raises:
        UsageError: if the file is not there, empty, cannot be unpacked, or a line is no JSON object.
        MachineError: if it may not be read.
    """
    for place, _, offset, line in _lines(path):
        yield place, _object(line, place, offset, bare_nan=bare_nan)


def _lines(path: Path) -> Iterator[tuple[str, int, int, bytes]]:
    """(`file:line`, line, its offset in bytes, its bytes) of every line that is not blank."""
    empty, offset = True, 0
    with _opened(path) as lines:
        for number, raw in enumerate(_read(lines, path), 1):
            line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            if line.strip():
                empty = False
                yield f"{path}:{number}", number, offset, line
            offset += len(raw)
    if empty:
        raise UsageError("the file is empty; it needs one JSON object a line", item=str(path))


@contextmanager
def _opened(path: Path) -> Generator[Iterable[bytes]]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise UsageError("no such file", item=str(path)) from None
    except IsADirectoryError:
        raise UsageError("this is a folder; name a JSONL file in it", item=str(path)) from None
    except PermissionError:
        raise MachineError("no permission to read the file", item=str(path)) from None
    with file:
        if path.suffix == ".gz":
            yield gzip.GzipFile(fileobj=file)
        elif path.suffix in (".zst", ".zstd"):
            unpacked: Any = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            yield io.BufferedReader(unpacked)
        else:
            yield file


def _read(lines: Iterable[bytes], path: Path) -> Iterator[bytes]:
    try:
        yield from lines
    except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UsageError(f"cannot be unpacked ({error}); the name must tell the format", item=str(path)) from None
    except OSError as error:
        raise MachineError(f"cannot be read: {error.strerror or error}", item=str(path)) from error


def _object(line: bytes, place: str, offset: int, *, bare_nan: bool = False) -> Mapping[str, Any]:
    at = f" (the line begins at byte {offset} of the file)"
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        mend = "save it as UTF-8 (`iconv -f OLD -t UTF-8`)"
        raise UsageError(f"byte {error.start + 1} of the line is not UTF-8; {mend}{at}", item=place) from None
    try:
        row = json.loads(line) if bare_nan else orjson.loads(line)
    except (ValueError, RecursionError) as error:  # of the standard library: also too many digits, too deep a nesting
        mend = "a JSON array must become one object a line" if line.lstrip()[:1] == b"[" else "one JSON object a line"
        raise UsageError(f"not JSON ({error}); wanted: {mend}{at}", item=place) from None
    if not isinstance(row, dict):
        raise UsageError(f"a {type(row).__name__}, wanted one JSON object a line{at}", item=place)
    return row


def _find(row: Mapping[str, Any], name: str, place: str) -> tuple[str, Any]:
    """Key and value under one of the spellings of a key.

    Raises:
        UsageError: if none is there (names the key to rename), or two that differ.
    """
    spellings = _SPELLINGS[name]
    there = [key for key in spellings if key in row]
    if not there:
        wanted = " or ".join(f"`{key}`" for key in spellings)
        null = "; write null if no reference answer is known" if name == "gold" else ""
        raise UsageError(f"no key {wanted}; {_rename(row, name)}{null}", item=place)
    first, last = there[0], there[-1]
    if not _alike(row[first], row[last]):
        told = f"`{first}` is {_kind(row[first])} and `{last}` is {_kind(row[last])}"
        raise UsageError(f"{told}; both are read as the {_OURS[name]}, so leave one out", item=place)
    return first, row[first]


def _rename(row: Mapping[str, Any], name: str) -> str:
    """Which key is to be renamed to what; all keys where that cannot be told."""
    for key in _SPELLINGS[name]:
        if near := difflib.get_close_matches(key, row, n=1):
            return f"rename `{near[0]}` to `{key}`"
    for key in row:
        if key.lower().replace(" ", "_").replace("-", "_") in _OTHERS[name]:
            return f"rename `{key}` to `{_OURS[name]}`"
    return f"the keys are {', '.join(f'`{key}`' for key in row) or 'none'}"


def _alike(one: Any, other: Any) -> bool:
    """Equal, or a number and its text."""
    numbers = all(isinstance(value, str | int | float) and not isinstance(value, bool) for value in (one, other))
    return one == other or (numbers and str(one) == str(other))


def _text(row: Mapping[str, Any], name: str, place: str) -> str:
    key, value = _find(row, name, place)
    if not isinstance(value, str):
        raise UsageError(f"`{key}` must be a text, got {_kind(value)}", item=place)
    return value


def _reference(row: Mapping[str, Any], place: str) -> str | None:
    key, value = _find(row, "gold", place)
    if value is None:
        return None
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
        wanted = "a text, a number, a list of these, or null"
        raise UsageError(f"`{key}` must be {wanted}, got {_kind(value)}", item=place)
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
