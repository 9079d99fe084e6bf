"""The facade: scripts, notebooks, own judges, nothing on disk."""

import subprocess
import sys
from pathlib import Path

import pytest

import stepcredit
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Steps, Verdict
from stepcredit.testing import ScriptedServer

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "solutions.jsonl"
SOLUTION = {
    "id": "sum",
    "problem": "What is 2 + 3?",
    "answer": "5",
    "completion": "The sum of 2 and 3 is 2 + 3 = 6, that is quick to see.\n\n"
    "Wait, that is wrong. I made a mistake: 2 + 3 = 5, since 2 + 2 = 4.\n</think>\n\nThe answer is \\boxed{5}.",
}


def test_one_solution() -> None:
    (solution,) = stepcredit.judge(SOLUTION)
    assert (solution.id, solution.outcome, solution.answer, solution.failed) == ("sum", "right", "5", "")
    assert [(step.label, step.score) for step in solution.steps] == [
        ("incorrect", 0.0),
        ("correct", 1.0),
        ("correct", 1.0),
    ]
    assert solution.steps[0].reason.startswith("taken back at step 1")
    assert "".join(step.text for step in solution.steps) == SOLUTION["completion"]
    assert solution.judgement.steps.rollout.retokenised


def test_a_list_and_a_file_keep_their_order() -> None:
    two = stepcredit.judge([SOLUTION | {"id": "a"}, SOLUTION | {"id": "b", "answer": None}])
    assert [(one.id, one.outcome) for one in two] == [("a", "right"), ("b", "unscorable")]
    assert all(step.label is None and step.score is None and step.reason for step in two[1].steps)
    of_file = stepcredit.judge(EXAMPLES)
    assert len(of_file) == 12
    assert [one.id for one in of_file[:2]] == ["speed-0", "speed-1"]
    assert stepcredit.judge(str(EXAMPLES)) is not None


async def test_inside_a_running_event_loop_as_in_a_notebook() -> None:
    (solution,) = stepcredit.judge(SOLUTION)
    assert solution.outcome == "right"


def test_the_critic_and_the_mend_where_there_is_no_server() -> None:
    with ScriptedServer(reply=lambda _: "\\boxed{0}") as server:
        (solution,) = stepcredit.judge(SOLUTION, judge="critic", server=server.url, model="scripted")
    assert [step.score for step in solution.steps] == [0.0, None, None]
    with pytest.raises(UsageError, match="give --server URL"):
        stepcredit.judge(SOLUTION, judge="critic")
    with pytest.raises(UsageError, match="judge = 'marker' is unknown; did you mean 'markers'"):
        stepcredit.judge(SOLUTION, judge="marker")  # type: ignore[arg-type]


class Half:
    """A judge of one's own."""

    fingerprint = "half"
    scale = Scale.PROBABILITY

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        return (Verdict(0.5),) * len(steps)


def test_a_judge_of_ones_own() -> None:
    (solution,) = stepcredit.judge(SOLUTION, judge=Half())
    assert [step.score for step in solution.steps] == [0.5] * 3
    assert solution.judgement.judge == "half"


@pytest.mark.parametrize(
    ("solutions", "line"),
    [
        ([], "solutions: no solutions were given"),
        ([SOLUTION, {"problem": "p", "completion": "c"}], "solutions:2: no key `gold` or `answer`"),
        ([SOLUTION, SOLUTION], "solutions:2: id `sum` stands in solutions:1 too"),
        ("nowhere.jsonl", "nowhere.jsonl: no such file"),
    ],
)
def test_errors_name_the_place(solutions: object, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        stepcredit.judge(solutions)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"solutions": ["a"]}, r"solutions:1: a solution must be a mapping with .*, got str 'a'"),
        ({"solutions": None}, "solutions must be a path, a mapping or several of these, got NoneType"),
        ({"judge": object()}, "judge must be `markers`, `critic`, .*or an object with fingerprint, scale, judge"),
        ({"overrides": "checker.mode=string"}, r"overrides must be a list of texts, such as .*got str 'checker\.mode"),
    ],
)
def test_what_a_notebook_gets_wrong_is_one_line(given: dict[str, object], line: str) -> None:
    """They were `the keys are a`, an AttributeError, and `--set takes section.key=value, got 'c'`."""
    with pytest.raises(UsageError, match=line):
        stepcredit.judge(**{"solutions": SOLUTION, **given})  # type: ignore[arg-type]


def test_steps_may_be_a_tuple() -> None:
    steps = ("2 + 3 = 5, since 2 + 2 = 4 and one more.", "The answer is 5.")
    (solution,) = stepcredit.judge({"problem": "2 + 3?", "answer": "5", "steps": steps})
    assert [step.text.strip() for step in solution.steps] == list(steps)


def test_settings_by_name() -> None:
    (whole,) = stepcredit.judge(SOLUTION, overrides=("steps.splitter=whole",))
    assert len(whole.steps) == 1
    with pytest.raises(UsageError, match=r"unknown key steps\.spliter; did you mean steps\.splitter"):
        stepcredit.judge(SOLUTION, overrides=("steps.spliter=whole",))


def test_the_package_exports_the_facade_lazily() -> None:
    code = "import sys, stepcredit; a = 'numpy' in sys.modules; stepcredit.judge; print(a, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]
    with pytest.raises(AttributeError, match="no attribute 'jugde'"):
        stepcredit.jugde  # noqa: B018  # pyright: ignore
