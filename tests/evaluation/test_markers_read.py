"""Annotated responses: they are those of the data, and `benchmarks/markers_read.py` counts as worked by hand."""

import asyncio
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from stepcredit.core.records import Label, Outcome, Problem, Steps
from stepcredit.engines.byte_tokenizer import ByteTokenizer
from stepcredit.judges.agreement import kappa
from stepcredit.recipes.recorded.rollouts import RolloutMaker
from stepcredit.steps import Paragraph
from stepcredit.tasks.jsonl import RecordedResponse

ROOT = Path(__file__).resolve().parents[2]
ANNOTATIONS = ROOT / "benchmarks" / "annotations"
DATA = ROOT.parent / "shared" / "data"
FILES = ("right.jsonl", "right_second.jsonl", "wrong.jsonl", "wrong_second.jsonl")


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import markers_read

        yield markers_read
    for name in ("markers_read", "markers_counts"):
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def counts(script: ModuleType) -> ModuleType:
    return sys.modules["markers_counts"]


def lines_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ANNOTATIONS / name).read_text(encoding="utf-8").splitlines()]


def steps_of(text: str, *, status: str) -> Steps:
    item = RecordedResponse("r", Problem("p", "How many apples?", "28"), text, "m", None, "stop", 1)
    rollout = RolloutMaker(ByteTokenizer(), "here").make(item, group="g", sample=0)
    return Paragraph(short=0).split(Outcome(rollout, "right" if status == "right" else "wrong"))


@pytest.mark.data
@pytest.mark.parametrize("name", FILES)
def test_annotated_texts_and_steps_are_those_of_the_data(script: Any, name: str) -> None:
    if not (DATA / script.FILES[0]).exists():
        pytest.skip("needs ../shared/data")
    found = script.steps_read(DATA, name)
    assert len(found) == (10 if "second" in name else 40)
    for line, place, steps in found:
        last = len(script.blocks_texts(steps)[0]) - 1
        named = (
            [found["end"] for found in line.get("reflections", ())] + line.get("matched", []) + line.get("stated", [])
        )
        assert max(named, default=0) <= last, line["id"]
        assert steps.closed
        assert place["correct"] == name.startswith("right")


@pytest.mark.data
def test_a_text_that_is_another_than_the_annotated_one_stops_the_measurement(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (DATA / script.FILES[0]).exists():
        pytest.skip("needs ../shared/data")
    lines = lines_of("right_second.jsonl")
    lines[3]["sha256"] = lines[4]["sha256"]
    (tmp_path / "drawn.jsonl").write_bytes((ANNOTATIONS / "drawn.jsonl").read_bytes())
    (tmp_path / "right.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    monkeypatch.setattr(script, "ANNOTATIONS", tmp_path)
    with pytest.raises(SystemExit, match=lines[3]["id"]):
        script.steps_read(DATA, "right.jsonl")


def test_forty_right_and_forty_wrong_were_drawn_and_all_of_them_read() -> None:
    drawn = lines_of("drawn.jsonl")
    assert [line["correct"] for line in drawn] == [True] * 40 + [False] * 40
    assert [line["id"] for line in lines_of("right.jsonl")] == [line["id"] for line in drawn[:40]]
    assert {line["id"] for line in lines_of("wrong.jsonl")} == {line["id"] for line in drawn[40:]}
    assert {line["id"] for line in lines_of("right_second.jsonl")} < {line["id"] for line in drawn[:40]}


def test_annotations_hold_no_text() -> None:
    for name in FILES:
        for line in lines_of(name):
            rest = {key: value for key, value in line.items() if key not in ("file", "id", "sha256")}
            words = [json.dumps(value) for value in rest.values()]
            for known in ('"step"', '"end"', '"kind"', '"source"', '"unsure"', '"error"', '"confirm"'):
                words = [word.replace(known, "") for word in words]
            assert not any('"' in word for word in words), (name, line["id"])


@pytest.mark.parametrize("name", ["right.jsonl", "right_second.jsonl"])
def test_reflections_are_in_order_and_their_sources_before_them(name: str) -> None:
    for line in lines_of(name):
        found = line["reflections"]
        assert [mark["step"] for mark in found] == sorted({mark["step"] for mark in found}), line["id"]
        assert all(mark["step"] <= mark["end"] for mark in found), line["id"]
        assert all(mark["source"] is None or mark["source"] < mark["step"] for mark in found), line["id"]


def test_counts_are_those_worked_by_hand(counts: Any) -> None:
    read = [
        counts.Mark(2, 4, "confirm", 0),
        counts.Mark(6, 6, "error", 5),
        counts.Mark(9, 9, "error", 3),
        counts.Mark(12, 12, "confirm", None, unsure=True),
    ]
    found = [
        counts.Mark(3, 3, "error", 1),
        counts.Mark(6, 6, "error", 4),
        counts.Mark(9, 9, "confirm", None),
        counts.Mark(20, 20, "error", 19),
    ]
    told = counts.right_counts(read, found, {2: 2, 6: 4, 9: None, 12: 11})
    assert told == {
        "place, any, exact: precision": (2, 4),
        "place, any, exact: recall": (2, 4),
        "place, any, within one: precision": (3, 4),
        "place, any, within one: recall": (3, 4),
        "place, error, exact: precision": (1, 3),
        "place, error, exact: recall": (1, 2),
        "place, error, within one: precision": (1, 3),
        "place, error, within one: recall": (1, 2),
        "place, any, exact, sure only: precision": (2, 4),
        "place, any, exact, sure only: recall": (2, 3),
        "place, any, in a passage: precision": (3, 4),
        "place, any, in a passage: recall": (3, 4),
        "kind, where both see a reflection": (1, 2),
        "source, given the place, any, exact": (0, 3),
        "source, given the place, any, within one": (1, 3),
        "source, given the place, error, exact": (0, 2),
        "source, given the place, error, within one": (1, 2),
        "source, both see an error, error, exact": (0, 1),
        "source, both see an error, error, within one": (1, 1),
    }
    assert counts.blame_counts(read, [1, 4, 5, 7]) == {
        "labelled incorrect, in an interval that was read: precision": (3, 4),
        "source of an error that was read, labelled incorrect": (1, 2),
        "response without an error that was read, left without blame": (0, 0),
    }


def test_a_step_is_paired_once(counts: Any) -> None:
    assert counts.pairs_within([5], [4, 5, 6], 1) == 1
    assert counts.pairs_within([1, 2, 3], [2, 3, 4], 1) == 3
    assert counts.pairs_within([], [1], 1) == 0


def test_kappa_of_summed_tables_is_that_of_all_steps_laid_end_to_end(counts: Any) -> None:
    rng = np.random.default_rng(3)
    read = [rng.random(size) < 0.4 for size in (7, 1, 12)]
    found = [np.where(rng.random(len(row)) < 0.7, row, ~row) for row in read]
    tables = np.array([counts.table_of(a.tolist(), b.tolist()) for a, b in zip(read, found, strict=True)])
    labels = [[Label.MATCHED if yes else Label.MISMATCHED for yes in np.concatenate(rows)] for rows in (read, found)]
    assert counts.kappa_of(tables) == pytest.approx(kappa(*labels))
    assert np.isnan(counts.kappa_of(np.array([[3, 0, 0, 0]])))


def test_the_markers_are_asked_what_the_judge_asks_them(script: Any, counts: Any) -> None:
    right = steps_of(
        "<think>7 * 8 = 54, so 54 apples.\n\nHalf of 54 is 27.\n\nWait, that's not right. 7 * 8 = 56.\n\nSo 28."
        "</think>Wait, that's not right: 28.",
        status="right",
    )
    read = [counts.Mark(2, 2, "error", 0)]
    found, traced = asyncio.run(script.found_marks(right, read))
    assert found == read
    assert traced == {2: 0}
    assert set(counts.right_counts(read, found, traced).values()) <= {(1, 1), (0, 0)}
    wrong = steps_of(
        "<think>There are 31 apples.\n\nThe sky is blue today.</think>There are 31 apples.", status="wrong"
    )
    assert asyncio.run(script.matched(wrong)) == (True, False)
    assert script.match_table({"matched": [0]}, (True, False)) == (1, 0, 0, 1)


def test_a_perfect_reading_has_no_interval_and_one_without_cases_no_value(counts: Any) -> None:
    told = counts.shares([{"all": (3, 3), "none": (0, 0)}, {"all": (1, 1), "none": (0, 0)}])
    assert told["all"] == {"value": 1.0, "low": 1.0, "high": 1.0, "hits": 4, "cases": 4}
    assert told["none"] == {"value": None, "low": None, "high": None, "hits": 0, "cases": 0}
