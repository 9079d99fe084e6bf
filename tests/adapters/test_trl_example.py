"""The example of docs/guide/trl.md: it runs, its log is what retro-credit reads, and at full size it learns task E."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from stepcredit.adapters.logged import read_log, retro_credit
from stepcredit.judges import JUDGES
from stepcredit.recipes.demo_settings import load_demo
from stepcredit.recipes.pretraining import pretrain_to_gate
from stepcredit.steps import Delimiter

pytest.importorskip("trl_cases", reason="TRL is not installed: pip install 'stepcredit[trl]'")

pytestmark = pytest.mark.filterwarnings("ignore")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "trl_reflection.py"


def example() -> ModuleType:
    found = importlib.util.spec_from_file_location("trl_reflection", EXAMPLE)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_example_runs_and_its_log_is_paid_by_every_rule(tmp_path: Path) -> None:
    small = "--length 1 --dim 16 --updates 30 --steps 2 --batch 16 --max-tokens 24 --held-out 16 --log-completions"
    module = example()
    result = module.main([*small.split(), "--out", str(tmp_path)])
    assert len(result["right"]) == 2
    assert (tmp_path / "result.json").exists()
    rows = read_log(tmp_path / "trl" / "completions", group_size=8)
    assert len(rows) == 32
    judge = JUDGES["world-markers"].make()
    found = retro_credit(rows, Delimiter(";", form="world"), judge=judge, tokenizer=module.TOKENIZER, right_above=0.0)
    assert {"grpo", "tp_grpo", "logged"} <= set(found.rules)


@pytest.mark.learning
@pytest.mark.slow
def test_tp_grpo_in_trl_learns_task_e(tmp_path: Path) -> None:
    """From the policy of the demo, as docs/guide/trl.md does it and gives the figures; some minutes of CPU time."""
    policy = pretrain_to_gate(load_demo(), tmp_path / "policy").folder
    options = "--steps 16 --batch 64 --max-tokens 56 --held-out 128 --learning-rate 6e-4"
    result = example().main([*options.split(), "--policy", str(policy), "--out", str(tmp_path)])
    assert result["after"] > result["before"] + 0.1
