"""The credit X-ray on a real tiny run of `demo`: its rounds, the world's truth, its own policy's continuations."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepcredit.core.errors import StoreError, UsageError
from stepcredit.core.pack import pack_of_rollouts
from stepcredit.credit import Need
from stepcredit.engines.embedded.checkpoint import load_checkpoint, save_checkpoint
from stepcredit.engines.learner import packed_logprobs
from stepcredit.judges.intrinsic.claims import world_claims
from stepcredit.judges.witness import WitnessSettings
from stepcredit.recipes.arms import ArmJob, run_arm
from stepcredit.recipes.demo_settings import load_demo
from stepcredit.recipes.pretraining import pretrain
from stepcredit.recipes.world import WorldTask
from stepcredit.recipes.xray.recorded import TextSettings
from stepcredit.recipes.xray.run import CreditXray, XraySettings, run_xray
from stepcredit.recipes.xray.trained import arm_run, read_trained
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.signals import Witnesses

pytestmark = pytest.mark.learning

ARMS = ("tp_grpo_markers", "grpo")
SMALL = (
    "world.length=1", "world.divisions=0", "gate.divisions=0", "model.dim=32", "model.heads=2", "model.hidden=32",
    "pretrain.updates=120", "pretrain.batches=[[1, 64]]", "rounds.rounds=3", "rounds.problems=8",
    "rounds.group_size=4", "rounds.rollouts_per_update=8", "measure.problems=8", "measure.final_problems=8",
    "measure.pass_problems=8", "learner.learning_rate=0.003",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as `demo` leaves it, of a policy that is right now and then."""
    folder = tmp_path_factory.mktemp("run") / "demo"
    recipe = load_demo(overrides=SMALL)
    task = WorldTask(recipe.world)
    policy = pretrain(recipe, task, attempt=0, on_progress=lambda *_: None)
    with RunFolder.create_or_open(folder, {"verb": "demo", "arms": list(ARMS)}):
        save_checkpoint(policy, folder / "checkpoints" / "policy", tokenizer=task.tokenizer)
        for arm in ARMS:
            run_arm(ArmJob(recipe, arm, 0, folder / "checkpoints" / "policy", folder / "arms" / f"{arm}-seed0"))
    return folder


def xray(path: Path, *compare: str, **changes: Any) -> CreditXray:
    return run_xray(path, XraySettings(compare=compare, **changes))


def test_a_round_is_read_with_its_verdicts_and_the_worlds_truth(run: Path) -> None:
    found = xray(run, "grpo,tp_grpo,vineppo")
    assert found.payload["of"] == "tp_grpo_markers, seed 0, round 2"
    assert (found.payload["rollouts"], found.payload["groups"]) == (32, 8)
    assert (found.payload["truth"], found.payload["judge"]) == ("the world's own truth", "markers")
    assert [rule.name for rule in found.rules] == ["grpo", "tp_grpo"]
    assert found.rules[0].mean == pytest.approx(0.0, abs=0.5)
    assert "no values" in found.left_out["vineppo"]
    assert xray(run, "grpo", problems=3).payload["groups"] == 3
    by_verdicts = xray(run, "grpo", truth="verdicts")
    assert by_verdicts.payload["truth"] == "the verdicts of judge markers"


def test_at_the_first_round_prl_is_grpo(run: Path) -> None:
    """The reference is the first policy, so all log-ratios are 0; later they are not."""
    overrides = ("prl.std=population", "prl.epsilon=0", "prl.eta=1")
    first, last = (xray(run, "grpo,prl", round=index, overrides=overrides) for index in (0, 2))
    told = "log probabilities of the round's policy less those of the starting checkpoint"
    assert first.payload["signals"]["log_ratio"] == told
    grpo, prl = first.rules
    assert prl.paid == grpo.paid == 1.0
    assert prl.variance == pytest.approx(grpo.variance, abs=1e-3)
    assert abs((last.rules[1].variance or 0.0) - (last.rules[0].variance or 0.0)) > 1e-3


def test_a_log_ratio_is_the_policys_less_the_references(run: Path) -> None:
    """Its sampler's own numbers say the same, and are what is taken where the round's policy was not kept."""
    found = arm_run(run, arm="grpo", seed=0)
    last, middle = (read_trained(found, round_index=index, problems=None) for index in (2, 1))
    reference = load_checkpoint(run / "checkpoints" / "policy")
    for batch, of in ((last, "log probabilities of the round's policy"), (middle, "recorded log probabilities")):
        assert batch.sources[Need.LOG_RATIO].startswith(of)
        ratios = batch.makers[Need.LOG_RATIO](batch.steps)
        for steps in batch.steps:
            pack = pack_of_rollouts([steps.rollout])
            want = (pack.old_logprobs - packed_logprobs(reference, pack, token_budget=4096))[pack.trained]
            np.testing.assert_allclose(ratios[steps.rollout.id], want, atol=1e-4)
        assert max(np.abs(ratio).max() for ratio in ratios.values()) > 1e-2


def test_values_by_continuation_are_the_policys_own_and_are_kept(run: Path, tmp_path: Path) -> None:
    """VinePPO without whitening pays the gains themselves, which telescope to reward less value of the prompt."""
    out, overrides = tmp_path / "out", ("vineppo.whiten=false",)
    found = xray(run, "grpo,vineppo", continuations=4, overrides=overrides, out=out)
    assert found.payload["values"] == "4 continuations of each prefix by its own policy"
    vineppo = found.rules[1]
    assert vineppo.following is not None
    assert vineppo.following.spearman.value == pytest.approx(1.0)
    assert vineppo.following.steps == found.payload["steps"]
    lines = [json.loads(line) for line in (out / "values.jsonl").read_text().splitlines()]
    views = {view.id: view for view in found.data.solutions}
    for line in lines:
        steps, values = views[line["id"]].steps, line["values"]
        paid = [step.pieces[0].advantages[0] for step in steps]
        np.testing.assert_allclose(paid, np.diff(values), atol=1e-6)
        assert sum(gain or 0.0 for gain in paid) == pytest.approx(values[-1] - values[0], abs=1e-6)
        assert all(-1.0 <= value <= 1.0 for value in values)
    again = xray(run, "grpo,vineppo", values=out / "values.jsonl", overrides=overrides)
    assert [rule.following for rule in again.rules] == [rule.following for rule in found.rules]
    assert "grpo" in {row.name for row in (found.data.xray.rows if found.data.xray else ())}


def test_the_witnesses_are_those_of_training(run: Path, tmp_path: Path) -> None:
    """Also with the arm's own word on whose word counts, which its manifest keeps."""
    found = xray(run, "grpo,witness", arm="grpo", round=0)
    assert [(rule.name, rule.paid) for rule in found.rules] == [("grpo", 1.0), ("witness", 1.0)]
    assert found.payload["signals"]["testimony"] == "what the solutions of each problem say of each other's steps"
    assert found.rules[1].variance != pytest.approx(found.rules[0].variance)
    other = tmp_path / "arm"
    shutil.copytree(run / "arms" / "grpo-seed0", other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["settings"]["witnesses"] = {"own_word": False, "confirmed": "no", "remarks": "none"}
    (other / "manifest.json").write_text(json.dumps(manifest))
    silent = WitnessSettings(own_word=False, confirmed="no", remarks="none")
    columns: list[np.ndarray] = []
    for folder, settings in ((run / "arms" / "grpo-seed0", WitnessSettings()), (other, silent)):
        batch = read_trained(arm_run(folder, arm=None, seed=None), round_index=0, problems=None)
        made = batch.makers[Need.TESTIMONY](batch.steps)
        trained = asyncio.run(Witnesses(world_claims, settings).of(batch.steps))
        for steps, column in zip(batch.steps, trained, strict=True):
            np.testing.assert_array_equal(made[steps.rollout.id], column)
        columns.append(np.concatenate(trained))
    assert np.isnan(columns[1]).sum() > np.isnan(columns[0]).sum()


def test_values_of_one_look_do_not_stay_beside_the_next(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    xray(run, "grpo", continuations=1, problems=1, out=out)
    assert (out / "values.jsonl").exists()
    xray(run, "grpo", arm="grpo", out=out)
    assert not (out / "values.jsonl").exists()


def test_only_the_policy_that_wrote_a_round_continues_it(run: Path, tmp_path: Path) -> None:
    assert xray(run, "grpo", continuations=1, round=0, problems=1).payload["values"]
    with pytest.raises(UsageError, match=r"wrote round 1 was not kept; .* of its first round \(0\) and its last"):
        xray(run, "grpo", continuations=1, round=1)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    arm = other / "arms" / "tp_grpo_markers-seed0"
    shutil.copy(arm / "checkpoints" / "learner-0003.bin", arm / "checkpoints" / "learner-0002.bin")
    with pytest.raises(UsageError, match="is not the policy that wrote this rollout"):
        xray(other, "grpo", continuations=1, problems=1)


def test_an_arm_without_judge_or_checkpoint_names_what_it_lacks(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "arm"
    shutil.copytree(run / "arms" / "grpo-seed0", bare)
    found = xray(bare, "grpo,tp_grpo,prl")
    assert [rule.name for rule in found.rules] == ["grpo"]
    assert found.payload["judge"] is None
    assert "no flags" in found.left_out["tp_grpo"]
    assert "the starting checkpoint is not in" in found.left_out["prl"]
    with pytest.raises(UsageError, match="the starting checkpoint is not there, so nothing can be continued"):
        xray(bare, "grpo", continuations=1)


def test_what_the_run_does_not_have_is_told(run: Path, tmp_path: Path) -> None:
    for changes, told in (
        ({"arm": "grp"}, "the run has no arm grp; did you mean grpo"),
        ({"arm": "grpo", "seed": 3}, "arm grpo has no seed 3; it has 0"),
        ({"round": 7}, "round 7 is not complete; there are rounds 0 to 2"),
        (
            {"text": TextSettings(tokenizer=run)},
            "--tokenizer is of .*, and this is a run of demo or train; leave it out",
        ),
        (
            {"text": TextSettings(judge="markers")},
            "--judge is of a JSONL file of solutions or a log of TRL or verl, and",
        ),
        ({"text": TextSettings(group_size=2)}, "--group-size is of a log"),
        ({"text": TextSettings(input=run)}, "--input is of a run of judge or run"),
        ({"overrides": ("steps.splitter=newline",)}, r"--set steps\.KEY is of"),
        ({"overrides": ("checker.mode=string",)}, r"--set checker\.KEY is of"),
    ):
        with pytest.raises(UsageError, match=told):
            xray(run, "grpo", **changes)
    damaged = tmp_path / "damaged"
    shutil.copytree(run / "arms" / "grpo-seed0", damaged)
    manifest = json.loads((damaged / "manifest.json").read_text())
    for part, told in (
        ({"recipe": {"world": {"length": "long"}}}, r"damaged: \('length',\)"),
        ({"settings": {**manifest["settings"], "witnesses": {"own_word": 5}}}, r"damaged: \('own_word',\)"),
        ({"settings": {}}, r"damaged: under settings\.judge it has nothing, no str"),
    ):
        (damaged / "manifest.json").write_text(json.dumps({**manifest, **part}))
        with pytest.raises(StoreError, match=told):
            xray(damaged, "grpo")
    assert xray(run, "grpo", arm="grpo").payload["of"] == "grpo, seed 0, round 2"
    with pytest.raises(UsageError, match="this is the folder of arm grpo, not of tp_grpo"):
        xray(run / "arms" / "grpo-seed0", "grpo", arm="tp_grpo")
    with RunFolder.create_or_open(tmp_path / "new", {"verb": "demo", "arms": ["grpo"]}):
        pass
    with pytest.raises(UsageError, match="no arm of this run has begun"):
        xray(tmp_path / "new", "grpo")
    with RunFolder.create_or_open(tmp_path / "evaluated", {"verb": "evaluate"}):
        pass
    with pytest.raises(UsageError, match="a run of evaluate keeps no rollouts"):
        xray(tmp_path / "evaluated", "grpo")


def test_a_run_folder_is_only_looked_at(run: Path) -> None:
    """SQLite's own files aside, which come and go with every reader."""
    files = [path for path in run.rglob("*") if path.is_file() and not path.name.startswith("ledger.sqlite-")]
    before = {path: path.stat().st_mtime_ns for path in files}
    xray(run, "all", continuations=1, problems=1)
    assert {path: path.stat().st_mtime_ns for path in files} == before
