"""The demo end to end, with everything as small as it gets: it is about the path, not about learning."""

import json
from pathlib import Path

import pytest

from stepcredit.core.errors import PartialError, UsageError
from stepcredit.recipes.demo import DemoSettings, run_demo
from stepcredit.recipes.demo_settings import load_demo

OPEN_GATE = ("gate.accuracy=0", "gate.forward_facts=0", "gate.caught=0", "gate.problems=16", "pretrain.updates=12")
SMALL = (
    *OPEN_GATE,
    "rounds.rounds=2",
    "rounds.problems=8",
    "generative.updates=3",
    "taught.updates=3",
    "measure.problems=16",
    "measure.final_problems=16",
    "measure.pass_problems=8",
)


@pytest.mark.learning
def test_the_demo_walks_to_a_report_and_goes_on_when_called_again(tmp_path: Path) -> None:
    settings = DemoSettings(out=tmp_path / "run", arms=("grpo", "tp_grpo", "taught"), overrides=SMALL, workers=2)
    told = run_demo(settings).summary
    assert list(told["methods"]) == ["grpo", "tp_grpo", "taught"]
    grpo = told["methods"]["grpo"]
    assert grpo["rollouts"] == 2 * 8 * 8
    assert set(grpo["rollouts_to"]) == {"0.5", "0.7", "first guess 0.7"}
    assert grpo["accuracy_ci"][0] <= grpo["accuracy"] <= grpo["accuracy_ci"][1]
    assert told["methods"]["taught"]["true_labels"] > 0
    assert told["methods"]["tp_grpo"]["true_labels"] == 0
    assert set(told["judges"]) == {"generative", "taught"}
    assert set(told["judges"]["taught"]) == {"step_f1", "parse_rate", "round 1", "round 2"}
    parts = [told["judges"]["generative"][when] for when in ("round 1", "round 2")]
    parsed, total = sum(p["solutions"] * (p["parse_rate"] or 0) for p in parts), sum(p["solutions"] for p in parts)
    assert told["judges"]["generative"]["parse_rate"] == (pytest.approx(parsed / total) if total else None)
    assert told["parsing"]["tp_grpo"]["P4/wrong"]["asked"] > 0
    assert "How the judge was read" in (tmp_path / "run" / "report.html").read_text()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "GRPO; TP-GRPO, alpha 2, generative intrinsic judge; alpha 1, judge taught with true labels: one" in page
    assert "variants beside GRPO" not in page
    again = run_demo(settings).summary
    assert again["methods"]["grpo"]["accuracy"] == grpo["accuracy"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["methods"].keys() == told["methods"].keys()


@pytest.mark.learning
def test_a_missed_gate_names_its_figures_and_exits_partial(tmp_path: Path) -> None:
    small = ("pretrain.updates=3", "pretrain.restarts=1", "gate.problems=16")
    with pytest.raises(PartialError, match=r"missed the gate .* in 2 tries: accuracy") as caught:
        run_demo(DemoSettings(out=tmp_path / "run", arms=("grpo",), overrides=small, workers=1))
    assert caught.value.exit_code == 5


def test_an_unknown_arm_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no arm tp_grp; did you mean tp_grpo"):
        run_demo(DemoSettings(out=tmp_path / "run", arms=("tp_grp",)))


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown key rounds.problms; did you mean rounds.problems"):
        load_demo(overrides=("rounds.problms=3",))


def test_a_value_out_of_range_names_its_place() -> None:
    with pytest.raises(UsageError, match=r"rounds.group_size: .*greater than or equal to 2"):
        load_demo(overrides=("rounds.group_size=1",))


def test_rule_and_judge_must_go_together() -> None:
    with pytest.raises(UsageError, match="do not go together"):
        load_demo(overrides=('arms.grpo.judge="markers"',))
