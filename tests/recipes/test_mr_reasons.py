"""MR-Score through the verb: a judge states a reason, a checker or a file says whether it is the true one."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from labelled_cases import asked, write_set

from stepcredit.core.errors import BudgetError, PartialError, UsageError
from stepcredit.core.protocols import Message
from stepcredit.recipes.evaluating import run_evaluation
from stepcredit.recipes.report_run import saved_views
from stepcredit.testing import Fault, ScriptedServer

REASONED = ("judge.variant=reason",)


def row(name: str, label: int, says: str, *, because: str = "", known: str = "it adds") -> dict[str, Any]:
    """A line whose first step tells the scripted judge what to say, and why."""
    first = f"{name}: says <{says}> because <{because}>"
    more = {"error_reason": known} if label >= 0 and known else {}
    return {"id": name, "problem": "p", "steps": [first, "b", "c"], "label": label, **more}


ROWS = (
    row("right-reason", 1, "1", because="it adds"),
    row("other-reason", 0, "0", because="it divides"),
    row("no-reason", 2, "2"),
    row("other-step", 0, "1", because="it adds"),
    row("called-clean", 0, "none"),
    row("unknown-label", 1, "1", because="it adds", known=""),
    row("clean", -1, "none"),
    row("clean-blamed", -1, "0", because="it adds"),
)
"""Six wrong: four named at the step, one of these with the true reason; of two right ones one is cleared."""


def speaks(messages: Sequence[Message]) -> str:
    """The judge's reply, or the checker's: right if given and known reason are the same words."""
    text = messages[-1].content
    given = re.search(r"<given_reason>\n(.*)\n</given_reason>", text)
    if given:
        known = re.search(r"<known_reason>\n(.*)\n</known_reason>", text)
        return f"<grade>{'right' if known and known[1] == given[1] else 'wrong'}</grade>"
    said = re.search(r"says <(.*?)> because <(.*?)>", text)
    assert said is not None
    return f"<first_error>{said[1]}</first_error>" + (f"<error_reason>{said[2]}</error_reason>" if said[2] else "")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "mr_gsm8k"
    folder.mkdir(parents=True)
    write_set(folder / "test.jsonl", *ROWS)
    return tmp_path / "data"


def judged(data: Path, out: Path, server: ScriptedServer, *more: str, **changes: Any) -> dict[str, Any]:
    settings = asked(out, "step-critic", *REASONED, *more, data=data, server=server.url, model="scripted", **changes)
    return run_evaluation("mr-gsm8k", settings).summary


def by_model(server: ScriptedServer) -> tuple[str, str]:
    return f"reasons.server={server.url}", "reasons.model=scripted"


def predicted(out: Path) -> dict[str, dict[str, Any]]:
    lines = (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return {found["id"]: found for found in map(json.loads, lines)}


def test_a_checker_gives_the_mr_score_worked_by_hand(data: Path, tmp_path: Path) -> None:
    """Wrong: 5 of 6 called so; right: 1 of 2 kept. MCC (5*1 - 1*1) / sqrt(6*6*2*2); step 4/6; reason 1/6."""
    with ScriptedServer(reply=speaks) as server:
        told = judged(data, tmp_path / "run", server, *by_model(server))
    score = told["mr_score"]["mr-gsm8k"]
    correlation = 4 / 12
    assert score["correlation"]["value"] == pytest.approx(correlation)
    assert score["step_accuracy"]["value"] == pytest.approx(4 / 6)
    assert score["reason_accuracy"]["value"] == pytest.approx(1 / 6)
    assert score["score"]["value"] == pytest.approx(0.2 * correlation + 0.3 * 4 / 6 + 0.5 / 6)
    assert score["reasons"] == {"asked": 4, "answered": 2, "unknown": 2}
    assert (told["metric"], told["score"]["value"]) == ("MR-Score", score["score"]["value"])
    assert told["reasons"] == {
        "checker": "scripted",
        "asked": 4,
        "right": 1,
        "wrong": 1,
        "unknown": 2,
        "unknown_reasons": {"the judge gave no reason": 1, "the set records no reason": 1},
    }
    assert told["mr_score_mean"] is None
    rows = predicted(tmp_path / "run")
    assert (rows["right-reason"]["given_reason"], rows["right-reason"]["reason_right"]) == ("it adds", True)
    assert (rows["other-reason"]["given_reason"], rows["other-reason"]["reason_right"]) == ("it divides", False)
    assert (rows["other-step"]["given_reason"], rows["other-step"]["reason_right"]) == ("it adds", None)
    assert rows["no-reason"]["given_reason"] is None
    report = saved_views(tmp_path / "run")
    [table] = [table for table in report.tables if table.title == "MR-Score"]
    assert [table.rows[0][place] for place in (5, 6, 7)] == [6, 0, 2]
    assert "reasons without a grade" in [table.title for table in report.tables]
    assert any("the judge's reason: the true one" in view.note for view in report.solutions)


def test_grades_of_a_file_need_no_model_and_any_judge_will_do(data: Path, tmp_path: Path) -> None:
    grades = write_set(
        tmp_path / "grades.jsonl",
        {"id": "right-reason", "reason_right": True},
        {"id": "other-reason", "reason_right": False},
        {"id": "no-reason", "reason_right": None},
        {"id": "clean", "reason_right": True},
    )
    settings = asked(tmp_path / "run", "perfect", f"reasons.labels={grades}", data=data)
    told = run_evaluation("mr-gsm8k", settings).summary
    score = told["mr_score"]["mr-gsm8k"]
    assert score["score"]["value"] == pytest.approx(0.2 + 0.3 + 0.5 * 1 / 6)
    assert score["reasons"] == {"asked": 6, "answered": 2, "unknown": 4}
    assert told["reasons"]["checker"] == "grades.jsonl"
    assert told["reasons"]["unknown_reasons"] == {
        "the file of grades does not say": 3,
        "the file of grades says that it is not known": 1,
    }


def test_a_grade_is_asked_once_and_a_judge_that_was_graded_is_not_asked_again(data: Path, tmp_path: Path) -> None:
    with ScriptedServer(reply=speaks) as server:
        first = judged(data, tmp_path / "run", server)
        assert first["mr_score"]["mr-gsm8k"]["score"] is None
        assert first["reasons"] is None
        before = len(server.asked)
        graded = judged(data, tmp_path / "run", server, *by_model(server))
        after = len(server.asked)
        again = judged(data, tmp_path / "run", server, *by_model(server))
        chats = [one for one in server.asked[after:] if "chat" in one.route]
    assert after > before
    assert chats == []
    assert again["mr_score"] == graded["mr_score"]


def test_a_grade_that_cannot_be_read_is_unknown_and_asked_again(data: Path, tmp_path: Path) -> None:
    def mute(messages: Sequence[Message]) -> str:
        return "hm" if "<given_reason>" in messages[-1].content else speaks(messages)

    with ScriptedServer(reply=mute) as server:
        told = judged(data, tmp_path / "run", server, *by_model(server))
    assert told["reasons"]["unknown_reasons"]["the checker's reply has no <grade> tag"] == 2
    assert told["mr_score"]["mr-gsm8k"]["reason_accuracy"]["value"] == 0.0


def test_a_checker_that_fails_leaves_a_partial_run_that_goes_on(data: Path, tmp_path: Path) -> None:
    with ScriptedServer(reply=speaks) as server:
        judged(data, tmp_path / "run", server)
        wanted = "the checker failed on 2 reasons; the same command asks again"
        broken = Fault("status", status=500)
        with ScriptedServer(reply=speaks, faults=lambda one: broken if "chat" in one.route else None) as other:
            with_faults = (*by_model(other), "server.max_tries=1")
            with pytest.raises(PartialError, match=wanted):
                judged(data, tmp_path / "run", server, *with_faults)
        told = judged(data, tmp_path / "run", server, *by_model(server))
    assert told["reasons"]["right"] == 1


def test_a_checkers_calls_count_against_the_limit(data: Path, tmp_path: Path) -> None:
    with ScriptedServer(reply=speaks) as server:
        judged(data, tmp_path / "run", server)
        spent = len(server.asked)
        with pytest.raises(BudgetError, match="--max-calls"):
            judged(data, tmp_path / "run", server, *by_model(server), max_calls=spent)


@pytest.mark.parametrize(
    ("overrides", "judge", "line"),
    [
        (("reasons.model=m",), "perfect", "needs a chat model with its server, or a file of grades"),
        (("reasons.max_tokens=9",), "perfect", "needs a chat model with its server, or a file of grades"),
        (("reasons.server=http://x/v1", "reasons.model=m", "reasons.labels=f"), "perfect", "leave one of them out"),
        (("reasons.server=http://x/v1", "reasons.model=m"), "perfect", "this one gives none; give --judge step-critic"),
    ],
)
def test_a_checker_without_anything_to_grade_is_refused(
    data: Path, tmp_path: Path, overrides: tuple[str, ...], judge: str, line: str
) -> None:
    with pytest.raises(UsageError, match=line):
        run_evaluation("mr-gsm8k", asked(tmp_path / "run", judge, *overrides, data=data))
    assert not (tmp_path / "run").exists()


def test_a_set_without_mr_score_has_no_use_for_grades(tmp_path: Path) -> None:
    file = write_set(tmp_path / "mine.jsonl", ROWS[0])
    with pytest.raises(UsageError, match="which mine does not have"):
        run_evaluation(str(file), asked(tmp_path / "run", "perfect", "reasons.labels=f"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"id": "nobody", "reason_right": True}, "no solution of the set has the id 'nobody'"),
        ({"id": "clean"}, "no key `reason_right`"),
        ({"id": "clean", "reason_right": "yes"}, "`reason_right` must be true or false"),
    ],
)
def test_a_file_of_grades_that_cannot_be_used_names_its_line(
    data: Path, tmp_path: Path, line: dict[str, Any], told: str
) -> None:
    grades = write_set(tmp_path / "grades.jsonl", line)
    with pytest.raises(UsageError, match=re.escape(told)) as error:
        run_evaluation("mr-gsm8k", asked(tmp_path / "run", "perfect", f"reasons.labels={grades}", data=data))
    assert "grades.jsonl:1" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_mr_ben_is_the_mean_of_its_subjects_and_a_checker_sees_mended_steps(tmp_path: Path) -> None:
    folder = tmp_path / "mr_ben"
    folder.mkdir()
    for subject in ("math", "physics", "chemistry", "biology", "medicine"):
        rows = [row("a", 1, "1", because="it adds"), row("b", 0, "0", because="it adds"), row("c", -1, "none")]
        rows[1]["error_reasons"] = ["it adds" if subject == "math" else "it divides", ""]
        rows[0]["rectified_step"] = ["mended here"]
        write_set(folder / f"{subject}.jsonl", *({**one, "id": f"{subject}-{one['id']}"} for one in rows))
    seen: list[str] = []

    def listening(messages: Sequence[Message]) -> str:
        seen.append(messages[-1].content)
        return speaks(messages)

    with ScriptedServer(reply=listening) as server:
        settings = asked(
            tmp_path / "run",
            "step-critic",
            *REASONED,
            *by_model(server),
            data=tmp_path,
            server=server.url,
            model="scripted",
        )
        told = run_evaluation("mr-ben", settings).summary
    assert told["mr_score"]["math"]["score"]["value"] == pytest.approx(1.0)
    assert told["mr_score"]["physics"]["score"]["value"] == pytest.approx(0.75)
    assert told["mr_score_mean"] == pytest.approx(0.8)
    assert told["metric"] == "MR-Score over all solutions"
    assert any("<mended_step>\nmended here\n</mended_step>" in text for text in seen)
