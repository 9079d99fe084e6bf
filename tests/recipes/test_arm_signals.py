"""Signals that an arm makes for itself: judges trained in it, values, preferences, filters; and that it can be left."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_arm_rules import recipe_with
from test_arms import batch, small

from stepcredit.core.digests import digest
from stepcredit.core.errors import PartialError, UsageError
from stepcredit.core.records import Judgement, Verdict
from stepcredit.credit.prime import PrimeSettings
from stepcredit.credit.rlsp import RlspSettings, rlsp_bonus
from stepcredit.credit.rule import Need
from stepcredit.credit.scored.math_shepherd import MathShepherdSettings
from stepcredit.engines.embedded.checkpoint import load_checkpoint, save_checkpoint
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.learner import LearnerSettings, TorchLearner
from stepcredit.engines.learner.state import unpack_state
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.recipes.arm_rules.arm import ArmPart
from stepcredit.recipes.arm_rules.credit import ArmCredit
from stepcredit.recipes.arm_rules.frozen import frozen_policy
from stepcredit.recipes.arm_rules.parts import CriticPart, ImplicitPart
from stepcredit.recipes.arm_rules.returns import returns_of
from stepcredit.recipes.arm_rules.trained import CriticValues, ImplicitScores, Start
from stepcredit.recipes.arm_rules.whole import preferences, whole_columns, whole_scores
from stepcredit.recipes.arms import ArmJob, run_arm
from stepcredit.recipes.demo_settings import WorldPart
from stepcredit.recipes.held_out import held_out
from stepcredit.recipes.pretraining import pretrain
from stepcredit.recipes.world import WorldTask
from stepcredit.store.run_folder import RunFolder, read_checkpoint, read_metrics

TASK = WorldTask(WorldPart(length=1, divisions=0))
WIDE = {"accuracy_low": 0.0, "accuracy_high": 1.0}

ARMS = {
    "prime": {"rule": "prime", "settings": WIDE, "implicit_prm": {"passes": 2}},
    "gae_critic": {"rule": "gae_critic", "splitter": "token"},
    "vine_critic": {"rule": "vineppo", "values": "critic"},
    "math_shepherd": {"rule": "math_shepherd", "judge": "oracle", "settings": {"critic": True, "lam": 0.95}},
    "rlsp": {"rule": "rlsp", "settings": {"baseline": "critic"}},
    "q_rm": {"rule": "q_rm", "token_model": {"problems": 24, "attempts": 4, "batch": 8}},
    "q_rm_ppo": {
        "rule": "q_rm",
        "settings": {"logit_scale": "std", "value_weight": 0.01, "kl_weight": 0.01},
        "token_model": {"problems": 24, "attempts": 4, "batch": 8},
    },
    "think_rm": {"rule": "think_rm", "judge": "oracle"},
    "spct": {"rule": "spct", "judge": "oracle", "of_steps": "last"},
    "prof": {"rule": "grpo", "judge": "oracle", "prof": {"share": 0.5}, "keep": "all"},
    "prl": {"rule": "prl", "settings": {"eta": 1.0, "bonus_weight": 0.2}, "process_weight": "alternate"},
}
"""Every arm of new signals, tiny."""

LEARNS = {
    "prime": ["implicit_prm"],
    "gae_critic": ["critic"],
    "vine_critic": ["critic"],
    "math_shepherd": ["critic"],
    "rlsp": ["critic"],
    "q_rm_ppo": ["critic"],
}
"""Judges that learn in every round, by arm."""


ASKED_A_ROUND = 3
"""Times that a run asks whether to stop in a round before its first update."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe, folder = small(), tmp_path_factory.mktemp("policy")
    task = WorldTask(recipe.world)
    save_checkpoint(pretrain(recipe, task, attempt=0, on_progress=lambda *_: None), folder, tokenizer=task.tokenizer)
    return folder


def states(folder: Path) -> dict[str, str]:
    """Digest of every checkpoint by name, less torch's random state, which nobody reads: building models moves it."""
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    found = {name: unpack_state(read_checkpoint(folder, name)) for name in names}
    return {name: digest(plain({k: v for k, v in parts.items() if k != "random"})) for name, parts in found.items()}


def plain(value: object) -> object:
    if isinstance(value, dict):
        return [(str(key), plain(inner)) for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value.numpy() if isinstance(value, torch.Tensor) else str(value)


@pytest.mark.learning
@pytest.mark.parametrize("name", ARMS)
def test_an_arm_that_was_left_and_taken_up_ends_as_one_that_was_not(
    name: str, checkpoint: Path, tmp_path: Path
) -> None:
    """Left after the first update of the second round: that update is undone, and the judges are those of the first."""
    recipe = recipe_with(2, **{name: ARMS[name]})  # the sampler's logprobs hang on who was sampled beside whom
    recipe = recipe.model_copy(update={"rounds": recipe.rounds.model_copy(update={"old_logprobs": "learner"})})
    whole = run_arm(ArmJob(recipe, name, 0, checkpoint, tmp_path / "whole"))
    job, asked = ArmJob(recipe, name, 0, checkpoint, tmp_path / "cut"), list[int]()
    assert whole.rows[2].updates > 1

    def stop() -> bool:
        asked.append(len(asked))
        return len(asked) == ASKED_A_ROUND + 1

    with pytest.raises(PartialError, match="stopped after 1 of 2 rounds"):
        run_arm(job, lambda row: asked.clear() if row.index == 0 else asked.extend(range(1000)), stop=stop)
    cut = run_arm(job)
    assert states(tmp_path / "cut") == states(tmp_path / "whole")
    # What a round took twice counts twice, and the gap hangs on who was sampled beside whom.
    spent = {"seconds": {}, "sampler_gap": None, "judge_tokens": None, "signal_tokens": None}
    told = [[replace(row, **spent) for row in found.rows] for found in (cut, whole)]
    assert told[0] == told[1]
    assert cut.signal_tokens >= whole.signal_tokens
    assert (whole.signal_tokens > 0) == (name not in ("think_rm", "spct", "prof"))
    learns = LEARNS.get(name, [])
    assert {path.rpartition("-")[0] for path in states(tmp_path / "whole")} - {"learner", ""} == {*learns}
    lines = [row for row in read_metrics(tmp_path / "whole") if row["kind"] == "learning"]
    assert [{*row} - {"kind", "round"} for row in lines] == [{*learns}] * (2 if learns else 0)
    if name == "prl":
        assert [row.process_weight for row in whole.rows] == [None, 1.0, 0.0]


def start(checkpoint: Path) -> Start:
    return Start(lambda: load_checkpoint(checkpoint), learning_rate=1e-3, batch=8, token_budget=512, seed=0)


def sampled(checkpoint: Path, *, attempts: int = 4) -> list[Judgement]:
    async def run() -> list[Judgement]:
        async with EmbeddedSampler(load_checkpoint(checkpoint), slots=32, capacity=TASK.capacity) as sampler:
            outcomes = await held_out(TASK, sampler, TASK.problems(6, seed=1), attempts=attempts)
        cuts = [TASK.splitter.split(outcome) for outcome in outcomes]
        return [Judgement(steps, (Verdict(reason="none"),) * len(steps), "none") for steps in cuts]

    return asyncio.run(run())


@pytest.mark.learning
def test_token_scores_are_read_before_the_model_learns_and_the_tokens_of_both_count(checkpoint: Path) -> None:
    source, judged = ImplicitScores(ImplicitPart(passes=2, batch=64), start(checkpoint)), sampled(checkpoint)
    cut = [judgement.steps for judgement in judged]
    size = sum(len(s.rollout.prompt_ids) + len(s.rollout.completion_ids) for s in cut)
    first = asyncio.run(source.of(cut))
    assert [len(column) for column in first] == [len(steps.rollout.completion_ids) for steps in cut]
    assert not np.concatenate(first).any()  # the model begins as its own reference
    assert source.tokens == 2 * size
    loss = source.learn(judged, None)
    assert loss == pytest.approx(np.log(2))  # sigma(0), whatever the outcomes
    assert source.tokens == 2 * size + 2 * 2 * size
    assert np.concatenate(asyncio.run(source.of(cut))).any()


@pytest.mark.learning
def test_the_implicit_model_learns_from_the_groups_that_the_accuracy_bounds_let_in(checkpoint: Path) -> None:
    source, judged = ImplicitScores(ImplicitPart(), start(checkpoint)), sampled(checkpoint)
    shares = [sum(j.steps.outcome.status == "right" for j in judged[k : k + 4]) / 4 for k in range(0, 24, 4)]
    low, high = min(shares), max(shares)
    assert low < high
    source.learn(judged, PrimeSettings(accuracy_low=high, accuracy_high=high))
    inside = [j.steps for k, j in enumerate(judged) if shares[k // 4] == high]
    assert source.tokens == 2 * sum(len(s.rollout.prompt_ids) + len(s.rollout.completion_ids) for s in inside)
    assert source.learn([], PrimeSettings()) is None


@pytest.mark.learning
def test_a_critic_s_column_has_a_value_a_node_and_it_learns_the_returns_of_its_rule(checkpoint: Path) -> None:
    source, judged = CriticValues(CriticPart(passes=30), start(checkpoint), exploration_scale=1.0), sampled(checkpoint)
    cut = [judgement.steps for judgement in judged]
    columns = asyncio.run(source.of(cut))
    assert [len(column) for column in columns] == [len(steps) + 1 for steps in cut]
    scored = [Judgement(j.steps, (Verdict(0.5),) * len(j.steps), "j") for j in judged]
    source.learn(scored, MathShepherdSettings(critic=True))
    longest = max(range(len(cut)), key=lambda k: len(cut[k]))
    assert len(cut[longest]) > 3
    found = asyncio.run(source.of(cut))[longest]
    assert found[1] > 1.2  # no outcome, which is at most 1: half a point for each of the steps to come
    assert found[-2:] == pytest.approx([0.5, 0.0], abs=0.15)


def test_returns_are_those_of_the_rule() -> None:
    _, judged = batch((("right", "CCC"), ("wrong", "MM")))
    scores = ((1.0, 0.0, 0.5), (0.25, None))
    found = [
        Judgement(j.steps, tuple(Verdict(s, reason="?") for s in row), "j")
        for j, row in zip(judged, scores, strict=True)
    ]
    shepherd = returns_of(MathShepherdSettings(critic=True, gamma=0.5), found, exploration_scale=1.0)
    np.testing.assert_allclose(shepherd[0], [1.125, 0.25, 0.5, 0.0])
    assert np.isnan(shepherd[1]).any()
    neutral = returns_of(MathShepherdSettings(critic=True, on_unknown="neutral"), found, exploration_scale=1.0)
    np.testing.assert_allclose(neutral[1], [0.25, 0.0, 0.0])
    plain = returns_of(None, found, exploration_scale=1.0)
    np.testing.assert_array_equal(plain[0], [1.0] * 4)
    np.testing.assert_array_equal(plain[1], [-1.0] * 3)
    bonus = rlsp_bonus([j.steps for j in found], scale=3.0)
    mixed = returns_of(RlspSettings(baseline="critic"), found, exploration_scale=3.0)
    np.testing.assert_allclose([column[0] for column in mixed], np.array([1.0, 0.0]) + bonus)


@pytest.mark.learning
def test_q_rm_s_model_is_taught_once_and_taken_from_the_folder_after_that(checkpoint: Path, tmp_path: Path) -> None:
    name = "q_rm"
    run_arm(ArmJob(recipe_with(1, q_rm=ARMS[name]), name, 0, checkpoint, tmp_path))
    (told,) = [row for row in read_metrics(tmp_path) if row["kind"] == "teaching"]
    assert told["pairs"] > 4
    assert len(told["losses"]) == 1
    model = states(tmp_path)["token_model.bin"]
    again = run_arm(ArmJob(recipe_with(1, q_rm=ARMS[name]), name, 0, checkpoint, tmp_path))
    assert states(tmp_path)["token_model.bin"] == model
    assert again.signal_tokens > 0


@pytest.mark.learning
def test_without_a_pair_q_rm_says_what_to_raise(checkpoint: Path, tmp_path: Path) -> None:
    """A seed whose two attempts at the one problem agree is among the first few."""
    recipe, told = recipe_with(1, q_rm={"rule": "q_rm", "token_model": {"problems": 1, "attempts": 2}}), ""
    for seed in range(12):
        try:
            run_arm(ArmJob(recipe, "q_rm", seed, checkpoint, tmp_path / str(seed)), stop=lambda: True)
        except UsageError as error:
            told = str(error)
            break
        except PartialError:
            continue
    assert "none of 1 problems had a right and a wrong one among 2 attempts" in told
    assert "raise token_model.problems or attempts" in told


def judgement(letters: str, scores: list[float | None]) -> Judgement:
    _, (found,) = batch((("right", letters),))
    return Judgement(found.steps, tuple(Verdict(score, reason="?") for score in scores), "j")


def test_scores_of_whole_rollouts_are_made_of_the_known_scores_of_the_think_steps() -> None:
    found = [judgement("CCC", [1.0, 0.0, 0.5]), judgement("CC", [None, 0.25]), judgement("C", [None])]
    in_answer = np.array([False, False, True])
    answered = [replace(found[0], steps=replace(found[0].steps, in_answer=in_answer)), *found[1:]]
    for of_steps, want in {"mean": [0.5, 0.25], "min": [0.0, 0.25], "last": [0.5, 0.25]}.items():
        np.testing.assert_allclose(whole_scores(found, of_steps=of_steps), [*want, np.nan])
    np.testing.assert_allclose(whole_scores(answered, of_steps="last"), [0.0, 0.25, np.nan])


def test_preferences_are_the_signs_of_scores_and_unknown_where_one_is() -> None:
    found = preferences(np.array([0.5, 0.5, 1.0, np.nan, 0.0]), [3, 2]).tolist()
    assert found[:9] == [0, 0, -1, 0, 0, -1, 1, 1, 0]
    assert found[9] == found[12] == 0
    assert np.isnan(found[10:12]).all()


def test_the_columns_of_whole_rollouts_reach_their_rules() -> None:
    groups, judged = batch((("right", "CC"), ("wrong", "MM"), ("wrong", "M")))
    scored = [
        replace(j, verdicts=(Verdict(s),) * len(j.verdicts)) for j, s in zip(judged, (0.2, 0.9, 0.1), strict=True)
    ]
    columns = whole_columns(groups, scored[::-1], (Need.PREFERENCES, Need.OUTCOME_SCORES), of_steps="mean")
    np.testing.assert_allclose(columns[Need.OUTCOME_SCORES], [0.2, 0.9, 0.1])
    spct, think = (
        ArmCredit(ArmPart(title=rule, rule=rule, judge="oracle"), 0)(
            groups, scored, process_weight=1.0, round_index=0, signals={}
        ).credits
        for rule in ("spct", "think_rm")
    )
    assert np.argsort([credit.advantages[0] for credit in spct]).tolist() == [2, 0, 1]
    assert [credit.advantages[0] for credit in think] == pytest.approx([0.0, 8**0.5 / 3, -(8**0.5) / 3], abs=1e-6)


def test_pure_s_baseline_is_spread_over_the_sampler_s_limit_unless_the_arm_names_another() -> None:
    groups, judged = batch((("right", "CC"), ("wrong", "MM")))
    scored = [replace(j, verdicts=(Verdict(s),) * 2) for j, s in zip(judged, (1.0, 0.0), strict=True)]

    def paid(limit: int | None, **own: float) -> np.ndarray:
        arm = ArmPart(title="", rule="pure", judge="oracle", settings={"whiten": False, **own})
        found = ArmCredit(arm, 0, limit)(groups, scored, process_weight=1.0, round_index=0, signals={})
        return np.concatenate([credit.advantages for credit in found.credits])

    np.testing.assert_array_equal(paid(96), paid(None, max_tokens=96))
    np.testing.assert_array_equal(paid(96, max_tokens=48), paid(None, max_tokens=48))
    assert (paid(96) != paid(None)).any()


def test_an_arm_that_shuffles_a_whitened_rule_is_refused_before_it_runs() -> None:
    for asked in ({"shuffled": True}, {"keep": "nonzero_process"}):
        with pytest.raises(ValueError, match="rule prime whitens"):
            ArmPart(title="", rule="prime", **asked)  # type: ignore[arg-type]
        ArmPart(title="", rule="prime", settings={"whiten": False}, **asked)  # type: ignore[arg-type]


def test_prof_chooses_who_is_trained_on_and_pays_nothing() -> None:
    groups, judged = batch((("right", "CC"), ("right", "CC"), ("wrong", "MM"), ("wrong", "MM")))
    scored = [replace(j, verdicts=(Verdict(s),) * 2) for j, s in zip(judged, (0.9, 0.2, 0.9, 0.2), strict=True)]
    arms = [ArmPart(title="", rule="grpo"), ArmPart(title="", rule="grpo", judge="oracle", prof={"share": 0.5})]  # type: ignore[arg-type]
    plain, filtered = (
        ArmCredit(arm, 0)(groups, scored, process_weight=1.0, round_index=0, signals={}).credits for arm in arms
    )
    assert [credit.kept for credit in plain] == [True] * 4
    assert [credit.kept for credit in filtered] == [True, False, False, True]
    for one, other in zip(plain, filtered, strict=True):
        np.testing.assert_array_equal(one.advantages, other.advantages)


def test_the_answer_s_verdict_does_not_speak_for_the_reasoning_in_prof() -> None:
    groups, judged = batch((("right", "CCC"), ("right", "CCC"), ("wrong", "MMM"), ("wrong", "MMM")))
    in_answer = np.array([False, False, True])
    scores = ([0.5, 0.5, 0.0], [0.4, 0.4, 1.0], [0.5, 0.5, 1.0], [0.6, 0.6, 0.0])
    scored = [
        Judgement(replace(j.steps, in_answer=in_answer), tuple(Verdict(s) for s in row), "j")
        for j, row in zip(judged, scores, strict=True)
    ]
    arm = ArmPart(title="", rule="grpo", judge="oracle", prof={"share": 0.5})  # type: ignore[arg-type]
    found = ArmCredit(arm, 0)(groups, scored, process_weight=1.0, round_index=0, signals={}).credits
    assert [credit.kept for credit in found] == [True, False, True, False]


@pytest.mark.learning
def test_the_reference_is_the_start_or_another_policy(checkpoint: Path, tmp_path: Path) -> None:
    early = ArmJob(recipe_with(1, grpo={"rule": "grpo"}), "grpo", 0, checkpoint, tmp_path / "early")
    run_arm(early)
    taken = frozen_policy(str(early.out), TASK, start=checkpoint)
    began = frozen_policy("start", TASK, start=checkpoint)
    pairs = list(zip(taken.parameters(), began.parameters(), strict=True))
    assert any(not one.equal(other) for one, other in pairs)
    prl = {"rule": "prl", "settings": {"eta": 1.0}}
    keys = {"own": prl, "run": {**prl, "reference": str(early.out)}, "folder": {**prl, "reference": str(checkpoint)}}
    ends = {}
    for name, arm in keys.items():
        run_arm(ArmJob(recipe_with(1, **{name: arm}), name, 0, checkpoint, tmp_path / name))
        shards = tmp_path / name / "shards"
        (column,) = [np.load(path)["advantages"] for path in shards.glob("columns-*")]
        ends[name] = column
    assert ends["own"].shape == ends["folder"].shape
    np.testing.assert_allclose(ends["own"], ends["folder"], atol=1e-4)  # the start itself, by its folder
    assert ends["own"].shape != ends["run"].shape or np.abs(ends["own"] - ends["run"]).max() > 1e-2


def test_a_reference_of_another_vocabulary_or_shape_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    words = FileTokenizer.from_words(("<pad>", "<eos>", "other"))
    save_checkpoint(CausalLM(ModelConfig(3, dim=32, heads=2, hidden=32)), tmp_path / "words", tokenizer=words)
    with pytest.raises(UsageError, match="reads other words than the world has"):
        frozen_policy(str(tmp_path / "words"), TASK, start=checkpoint)
    with pytest.raises(UsageError, match="no checkpoint and no arm's run"):
        frozen_policy(str(tmp_path), TASK, start=checkpoint)
    wide = TorchLearner(CausalLM(ModelConfig(TASK.tokenizer.size, dim=64, heads=2)), LearnerSettings(1e-3))
    with RunFolder.create_or_open(tmp_path / "wide", {}) as folder:
        folder.write_checkpoint("learner-0001.bin", wide.state())
    with pytest.raises(UsageError, match="another shape than this run's"):
        frozen_policy(str(tmp_path / "wide"), TASK, start=checkpoint)
