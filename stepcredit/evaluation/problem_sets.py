"""Problem sets that policies are measured on: by name, from a file or from the hub, in one form."""

import base64
import io
import json
import pickle
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, final

from stepcredit.core.errors import UsageError
from stepcredit.core.records import Problem
from stepcredit.core.seeds import derive
from stepcredit.evaluation.labelled_lines import Line, find_file, lines

Answers = Literal["math", "code"]
"""How completions are checked: against a reference answer (formula, number, text or letter), or by running them."""

LETTERS = "ABCD"


@final
@dataclass(frozen=True)
class CodeTest:
    """One test of a program.

    Args:
        given: what it reads: its standard input, or one JSON value a line for each argument of `function`.
        wanted: what it prints, or the JSON value that `function` returns.
        function: name of the function, or of the method of `Solution`, that is called; `None` runs the program.
    """

    given: str
    wanted: str
    function: str | None = None


@final
@dataclass(frozen=True)
class TestedProblem:
    """A problem, with the tests of its program where it asks for one.

    Args:
        problem: text and reference answer; the answer is `None` where programs are asked for.
        tests: inputs and outputs.
    """

    __test__ = False  # no test of ours

    problem: Problem
    tests: tuple[CodeTest, ...] = ()


Reader = Callable[[Line, str, str], TestedProblem]
"""A row, the id it has if it names none, and the set's name, to a problem."""


@final
@dataclass(frozen=True)
class ProblemSet:
    """A published set of problems.

    Args:
        hub: its id on the Hugging Face hub.
        split: split there.
        config: configuration there.
        file: `FOLDER/NAME` of its file below `--data`, without ending.
        read: reads a row of either.
        answers: how completions are checked.
    """

    hub: str
    split: str
    file: str
    read: Reader
    config: str | None = None
    answers: Answers = "math"


def _plain(line: Line, default: str, name: str) -> TestedProblem:
    """Columns of most sets, of our files and of your own."""
    text = line.text("problem", "question", "Problem", "Question")
    context = line.row.get("context")
    whole = f"{context}\n{text}" if isinstance(context, str) and context.strip() else text
    return TestedProblem(Problem(_identifier(line, default), whole, _reference(line), name))


def _gsm8k(line: Line, default: str, name: str) -> TestedProblem:
    """The reference is what follows `####`; our files have it apart, under `gold`."""
    if "gold" in line.row:
        return _plain(line, default, name)
    answer = line.text("answer").rpartition("####")[2].strip().replace(",", "")
    return TestedProblem(Problem(_identifier(line, default), line.text("question"), answer, name))


def _gpqa(line: Line, default: str, name: str) -> TestedProblem:
    """Four choices in an order drawn by the record's id; rows that have choices and a letter already keep them."""
    if "Correct Answer" not in line.row:
        return _plain(line, default, name)
    identifier = line.text("Record ID", default=default)
    right = line.text("Correct Answer").strip()
    choices = [right, *(line.text(f"Incorrect Answer {k}").strip() for k in (1, 2, 3))]
    Random(derive(0, "gpqa", identifier)).shuffle(choices)
    shown = "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=True))
    text = f"{line.text('Question').strip()}\n\n{shown}"
    return TestedProblem(Problem(identifier, text, LETTERS[choices.index(right)], name))


def _livecodebench(line: Line, default: str, name: str) -> TestedProblem:
    """Public and private tests; a starter code stands under the problem."""
    starter = line.text("starter_code", default="").strip()
    text = line.text("question_content") + (f"\n\n{starter}" if starter else "")
    function = json.loads(line.text("metadata", default="{}") or "{}").get("func_name")
    public, private = line.row.get("public_test_cases"), line.row.get("private_test_cases")
    try:
        found = [*_tests(public), *_tests(private)]
        tests = tuple(CodeTest(test["input"], test["output"], function) for test in found)
    except (ValueError, KeyError, TypeError, zlib.error, pickle.UnpicklingError) as error:
        raise line.wrong(f"the tests cannot be read: {type(error).__name__}: {error}") from error
    identifier = line.text("question_id", default=default)
    return TestedProblem(Problem(identifier, text, None, name), tests)


PROBLEM_SETS: dict[str, ProblemSet] = {
    "gsm8k": ProblemSet("openai/gsm8k", "test", "gsm8k/test", _gsm8k, "main"),
    "math-500": ProblemSet("HuggingFaceH4/MATH-500", "test", "math500/test", _plain),
    "aime24": ProblemSet("HuggingFaceH4/aime_2024", "train", "aime/aime24", _plain),
    "aime25": ProblemSet("math-ai/aime25", "test", "aime/aime25", _plain),
    "amc23": ProblemSet("math-ai/amc23", "test", "amc/amc23", _plain),
    "olympiadbench": ProblemSet("Hothan/OlympiadBench", "train", "olympiadbench/test", _plain, "OE_TO_maths_en_COMP"),
    "minerva": ProblemSet("math-ai/minervamath", "test", "minerva/test", _plain),
    "gpqa": ProblemSet("Idavidrein/gpqa", "train", "gpqa/diamond", _gpqa, "gpqa_diamond"),
    "livecodebench": ProblemSet(
        "livecodebench/code_generation_lite", "test", "livecodebench/test", _livecodebench, answers="code"
    ),
}
"""Sets by name; anything else is a file of your own: `problem`, `answer` or `gold`, optional `id`."""


def read_problem_set(what: str, data: Path) -> tuple[TestedProblem, ...]:
    """A set by its name below a folder, or a file of your own.

    Args:
        what: name of a set, or path of a file; rows of one text (a file of responses) give one problem.
        data: folder that holds the set's folder, or its file.

    Raises:
        UsageError: if there is no such set or file, a line cannot be used, two problems share an id, or one text has
            two reference answers.
        MachineError: if a file may not be read.
    """
    if what in PROBLEM_SETS:
        named = PROBLEM_SETS[what]
        folder, _, file = named.file.partition("/")
        inner = data / folder
        path = find_file(inner if inner.is_dir() else data, file)
        return _problems(lines(path), named.read, what)
    path = Path(what)
    if not path.exists():
        raise UsageError(f"no problem set and no file is called so; sets: {', '.join(PROBLEM_SETS)}", item=what)
    return _problems(lines(path), _plain, path.name.split(".")[0])


def problems_of_rows(what: str, rows: Iterable[Mapping[str, Any]]) -> tuple[TestedProblem, ...]:
    """A set's rows as the hub gives them.

    Args:
        what: name of the set.
        rows: one mapping a problem.

    Raises:
        UsageError: as `read_problem_set`.
    """
    named = PROBLEM_SETS[what]
    placed = (Line(f"{named.hub}:{number}", row) for number, row in enumerate(rows, 1))
    return _problems(placed, named.read, what)


def _problems(rows: Iterable[Line], read: Reader, name: str) -> tuple[TestedProblem, ...]:
    by_text: dict[str, tuple[TestedProblem, str]] = {}
    places: dict[str, str] = {}
    for number, line in enumerate(rows, 1):
        found = read(line, f"{name}-{number}", name)
        problem = found.problem
        if problem.text in by_text:
            before, place = by_text[problem.text]
            if before.problem.answer != problem.answer:
                told = f"{before.problem.answer!r} in {place}, {problem.answer!r} here"
                raise line.wrong(f"one problem has two reference answers: {told}")
            continue
        if problem.id in places:
            raise line.wrong(f"id `{problem.id}` stands in {places[problem.id]} too; ids must differ")
        by_text[problem.text], places[problem.id] = (found, line.place), line.place
    if not by_text:
        raise UsageError("the set holds no problems", item=name)
    return tuple(found for found, _ in by_text.values())


def _identifier(line: Line, default: str) -> str:
    for key in ("unique_id", "id", "ID"):
        if line.row.get(key) is not None:
            return str(line.row[key])
    return default


def _reference(line: Line) -> str | None:
    """The reference answer; of a list all are asked for; null where none is known."""
    for key in ("gold", "final_answer", "answer", "Answer"):
        if key in line.row:
            value = line.row[key]
            parts: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
            if value is None:
                return None
            if not parts or not all(
                isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts
            ):
                raise line.wrong(f"`{key}` must be a text, a number, a list of these, or null, got {str(value)[:40]!r}")
            return ", ".join(str(part) for part in parts)
    raise line.wrong(f"no key `answer` or `gold`; the keys are {', '.join(line.row)}")


def _tests(value: Any) -> list[dict[str, Any]]:
    """Tests as a list, as JSON, or as upstream packs private ones: base64 of zlib of a pickled JSON text."""
    if isinstance(value, list):
        return list(value)
    if not isinstance(value, str) or not value.strip():
        return []
    if value.lstrip().startswith("["):
        return json.loads(value)
    packed = zlib.decompress(base64.b64decode(value, validate=True))
    return json.loads(_TextOnly(io.BytesIO(packed)).load())


@final
class _TextOnly(pickle.Unpickler):
    """Unpickles texts and containers of them, and refuses everything that would run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"a pickle that names {module}.{name} is not read")
