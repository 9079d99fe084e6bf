"""`stepcredit evaluate`: figures by hand, resuming, thresholds, comparisons, the page, and every refusal."""

from pathlib import Path
from typing import Any

import pytest
from labelled_cases import asked, critic, solution, write_set
from recorded_cases import Heard, call

from stepcredit.core.errors import BudgetError, PartialError, StoreError, UsageError
from stepcredit.evaluation.named_sets import SETS, read_set
from stepcredit.recipes.evaluating import run_evaluation
from stepcredit.recipes.evaluating.judges import JUDGES
from stepcredit.recipes.report_run import saved_views
from stepcredit.recipes.status import run_status
from stepcredit.store.run_folder import read_json, read_manifest
from stepcredit.testing import Fault, ScriptedServer

ROWS = (
    solution("a", 1, split="one", generator="m1"),
    solution("b", -1, split="one", generator="m1"),
    solution("c", 0, split="two", generator="m2"),
    solution("d", -1, split="two", generator="m2", error_steps=[]),
    solution("e", None, split="two"),
)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(write_set(tmp_path / "mine.jsonl", *ROWS))


def by_critic(file: str, out: Path, server: ScriptedServer, *more: str, **changes: Any) -> dict[str, Any]:
    settings = asked(out, "critic", *more, server=server.url, model="scripted", **changes)
    return run_evaluation(file, settings).summary


def test_a_perfect_judge_and_a_line_without_label(file: str, tmp_path: Path) -> None:
    told = run_evaluation(file, asked(tmp_path / "run")).summary
    assert told == read_json(tmp_path / "run", "summary.json")
    assert told["score"]["value"] == 1.0
    assert told["coverage"] == {"asked": 4, "answered": 4, "unknown": 0, "failed": 0, "quarantined": 0}
    assert told["left_out"] == {"no label": 1}
    assert list(told["first_error"]["splits"]) == ["one", "two"]
    assert list(told["by_generator"]) == ["m1", "m2"]
    assert told["calibration"]["ece"]["value"] == 0.0


def test_a_critic_by_hand(tmp_path: Path) -> None:
    """Of two errors it names one, of two clean solutions it clears one: F1 1/2; one reply cannot be read."""
    file = write_set(
        tmp_path / "x.jsonl",
        solution("a", 1),
        solution("b", 0, said="2"),
        solution("c", -1),
        solution("d", -1, said="none"),
    )
    prices = ("server.input_price=1", "server.output_price=2")
    with ScriptedServer(reply=critic) as server:
        told = by_critic(str(file), tmp_path / "run", server, *prices)
    split = told["first_error"]["splits"]["x"]
    assert (split["error_accuracy"]["value"], split["correct_accuracy"]["value"], split["f1"]["value"]) == (0.5,) * 3
    assert split["coverage"] == {"asked": 4, "answered": 3, "unknown": 1}
    assert told["coverage"]["unknown"] == 1
    assert told["unknown_reasons"] == {"the reply has no \\boxed{} answer": 1}
    binary = told["binary_f1"]["x"]
    assert (binary["f1"]["value"], binary["precision"], binary["recall"]) == (pytest.approx(2 / 3), 1.0, 0.5)
    assert sum(one.route == "chat/completions" and one.body["max_tokens"] == 8192 for one in server.asked) == 4
    assert told["calls"]["output_tokens"] > 0
    assert told["calls"]["cost"] > 0
    assert [(row["position"], row["coverage"]["asked"]) for row in told["by_position"]] == [(0, 4), (1, 3), (2, 2)]


def test_a_run_that_reached_its_budget_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    file = write_set(tmp_path / "x.jsonl", *(solution(f"s{k}", k % 3 - 1) for k in range(20)))
    with ScriptedServer(reply=critic) as server:
        with pytest.raises(BudgetError, match="--max-calls 8"):
            by_critic(str(file), tmp_path / "run", server, "server.max_in_flight=2", max_calls=8)
        found = run_status(tmp_path / "run")
        assert found.state == "budget"
        assert 0 < dict(found.coverage)["answered"] < 20
        told = by_critic(str(file), tmp_path / "run", server, "server.max_in_flight=2", max_calls=40)
        asked_for = [one.body["messages"][0]["content"] for one in server.asked if one.route == "chat/completions"]
    assert told["coverage"]["answered"] == 20
    assert told["score"]["value"] == 1.0
    assert 0 < told["resumed"] < 20
    assert len(asked_for) == len(set(asked_for)) == 20


def test_a_judge_that_fails_is_partial_and_is_asked_again(tmp_path: Path) -> None:
    file = write_set(tmp_path / "x.jsonl", solution("a", 1), solution("b", -1))
    fails = lambda one: Fault("status", 500) if "of b" in str(one.body) else None  # noqa: E731
    quick = ("server.max_tries=1", "server.max_in_flight=1")
    with ScriptedServer(reply=critic, faults=fails) as server:
        with pytest.raises(PartialError, match="the judge failed on 1 solutions"):
            by_critic(str(file), tmp_path / "run", server, *quick)
        told = read_json(tmp_path / "run", "summary.json")
        assert told["coverage"] == {"asked": 2, "answered": 1, "unknown": 0, "failed": 1, "quarantined": 0}
        assert "partial" in saved_views(tmp_path / "run").closing
        server._faults = ()  # type: ignore[attr-defined] -- the same address, so the same judge
        told = by_critic(str(file), tmp_path / "run", server, *quick)
    assert told["coverage"]["answered"] == 2


def test_a_limit_is_spread_over_the_set_and_may_be_raised_in_the_same_folder(file: str, tmp_path: Path) -> None:
    first = run_evaluation(file, asked(tmp_path / "run", limit=2)).summary
    assert first["solutions"] == 2
    assert list(first["first_error"]["splits"]) == ["one", "two"]
    second = run_evaluation(file, asked(tmp_path / "run", limit=4)).summary
    assert (second["solutions"], second["resumed"]) == (4, 2)


def test_a_threshold_is_chosen_on_one_split_and_that_split_is_not_scored(file: str, tmp_path: Path) -> None:
    told = run_evaluation(file, asked(tmp_path / "run", threshold_from="one")).summary
    assert told["threshold"] == {"value": 0.5, "chosen_on": "one", "f1_there": 1.0}
    assert list(told["first_error"]["splits"]) == ["two"]
    assert told["scored"] == 2
    with pytest.raises(UsageError, match="one, two, got 'three'"):
        run_evaluation(file, asked(tmp_path / "run", threshold_from="three"))


def test_a_threshold_that_is_set_reads_the_same_scores_otherwise(file: str, tmp_path: Path) -> None:
    told = run_evaluation(file, asked(tmp_path / "run", "random", "metrics.threshold=0.0")).summary
    splits = told["first_error"]["splits"].values()
    assert {(s["error_accuracy"]["value"], s["correct_accuracy"]["value"]) for s in splits} == {(0.0, 1.0)}
    told = run_evaluation(file, asked(tmp_path / "run", "random", "metrics.threshold=1.0")).summary
    assert told["resumed"] == 4
    assert {s["correct_accuracy"]["value"] for s in told["first_error"]["splits"].values()} == {0.0}


def test_two_judges_are_compared_on_the_same_solutions(tmp_path: Path) -> None:
    rows = [solution(f"s{k}", k % 2 - 1) for k in range(12)]
    file = str(write_set(tmp_path / "x.jsonl", *rows))
    run_evaluation(file, asked(tmp_path / "other", "constant-right"))
    told = run_evaluation(file, asked(tmp_path / "run", compare=tmp_path / "other")).summary["compared"]
    assert (told["first"], told["second"], told["solutions"]) == ("perfect", "constant-right", 12)
    assert told["f1"]["difference"]["value"] == 1.0
    assert (told["f1"]["errors"]["first_only"], told["f1"]["correct"]["first_only"]) == (6, 0)
    assert told["exact"]["p_value"] == 2 * 0.5**6


def test_what_cannot_be_compared_is_refused_before_any_work(file: str, tmp_path: Path) -> None:
    other = str(write_set(tmp_path / "other.jsonl", ROWS[0], ROWS[1]))
    run_evaluation(other, asked(tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match="a run on other solutions \\(other\\)"):
        run_evaluation(file, asked(tmp_path / "run", compare=tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match="not a run folder"):
        run_evaluation(file, asked(tmp_path / "run", compare=tmp_path))
    with pytest.raises(UsageError, match="cannot be compared with itself"):
        asked(tmp_path / "run", compare=tmp_path / "run")
    (tmp_path / "manifest.json").write_text('{"verb": "evaluate", "input": {"name": "other", "sha256": 3}}')
    with pytest.raises(StoreError, match=r"the manifest is damaged: under input\.sha256 it has int '3', no str"):
        run_evaluation(file, asked(tmp_path / "run", compare=tmp_path))
    assert not (tmp_path / "run").exists()


def test_the_page_shows_label_verdict_and_first_disagreement_as_text(tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    row = solution("a", 1, generator=hostile, error_reason=hostile) | {"steps": [hostile, "two", "three"]}
    run_evaluation(str(write_set(tmp_path / "x.jsonl", row)), asked(tmp_path / "run", "constant-wrong"))
    data = saved_views(tmp_path / "run")
    [view] = data.solutions
    assert view.note.startswith(
        "label: step 1 is the first wrong; judge: step 0 is the first wrong; first disagreement: step 0"
    )
    assert [step.score for step in view.steps] == [0.0, 0.0, 0.0]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert hostile not in page
    assert "first disagreement: step 0" in page


def test_every_step_is_judged_even_an_empty_one_and_the_answer_block(tmp_path: Path) -> None:
    steps = ["", " first", "", "hm</think>", "So \\boxed{4}.", ""]
    row = solution("a", 4) | {"steps": steps, "final_answer_correct": False}
    for judge in ("perfect", "markers", "random"):
        run_evaluation(str(write_set(tmp_path / "x.jsonl", row)), asked(tmp_path / judge, judge))
        [view] = saved_views(tmp_path / judge).solutions
        assert [step.text.strip() for step in view.steps] == [step.strip() for step in steps]
        assert [step.in_answer for step in view.steps] == [False] * 4 + [True, True]


def test_markers_read_the_outcome_that_the_set_records(tmp_path: Path) -> None:
    steps = ["2 + 2 = 4, plainly.", "Therefore the answer is 4."]
    rows = [
        solution("right", -1) | {"steps": steps, "final_answer_correct": True},
        solution("wrong", 0) | {"steps": steps, "final_answer_correct": False},
        solution("open", 0) | {"steps": steps},
    ]
    told = run_evaluation(str(write_set(tmp_path / "x.jsonl", *rows)), asked(tmp_path / "run", "markers")).summary
    assert told["coverage"] == {"asked": 3, "answered": 2, "unknown": 1, "failed": 0, "quarantined": 0}
    assert next(iter(told["unknown_reasons"])).startswith("the outcome is unscorable: the set does not record")
    split = told["first_error"]["splits"]["x"]
    assert (split["error_accuracy"]["value"], split["correct_accuracy"]["value"]) == (0.5, 1.0)


def test_a_file_in_prm800ks_own_format_is_read_as_such(tmp_path: Path) -> None:
    step = {"completions": [{"text": "one", "rating": 1}, {"text": "two", "rating": -1}], "human_completion": None}
    label = {
        "steps": [{**step, "chosen_completion": 0}, {**step, "chosen_completion": 1}],
        "finish_reason": "found_error",
    }
    file = write_set(tmp_path / "raw.jsonl", {"question": {"problem": "p"}, "label": label})
    [found] = read_set(str(file), tmp_path).solutions
    assert (found.steps, found.label) == (("one", "two"), 1)


@pytest.mark.parametrize(
    ("what", "changes", "line"),
    [
        ("processbnch", {}, "no set and no file is called so; sets: processbench, prmbench"),
        ("processbench", {}, "no gsm8k.jsonl, plain, .gz or .zst, in this folder"),
        (None, {"judge": "crtic"}, "unknown judge 'crtic'; did you mean 'critic'?"),
        (None, {"judge": "critic"}, "judge critic asks a model; give --server URL"),
        (None, {"judge": "random", "server": "http://x/v1"}, "--server names a model, and judge random asks none"),
        (None, {"judge": "markers", "model": "m"}, "--model names a model, and judge markers asks none"),
        (None, {"overrides": ("judge.votes=3",)}, "judge.votes is no setting of perfect"),
        (None, {"overrides": ("metrics.bin=3",)}, "unknown key metrics.bin; did you mean metrics.bins?"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    file: str, tmp_path: Path, what: str | None, changes: dict[str, Any], line: str
) -> None:
    from stepcredit.recipes.evaluating import EvaluateSettings

    settings = EvaluateSettings(tmp_path / "run", **{"judge": "perfect", "data": tmp_path, **changes})
    with pytest.raises(UsageError) as error:
        run_evaluation(what or file, settings)
    assert line in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_other_labels_or_another_judge_is_refused(file: str, tmp_path: Path) -> None:
    run_evaluation(file, asked(tmp_path / "run"))
    with pytest.raises(UsageError, match=r"judge\.name = perfect, not random"):
        run_evaluation(file, asked(tmp_path / "run", "random"))
    changed = str(write_set(tmp_path / "mine.jsonl", solution("a", 2), *ROWS[1:]))
    with pytest.raises(UsageError, match="the labelled solutions have changed since this run was made"):
        run_evaluation(changed, asked(tmp_path / "run"))


def test_the_command_writes_the_run_and_says_the_figure(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ("--set", "metrics.resamples=20")
    assert call("evaluate", file, "--judge", "constant-right", *few, "--out", "other") == 0
    assert call("evaluate", file, "--judge", "perfect", *few, "--compare", "other") == 0
    assert "first-error F1, mean of 2 splits 1.000" in " ".join(capsys.readouterr().out.split())
    run = tmp_path / "runs" / "evaluate-mine-perfect"
    assert read_manifest(run)["verb"] == "evaluate"
    assert (run / "report.html").exists()
    assert len((run / "predictions.jsonl").read_text().splitlines()) == 4
    assert call("evaluate", "nowhere.jsonl") == 2
    assert call("status", run) == 0
    assert call("report", run, "--terminal") == 0


def test_what_is_said_while_it_works(file: str, tmp_path: Path) -> None:
    heard = Heard()
    run_evaluation(file, asked(tmp_path / "run"), progress=heard)
    assert heard.lines == ["scoring: intervals by bootstrap"]


def test_sets_and_judges_have_names_that_the_command_shows() -> None:
    assert list(SETS) == ["processbench", "prmbench", "mr-gsm8k", "mr-ben", "bigbench-mistake"]
    assert {name for name, judge in JUDGES.items() if not judge.asks} == {
        "markers", "perfect", "constant-right", "constant-wrong", "random",
    }  # fmt: skip
    assert all(judge.what for judge in JUDGES.values())
