"""Any rule of the table in an arm: its keys, its signals, and that it trains."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_arms import batch, small, trained

from stepcredit.core.errors import CreditError
from stepcredit.core.pack import pack_of_rollouts
from stepcredit.core.records import Credit
from stepcredit.credit import RULES
from stepcredit.credit.rule import Need
from stepcredit.engines.embedded.checkpoint import load_checkpoint
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.engines.embedded.model import CausalLM
from stepcredit.engines.learner import LearnerSettings, TorchLearner, packed_logprobs
from stepcredit.recipes.arm_rules.arm import ArmPart
from stepcredit.recipes.arm_rules.credit import ArmCredit
from stepcredit.recipes.arm_rules.signals import arm_signals
from stepcredit.recipes.arm_rules.trained import Start
from stepcredit.recipes.catalogue import recipe_path
from stepcredit.recipes.demo_settings import DemoRecipe, WorldPart, load_demo
from stepcredit.recipes.held_out import held_out
from stepcredit.recipes.judges import SPENT
from stepcredit.recipes.world import WorldTask
from stepcredit.store.ledger import Ledger
from stepcredit.training.parts import Reference
from stepcredit.training.signals import LogRatio, columns_of, signals_of

PRL = {"title": "PRL", "rule": "prl"}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"rule": "prll"}, "credit rule 'prll' is unknown; did you mean 'prl'"),
        ({"settings": {"etaa": 3.0}}, "no setting etaa.*eta"),
        ({"settings": {"eta": 0.0}}, "eta must be above 0"),
        (
            {"settings": {"process_weight": 0.5}},
            "process_weight of rule prl is turned by the arm's schedule: write process_weight and schedule in the arm",
        ),
        ({"rule": "rloo", "settings": {"process_weight": 0.5}}, "rule rloo has no setting process_weight; it has none"),
        ({"rule": "think_rm"}, "rule think_rm reads verdicts: name a judge"),
        (
            {"rule": "think_rm", "judge": "markers"},
            "preferences of rule think_rm reads a score of every step: take judge taught or oracle, not markers",
        ),
        ({"rule": "rlsp", "settings": {"creativity": 0.2}}, "right from wrong alone; leave creativity at 0"),
        ({"rule": "rlsp", "settings": {"baseline": "critic"}, "values": "continuations"}, "take values critic"),
        ({"rule": "gae_critic", "continuations": 4}, "continuations under values critic"),
        ({"rule": "vineppo", "critic": {"batch": 4}}, "critic under values continuations"),
        ({"rule": "prime", "token_model": {"problems": 4}}, "token_model under token_scores implicit_prm"),
        ({"rule": "q_rm", "implicit_prm": {"beta": 0.1}}, "implicit_prm under token_scores token_model"),
        ({"rule": "rloo", "reference": "start"}, "reference under rule rloo, which does not read what they are of"),
        ({"reference": "nowhere"}, "reference nowhere holds no checkpoint and is no arm's run folder"),
        ({"of_steps": "min"}, "of_steps under rule prl, which does not read what they are of"),
        ({"prof": {}}, "prof reads a score of every step: take judge taught or oracle, not none"),
        ({"rule": "grpo", "prof": {}}, "rule grpo and judge none do not go together"),
        ({"rule": "grpo", "judge": "markers", "prof": {}}, "take judge taught or oracle, not markers"),
        ({"judge": "oracle", "prof": {"share": 1.0}}, "share 1 keeps every rollout"),
        ({"process_weight": "adaptive"}, "adaptive watches how well the judge is read, and the arm has no judge"),
        ({"exploration_scale": 10.0}, "exploration_scale under rule prl, which does not read what they are of"),
        ({"judge": "markers"}, "reads no verdicts: leave the judge out"),
        ({"rule": "pure"}, "reads verdicts: name a judge"),
        ({"rule": "rloo", "process_weight": "anneal"}, "no process weight to schedule"),
        ({"rule": "pure", "judge": "oracle", "splitter": "token"}, "read the world's own steps"),
        ({"splitter": "fixd"}, "did you mean 'fixed'"),
        ({"splitter": "fixed", "split": {"sise": 3}}, "no setting 'sise'"),
        ({"alpha": 2.0, "std": "sample"}, "alpha, std under rule prl, which has its own under settings"),
        ({"flip": 0.1}, "flip under judge none"),
        ({"continuations": 3}, "continuations under rule prl, which does not read what they are of"),
        ({"witnesses": {"remarks": "all"}}, "witnesses under rule prl, which does not read what they are of"),
        ({"rule": "witness", "witnesses": {"own_word": False}}, "switch own_word on"),
        ({"split": {"size": 3}}, "split under splitter world"),
        (
            {"rule": "grpo", "settings": {"std": "sample"}},
            "settings under rule grpo, whose settings are keys of the arm",
        ),
    ],
)
def test_a_rule_that_cannot_be_had_is_refused_with_the_mend(keys: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ArmPart(**{**PRL, **keys})


def credited(arm: ArmPart, ratio: float, *, weight: float = 1.0) -> list[Credit]:
    groups, judged = batch()
    columns = {j.steps.rollout.id: np.full(len(j.steps.rollout.completion_ids), ratio) for j in judged}
    signals = {Need.LOG_RATIO: columns}
    return ArmCredit(arm, 7)(groups, judged, process_weight=weight, round_index=0, signals=signals).credits


def test_settings_and_the_schedule_s_weight_reach_the_rule() -> None:
    arm = ArmPart(**PRL, settings={"eta": 10.0, "own_step": "none"})  # type: ignore[arg-type]
    plain, priced, half = (credited(arm, r, weight=w)[0].advantages for r, w in ((0.0, 1.0), (1.0, 1.0), (1.0, 0.5)))
    np.testing.assert_allclose(plain - priced, np.array([3, 2, 1, 0]) / 10, atol=1e-6)
    np.testing.assert_allclose(plain - half, np.array([3, 2, 1, 0]) / 20, atol=1e-6)


def test_the_sizes_of_both_streams_are_told_apart() -> None:
    """credit.md 1.8: mean |beta * to_go(kappa)| beside mean |z(R)|."""
    arm, (groups, judged) = ArmPart(**PRL, settings={"eta": 10.0}), batch()  # type: ignore[arg-type]
    columns = {j.steps.rollout.id: np.ones(len(j.steps.rollout.completion_ids)) for j in judged}
    paid = ArmCredit(arm, 7)(groups, judged, process_weight=1.0, round_index=0, signals={Need.LOG_RATIO: columns})
    told = paid.sizes
    plain, priced = credited(arm, 0.0), credited(arm, 1.0)
    z = np.concatenate([credit.advantages for credit in plain])
    cost = z - np.concatenate([credit.advantages for credit in priced])
    assert told.outcome == pytest.approx(np.abs(z).mean())
    assert told.process == pytest.approx(np.abs(cost).mean(), rel=1e-5)
    alone = ArmCredit(ArmPart(title="x", rule="grpo"), 7)
    sizes = alone(groups, judged, process_weight=1.0, round_index=0, signals={}).sizes
    assert sizes.outcome
    assert sizes.process == 0.0


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_bonus_for_exploration_is_added_to_prl_whatever_the_process_weight(weight: float) -> None:
    groups, judged = batch()
    bonus = np.array([-1.0, -0.5, -0.25, -2.0])
    names = [judgement.steps.rollout.id for judgement in judged]
    signals = {
        Need.LOG_RATIO: {j.steps.rollout.id: np.ones(len(j.steps.rollout.completion_ids)) for j in judged},
        Need.BONUS: {name: np.array([value]) for name, value in zip(names, bonus, strict=True)},
    }
    found = [
        ArmCredit(ArmPart(**PRL, settings={"eta": 10.0, **more}), 7)(  # type: ignore[arg-type]
            groups, judged, process_weight=weight, round_index=0, signals=signals
        ).credits
        for more in ({}, {"bonus_weight": 0.5})
    ]
    added = 0.5 * (bonus - bonus.mean()) / bonus.std(ddof=1)
    for plain, paid, more in zip(*found, added, strict=True):
        np.testing.assert_allclose(paid.advantages - plain.advantages, more, atol=1e-5)
    assert (len({*found[0][0].advantages.tolist()}) > 1) == (weight > 0)


def test_a_rollout_without_its_signal_is_an_error() -> None:
    groups, judged = batch()
    with pytest.raises(CreditError, match="log_ratio was not computed"):
        columns_of(groups, {Need.LOG_RATIO: {judged[0].steps.rollout.id: np.zeros(4)}})


def test_the_log_ratio_is_that_of_each_completion_token(checkpoint: Path) -> None:
    task = WorldTask(small().world)
    policy, frozen = load_checkpoint(checkpoint), load_checkpoint(checkpoint)
    for weight in policy.parameters():
        weight.data *= 1.05

    async def sampled():
        async with EmbeddedSampler(policy, slots=8, capacity=task.capacity) as sampler:
            return await held_out(task, sampler, task.problems(5, seed=1))

    cut = [task.splitter.split(outcome) for outcome in asyncio.run(sampled())]
    source = LogRatio(
        TorchLearner(policy, LearnerSettings(learning_rate=1e-3)),
        Reference(lambda pack: packed_logprobs(frozen, pack, token_budget=512), lambda: "r", 0.0),
    )
    found = asyncio.run(signals_of([source], cut))[Need.LOG_RATIO]
    learner = TorchLearner(frozen, LearnerSettings(learning_rate=1e-3))
    for steps in cut:
        alone = asyncio.run(LogRatio(learner, Reference(learner.logprobs, lambda: "r", 0.0)).of([steps]))[0]
        assert not alone.any()
        pack = pack_of_rollouts([steps.rollout])
        want = (pack.old_logprobs - packed_logprobs(frozen, pack, token_budget=512))[pack.trained]
        np.testing.assert_allclose(found[steps.rollout.id], want, atol=1e-4)
    assert max(np.abs(ratio).max() for ratio in found.values()) > 1e-2
    assert source.tokens == 2 * sum(len(s.rollout.prompt_ids) + len(s.rollout.completion_ids) for s in cut)


def recipe_with(rounds: int, /, **arms: dict) -> DemoRecipe:
    recipe = small(f"rounds.rounds={rounds}")
    return recipe.model_copy(update={"arms": {name: ArmPart(title=name, **keys) for name, keys in arms.items()}})


@pytest.mark.learning
def test_prl_from_its_own_reference_starts_as_grpo_does_and_then_leaves_it(checkpoint: Path, tmp_path: Path) -> None:
    as_grpo = {"std": "population", "epsilon": 0.0, "eta": 1.0}
    recipe = recipe_with(
        2,
        grpo={"rule": "grpo"},
        prl={"rule": "prl", "settings": as_grpo, "splitter": "fixed", "split": {"size": 4}},
        frpo={"rule": "prl", "settings": as_grpo, "splitter": "token"},
    )
    found = {name: columns(recipe, checkpoint, tmp_path / name, name) for name in recipe.arms}
    for first, _ in found.values():
        np.testing.assert_array_equal(first["ids"], found["grpo"][0]["ids"])
        np.testing.assert_array_equal(first["advantages"], found["grpo"][0]["advantages"])
    assert {name: varied(second) for name, (_, second) in found.items()} == {"grpo": False, "prl": True, "frpo": True}


def columns(recipe: DemoRecipe, checkpoint: Path, out: Path, arm: str) -> list[dict[str, np.ndarray]]:
    """Token columns of the rounds, in order."""
    trained(recipe, checkpoint, out, arm=arm)
    shards = sorted((out / "shards").glob("columns-*"), key=lambda path: int(path.name.split("-")[1]))
    with Ledger(out / "ledger.sqlite") as ledger:
        spent = sum(payload["signal_tokens"] for _, payload in ledger.items(SPENT))
    assert (spent > 0) == (recipe.arms[arm].rule == "prl")
    return [dict(np.load(path)) for path in shards]


def varied(found: dict[str, np.ndarray]) -> bool:
    """True if some rollout's tokens do not all have one advantage."""
    trained_on = found["trained"].astype(bool)
    pairs = zip(found["starts"][:-1], found["starts"][1:], strict=True)
    return any(len({*found["advantages"][a:b][trained_on[a:b]].tolist()}) > 1 for a, b in pairs)


@pytest.mark.learning
@pytest.mark.parametrize(
    ("rule", "judge", "settings"),
    [
        ("rloo", "none", {}),
        ("rlsp", "none", {}),
        ("prl", "none", {"bonus_weight": 0.1}),
        ("vineppo", "none", {"root": "leave_one_out"}),
        ("dr_grpo", "none", {}),
        ("witness", "none", {}),
        ("grpo_ps", "oracle", {}),
        ("math_shepherd", "oracle", {}),
        ("pure", "oracle", {}),
        ("vppo", "oracle", {}),
    ],
)
def test_every_rule_trains(rule: str, judge: str, settings: dict, checkpoint: Path, tmp_path: Path) -> None:
    arm = {
        "rule": rule,
        "judge": judge,
        "settings": settings,
        "keep": "all" if judge == "none" else "nonzero_advantage",
    }
    result, _ = trained(recipe_with(1, one=arm), checkpoint, tmp_path, arm="one")
    assert sum(row.updates for row in result.rows) > 0
    assert sum(row.kept for row in result.rows) > 0
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.count("shown") > 0


def test_only_what_the_rule_reads_is_loaded_and_computed(checkpoint: Path) -> None:
    task = WorldTask(WorldPart(length=1, divisions=0))
    learner = TorchLearner(load_checkpoint(checkpoint), LearnerSettings(learning_rate=1e-3))
    asked: list[str] = []

    def reference() -> Reference:
        asked.append("reference")
        return Reference(learner.logprobs, lambda: "r", 0.0)

    def sources(arm: ArmPart) -> Callable[..., object]:
        start = Start(policy, learning_rate=1e-3, batch=8, token_budget=512, seed=0)
        return arm_signals(arm, task, learner=learner, sampler=None, reference=reference, start=start)  # type: ignore[arg-type]

    def policy() -> CausalLM:
        asked.append("policy")
        return load_checkpoint(checkpoint)

    assert sources(ArmPart(title="", rule="rloo")).sources == ()  # type: ignore[attr-defined]
    assert asked == []
    found = sources(ArmPart(**PRL))  # type: ignore[arg-type]
    assert [source.need for source in found.sources] == [Need.LOG_RATIO]  # type: ignore[attr-defined]
    assert asked == ["reference"]
    assert asyncio.run(found([], 0.0)) == {}  # type: ignore[call-arg, arg-type]


def test_the_recipe_of_rules_names_every_rule_that_there_is() -> None:
    recipe = load_demo(recipe_path(Path("rules")))
    assert {arm.rule for arm in recipe.arms.values()} == {*RULES}
    assert {arm.judge for arm in recipe.arms.values()} == {"none", "markers", "taught"}
