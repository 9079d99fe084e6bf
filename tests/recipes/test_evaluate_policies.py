"""`stepcredit evaluate SET --responses FILE`: avg@n, pass@k and maj@k by hand, every set's columns, programs."""

import asyncio
import base64
import gzip
import json
import math
import pickle
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from labelled_cases import write_set
from recorded_cases import call

from stepcredit.core.errors import MachineError, UsageError
from stepcredit.evaluation.problem_sets import PROBLEM_SETS, problems_of_rows, read_problem_set
from stepcredit.judges.genprm.execution import Executed
from stepcredit.recipes.evaluating.code_answers import NO_RUNNER
from stepcredit.recipes.evaluating.policy import run_policies
from stepcredit.recipes.evaluating.settings import PolicySettings
from stepcredit.recipes.report_run import saved_views
from stepcredit.recipes.status import run_status
from stepcredit.store.run_folder import read_json

TEXT = ("checker.mode=string",)
DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def attempt(problem: str, answer: Any, **more: Any) -> dict[str, Any]:
    return {"problem_id": problem, "completion": f"So it is \\boxed{{{answer}}}.", **more}


def problems(tmp_path: Path, *answers: str) -> str:
    rows = [{"id": f"p{k}", "problem": f"What is number {k}?", "answer": answer} for k, answer in enumerate(answers)]
    return str(write_set(tmp_path / "problems.jsonl", *rows))


def settings(tmp_path: Path, *rows: dict[str, Any], ks: tuple[int, ...] = (), out: str = "run") -> PolicySettings:
    return PolicySettings(tmp_path / out, write_set(tmp_path / "said.jsonl", *rows), tmp_path, ks=ks, overrides=TEXT)


def test_figures_by_hand(tmp_path: Path) -> None:
    """p0: 2 of 4 right, one vote each for two others; p1: 1 of 4 right against 3 alike."""
    first = [attempt("p0", answer) for answer in (4, 4, 5, 6)]
    second = [attempt("p1", answer) for answer in (7, 8, 8, 8)]
    told = run_policies(problems(tmp_path, "4", "7"), settings(tmp_path, *first, *second)).summary
    assert told == read_json(tmp_path / "run", "summary.json")
    assert told["coverage"] == {"asked": 8, "right": 3, "wrong": 5, "unscorable": 0, "quarantined": 0}
    found = told["models"][""]
    assert found["average"]["value"] == (2 / 4 + 1 / 4) / 2
    at = {one["k"]: one for one in found["at"]}
    assert sorted(at) == [1, 2, 4]
    assert at[1]["passed"]["value"] == found["average"]["value"]
    assert at[2]["passed"]["value"] == pytest.approx(((1 - 1 / 6) + (1 - 3 / 6)) / 2)
    assert at[4]["passed"]["value"] == 1.0
    assert at[4]["majority"]["share"]["value"] == (1.0 + 0.0) / 2
    assert at[2]["majority"]["share"]["value"] == pytest.approx(((1 + 4 * 0.5) / 6 + (3 * 0.5) / 6) / 2)
    assert at[4]["weighted"] is None


def test_scores_weigh_the_votes(tmp_path: Path) -> None:
    rows = [attempt("p0", 4, score=0.9), attempt("p0", 5, score=0.3), attempt("p0", 5, score=0.2), attempt("p0", 5)]
    [at] = run_policies(problems(tmp_path, "4"), settings(tmp_path, *rows, ks=(4,))).summary["models"][""]["at"]
    assert at["majority"]["share"]["value"] == 0.0
    assert at["weighted"]["share"]["value"] == 1.0
    assert at["weighted"]["coverage"] == {"asked": 4, "answered": 3, "unknown": 1}


def test_equal_answers_in_other_words_are_one_vote_and_models_are_apart(tmp_path: Path) -> None:
    rows = [attempt("p0", answer, model="a") for answer in ("1,000", "1000", "7", "7.0", "$7$")]
    rows += [attempt("p0", "7", model="b"), attempt("p1", "1", model="b")]
    told = run_policies(problems(tmp_path, "1000", "1"), settings(tmp_path, *rows)).summary
    assert list(told["models"]) == ["a", "b"]
    at = {one["k"]: one for one in told["models"]["a"]["at"]}
    assert at[5]["majority"]["share"]["value"] == 0.0  # three say 7, in three spellings
    assert told["models"]["b"]["average"]["value"] == 0.5
    assert told["models"]["a"]["problems"] == 1
    assert (
        "a: avg@5 0.400 [0.400, 0.400] over 1 of 2 problems: not the whole set" in saved_views(tmp_path / "run").closing
    )


def test_an_attempt_that_cannot_be_checked_is_counted_and_is_not_right(tmp_path: Path) -> None:
    rows = [
        attempt("p0", "\\frac{1}{x}"),
        attempt("p0", "2"),
        {"problem_id": "p0", "completion": "", "finished": False},
    ]
    told = run_policies(problems(tmp_path, "2"), settings(tmp_path, *rows)).summary
    assert told["coverage"] == {"asked": 3, "right": 1, "wrong": 1, "unscorable": 1, "quarantined": 0}
    assert told["models"][""]["coverage"] == {"asked": 3, "answered": 2, "unknown": 1}
    assert told["models"][""]["average"]["value"] == pytest.approx(1 / 3)
    assert "wrong: cut before an answer" in told["reasons"]


def test_the_same_command_goes_on_and_other_attempts_are_refused(tmp_path: Path) -> None:
    what, rows = problems(tmp_path, "4"), [attempt("p0", 4), attempt("p0", 5)]
    run_policies(what, settings(tmp_path, *rows))
    told = run_policies(what, settings(tmp_path, *rows, ks=(1, 2))).summary
    assert told["resumed"] == 2
    assert run_status(tmp_path / "run").state == "complete"
    lines = (tmp_path / "run" / "attempts.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["right", "wrong"]
    with pytest.raises(UsageError, match="the attempts or their problems have changed"):
        run_policies(what, settings(tmp_path, attempt("p0", 4)))


def test_the_file_of_the_attempts_may_hold_the_problems(tmp_path: Path) -> None:
    rows = [
        {"problem": "What is 2 + 2?", "gold": "4", "response": f"\\boxed{{{k}}}", "id": str(k)} for k in (3, 4, 5, 4.0)
    ]
    asked = settings(tmp_path, *rows)
    told = run_policies(str(asked.responses), asked).summary
    assert (told["problems"], told["coverage"]["right"]) == (1, 2)
    rows[0]["gold"] = "5"
    with pytest.raises(UsageError, match=r"one problem has two reference answers: '5' in .*:1, '4' here"):
        run_policies(str(asked.responses), settings(tmp_path, *rows, out="other"))


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"problem_id": "p9", "completion": "x"}, "said.jsonl:1: no problem of the set has the id 'p9'"),
        ({"problem": "What?", "completion": "x"}, "no problem of the set has this text: 'What?'"),
        ({"problem_id": "p0"}, "no key `completion` or `response`"),
        ({"problem_id": "p0", "completion": "x", "score": -1}, "a number of at least 0, got -1"),
        ({"problem_id": "p0", "completion": "x", "score": "high"}, "`score` must be a number or null, got 'high'"),
    ],
)
def test_a_line_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, row: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as error:
        run_policies(problems(tmp_path, "4"), settings(tmp_path, row))
    assert line in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_k_above_the_attempts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--k 8 needs as many attempts at a problem; the most that a model made are 1"):
        run_policies(problems(tmp_path, "4"), settings(tmp_path, attempt("p0", 4), ks=(8,)))


COLUMNS: dict[str, tuple[dict[str, Any], str | None]] = {
    "gsm8k": ({"question": "How many?", "answer": "3 + 4 = <<3+4=7>>7\n#### 1,007"}, "1007"),
    "math-500": ({"problem": "How many?", "solution": "7", "answer": "7", "unique_id": "test/algebra/1.json"}, "7"),
    "aime24": ({"id": 60, "problem": "How many?", "solution": "7", "answer": "007", "year": "2024"}, "007"),
    "aime25": ({"id": "0", "problem": "How many?", "answer": "7"}, "7"),
    "amc23": ({"id": 0, "question": "How many?", "answer": 27.0, "url": ""}, "27.0"),
    "olympiadbench": ({"id": 1606, "question": "How many?", "final_answer": ["2", "3"], "context": None}, "2, 3"),
    "minerva": ({"question": "How many?", "answer": "7"}, "7"),
}
"""One row as the hub has it, and the reference that it gives."""


@pytest.mark.parametrize("name", COLUMNS)
def test_rows_of_the_hub_are_read(name: str) -> None:
    row, answer = COLUMNS[name]
    [found] = problems_of_rows(name, [row])
    assert (found.problem.text, found.problem.answer, found.problem.source) == ("How many?", answer, name)
    assert found.problem.id == str(row.get("unique_id", row.get("id", f"{name}-1")))


def test_choices_of_gpqa_are_in_an_order_of_their_own_and_the_letter_is_that_of_the_right_one() -> None:
    rows = [
        {"Question": f"Which {k}?", "Correct Answer": "right\n", "Record ID": f"rec{k}"}
        | {f"Incorrect Answer {i}": f"wrong {i}" for i in (1, 2, 3)}
        for k in range(40)
    ]
    found = problems_of_rows("gpqa", rows)
    letters = [tested.problem.answer for tested in found]
    assert set(letters) == set("ABCD")
    assert all(f"({tested.problem.answer}) right" in tested.problem.text for tested in found)
    assert letters == [tested.problem.answer for tested in problems_of_rows("gpqa", rows)]


@pytest.mark.parametrize(
    ("name", "number"),
    [("gsm8k", 1319), ("math-500", 500), ("aime24", 30), ("aime25", 30), ("amc23", 40), ("olympiadbench", 675)],
)
def test_sets_of_the_data_folder_are_read(name: str, number: int) -> None:
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data")
    found = read_problem_set(name, DATA)
    assert number - 2 <= len(found) <= number  # rows of one text are one problem
    assert all(tested.problem.answer for tested in found)


@pytest.mark.parametrize(
    ("what", "file"), [("gsm8k", "gsm8k_model_solutions/test.jsonl.gz"), ("", "short_cot/short_aime24.jsonl.gz")]
)
def test_recorded_attempts_are_scored_as_their_grades_say(tmp_path: Path, what: str, file: str) -> None:
    """All attempts; the grades were recorded by others. Without a set's name the file holds the problems too."""
    path = DATA / file
    if not path.exists():
        pytest.skip("needs ../shared/data")
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    asked = PolicySettings(tmp_path / "run", path, DATA, overrides=(*TEXT, "report.solutions=0"))
    told = run_policies(what or str(path), asked).summary
    recorded = sum(row["correct"] is True for row in rows)
    assert told["coverage"]["asked"] == len(rows)
    assert abs(told["coverage"]["right"] - recorded) <= 0.01 * len(rows)
    for model, figures in told["models"].items():
        mine = [row for row in rows if row["model"] == model]
        assert figures["coverage"]["asked"] == len(mine)
        passed = {one["k"]: one["passed"]["value"] for one in figures["at"]}
        assert list(passed.values()) == sorted(passed.values())
        assert math.isclose(passed[1], figures["average"]["value"])


class Subprocess:
    """Runs the programs of this file, which are ours, in a process each."""

    fingerprint = "subprocess"

    def __init__(self) -> None:
        self.open: set[str] = set()

    async def run(self, code: str, *, session: str) -> Executed:
        self.open.add(session)
        began = time.monotonic()
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=pipe, stderr=pipe)
        try:
            out, err = await asyncio.wait_for(process.communicate(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()
            return Executed("timeout")
        status = "ok" if process.returncode == 0 else "error"
        return Executed(status, out.decode(), err.decode().strip(), time.monotonic() - began)

    async def end(self, session: str) -> None:
        self.open.discard(session)


STDIN = [
    {"input": "2 3\n", "output": "5\n", "testtype": "stdin"},
    {"input": "1 1\n", "output": "2.0", "testtype": "stdin"},
]
CALLED = [{"input": '[1, 2]\n"x"', "output": '[2, "x"]', "testtype": "functional"}]


def coding(name: str, public: Any, private: Any, function: str | None = None) -> dict[str, Any]:
    metadata = json.dumps({"func_name": function} if function else {})
    return {"question_id": name, "question_content": f"Program {name}.", "starter_code": "", "metadata": metadata,
            "public_test_cases": public, "private_test_cases": private}  # fmt: skip


def packed(tests: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def test_programs_are_checked_by_their_tests_and_refused_without_a_runner(tmp_path: Path) -> None:
    rows = [coding("sum", json.dumps(STDIN[:1]), packed(STDIN[1:])), coding("call", json.dumps(CALLED), "", "twist")]
    (tmp_path / "livecodebench").mkdir()
    write_set(tmp_path / "livecodebench" / "test.jsonl", *rows)
    good = "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))"
    twist = "class Solution:\n  def twist(self, xs: List[int], y: str):\n    print('talk')\n    return (xs[-1], y)"
    programs = {
        "sum": [
            good,
            "print(5)",
            "while True:\n    input()",
            "x = ",
            f"def main():\n    {good.splitlines()[1]}\nimport sys\nif __name__ == '__main__':\n  main()\n  sys.exit(0)",
        ],
        "call": [twist, twist.replace("xs[-1]", "xs[0]"), twist.replace("twist", "other")],
    }
    said = [
        {"problem_id": name, "completion": f"Here:\n```python\n{code}\n```", "id": f"{name}{k}"}
        for name, codes in programs.items()
        for k, code in enumerate(codes)
    ]
    said.append({"problem_id": "sum", "completion": "I would add them.", "id": "none"})
    asked = settings(tmp_path, *said)
    with pytest.raises(MachineError, match=NO_RUNNER):
        run_policies("livecodebench", asked)
    runner = Subprocess()
    told = run_policies("livecodebench", asked, runner=runner).summary
    lines = {row["id"]: row for row in map(json.loads, (tmp_path / "run" / "attempts.jsonl").read_text().splitlines())}
    assert [name for name, row in lines.items() if row["status"] == "right"] == ["sum0", "sum4", "call0"]
    assert lines["sum1"]["reason"] == "test 2 of 2: another output"
    assert "EOFError" in lines["sum2"]["reason"]
    assert "SyntaxError" in lines["sum3"]["reason"]
    assert lines["call1"]["reason"] == "test 1 of 1: another result"
    assert "other" in lines["call2"]["reason"] or "twist" in lines["call2"]["reason"]
    assert lines["none"]["reason"] == "no program"
    assert told["models"][""]["at"][0]["majority"] is None
    assert runner.open == set()


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    evil = base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode()
    with pytest.raises(UsageError, match="the tests cannot be read: UnpicklingError: a pickle that names"):
        problems_of_rows("livecodebench", [coding("x", "[]", evil)])
    assert not (tmp_path / "touched").exists()


def test_rows_come_from_the_hub_or_the_line_that_installs_it_is_named(tmp_path: Path) -> None:
    asked = PolicySettings(tmp_path / "run", write_set(tmp_path / "said.jsonl", attempt("p0", 4)), hub=True)
    with pytest.raises(UsageError, match="--hub takes a set by name: gsm8k"):
        run_policies("mine.jsonl", asked)
    from importlib.util import find_spec

    if find_spec("datasets") is None:
        with pytest.raises(MachineError, match=r"pip install 'stepcredit\[datasets\]'"):
            run_policies("gsm8k", asked)


def test_rows_of_files_are_loaded_by_the_datasets_package(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from stepcredit.adapters.hub import hub_rows

    folder = tmp_path / "set"
    folder.mkdir()
    row, answer = COLUMNS["olympiadbench"]
    write_set(folder / "test.jsonl", row, row | {"id": 1607, "question": "How few?"})
    found = problems_of_rows("olympiadbench", hub_rows(str(folder), split="test"))
    assert [tested.problem.answer for tested in found] == [answer, answer]
    with pytest.raises(MachineError, match="the set cannot be loaded"):
        list(hub_rows(str(tmp_path / "absent"), split="test"))


def test_the_command_measures_attempts_and_refuses_flags_of_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    what, asked = problems(tmp_path, "4"), settings(tmp_path, attempt("p0", 4), attempt("p0", 5))
    quick = ("--set", TEXT[0], "--k", "2")
    assert call("evaluate", what, "--responses", asked.responses, *quick) == 0
    assert "avg@2 0.500" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "runs" / "evaluate-problems-said" / "report.html").exists()
    assert call("evaluate", what, "--responses", asked.responses, "--judge", "random") == 2
    assert "--judge asks or compares judges" in capsys.readouterr().err
    assert call("evaluate", what, "--k", "2") == 2
    assert call("evaluate", "gsm8k") == 2
    assert "give recorded attempts at them with --responses FILE" in capsys.readouterr().err


def test_every_set_names_hub_id_split_and_file() -> None:
    assert list(PROBLEM_SETS) == [*COLUMNS, "gpqa", "livecodebench"]
    assert all(one.hub.count("/") == 1 and one.file.count("/") == 1 for one in PROBLEM_SETS.values())
