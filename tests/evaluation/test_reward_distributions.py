"""`benchmarks/reward_distributions.py`: both parts of each token's advantage, counted as worked by hand."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from stepcredit.core.records import Group, Judgement, Label, Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.recipes.arm_rules.arm import ArmPart

ROOT = Path(__file__).resolve().parents[2]
LABEL = {"C": Label.CORRECT, "I": Label.INCORRECT, "M": Label.MATCHED, "U": Label.MISMATCHED}
Z, LOW = 3**0.5, -(3**-0.5)


@pytest.fixture(scope="module")
def counted() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import reward_distributions

        yield reward_distributions
    for name in ("reward_distributions", "credit", "credit_plots", "credit_tables", "world_runs"):
        sys.modules.pop(name)


def judged(name: str, sample: int, status: str, letters: str) -> Judgement:
    """Steps of one token; the last one is the answer block."""
    ids = np.arange(len(letters))
    rollout = Rollout(f"{name}/{sample}", Problem(name, "?", "1"), name, sample, "x" * len(ids), ids, ids, ids)
    inside = np.arange(len(letters)) == len(letters) - 1
    steps = Steps(Outcome(rollout, status), ids, "step", inside, closed=True)  # type: ignore
    return Judgement(steps, tuple(Verdict(label=LABEL[letter]) for letter in letters), "j")


def test_what_the_verdicts_add_stands_apart_from_the_outcome(counted: ModuleType) -> None:
    """alpha 2, one of four right: z is sqrt(3) and -1 / sqrt(3); incorrect thoughts lose 2 / 4, mismatched ones z."""
    members = [judged("a", 0, "right", "CICCC"), *(judged("a", k, "wrong", "UMM") for k in (1, 2, 3))]
    group = Group("a", tuple(member.steps.outcome for member in members))
    arm = ArmPart(title="t", rule="tp_grpo", judge="markers", alpha=2.0)
    tokens = counted.tokens_of(arm, [group], members, seed=0)
    np.testing.assert_allclose(tokens.outcome, [Z] * 5 + [LOW] * 9, atol=1e-6)
    np.testing.assert_allclose(tokens.process, [0, -0.5, 0, 0, 0] + [-LOW, 0, 0] * 3, atol=1e-6)
    assert tokens.position.tolist() == [0, 1, 2, 3, 4] + [0, 2, 4] * 3
    found = counted.figures({0: tokens})["all rounds"]
    right, wrong = found["right"]["all"], found["wrong"]["all"]
    assert (right["moved"], right["turned"], right["silenced"]) == (0.2, 0.0, 0.0)
    assert (wrong["moved"], wrong["turned"], wrong["silenced"]) == (pytest.approx(1 / 3, abs=1e-4), 0.0, wrong["moved"])
    assert right["size_ratio"] == pytest.approx(0.1 / Z, abs=1e-4)
    assert found["wrong"]["positions"]["1st quarter"]["silenced"] == 1.0
    assert found["wrong"]["positions"]["answer"]["moved"] == 0.0
    assert found["wrong"]["positions"]["4th quarter"]["outcome"] == {"tokens": 0}


def test_a_sign_that_turns_and_a_group_without_spread_are_counted(counted: ModuleType) -> None:
    columns = {
        "right": np.array([True] * 4),
        "position": np.zeros(4, int),
        "truth": np.array([0.0, 1.0, np.nan, 0.0]),
        "outcome": np.array([0.5, 0.5, 0.5, 0.0]),
        "process": np.array([-1.0, 0.0, -0.5, -1.0]),
    }
    found = counted.compared(counted.Tokens(**columns))
    assert (found["moved"], found["turned"], found["silenced"], found["process_alone"]) == (0.75, 0.25, 0.25, 0.25)
    assert (found["process_truly_right"], found["process_truly_wrong"]) == (0.0, -1.0)
    assert sum(found["sum"]["histogram"]) == found["sum"]["tokens"] == 4


def test_a_folder_that_is_none_of_an_arm_is_refused(counted: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no run folder of an arm"):
        asyncio.run(counted.recorded(tmp_path))
