"""Verdict lines of recorded critiques."""

import gzip
import json
from pathlib import Path

import pytest

from stepcredit.judges.stated import Stated, read_stated

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Final Judgement: wrong\nFirst Error Step: 4", Stated(False, 3)),
        ("Final Judgment: Incorrect\nFirst Error Step: Step 1\nError Analysis: Step 2 is wrong", Stated(False, 0)),
        ("- The solution is **Incorrect**.\n- The first error step number: **12**", Stated(False, 11)),
        ("Final Judgement: correct\nFirst Error Step: N/A", Stated(True, None)),
        ("The student solution is correct.\nThe first error step number: 0", Stated(True, None)),
        ("Final Judgement: [correct or wrong]\nFinal Judgement: wrong\nFirst Error Step: 2", Stated(False, 1)),
    ],
)
def test_verdict_lines(text, found):
    assert read_stated(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Final Judgement: wrong",
        "First Error Step: 2",
        "Final Judgement: wrong\nFirst Error Step: N/A",
        "Final Judgement: correct\nFirst Error Step: 3",
        "Final Judgement: wrong\nFinal Judgement: correct\nFirst Error Step: 3",
        "Final Judgement: wrong\nFirst Error Step: 3\nFirst Error Step: 2",
        "Final Judgement: wrong\nFirst Error Step: 9",
        "Final Judgement: perhaps wrong\nFirst Error Step: 2",
        "the final judgement: wrong, first error step: 2",
    ],
)
def test_what_is_missing_contradicts_itself_or_names_no_step_is_unknown(text):
    assert read_stated(text, 8) is None


@pytest.mark.data
@pytest.mark.parametrize(("name", "least"), [("judge_mr_gsm8k", 0.97), ("judge_realcritic", 0.99)])
def test_recorded_replies_are_read(name, least):
    """Which are not stands in benchmarks/results/parsers.md; none of those read says something else than upstream."""
    file = DATA / name / "outputs.jsonl.gz"
    if not file.is_file():
        pytest.skip(f"needs ../shared/data/{name}")
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
    found = [read_stated(row["response"]) for row in rows]
    assert sum(one is not None for one in found) >= least * len(rows)
    for row, one in zip(rows, found, strict=True):
        if one is not None and "upstream_parsed" in row:
            assert str(one.first_error + 1) == row["upstream_parsed"]["error_step"].split()[-1]
