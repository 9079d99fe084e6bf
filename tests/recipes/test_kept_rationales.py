"""What a judge wrote, from the model to the page: kept at once, read back after a restart, bounded on the page."""

import json
from pathlib import Path
from typing import Any

import pytest
from labelled_cases import asked, solution, write_set
from recorded_cases import RIGHT, WRONG, row, write_rows
from writing_cases import genprm_next, model_folder, served

import stepcredit
from stepcredit.core.digests import digest
from stepcredit.core.errors import PartialError, StoreError
from stepcredit.core.rationales import Passage, Rationale
from stepcredit.recipes.evaluating import run_evaluation
from stepcredit.recipes.judge_file import judge_file
from stepcredit.recipes.recorded.limits import DEATHS
from stepcredit.recipes.recorded.rationales import NOT_KEPT, RATIONALES, kept_rationales, shortened
from stepcredit.recipes.report_run import report_run, saved_views
from stepcredit.report import RolloutView
from stepcredit.report.payload import index_of
from stepcredit.store.ledger import Ledger
from stepcredit.testing import Fault, ScriptedServer

STRING = "checker.mode=string"
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028<!--\x00\u202e"


def replies(messages: Any) -> str:
    """A critic that quotes the end of the problem, so that every reply is another, and finds step 1 wrong."""
    return f"I read: {messages[-1].content[-300:-200]} {HOSTILE} \\boxed{{1}}"


def by_critic(file: Path, out: Path, server: ScriptedServer, *more: str) -> tuple[RolloutView, ...]:
    judge_file(file, out=out, judge="critic", server=server.url, model="scripted", overrides=(STRING, *more))
    return saved_views(out).solutions


def two(folder: Path) -> Path:
    return write_rows(folder / "x.jsonl", row(RIGHT, name="a"), row(WRONG, name="b"))


def kept(out: Path) -> dict[str, dict[str, Any]]:
    with Ledger(out / "ledger.sqlite") as ledger:
        return dict(ledger.items(RATIONALES))


def test_the_texts_are_in_the_ledger_and_on_the_page_and_a_resumed_run_shows_the_same(tmp_path: Path) -> None:
    file, out = two(tmp_path), tmp_path / "run"
    with ScriptedServer(reply=replies) as server:
        first = by_critic(file, out, server)
        before = len(server.asked)
        again = by_critic(file, out, server)
        assert not [
            one for one in server.asked[before:] if one.route == "chat/completions" and one.body["max_tokens"] > 1
        ]
    assert first == again
    [said] = first[0].rationales
    assert (said.name, said.verdict, said.scores[:2]) == ("reply 1", "boxed 1", (1.0, 0.0))
    assert said.passages[0].text.endswith(f"{HOSTILE} \\boxed{{1}}")
    assert {key.split("/")[0] for key in kept(out)} == {"a", "b"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert page == report_run(out).read_text(encoding="utf-8")


def test_a_walk_that_broke_keeps_what_was_told_before(tmp_path: Path) -> None:
    file, out = two(tmp_path), tmp_path / "run"
    fails = lambda one: Fault("status", 500) if "= 20" in str(one.body) else None  # noqa: E731
    quick = ("server.max_tries=1", "server.max_in_flight=1")
    with ScriptedServer(reply=replies, faults=fails) as server:
        with pytest.raises(PartialError):
            by_critic(file, out, server, *quick)
        assert {key.split("/")[0] for key in kept(out)} == {"a"}
        assert [len(view.rationales) for view in saved_views(out).solutions] == [1, 0]
        server._faults = ()  # type: ignore[attr-defined] -- the same address, so the same judge
        views = by_critic(file, out, server, *quick)
    assert [len(view.rationales) for view in views] == [1, 1]
    assert views[0].rationales[0].passages[0].text != ""


def test_a_folder_of_before_opens_and_says_that_nothing_was_kept(tmp_path: Path) -> None:
    """Such a folder has verdicts and no stage of rationales."""
    import sqlite3

    file, out = two(tmp_path), tmp_path / "run"
    with ScriptedServer(reply=replies) as server:
        by_critic(file, out, server)
        with sqlite3.connect(out / "ledger.sqlite") as db:
            db.execute("DELETE FROM records WHERE stage = ?", (RATIONALES,))
            db.execute("DELETE FROM cache WHERE key LIKE 'rationales:%'")
        views = by_critic(file, out, server)
    assert [view.rationales for view in views] == [(), ()]
    assert [view.note for view in views] == [NOT_KEPT, NOT_KEPT]
    assert [step.score for step in views[0].steps][:2] == [1.0, 0.0]


def test_a_judge_that_writes_nothing_misses_nothing(tmp_path: Path) -> None:
    judge_file(two(tmp_path), out=tmp_path / "run", overrides=(STRING,))
    assert [(view.rationales, view.note) for view in saved_views(tmp_path / "run").solutions] == [((), ""), ((), "")]
    assert kept(tmp_path / "run") == {}


def test_equal_solutions_are_asked_once_and_both_have_the_texts(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT, name="a"), row(RIGHT, name="b"))
    with ScriptedServer(reply=replies) as server:
        views = by_critic(file, tmp_path / "run", server)
        assert sum(one.route == "chat/completions" and one.body["max_tokens"] > 1 for one in server.asked) == 1
    assert views[0].rationales == views[1].rationales != ()


def test_only_those_on_the_page_are_read_back_and_the_page_has_a_bound(tmp_path: Path) -> None:
    rows = [row(RIGHT + " " * k, name=f"s{k}") for k in range(6)]
    long = lambda messages: f"{len(messages[-1].content)} " + "x" * 9000 + " \\boxed{1}"  # noqa: E731
    file, out = write_rows(tmp_path / "x.jsonl", *rows), tmp_path / "run"
    with ScriptedServer(reply=long) as server:
        views = by_critic(file, out, server, "report.solutions=3", "report.rationales=6000")
        assert [view.id for view in views] == ["s0", "s2", "s4"]
        texts = [view.rationales[0].passages[0].text for view in views]
        assert all("characters are left out here, the run's ledger holds them" in text for text in texts)
        assert all(text.endswith("\\boxed{1}") for text in texts)
        assert sum(map(len, texts)) < 7000
        whole = kept(out)
        assert len(whole) == 6
        assert all(len(payload["said"][0]["passages"][0]["text"]) > 9000 for payload in whole.values())
        views = by_critic(file, out, server, "report.rationales=0")
    assert [(view.rationales, view.note) for view in views] == [((), "")] * 6


def test_short_texts_leave_their_share_to_the_long_ones() -> None:
    texts = (10, 20, 5000)
    said = [Rationale(str(k), passages=(Passage("written", "x" * size),)) for k, size in enumerate(texts)]
    assert shortened(said, 5030) == tuple(said)
    short, other, cut = shortened(said, 2030)
    assert (short, other) == (said[0], said[1])
    assert 2000 < cut.characters < 2100
    assert shortened([], 0) == ()


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put(RATIONALES, "a/paragraph/judge", {"said": [{"codec": 1, "$": "Rationale", "words": 1}]})
        with pytest.raises(StoreError, match="the record is damaged"):
            kept_rationales(ledger, "a/paragraph/judge")


def test_a_text_that_utf8_cannot_hold_is_kept_exactly_and_shown_with_a_question_mark(tmp_path: Path) -> None:
    from stepcredit.recipes.recorded.rationales import keep_rationales

    said = (Rationale("reply 1", 0, (1.0, None), (Passage("written", "half \ud83d", 1, "cut"),), "boxed \udc00"),)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        keep_rationales(ledger, "k", said)
        assert kept_rationales(ledger, "k") == said


def test_evaluate_shows_votes_labels_and_the_first_disagreement(tmp_path: Path) -> None:
    answers = iter(["\\boxed{1}", "\\boxed{1}", "\\boxed{-1}"] * 2)
    file = write_set(tmp_path / "x.jsonl", solution("a", 2), solution("b", 1) | {"steps": ["p", "q", "r"]})
    more = ("judge.votes=3", "judge.temperature=1.0", "server.max_in_flight=1")
    with ScriptedServer(reply=lambda _: next(answers)) as server:
        settings = asked(tmp_path / "run", "critic", *more, server=server.url, model="scripted")
        run_evaluation(str(file), settings)
    first, second = saved_views(tmp_path / "run").solutions
    votes = first.steps[1].votes
    assert votes is not None
    assert (votes.number, votes.wrong, votes.low, votes.high, votes.silent) == (3, 2, 0.0, 1.0, 0)
    assert votes.mean == pytest.approx(1 / 3)
    assert [step.truth for step in first.steps] == [True, True, False]
    assert [step.called for step in first.steps] == [True, False, None]
    assert (first.first_disagreement, second.first_disagreement) == (1, None)
    index = index_of((first, second))
    assert (index["differs"], index["labelled"]) == ([1, None], True)
    assert [vote.verdict for vote in first.rationales] == ["boxed 1", "boxed 1", "boxed -1"]


def test_votes_are_wrong_below_the_threshold_that_the_evaluation_uses(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model")
    file = write_set(tmp_path / "x.jsonl", solution("a", -1))
    with served(model, "genprm", following=genprm_next) as server:
        more: dict[str, Any] = {"server": server.url, "model": "scripted", "tokenizer": str(model)}
        run_evaluation(str(file), asked(tmp_path / "run", "genprm", "genprm.passes=2", **more))
        [view] = saved_views(tmp_path / "run").solutions
        run_evaluation(
            str(file), asked(tmp_path / "run", "genprm", "genprm.passes=2", "metrics.threshold=0.95", **more)
        )
        [strict] = saved_views(tmp_path / "run").solutions
    votes = [step.votes for one in (view, strict) for step in one.steps[:1]]
    assert [(one.number, one.wrong) for one in votes if one is not None] == [(2, 0), (2, 2)]
    assert (view.first_disagreement, strict.first_disagreement) == (None, 0)


def test_a_solution_in_quarantine_is_shown_without_steps_and_texts(tmp_path: Path) -> None:
    """Such a solution ended the evaluation: its labelled steps were cut out of a text that nobody had tokenised."""
    file = write_set(tmp_path / "x.jsonl", solution("a", 1), solution("b", 1))
    fails = lambda one: Fault("status", 500) if "of a" in str(one.body) else None  # noqa: E731
    with ScriptedServer(reply=replies, faults=fails) as server:
        settings = asked(tmp_path / "run", "critic", "server.max_tries=1", server=server.url, model="scripted")
        with pytest.raises(PartialError, match="failed on 1"):
            run_evaluation(str(file), settings)
        with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
            for number in range(2, 4):
                death = {"item": digest("a"), "kind": "failed", "reason": "500"}
                ledger.put(DEATHS, f"{digest('a')}/failed/{number}", death)
        with pytest.raises(PartialError, match="quarantine"):
            run_evaluation(str(file), settings)
    left_out, judged = saved_views(tmp_path / "run").solutions
    assert (left_out.steps, left_out.rationales, left_out.first_disagreement) == ((), (), None)
    assert "quarantined after 3" in left_out.note
    assert len(judged.rationales) == 1


def test_the_facade_gives_them_too_and_keeps_nothing() -> None:
    with ScriptedServer(reply=replies) as server:
        [found] = stepcredit.judge(
            [row(RIGHT)], judge="critic", server=server.url, model="scripted", overrides=(STRING,)
        )
    assert [said.verdict for said in found.rationales] == ["boxed 1"]
    [none] = stepcredit.judge([row(RIGHT)], overrides=(STRING,))
    assert none.rationales == ()


def test_saved_views_of_before_still_load(tmp_path: Path) -> None:
    """A `report.zst` that an older version wrote has none of the new fields."""
    import orjson
    import zstandard

    with ScriptedServer(reply=replies) as server:
        by_critic(two(tmp_path), tmp_path / "run", server)
    path = tmp_path / "run" / "report.zst"
    content = json.loads(zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read())
    for view in content["report"]["solutions"]:
        del view["rationales"]
        for step in view["steps"]:
            for name in ("votes", "truth", "called"):
                del step[name]
    path.write_bytes(zstandard.ZstdCompressor().compress(orjson.dumps(content)))
    assert [view.rationales for view in saved_views(tmp_path / "run").solutions] == [(), ()]
    assert report_run(tmp_path / "run").stat().st_size > 0
