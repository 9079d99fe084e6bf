"""Calibration from the command line, fitted on one split and applied to others; runs that end at their budget."""

import json
from pathlib import Path
from typing import Any

import pytest
from labelled_cases import critic, write_set
from recorded_cases import RIGHT, WRONG, call, row, write_rows
from writing_cases import genprm_next, model_folder, served

from stepcredit import judge
from stepcredit.core.errors import UsageError
from stepcredit.judges.wrappers import tempered
from stepcredit.recipes.recorded.wrapping import SavedCalibration, calibration_text
from stepcredit.recipes.report_run import saved_views
from stepcredit.store.run_folder import read_json
from stepcredit.testing import ScriptedServer

STRING = ("--set", "checker.mode=string")
FEW = ("--set", "metrics.resamples=40")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"))


def labelled(path: Path, *, splits: tuple[str, ...] = ("a", "b")) -> Path:
    """Steps that the scripted checkpoint calls right with 8/9, of which three in four are; and one that it sees."""
    rows: list[dict[str, Any]] = []
    for split in splits:
        for number in range(4):
            steps = [f"{split}{number} is 1 + {k} = {k + 1}." for k in range(3)]
            wrong = number == 0
            rows.append(
                {"id": f"{split}{number}", "problem": "count", "steps": steps, "label": 0 if wrong else -1,
                 "error_steps": [0, 1, 2] if wrong else [], "split": split}
            )  # fmt: skip
        steps = [f"{split} begins with 1 + 1 = 2.", "So 10 + 7 = 20."]
        rows.append(
            {"id": f"{split}9", "problem": "count", "steps": steps, "label": 1, "error_steps": [1], "split": split}
        )
    return write_set(path, *rows)


def asking(server: ScriptedServer, model: Path) -> tuple[str | Path, ...]:
    return ("--judge", "genprm", "--server", server.url, "--tokenizer", model)


def test_a_temperature_is_fitted_on_one_split_shown_on_the_others_and_applied_by_judge(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = tmp_path / "run", write_rows(tmp_path / "x.jsonl", row(RIGHT, name="r"), row(WRONG, name="w"))
    with served(model, "genprm", following=genprm_next) as server:
        words = (*asking(server, model), *FEW)
        assert call("evaluate", labelled(tmp_path / "s.jsonl"), "--out", run, *words, "--calibrate-from", "a") == 0
        shown = " ".join(capsys.readouterr().out.split())
        more = (*asking(server, model), *STRING)
        assert call("judge", file, "--out", tmp_path / "plain", *more) == 0
        given = ("--calibration", run / "calibration.json")
        assert call("judge", file, "--out", tmp_path / "warm", *more, *given) == 0
        assert call("judge", file, "--out", tmp_path / "warm", *more) == 2  # another run's settings
    saved = read_json(run, "calibration.json")
    assert saved["temperature"] > 1.2
    assert (saved["judge"], saved["split"], saved["steps"], saved["at_bound"]) == ("genprm", "a", 14, False)
    assert saved["ece"][1] < saved["ece"][0]
    told = read_json(run, "summary.json")
    assert told["scored"] == 5
    assert told["fitted"]["after"]["ece"]["value"] == saved["ece"][1]
    assert told["calibration"] == told["fitted"]["before"]
    assert "fitted on 14 steps of a" in shown
    plain, warm = (
        [step.score for view in saved_views(tmp_path / name).solutions for step in view.steps]
        for name in ("plain", "warm")
    )
    assert warm == [pytest.approx(tempered(score, saved["temperature"])) for score in plain if score is not None]
    facts = read_json(tmp_path / "warm", "summary.json")["settings"]
    assert facts["calibration"] == f"temperature {saved['temperature']:.4g}, fitted on a of {saved['set']}"


def test_a_calibration_is_measured_on_another_set_and_refused_on_its_own(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = labelled(tmp_path / "s.jsonl"), labelled(tmp_path / "t.jsonl", splits=("c",))
    with served(model, "genprm", following=genprm_next) as server:
        words = (*asking(server, model), *FEW)
        assert call("evaluate", file, "--out", tmp_path / "run", *words, "--calibrate-from", "a") == 0
        given = ("--calibration", tmp_path / "run" / "calibration.json")
        assert call("evaluate", other, "--out", tmp_path / "raw", *words) == 0
        assert call("evaluate", other, "--out", tmp_path / "cooled", *words, *given) == 0
        assert call("evaluate", file, "--out", tmp_path / "same", *words, *given) == 2
        assert "--calibrate-from a measures it on the other splits" in " ".join(capsys.readouterr().err.split())
        assert call("evaluate", other, "--out", tmp_path / "both", *words, *given, "--calibrate-from", "c") == 2
    raw, cooled = (read_json(tmp_path / name, "summary.json") for name in ("raw", "cooled"))
    assert cooled["calibration"]["ece"]["value"] < raw["calibration"]["ece"]["value"]
    assert cooled["first_error"] == raw["first_error"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"judge": "thinkprm"}, "judge is 'thinkprm' there and 'genprm' here"),
        ({"model": "other"}, "model is 'other' there and 'scripted' here"),
        ({"settings": {"passes": 8}}, "is None there and"),
        ({"at_bound": True}, "its fit ran to the end of its range"),
        (None, "this is no calibration.json of an evaluation (see temperature)"),
    ],
)
def test_a_calibration_of_another_judge_is_refused_by_name(
    change: dict[str, Any] | None, line: str, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: dict[str, Any] = {"judge": "genprm", "model": "scripted", "settings": {}, "at_bound": False, **(change or {})}
    saved = SavedCalibration(2.0, **made, set="s", sha256="", split="a", steps=9, log_loss=(1.0, 0.5), ece=None)
    text = "{}" if change is None else calibration_text(saved)
    (tmp_path / "c.json").write_text(text, encoding="utf-8")
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    with served(model, "genprm") as server:
        words = (*asking(server, model), "--model", "scripted", "--calibration", tmp_path / "c.json")
        assert call("judge", file, "--out", tmp_path / "run", *words) == 2
        assert not server.asked
    assert line in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("verb", "words", "line"),
    [
        ("judge", ("--judge", "markers", "--calibration", "c.json"), "judge markers gives no probabilities"),
        ("judge", ("--judge", "critic", "--calibration", "c.json"), "it says right or wrong alone"),
        ("judge", ("--judge", "spct", "--calibration", "c.json"), "it scores whole solutions"),
        ("evaluate", ("--judge", "critic", "--calibrate-from", "a"), "leave --calibration and --calibrate-from out"),
        ("evaluate", ("--judge", "perfect", "--calibration", "c.json"), "judge perfect is a reference"),
        ("judge", ("--judge", "markers", "--set", "budget.tokens=9"), "judge markers asks none; leave it out"),
        ("evaluate", ("--judge", "random", "--set", "budget.tokens=9"), "judge random asks none; leave it out"),
        ("judge", ("--judge", "critic", "--set", "budget.reserve=9"), "which is not set; add --set budget.tokens=N"),
        (
            "evaluate",
            ("--judge", "random", "--calibrate-from", "a", "--threshold-from", "b"),
            "must name one split, got b and a",
        ),
    ],
)
def test_what_has_nothing_to_correct_or_to_count_is_refused(
    verb: str, words: tuple[str, ...], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = {"judge": write_rows(tmp_path / "x.jsonl", row(RIGHT)), "evaluate": labelled(tmp_path / "s.jsonl")}[verb]
    with ScriptedServer(reply=critic) as server:
        more = ("--server", server.url, "--model", "scripted") if words[1] in ("critic", "spct") else ()
        assert call(verb, file, "--out", tmp_path / "run", *words, *more) == 2
        assert not server.asked
    assert line in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("split", ["z", "s"])
def test_a_split_that_is_not_there_is_named(split: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--judge", "random", "--calibrate-from", split, *FEW)
    assert call("evaluate", labelled(tmp_path / "s.jsonl"), "--out", tmp_path / "run", *words) == 2
    assert f"has a, b, got '{split}'" in " ".join(capsys.readouterr().err.split())


def test_a_run_ends_at_its_budget_of_tokens_and_goes_on_with_a_higher_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(f"{RIGHT} Take {k}.", name=f"r{k}") for k in range(12)]
    file, run = write_rows(tmp_path / "x.jsonl", *rows), tmp_path / "run"
    with ScriptedServer(reply=lambda _: "\\boxed{-1}") as server:
        words = ("--judge", "critic", "--server", server.url, *STRING)
        budget = ("--set", "budget.tokens=1500", "--set", "budget.reserve=400")
        assert call("judge", file, "--out", run, *words, *budget) == 4
        said = capsys.readouterr().err
        first = sum(one.route.endswith("chat/completions") for one in server.asked)
        assert 1 <= first < 12
        assert "budget.tokens 1500 is reached" in said
        assert "budget.tokens=3000" in said.partition("go on with:")[2]
        assert call("judge", file, "--out", run, *words, "--set", "budget.tokens=1000000") == 0
        chats = sum(one.route.endswith("chat/completions") for one in server.asked)
    told = read_json(run, "summary.json")
    assert (told["judged"], told["unknown"], chats) == (12, 0, 12)
    totals = json.loads((run / "summary.json").read_text(encoding="utf-8"))["calls"]
    assert totals["input_tokens"] > 1500


def test_an_evaluation_ends_at_its_budget_too(tmp_path: Path) -> None:
    file = labelled(tmp_path / "s.jsonl")
    with ScriptedServer(reply=critic) as server:
        words = ("--judge", "critic", "--server", server.url, *FEW)
        budget = ("--set", "budget.tokens=1", "--set", "budget.reserve=1")
        assert call("evaluate", file, "--out", tmp_path / "run", *words, *budget) == 4
        assert call("evaluate", file, "--out", tmp_path / "run", *words) in (0, 5)


def test_the_facade_has_no_sessions_to_hold_to_a_budget() -> None:
    with pytest.raises(UsageError, match="give it to judge_file"):
        judge(row(RIGHT), overrides=["budget.tokens=9"])
