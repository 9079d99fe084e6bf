"""Published accuracies give the published F1 and MR-Score; the page in results is what the code gives."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from stepcredit.evaluation.first_error import harmonic_mean

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
TOLD: dict[str, Any] = json.loads((ROOT / "benchmarks" / "published_figures.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import published_figures

        yield published_figures
    sys.modules.pop("published_figures")


def test_every_row_of_accuracies_gives_its_f1_and_average(script: Any) -> None:
    rows = dict(script.processbench(TOLD["processbench"]))
    assert len(rows) == 10
    cells = [cell for row in rows.values() for cell in row]
    assert len(cells) == 50
    assert {cell.what: cell.verdict for cell in cells if cell.verdict == "no"} == {}
    assert sum(cell.verdict == "digit" for cell in cells) == 40
    assert sum(cell.counts for cell in cells) == 24


def test_every_printed_average_is_the_mean_of_its_four_f1(script: Any) -> None:
    cells = list(script.averages(TOLD["processbench"]))
    assert len(cells) == 52
    assert [cell.what for cell in cells if cell.verdict == "no"] == []


def test_mr_scores_and_correlations_follow_from_their_parts(script: Any) -> None:
    rows = dict(script.mr_gsm8k(TOLD["mr_gsm8k"]))
    cells = [cell for row in rows.values() for cell in row]
    assert len(cells) == 7 * 2 + 28
    assert [cell.what for cell in cells if cell.verdict == "no"] == []
    assert all(cell.verdict == "digit" for name in TOLD["mr_gsm8k"]["january"] for cell in rows[name])


def test_a_wrong_figure_would_be_listed(script: Any) -> None:
    """The slip of the paper's size table: 34.8 and 97.4 give 51.3, not 81.0."""
    told = json.loads(json.dumps(TOLD))
    told["processbench"]["f1"]["GenPRM-1.5B Maj@8"][0] = 81.0
    text = script.page(told, None)
    assert "- GenPRM-1.5B Maj@8, GSM8K: published 81, ours 51.28" in text
    assert "51.3 / 81.0 **!**" in text
    assert 100 * harmonic_mean(0.348, 0.974) == pytest.approx(51.28, abs=0.005)


def test_printing_rounds_halves_up_and_counts_are_those_that_print_so(script: Any) -> None:
    assert (script.printed(67.45), script.printed(67.449), script.printed(0.1049, 3)) == (67.5, 67.4, 0.105)
    assert script.counts_behind(67.6, 207) == [140]
    assert script.counts_behind(67.7, 207) == []


@pytest.mark.data
def test_the_committed_page_is_what_the_code_gives(script: Any) -> None:
    if not (DATA / "judge_mr_gsm8k").is_dir():
        pytest.skip("needs ../shared/data/judge_mr_gsm8k")
    kept = (ROOT / "benchmarks" / "results" / "published_figures.md").read_text(encoding="utf-8")
    assert script.page(TOLD, DATA) == kept


@pytest.mark.data
def test_recorded_reasons_are_read_as_upstream_reads_them(script: Any) -> None:
    if not (DATA / "judge_mr_gsm8k").is_dir():
        pytest.skip("needs ../shared/data/judge_mr_gsm8k")
    found = script.graded(TOLD["mr_gsm8k"], DATA)
    assert sum(of["replies"] for of in found["judges"].values()) == 402
    assert sum(of["ungraded"] for of in found["judges"].values()) == 0
    assert found["misses"] == []
    for of in found["judges"].values():
        share = of["interval"]
        assert of["published"] is None or share.low <= of["published"] <= share.high
