"""What an arm measures beside accuracy: hard problems, tokens by kind, the KL to its start; all in its rows."""

from pathlib import Path

import pytest

from stepcredit.core.errors import UsageError
from stepcredit.engines.embedded.checkpoint import save_checkpoint
from stepcredit.recipes.arms import ArmJob, ArmResult, run_arm
from stepcredit.recipes.demo_settings import ArmPart, DemoRecipe, load_demo
from stepcredit.recipes.held_out import Attempts, HardSet
from stepcredit.recipes.pretraining import pretrain
from stepcredit.recipes.world import WorldTask
from stepcredit.store.codec import decode
from stepcredit.store.ledger import Ledger
from stepcredit.training.evaluate import PROPOSALS

SMALL = (
    "world.length=1", "world.divisions=0", "gate.divisions=0", "model.dim=32", "model.heads=2", "model.hidden=32",
    "pretrain.updates=160", "pretrain.batches=[[1, 64]]", "rounds.rounds=2", "rounds.problems=32",
    "rounds.group_size=4", "rounds.rollouts_per_update=8", "measure.problems=8", "measure.final_problems=8",
    "measure.pass_problems=8", "learner.learning_rate=0.003",
)  # fmt: skip

MEASURED = ("measure.hard_problems=8", "measure.hard_length=2", "measure.reference_kl=true")


def small(*overrides: str) -> DemoRecipe:
    recipe = load_demo(overrides=(*SMALL, *overrides))
    prl = ArmPart(title="PRL", rule="prl", settings={"eta": 10.0}, splitter="token")
    return recipe.model_copy(update={"arms": {**recipe.arms, "prl": prl}})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe, folder = small(), tmp_path_factory.mktemp("policy")
    task = WorldTask(recipe.world)
    save_checkpoint(pretrain(recipe, task, attempt=0, on_progress=lambda *_: None), folder, tokenizer=task.tokenizer)
    return folder


def trained(recipe: DemoRecipe, checkpoint: Path, out: Path, *, arm: str = "grpo") -> ArmResult:
    return run_arm(ArmJob(recipe, arm, 0, checkpoint, out))


@pytest.mark.learning
def test_every_measurement_of_an_arm_holds_the_hard_set_and_its_rows_the_rest(checkpoint: Path, tmp_path: Path) -> None:
    plain = trained(small(), checkpoint, tmp_path / "plain")
    found = trained(small(*MEASURED), checkpoint, tmp_path / "hard")
    assert [row.accuracy for row in found.rows] == [row.accuracy for row in plain.rows]
    hard = [(row.figures["hard_avg_at_8"], row.figures["hard_pass_at_8"]) for row in found.rows]
    assert all(0 <= average <= passed <= 1 for average, passed in hard)
    assert not any("hard_avg_at_8" in row.figures for row in plain.rows)
    assert len(found.avg_at_8) == len(found.pass_at_8) == 8
    assert all(average <= passed for average, passed in zip(found.avg_at_8, found.pass_at_8, strict=True))
    assert found.rows[1].start_kl == pytest.approx(0.0, abs=1e-6)
    assert (found.rows[2].start_kl or 0.0) > 1e-6
    assert found.rows[1].guarded_ratios == 0
    assert [row.start_kl for row in plain.rows] == [None] * 3
    assert plain.rows[-1].guarded_ratios is None
    sampled = [row.sampled_tokens or 0 for row in found.rows]
    assert 0 == sampled[0] < sampled[1] < sampled[2]
    assert sampled[2] - sampled[1] == pytest.approx(128 * (found.rows[2].mean_tokens or 0.0))


@pytest.mark.learning
def test_passes_of_a_reference_are_counted_and_those_of_a_measurement_are_not(checkpoint: Path, tmp_path: Path) -> None:
    free = trained(small(*MEASURED, "rounds.rounds=1"), checkpoint, tmp_path / "free")
    held = trained(small("learner.beta=0.1", "rounds.rounds=1"), checkpoint, tmp_path / "held")
    paid = trained(small("rounds.rounds=1"), checkpoint, tmp_path / "paid", arm="prl")
    assert free.rows[-1].signal_tokens == free.signal_tokens == 0
    for result in (held, paid):
        tokens = result.rows[-1].signal_tokens
        assert tokens == result.signal_tokens
        assert (tokens or 0) > 0
    assert paid.signal_tokens > 2 * (paid.rows[-1].sampled_tokens or 0)
    assert paid.rows[-1].guarded_ratios == 0


def test_hard_problems_are_of_the_same_world_and_longer() -> None:
    for asked, divisions in ((3, 6), (2, 2)):
        recipe = load_demo(
            overrides=(
                "world.length=3", f"world.divisions={asked}", "measure.hard_problems=5", "measure.hard_length=6",
            )
        )  # fmt: skip
        hard = HardSet.of(recipe)
        assert {problem.text.count("Step") for problem in hard.problems} == {6}
        assert {problem.text.count("/") for problem in hard.problems} == {divisions}
    task = WorldTask(recipe.world)
    assert hard.capacity(task) > task.capacity
    assert HardSet.of(load_demo()).problems == ()
    assert HardSet.of(load_demo()).capacity(task) == task.capacity


def test_pass_at_8_of_more_attempts_is_the_unbiased_estimate() -> None:
    class Marked:
        def __init__(self, status: str) -> None:
            self.status = status

    one_of_sixteen = [Marked("right"), *[Marked("wrong")] * 15]
    found = Attempts.of(one_of_sixteen, attempts=16)  # type: ignore
    assert (found.avg_at_8, found.pass_at_8) == ((1 / 16,), (0.5,))
    with pytest.raises(UsageError, match="pass@8 needs at least 8 attempts"):
        Attempts.of(one_of_sixteen, attempts=4)  # type: ignore


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("measure.hard_length=3",), "do nothing without hard problems; set hard_problems too"),
        (("measure.hard_attempts=9",), "do nothing without hard problems; set hard_problems too"),
        (("measure.hard_problems=8", "measure.hard_length=7"), "measure.hard_length must be at most 6, got 7"),
        (("measure.hard_problems=8", "measure.hard_attempts=4"), "greater than or equal to 8, got 4"),
    ],
)
def test_a_hard_set_that_cannot_be_asked_is_refused(overrides: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load_demo(overrides=overrides)


@pytest.mark.learning
def test_an_arm_is_paid_in_the_steps_that_the_markers_name(checkpoint: Path, tmp_path: Path) -> None:
    """One step is a solution without any error taken back: the log-ratio of its first token is that of all."""
    recipe = small("rounds.rounds=1")
    judged = ArmPart(title="PRL", rule="prl", settings={"eta": 10.0}, splitter="judged")
    result = trained(recipe.model_copy(update={"arms": {"judged": judged}}), checkpoint, tmp_path, arm="judged")
    assert result.rows[-1].updates > 0
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.count(PROPOSALS) == 128
        shown = [decode(payload) for _, payload in ledger.items("shown")]
    assert {credit.steps.unit for credit in shown} == {"proposed"}
    assert any(int((~credit.steps.in_answer).sum()) == 1 for credit in shown)


def test_judged_steps_take_no_settings_and_no_rule_of_verdicts() -> None:
    with pytest.raises(ValueError, match="splitter judged has no settings, got size; leave split out"):
        ArmPart(title="t", rule="prl", splitter="judged", split={"size": 4})
    with pytest.raises(ValueError, match="not those of splitter judged"):
        ArmPart(title="t", rule="pure", judge="markers", splitter="judged")
