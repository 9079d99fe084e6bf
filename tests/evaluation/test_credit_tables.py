"""Tables of `benchmarks/credit.py`: budgets, pairs by seed, pass@8 at equal avg@8, worked by hand."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tables() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import credit_tables

        yield credit_tables
    sys.modules.pop("credit_tables")


def line(arm: str, seed: int, accuracy: list[float], *, signal: float = 0.0, **more: Any) -> dict[str, Any]:
    """A run of three points, 100 sampled and 50 trained tokens a round."""
    spent = {"sampled": [0, 100, 200], "trained": [0, 50, 100], "judge": [0, 0, 0], "signal": [0, signal, 2 * signal]}
    told = {"arm": arm, "checkpoint": 0, "seed": seed, "accuracy": accuracy, "spent": spent, "learning_rate": 1e-3}
    return told | {"avg_at_8": 0.5, "pass_at_8": 0.75, "cpu_seconds": 10.0} | more


def runs(arm: str, final: float, **more: Any) -> list[dict[str, Any]]:
    """Five seeds that end .00 to .04 above `final`."""
    return [line(arm, seed, [0.0, 0.25, final + seed / 100], **more) for seed in range(5)]


def test_a_signals_tokens_count_as_compute_and_not_as_samples(tables: ModuleType) -> None:
    dear = line("prl", 0, [0.0, 0.2, 0.6], signal=250.0)
    assert tables.sampled(dear).tolist() == [0, 100, 200]
    assert tables.compute(dear).tolist() == [0, 100 + 3 * 50 + 250, 1000]
    assert tables.at(dear, tables.compute, 750.0) == pytest.approx(0.4)
    assert tables.at(dear, tables.sampled, 1e9) == 0.6


def test_an_arm_with_four_runs_is_not_shown(tables: ModuleType) -> None:
    text = tables.comparison([*runs("grpo", 0.5), *runs("pure", 0.6)[:4]], {"grpo": "GRPO", "pure": "PURE"})
    assert "GRPO" in text
    assert "PURE" not in text


def test_a_difference_is_taken_seed_by_seed(tables: ModuleType) -> None:
    text = tables.comparison([*runs("grpo", 0.5), *reversed(runs("pure", 0.7))], {"grpo": "GRPO", "pure": "PURE"})
    row = text.splitlines()[-1]
    assert row.count("+0.200 [+0.200, +0.200]") == 2  # the seeds' own spread is in neither


def test_equal_compute_ends_where_the_baselines_cheapest_run_ends(tables: ModuleType) -> None:
    lines = [*runs("grpo", 0.5), *runs("prl", 0.5, signal=250.0)]
    text = tables.comparison(lines, {"grpo": "GRPO", "prl": "PRL"}).splitlines()
    assert "0.00M forward tokens" in text[0]
    assert "0.250 [0.250, 0.250]" in text[-1]  # at 500 of its 1,000 it stands at its middle point
    assert " 2.00 " in text[-1]


def test_pass_at_8_is_read_where_both_first_reach_the_lower_of_the_best_averages(tables: ModuleType) -> None:
    mine = {"hard_avg_at_8": [0.2, 0.4, 0.8], "hard_pass_at_8": [0.5, 0.7, 0.9]}
    base = {"hard_avg_at_8": [0.2, 0.6, 0.5], "hard_pass_at_8": [0.5, 0.6, 0.4]}
    assert tables.pass_at_equal_average(mine, base) == pytest.approx(0.8 - 0.6)
    assert tables.pass_at_equal_average(base, mine) == pytest.approx(0.6 - 0.8)


def test_an_arm_stands_beside_the_one_that_differs_in_the_thing_asked_alone(tables: ModuleType) -> None:
    """Its distance to GRPO holds the learning rate of its family too."""
    told = {"sampling_entropy": [None, 0.1, 0.1], "start_kl_k1": [None, 0.0, 0.0], "guarded_ratios": [None, 0, 0]}
    arms = {
        "grpo": {"title": "GRPO", "question": "all"},
        "token": {"title": "1 token", "question": "length"},
        "eta_5": {"title": "eta 5", "question": "eta", "beside": "token"},
    }
    lines = [*runs("grpo", 0.5, **told), *runs("token", 0.4, **told), *runs("eta_5", 0.3, **told)]
    length, eta = tables.questions(lines, arms).split("\n\n")
    assert "differs in this alone" not in length
    _, _, grpo, token, asked = eta.splitlines()
    assert "GRPO" in grpo
    assert "1 token" in token
    cells = [cell.strip() for cell in asked.split("|")]
    assert cells[3] == "0.001"
    assert cells[5].startswith("-0.100")
    assert cells[6].startswith("-0.050")


def test_long_runs_stand_beside_the_long_baseline(tables: ModuleType) -> None:
    arms = {name: {"title": name, "question": "ten times longer", "rounds": 2} for name in ("grpo_long", "tp_long")}
    told = {"final_accuracy": 0.5}
    lines = [*runs("grpo", 0.1), *runs("grpo_long", 0.5, **told), *runs("tp_long", 0.4, **told)]
    rows = tables.longer(lines, "ten times longer", arms).splitlines()
    assert rows[2].startswith("| grpo_long | 5 |")
    assert "-0.100 [-0.100, -0.100]" in rows[-1]
