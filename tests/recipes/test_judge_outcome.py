"""Judges of whole solutions from the command line: one score each, ranked by problem, resumed call by call."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from recorded_cases import RIGHT, WRONG, call, row, write_rows

from stepcredit import judge
from stepcredit.core.errors import UsageError
from stepcredit.recipes.recorded.outcome_results import ScoredSolution, ordering
from stepcredit.recipes.report_run import saved_views
from stepcredit.store.run_folder import read_json
from stepcredit.testing import Fault, Manners, ScriptedServer

OTHER = "What is 2 + 3?"
STRING = ("--set", "checker.mode=string")


def quality(text: str) -> int:
    """What the scripted judges think of a solution: those that say 19 or 5 are good."""
    return 9 if "19" in text or "= 5" in text else 4


def reply(messages: Sequence[Any]) -> str:
    """In the form that the prompt asks for: a number, a comparison, or a box of scores."""
    text = messages[-1]["content"] if isinstance(messages[-1], dict) else messages[-1].content
    shown = re.findall(r"<solution(?:_[0-9AB]+)?>\n(.*?)\n</solution", text, re.DOTALL)
    if "<solution_A>" in text:
        first, second = map(quality, shown)
        return f"<think>hm</think><answer>{(second > first) - (second < first)}</answer>"
    if "<solution_1>" in text:
        return "Principles. \\boxed{" + ", ".join(str(quality(one)) for one in shown) + "}"
    return f"<answer>{quality(shown[0])}</answer>"


def solutions(folder: Path) -> Path:
    """Three solutions of one problem by two models, two of another, one without text."""
    rows = [
        row(RIGHT, name="a", model="one"),
        row(WRONG, name="b", model="one"),
        row(RIGHT + " Done.", name="c", model="two"),
        {"id": "d", "problem": OTHER, "answer": "5", "completion": "2 + 3 = 5. So \\boxed{5}.", "model": "one"},
        {"id": "e", "problem": OTHER, "answer": "5", "steps": ["2 + 3 = 6.", "So \\boxed{6}."], "model": "two"},
        {"id": "f", "problem": OTHER, "answer": "5", "completion": "", "model": "two"},
    ]
    return write_rows(folder / "x.jsonl", *rows)


def lines(run: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in (run / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["id"]: line for line in found}


@pytest.mark.parametrize(
    ("words", "scores", "calls", "reason"),
    [
        (("think-rm",), (9.0, 4.0, 9.0, 9.0, 4.0), 5, ""),
        (
            ("think-rm", "--set", "think_rm.form=pair"),
            (0.5, -1.0, 0.5, 1.0, -1.0),
            4,
            "mean of 2 of 2 comparisons",
        ),
        (("spct", "--set", "spct.votes=3"), (27.0, 12.0, 27.0, 27.0, 12.0), 6, "sum of 3 of 3 replies"),
    ],
)
def test_every_solution_gets_one_score_and_its_rank_among_those_of_its_problem(
    words: tuple[str, ...],
    scores: tuple[float, ...],
    calls: int,
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    with ScriptedServer(reply=reply) as server:
        more = ("--judge", *words, "--server", server.url, *STRING)
        assert call("judge", solutions(tmp_path), "--out", run, *more) == 0
        asked = sum(one.route.endswith("chat/completions") for one in server.asked)
    found = lines(run)
    assert tuple(found[name]["score"] for name in "abcde") == scores
    assert [found[name]["rank"] for name in "abcde"] == [1, 3, 1, 1, 2]
    assert (found["a"]["reason"], found["a"]["outcome"], found["a"]["model"]) == (reason, "right", "one")
    assert (found["f"]["score"], found["f"]["rank"], found["f"]["reason"]) == (None, None, "empty response")
    assert asked == calls
    told = read_json(run, "summary.json")
    assert (told["judged"], told["unknown"], told["groups"]) == (5, 1, 2)
    assert told["scores"] | {"scale": "", "mean": 0, "low": 0, "high": 0} == {
        "scale": "", "scored": 5, "mean": 0, "low": 0, "high": 0, "pairs": 3, "right_first": 3, "ties": 0,
        "agreement": 1.0, "mixed_problems": 2, "best_right": 1.0,
    }  # fmt: skip
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "Of 3 pairs of a right and a wrong solution of one problem the scores put 100.0% in the right order." in shown
    )
    assert "scores by model" in shown
    views = {view.id: view for view in saved_views(run).solutions}
    assert [len(view.steps) for view in views.values()] == [1, 1, 1, 1, 1, 0]
    assert views["b"].steps[0].score == scores[1]


def test_a_run_that_was_stopped_goes_on_and_asks_no_question_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = solutions(tmp_path), tmp_path / "run"
    with ScriptedServer(reply=reply) as server:
        words = ("--judge", "spct", "--server", server.url, *STRING)
        assert call("judge", file, "--out", run, *words, "--max-calls", "9") == 4
        assert "go on with: stepcredit judge" in capsys.readouterr().err
        assert not (run / "scores.jsonl").exists()
        assert call("judge", file, "--out", run, *words) == 0
        chats = [one.body for one in server.asked if one.route.endswith("chat/completions")]
    assert len(chats) == 16
    assert len({json.dumps(body, sort_keys=True) for body in chats}) == 16
    assert lines(run)["a"]["score"] == 72.0


def test_a_problem_on_which_the_model_failed_is_asked_again_by_the_same_command(tmp_path: Path) -> None:
    file, run = solutions(tmp_path), tmp_path / "run"
    broken = {"on": True}

    def fault(asked: Any) -> Fault | None:
        return Fault(status=500) if broken["on"] and OTHER in json.dumps(asked.body) else None

    with ScriptedServer(reply=reply, faults=fault) as server:
        words = ("--judge", "think-rm", "--server", server.url, "--model", "scripted", *STRING)
        quick = ("--set", "server.max_tries=1", "--set", "server.backoff_s=0.01")
        assert call("judge", file, "--out", run, *words, *quick) == 5
        assert "the pointwise judge's model failed" in lines(run)["d"]["reason"]
        assert lines(run)["a"]["score"] == 9.0
        before, broken["on"] = len(server.asked), False
        assert call("judge", file, "--out", run, *words, *quick) == 0
        assert sum(one.route.endswith("chat/completions") for one in server.asked[before:]) == 2
    assert lines(run)["d"]["score"] == 9.0


def test_replies_that_cannot_be_read_give_no_score(tmp_path: Path) -> None:
    file, run = solutions(tmp_path), tmp_path / "run"
    with ScriptedServer(reply=lambda _: "both are fine") as server:
        assert call("judge", file, "--out", run, "--judge", "think-rm", "--server", server.url, *STRING) == 0
    assert {line["score"] for line in lines(run).values()} == {None}
    assert lines(run)["a"]["reason"] == "the reply has no <answer> block"
    assert read_json(run, "summary.json")["scores"]["agreement"] is None


def test_the_words_of_a_served_checkpoint_are_those_of_the_recipe(tmp_path: Path) -> None:
    with ScriptedServer(reply=reply) as server:
        words = ("--judge", "think-rm", "--server", server.url, *STRING, "--set", "think_rm.form=pair")
        user = "think_rm.user=P {problem} <solution_A>\n{first}\n</solution_A> <solution_B>\n{second}\n</solution_B>"
        more = ("--set", "think_rm.system=", "--set", user)
        assert call("judge", solutions(tmp_path), "--out", tmp_path / "run", *words, *more) == 0
        chats = [one.body for one in server.asked if one.route.endswith("chat/completions")]
    assert all(len(body["messages"]) == 1 for body in chats)
    assert all(body["messages"][0]["content"].startswith("P ") for body in chats)


@pytest.mark.parametrize(
    ("verb", "words", "line"),
    [
        ("run", ("--judge", "spct", "--credit", "tp_grpo"), "credit goes to steps, and judge spct scores whole"),
        ("judge", ("--judge", "think-rm", "--set", "think_rm.scale=binary"), "think_rm.scale is no setting of"),
        (
            "judge",
            ("--judge", "think-rm", "--set", "think_rm.form=pair", "--set", "think_rm.low=1"),
            "think_rm.low is no setting of think_rm.form=pair; it is of form=point",
        ),
        (
            "judge",
            ("--judge", "think-rm", "--set", "think_rm.form=pair", "--set", "think_rm.user=only {first}"),
            "the pairwise judge's user turn lacks the field {problem}",
        ),
        ("judge", ("--judge", "spct", "--set", "judge.votes=3"), "judge.votes is no setting of spct"),
        (
            "judge",
            ("--judge", "spct", "--set", "spct.kept=2"),
            "spct.kept is of a meta reward model",
        ),
        (
            "judge",
            ("--judge", "spct", "--set", "spct.meta=m", "--set", "spct.meta_server=http://127.0.0.1:9/v1"),
            "--set spct.meta_tokenizer=FOLDER",
        ),
        ("judge", ("--judge", "spct", "--sandbox", "auto"), "judge spct runs no code"),
        ("judge", ("--judge", "spct", "--tokenizer", "x"), "judge spct takes no tokenizer"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_before_a_server_is_asked(
    verb: str, words: tuple[str, ...], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = {"judge": (solutions(tmp_path),), "run": ("--input", solutions(tmp_path))}[verb]
    with ScriptedServer(reply=reply) as server:
        more = ("--server", server.url, "--model", "scripted", "--out", tmp_path / "run")
        assert call(verb, *file, *words, *more) == 2
        assert not server.asked
    assert line in " ".join(capsys.readouterr().err.split())


def test_without_a_server_the_mend_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("judge", solutions(tmp_path), "--judge", "think-rm", "--out", tmp_path / "run") == 2
    assert "judge think-rm asks a model; give --server URL" in capsys.readouterr().err


def test_pairs_need_two_solutions_of_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    words = ("--judge", "think-rm", "--set", "think_rm.form=pair", "--server", "http://127.0.0.1:9/v1", "--model", "m")
    assert call("judge", file, "--out", tmp_path / "run", *words) == 2
    assert "no problem of the file has two solutions to compare" in capsys.readouterr().err


def test_they_are_no_judges_of_steps_for_evaluate_and_in_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--judge", "spct", "--server", "http://127.0.0.1:9/v1", "--out", tmp_path / "run")
    assert call("evaluate", "processbench", *words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "judge spct scores whole solutions, and verdicts on steps are wanted here; stepcredit judge FILE" in said
    with pytest.raises(UsageError, match="scores whole solutions"):
        judge(row(RIGHT), judge="think-rm", server="http://127.0.0.1:9/v1")


def test_run_until_judge_gives_the_same_scores(tmp_path: Path) -> None:
    with ScriptedServer(reply=reply, manners=Manners()) as server:
        words = ("--judge", "think-rm", "--until", "judge", "--server", server.url, *STRING)
        assert call("run", "--input", solutions(tmp_path), "--out", tmp_path / "run", *words) == 0
    assert [lines(tmp_path / "run")[name]["score"] for name in "abcde"] == [9.0, 4.0, 9.0, 9.0, 4.0]


def test_ordering_counts_ties_and_leaves_out_what_has_no_score() -> None:
    made = [("g", "right", 5.0), ("g", "wrong", 5.0), ("g", "wrong", 7.0), ("h", "right", 1.0), ("h", "wrong", None)]
    found = ordering([ScoredSolution("r", group, "p", "", outcome, score, "") for group, outcome, score in made])
    assert (found.pairs, found.right_first, found.ties, found.mixed, found.best_right) == (2, 0, 1, 1, 0.0)
    assert found.agreement == 0.25
