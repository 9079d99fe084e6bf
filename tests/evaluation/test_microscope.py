"""The microscope's own formulas: enumerated groups, noise apart from direction, exact p-values."""

import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stepcredit.core.records import Problem, Rollout
from stepcredit.engines.embedded.model import CausalLM, ModelConfig

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = ("microscope_ranks", "microscope_tabular", "microscope_rules", "microscope_world")


@pytest.fixture(scope="module")
def scripts() -> Any:
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield {name: __import__(name) for name in MODULES}
    for name in {*MODULES, "learning"} - before:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def seen(scripts: Any) -> dict[str, Any]:
    """A few rules on the easy problem, every group of four."""
    tabular, rows = scripts["microscope_tabular"], scripts["microscope_rules"].ROWS
    table = tabular.start_of(0, seed=3)
    members, orders = tabular.multisets()
    weights = orders * tabular.TREE.probabilities(table)[members].prod(1)
    groups, signals = tabular.Groups(members), tabular.Signals(table, tabular.start_of(0, seed=4), 0)
    names = ("rloo", "dr_grpo", "vineppo_fact", "gae_stale_1", "vineppo_stale", "vppo")
    looks = {name: tabular.look(rows[name], groups, weights, signals) for name in names}
    return {"looks": looks, "true": tabular.true_gradient(table), "weights": weights}


def test_enumerated_groups_have_all_the_probability(seen: Any) -> None:
    assert seen["weights"].sum() == pytest.approx(1.0)


def test_what_theory_holds_to_be_unbiased_is_the_true_gradient(seen: Any) -> None:
    true, looks = seen["true"], seen["looks"]
    for name in ("rloo", "vineppo_fact", "gae_stale_1"):
        np.testing.assert_allclose(looks[name].mean, true, atol=1e-7)
    np.testing.assert_allclose(looks["dr_grpo"].mean, 0.75 * true, atol=1e-7)
    assert looks["rloo"].square * 0.75**2 == pytest.approx(looks["dr_grpo"].square, rel=1e-5)


def test_what_theory_holds_to_be_biased_is_not(seen: Any) -> None:
    true, looks = seen["true"], seen["looks"]
    for name in ("vineppo_stale", "vppo"):
        assert np.abs(looks[name].mean - true).max() > 1e-3


def test_every_rule_of_the_table_that_can_be_fed_is_looked_at(scripts: Any) -> None:
    tabular, rows = scripts["microscope_tabular"], scripts["microscope_rules"].ROWS
    assert {row.rule for row in rows.values()} == set(tabular.RULES)
    table = tabular.start_of(1, seed=0)
    groups, signals = tabular.Groups(tabular.multisets()[0][::4000]), tabular.Signals(table, table, 0)
    for name, row in rows.items():
        assert np.isfinite(row.paid(groups, signals)).all(), name


def test_products_of_different_blocks_know_the_direction_behind_the_noise(scripts: Any) -> None:
    world, rng = scripts["microscope_world"], np.random.default_rng(0)
    true = rng.normal(size=400)
    other = true + rng.normal(size=400)
    mine, truth = other + 3.0 * rng.normal(size=(64, 400)), true + 3.0 * rng.normal(size=(64, 400))
    want = float(true @ other / np.sqrt((true @ true) * (other @ other)))
    got = world.gradient_figures(mine, truth)
    assert got["cosine"] == pytest.approx(want, abs=0.05)
    assert got["one_group"] < got["raw"] < got["cosine"]
    assert got["noise"] == pytest.approx(9.0 * 400 / float(other @ other), rel=0.15)
    assert 0.0 < got["error"] < 0.05


def test_a_block_s_gradient_is_the_sum_over_its_rollouts_read_one_by_one(scripts: Any) -> None:
    model = CausalLM(ModelConfig(vocab_size=11, dim=8, layers=1, heads=2, kv_heads=1, hidden=16), seed=0)
    rng = np.random.default_rng(0)
    block = [rollout(f"r{size}", rng.integers(0, 11, 3), rng.integers(0, 11, size)) for size in (2, 5)]
    paid = {one.id: rng.normal(size=len(one.completion_ids)).astype(np.float32) for one in block}
    got = scripts["microscope_world"].block_gradients(model, [block], {"some": paid, "none": {}})
    assert list(got) == ["some"]
    for one in block:
        ids = torch.from_numpy(np.concatenate([one.prompt_ids, one.completion_ids]).astype(np.int64))
        rows = torch.arange(2, len(ids) - 1)
        hidden = model.hidden(ids, torch.arange(len(ids)), torch.tensor([0, len(ids)]), rows)
        logprobs = model.head(hidden).log_softmax(-1)[torch.arange(len(rows)), ids[3:]]
        (logprobs @ torch.from_numpy(paid[one.id]) / 2.0).backward()
    want = torch.cat([weight.grad.ravel() for weight in model.parameters() if weight.grad is not None]).numpy()
    np.testing.assert_allclose(got["some"][0], want, atol=1e-6)


def rollout(name: str, prompt: np.ndarray, ids: np.ndarray) -> Rollout:
    return Rollout(name, Problem("p", "", "1"), "g", 0, "x" * len(ids), prompt, ids, np.arange(len(ids)), policy="p")


@pytest.mark.parametrize("seed", range(4))
def test_p_values_are_those_of_all_pairings_ties_included(scripts: Any, seed: int) -> None:
    of, rng = scripts["microscope_ranks"], np.random.default_rng(seed)
    one, other = rng.integers(0, 4, 6).tolist(), rng.normal(size=6).tolist()
    own = abs(of.spearman(one, other))
    every = [abs(of.spearman(one, list(turned))) for turned in permutations(other)]
    assert of.p_value(one, other) == pytest.approx(float(np.mean(np.array(every) >= own - 1e-9)))


def test_runs_of_the_comparison_are_averaged_by_task_and_arm(scripts: Any, tmp_path: Path) -> None:
    of = scripts["microscope_ranks"]
    assert of.trained(tmp_path) == {}
    lines = [f'{{"task": "t", "arm": "a", "final_accuracy": {x}, "accuracy": [0, {x}], "seed": 0}}' for x in (0.5, 1)]
    failed = '{"task": "t", "arm": "failed"}'
    (tmp_path / "credit_comparison_t.jsonl").write_text("\n".join([*lines, failed]), encoding="utf-8")
    for other in ("credit_comparison_tuning_t.jsonl", "credit_prl_t.jsonl"):  # other rates, other questions
        (tmp_path / other).write_text(lines[0].replace("0.5", "0.1"), encoding="utf-8")
    earlier = [f'{{"task": "chain", "arm": "{arm}", "final_accuracy": 1, "accuracy": [1]}}' for arm in ("fixed_2", "x")]
    (tmp_path / "learning_chain.jsonl").write_text("\n".join(earlier), encoding="utf-8")
    assert of.trained(tmp_path) == {
        "t": {"a": {"final accuracy": 0.75, "mean of the curve": 0.375}},
        "chain, docs/learning.md": {"tp_grpo_fixed": {"final accuracy": 1.0, "mean of the curve": 1.0}},
    }
