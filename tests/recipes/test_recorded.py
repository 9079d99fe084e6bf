"""Recorded solutions along the path: counts, credit by hand, resuming, grouping, the report."""

import re
from pathlib import Path

import numpy as np
import pytest
from recorded_cases import OPEN, PROBLEM, RIGHT, WRONG, Heard, byte_level, row, write_rows

from stepcredit.core.digests import digest
from stepcredit.core.errors import BudgetError, LayoutError, PartialError, UsageError
from stepcredit.core.pack import pack_of
from stepcredit.core.records import Label, Outcome, Rollout
from stepcredit.recipes.recorded.run import ALONE, RecordedResult, run_recorded
from stepcredit.recipes.recorded.settings import RecordedSettings
from stepcredit.recipes.report_run import saved_views
from stepcredit.recipes.status import run_status
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import read_json, read_manifest
from stepcredit.store.shards import read_shard
from stepcredit.tasks.checking import MathChecker
from stepcredit.testing import Fault, ScriptedServer

QUICK = ("checker.mode=string",)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_level(tmp_path_factory.mktemp("tokenizer"))


def settings(out: Path, tokenizer: Path | None, *more: str, **changes: object) -> RecordedSettings:
    return RecordedSettings(out, tokenizer=tokenizer, overrides=(*QUICK, *more), **changes)  # type: ignore[arg-type]


def columns(result: RecordedResult) -> dict[str, np.ndarray]:
    assert result.credited is not None
    return read_shard(result.folder / "shards", result.credited.shard)


def test_a_right_and_a_wrong_solution_by_hand(tmp_path: Path, tokenizer: Path) -> None:
    """Rewards +1 and -1 standardise to +1 and -1; acc_G is 1/2; with alpha 2 the step taken back loses 2 * 1/2."""
    file = write_rows(tmp_path / "two.jsonl", row(RIGHT, name="right", model="m"), row(WRONG, name="wrong", model="m"))
    result = run_recorded(file, settings(tmp_path / "run", tokenizer, "credit.alpha=2"))

    right, wrong = result.judgements
    assert [v.label for v in right.verdicts] == [Label.INCORRECT, *[Label.CORRECT] * 3]
    assert [v.label for v in wrong.verdicts] == [Label.MATCHED, Label.MISMATCHED, Label.MATCHED, Label.MATCHED]
    found = columns(result)
    owner = found["rollout_of_step"][found["step_of_token"]]
    thoughts = found["label_of_step"].tolist()
    assert thoughts == ["incorrect", "correct", "matched", "mismatched", "matched"]
    by_thought = [float(found["advantage"][found["step_of_token"] == k][0]) for k in range(5)]
    assert by_thought == [0.0, 1.0, -1.0, 0.0, -1.0]
    assert bytes(found["token_id"][owner == 0].tolist()) != b""
    assert len(found["token_id"]) == len(RIGHT.encode()) + len(WRONG.encode())
    assert found["reward"].tolist() == [1.0, -1.0]
    assert found["rollout_id"].tolist() == ["right", "wrong"]
    assert found["kept"].all()
    assert found["retokenised"].all()
    assert str(found["unit"]) == "thought"


def test_the_summary_counts_what_the_issue_names(tmp_path: Path, tokenizer: Path) -> None:
    file = write_rows(tmp_path / "two.jsonl", row(RIGHT, model="m"), row(WRONG, model="m"))
    result = run_recorded(file, settings(tmp_path / "run", tokenizer))
    told = read_json(tmp_path / "run", "summary.json")
    assert told == result.summary
    assert (told["responses"], told["judged"], told["unknown"]) == (2, 2, 0)
    assert told["checker"] == {"right": 1, "wrong": 1, "unscorable": 0}
    assert (told["steps"], told["thoughts"], told["groups"]) == (8, 5, 1)
    assert told["tokens"] == len(RIGHT.encode()) + len(WRONG.encode())
    assert told["judged_share"] == told["varied_share"] == 1.0
    assert told["seconds"] > 0
    assert not any(isinstance(value, bool) for value in told.values())
    assert result.closing.startswith("2 of 2 solutions judged; of the 2 that are finished, closed and scorable 100.0%")


def test_counts_of_one_solution_are_numbers(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "one.jsonl", row(RIGHT))
    run_recorded(file, settings(tmp_path / "run", None, until="judge"))
    told = read_json(tmp_path / "run", "summary.json")
    assert not [name for name, value in told.items() if isinstance(value, bool)]
    assert not [name for name, value in told["coverage"].items() if isinstance(value, bool)]
    assert told["coverage"]["answered"] == told["finished"] == 1


def test_answers_that_cannot_be_read_are_wrong_and_counted(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row("\\boxed{????}"), row("\\boxed{18}"))
    told = run_recorded(file, settings(tmp_path / "run", None, until="check")).summary
    assert told["checker"] == {"right": 1, "wrong": 2, "unscorable": 0}
    assert told["unreadable_answers"] == 1


def test_a_number_too_long_for_python_is_wrong_and_ends_nothing(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row("\\boxed{" + "9" * 5000 + "}"))
    told = run_recorded(file, settings(tmp_path / "run", None, until="check")).summary
    assert told["checker"] == {"right": 1, "wrong": 1, "unscorable": 0}


def test_a_checker_that_breaks_makes_one_solution_unscorable_and_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MathChecker.check

    async def broken(self: MathChecker, rollout: Rollout) -> Outcome:
        if rollout.id == "bad":
            raise ValueError("no digits\nat all")
        return await real(self, rollout)

    file = write_rows(tmp_path / "x.jsonl", row(RIGHT, name="good"), row(RIGHT, name="bad"))
    asked = settings(tmp_path / "run", None, until="judge")
    with monkeypatch.context() as patch:
        patch.setattr(MathChecker, "check", broken)
        told = run_recorded(file, asked).summary
    assert told["checker"] == {"right": 1, "wrong": 0, "unscorable": 1}
    assert told["unscorable_reasons"] == {"the checker broke: ValueError: no digits at all": 1}
    assert (told["judged"], told["unknown"]) == (1, 1)
    assert run_recorded(file, asked).summary["judged"] == 2


@pytest.mark.parametrize("rule", ["grpo", "tp_grpo"])
def test_a_quarantined_solution_does_not_keep_the_others_from_credit(
    tmp_path: Path, tokenizer: Path, rule: str
) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT, name="a"), row(WRONG, name="b"), row(RIGHT, name="bad"))
    more = ("credit.unit=step",) if rule == "tp_grpo" else ()
    asked = settings(tmp_path / "run", tokenizer, *more, credit=rule)
    run_recorded(file, asked)
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        for number in range(3):
            death = {"item": digest("bad"), "kind": "alone", "reason": "died"}
            ledger.put("death", f"{digest('bad')}/alone/{number}", death)
    with pytest.raises(PartialError, match="1 solutions are in quarantine"):
        run_recorded(file, asked)
    told = read_json(tmp_path / "run", "summary.json")
    assert told["credit"]["rollouts"] == 3
    assert told["credit"]["dropped"]["empty completion"] == 1
    assert told["credit"]["kept"] == 2


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([row(RIGHT, answer=None)], "0 of 1 solutions judged; none of them is .* an answer block: 1 unscorable."),
        (
            [row("", steps=["Three rows hold 12.", "So 12 + 8 = 20"]) | {"completion": None}],
            "0 of 1 .*: 1 without think tags or an ending that states the answer.",
        ),
        (
            [row("<think>" + OPEN), row(OPEN, finished=False), row(OPEN, finished=False)],
            "0 of 3 .*: 2 cut, 1 with a think block that is never closed, or nothing behind it.",
        ),
    ],
)
def test_the_closing_line_says_why_no_solution_counts(tmp_path: Path, rows: list[dict[str, object]], line: str) -> None:
    rows = [{key: value for key, value in one.items() if key != "completion" or value is not None} for one in rows]
    result = run_recorded(write_rows(tmp_path / "x.jsonl", *rows), settings(tmp_path / "run", None, until="judge"))
    assert re.fullmatch(line, result.closing), result.closing


def test_settings_without_effect_are_said(tmp_path: Path) -> None:
    file, heard = write_rows(tmp_path / "x.jsonl", row(RIGHT)), Heard()
    more = ("credit.alpha=2", "credit.keep=all", "server.max_tries=1")
    asked = settings(tmp_path / "run", None, *more, until="judge", max_calls=3)
    run_recorded(file, asked, progress=heard)
    assert heard.lines == [
        "--max-calls, server.max_tries have no effect: judge markers asks no model",
        "credit.alpha, credit.keep have no effect: this walk ends before credit",
    ]


def test_every_solution_is_accounted_for(tmp_path: Path, tokenizer: Path) -> None:
    """No reference, no text, no closing marker, cut before an answer: each is counted once, with its reason."""
    rows = [
        row(RIGHT, name="right"),
        row(RIGHT, name="no reference", answer=None),
        row("", name="empty"),
        row(OPEN + "\n<think>", name="open"),
        row(OPEN, name="cut", finished=False),
        row(WRONG, name="wrong"),
    ]
    told = run_recorded(write_rows(tmp_path / "x.jsonl", *rows), settings(tmp_path / "run", tokenizer)).summary
    assert told["responses"] == told["judged"] + told["unknown"] == sum(told["checker"].values()) == 6
    assert told["judged"] == 2
    assert told["unknown_reasons"] == {
        "think block never closed: no answer block to match": 1,
        "cut by length: no answer block to match": 1,
        "empty response": 1,
        "the outcome is unscorable: no reference": 1,
    }
    assert told["unscorable_reasons"] == {"no reference": 1}
    assert (told["empty"], told["finished"], told["finished_closed_checkable"]) == (1, 5, 2)
    credit = told["credit"]
    assert credit["rollouts"] == 6 == credit["kept"] + sum(credit["dropped"].values())
    assert credit["dropped"] == {"empty completion": 1, "unknown verdict": 2, "unscorable outcome": 1}


def test_groups_are_of_one_problem_and_one_model(tmp_path: Path, tokenizer: Path) -> None:
    """A group with one scorable solution compares nothing: no advantage, counted, and the way out is said."""
    rows = [row(RIGHT, model="a"), row(WRONG, model="b"), row(WRONG, model="b", answer=None)]
    heard = Heard()
    file = write_rows(tmp_path / "x.jsonl", *rows)
    result = run_recorded(file, settings(tmp_path / "run", tokenizer), progress=heard)
    assert (result.summary["groups"], result.summary["group_sizes"]) == (2, {"1": 1, "2": 1})
    assert result.summary["credit"]["short_groups"] == 2
    assert np.isnan(columns(result)["advantage"]).all()
    assert heard.lines == [ALONE]


def test_groups_by_problem_on_request_say_that_they_mix_policies(tmp_path: Path, tokenizer: Path) -> None:
    rows = [row(RIGHT, model="a"), row(WRONG, model="b"), row(RIGHT, model="a") | {"problem": "Another?"}]
    heard = Heard()
    file = write_rows(tmp_path / "x.jsonl", *rows)
    result = run_recorded(file, settings(tmp_path / "run", tokenizer, group_by="problem"), progress=heard)
    assert heard.lines == ["2 groups (1 of 1, 1 of 2), 1 of mixed policy"]
    assert (result.summary["mixed_groups"], result.summary["credit"]["short_groups"]) == (1, 1)
    found = columns(result)
    known = np.isfinite(found["advantage"])
    assert set(found["rollout_of_step"][found["step_of_token"]][known].tolist()) == {0, 1}


def test_recorded_text_is_refused_by_training(tmp_path: Path, tokenizer: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    result = run_recorded(file, settings(tmp_path / "run", tokenizer))
    assert result.credited is not None
    with pytest.raises(LayoutError, match="x:1: recorded text was re-tokenised"):
        pack_of(result.credited.credits)


def test_a_walk_that_stopped_early_goes_on_in_its_folder(tmp_path: Path, tokenizer: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    for until, judged in (("check", None), ("split", None), ("judge", 2), ("credit", 2)):
        told = run_recorded(file, settings(tmp_path / "run", tokenizer, until=until)).summary
        assert (told["judged"], told["steps"]) == (judged, None if until == "check" else 8), until
        assert (told["credit"] is None) == (until != "credit")
    assert told["resumed"] == 2
    other = run_recorded(file, settings(tmp_path / "run", tokenizer, credit="grpo")).summary
    assert other["resumed"] == 2
    assert len(list((tmp_path / "run" / "shards").iterdir())) == 2
    assert read_manifest(tmp_path / "run")["verb"] == "run"


def test_resumed_records_equal_those_of_one_go(tmp_path: Path, tokenizer: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG), row(OPEN))
    first = run_recorded(file, settings(tmp_path / "run", tokenizer))
    second = run_recorded(file, settings(tmp_path / "run", tokenizer))
    assert second.summary["resumed"] == 3
    assert [j.verdicts for j in second.judgements] == [j.verdicts for j in first.judgements]
    assert second.credited is not None
    assert first.credited is not None
    assert second.credited.shard == first.credited.shard


def test_a_folder_of_another_file_or_tokenizer_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    run_recorded(write_rows(tmp_path / "x.jsonl", row(RIGHT)), settings(tmp_path / "run", tokenizer))
    file = write_rows(tmp_path / "x.jsonl", row(WRONG))
    with pytest.raises(UsageError, match=r": the file has changed since this run was made; choose another folder"):
        run_recorded(file, settings(tmp_path / "run", tokenizer))
    with pytest.raises(UsageError, match="made with verb = run, not judge"):
        run_recorded(file, settings(tmp_path / "run", tokenizer), verb="judge")
    with pytest.raises(UsageError, match=r"made with judge\.retries = 2, not 1"):
        run_recorded(file, settings(tmp_path / "run", tokenizer, "judge.retries=1"))
    write_rows(tmp_path / "x.jsonl", row(RIGHT))
    with pytest.raises(UsageError, match=": this run was made with another tokenizer; choose another folder"):
        run_recorded(file, settings(tmp_path / "run", None, until="judge"))


def test_settings_of_the_critic_are_named_where_they_differ(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    with ScriptedServer(reply=lambda _: "\\boxed{-1}") as server:
        for model in (None, "scripted"):
            out = tmp_path / str(model)
            asked = {"judge": "critic", "until": "judge", "server": server.url, "model": model}
            run_recorded(file, settings(out, None, **asked))
            before = len(server.asked)
            with pytest.raises(UsageError, match=r"made with judge.temperature = 0.0, not 0.5; run with the same"):
                run_recorded(file, settings(out, None, "judge.temperature=0.5", **asked))
            assert len(server.asked) == before
            assert read_manifest(out)["judge"]["version"].startswith("critic:")
            assert run_status(out).state == "complete"


def test_a_limit_that_ends_the_opening_of_the_server_leaves_a_run_that_counts(tmp_path: Path) -> None:
    """The requests are counted over all sessions, so the second with the same limit asks nothing."""
    file, out = write_rows(tmp_path / "x.jsonl", row(RIGHT)), tmp_path / "run"
    with ScriptedServer(reply=lambda _: "\\boxed{-1}") as server:
        for limit, asked_then in ((1, 1), (1, 1), (2, 2)):
            asked = {"judge": "critic", "until": "judge", "server": server.url, "max_calls": limit}
            with pytest.raises(BudgetError, match=rf"max-calls {limit} is reached; .*opening .* up to 4 requests"):
                run_recorded(file, settings(out, None, **asked))
            assert (run_status(out).state, len(server.asked)) == ("budget", asked_then)
            with Ledger(out / "ledger.sqlite") as ledger:
                assert ledger.attempt_totals().attempts == asked_then
        told = run_recorded(file, settings(out, None, **asked | {"max_calls": 9})).summary
    assert (told["judged"], told["calls"]["attempts"]) == (1, len(server.asked))


def test_an_interrupted_walk_asks_the_judge_only_for_the_rest(tmp_path: Path) -> None:
    rows = [row(RIGHT + " " * k, name=str(k)) for k in range(6)]
    file = write_rows(tmp_path / "x.jsonl", *rows)
    with ScriptedServer(reply=lambda _: "none \\boxed{-1}") as server:
        asked = {"judge": "critic", "until": "judge", "server": server.url, "model": "scripted"}
        one = ("server.max_in_flight=1",)
        with pytest.raises(BudgetError, match=r"max-calls 5 is reached"):
            run_recorded(file, settings(tmp_path / "run", None, *one, max_calls=5, **asked))
        told = run_recorded(file, settings(tmp_path / "run", None, **asked)).summary
        chats = [one for one in server.asked if one.route == "chat/completions"]
    assert len(chats) == 6
    assert (told["judged"], told["resumed"]) == (6, 3)
    # 6 answers, and each walk asked for the list of models and for log probabilities to know the model again by
    assert told["calls"]["attempts"] == 10


def test_a_judge_that_failed_leaves_the_run_partial_and_is_asked_again(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT, name="a"), row(WRONG, name="b"))
    faults = [None, None, Fault("status", status=500, body=b"{}"), None]
    with ScriptedServer(reply=lambda _: "\\boxed{1}", faults=faults) as server:
        asked = {"judge": "critic", "until": "judge", "server": server.url, "model": "scripted"}
        few = ("server.max_tries=1", "server.max_in_flight=1")
        with pytest.raises(PartialError, match=r"the judge failed on 1 solutions, report\.html says why"):
            run_recorded(file, settings(tmp_path / "run", None, *few, **asked))
        told = read_json(tmp_path / "run", "summary.json")
        assert (told["judged"], told["unknown"], told["judge_failures"]) == (1, 1, 1)
        assert told["unknown_reasons"] == {"the judge failed": 1}
        assert told["coverage"] == {"asked": 2, "answered": 1, "unknown": 0, "failed": 1, "quarantined": 0}
        assert any("status 500" in view.note for view in saved_views(tmp_path / "run").solutions)
        again = run_recorded(file, settings(tmp_path / "run", None, *few, **asked)).summary
    assert (again["judged"], again["judge_failures"], again["resumed"]) == (2, 0, 1)


def test_scores_of_a_critic_are_credited_by_rules_that_read_scores(tmp_path: Path, tokenizer: Path) -> None:
    """Steps after the first error have no score; with `neutral` they add nothing."""
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    with ScriptedServer(
        reply=lambda said: "\\boxed{-1}" if "12 + 7 = 19" in said[-1].content else "\\boxed{0}"
    ) as server:
        asked = {"judge": "critic", "credit": "grpo_ps", "server": server.url, "model": "scripted"}
        result = run_recorded(file, settings(tmp_path / "run", tokenizer, "credit.on_unknown=neutral", **asked))
    found = columns(result)
    owner = found["rollout_of_step"][found["step_of_token"]]
    assert (found["advantage"][owner == 0] > 0).all()
    assert found["advantage"][owner == 1][0] < 0
    assert found["advantage"][owner == 1][-1] == 0
    assert result.summary["thoughts"] is None


def test_the_viewer_holds_some_and_says_how_many_it_leaves_out(tmp_path: Path, tokenizer: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", *(row(RIGHT, name=str(k)) for k in range(10)))
    run_recorded(file, settings(tmp_path / "few", tokenizer, "report.solutions=4"))
    few = saved_views(tmp_path / "few")
    assert ([view.id for view in few.solutions], few.omitted) == (["0", "2", "5", "7"], 6)
    run_recorded(file, settings(tmp_path / "short", tokenizer, f"report.characters={3 * len(RIGHT)}"))
    assert len(saved_views(tmp_path / "short").solutions) == 3
    assert (tmp_path / "short" / "report.html").stat().st_size > 0


def test_the_viewer_shows_paragraphs_with_verdicts_and_advantages(tmp_path: Path, tokenizer: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    run_recorded(file, settings(tmp_path / "run", tokenizer))
    view = saved_views(tmp_path / "run").solutions[0]
    assert view.problem == PROBLEM
    assert [step.label for step in view.steps] == ["incorrect", "correct", "correct", "correct"]
    assert [step.pieces[0].advantages for step in view.steps] == [(0.5,), (1.0,), (1.0,), (1.0,)]
    assert "".join(step.text for step in view.steps) == RIGHT
    assert [rule.name for rule in view.rules] == ["tp_grpo"]


def test_settings_of_the_rule_and_the_splitter_reach_them(tmp_path: Path, tokenizer: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT), row(WRONG))
    told = run_recorded(file, settings(tmp_path / "run", tokenizer, "steps.splitter=whole")).summary
    assert told["steps"] == 2
    with pytest.raises(UsageError, match="splitter 'whole' has no setting 'short'"):
        run_recorded(file, settings(tmp_path / "x", tokenizer, "steps.splitter=whole", "steps.short=3"))
    with pytest.raises(UsageError, match=r"credit.alpha is no setting of grpo; .*there are: std, epsilon"):
        run_recorded(file, settings(tmp_path / "x", tokenizer, "credit.alpha=2", credit="grpo"))
    with pytest.raises(UsageError, match=r"judge.votes is no setting of markers"):
        run_recorded(file, settings(tmp_path / "x", tokenizer, "judge.votes=2"))
