"""What the trained judges read and how they step: rows against one sequence at a time, losses by hand, exact states."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parent))

from world_solutions import copied, model, rewards, solutions, unjudged

from stepcredit.core.columns import layout_of
from stepcredit.core.errors import EngineError, JudgeError, UsageError
from stepcredit.core.protocols import TrainedJudge
from stepcredit.core.records import Outcome, Problem, Rollout, Steps
from stepcredit.credit.gae_critic import GaeCriticSettings, gae_critic
from stepcredit.credit.prime import PrimeSettings, prime
from stepcredit.engines.trained_judges import Critic, FittingSettings, ImplicitPrm, TokenRewardModel, ValueModel
from stepcredit.engines.trained_judges.q_rm import pairs_of
from stepcredit.losses.preference import q_rm_cost
from stepcredit.losses.prm import outcome_cross_entropy

SETTINGS = FittingSettings(1e-3, batch=6, token_budget=100)
CUTS = solutions(3, group_size=3, seed=7)

Made = Critic | ImplicitPrm | TokenRewardModel


def critic(settings: FittingSettings = SETTINGS) -> Critic:
    made = Critic(ValueModel(model(), dim=32), settings)
    torch.nn.init.normal_(made.model.value_head.weight, generator=torch.Generator().manual_seed(0))
    return made


def implicit(settings: FittingSettings = SETTINGS) -> ImplicitPrm:
    return ImplicitPrm(model(1), model(2), settings)


def token_model(settings: FittingSettings = SETTINGS) -> TokenRewardModel:
    return TokenRewardModel(model(), settings)


MAKERS = (critic, implicit, token_model)


def empty(name: str = "e") -> Steps:
    rollout = Rollout(name, Problem("p", "go", "1"), "g", 0, "", np.array([1, 2]), np.zeros(0), np.zeros(0))
    return Steps(Outcome(rollout, "wrong"), np.zeros(0), ";", np.zeros(0, np.bool_), closed=False)


def states_alone(of: torch.nn.Module, steps: Steps) -> torch.Tensor:
    """[P + T, d] hidden states of one rollout, read alone."""
    ids = torch.tensor(np.concatenate([steps.rollout.prompt_ids, steps.rollout.completion_ids]), dtype=torch.int64)
    with torch.no_grad():
        return of.hidden(ids, torch.arange(len(ids)), torch.tensor([0, len(ids)]))


def test_they_are_trained_judges() -> None:
    made: list[TrainedJudge] = [critic(), implicit(), token_model()]
    assert len({judge.fingerprint for judge in made}) == 3


def test_values_are_those_of_each_rollout_read_alone_at_the_end_of_each_prefix() -> None:
    made, cuts = critic(), [CUTS[0], empty(), *CUTS[1:]]
    found = made.values(cuts)
    want: list[float] = []
    for steps in cuts:
        states = states_alone(made.model.trunk, steps)
        ends = len(steps.rollout.prompt_ids) - 1 + np.array([*steps.starts, len(steps.rollout.completion_ids)])
        want += [*made.model.value_head(states[ends[:-1]]).squeeze(1).tolist(), 0.0]
    assert len(found) == sum(len(steps) + 1 for steps in cuts)
    np.testing.assert_allclose(found, want, atol=1e-4)


def test_a_new_critic_says_zero_and_its_head_is_no_hidden_matrix() -> None:
    made = Critic(ValueModel(model(), dim=32), SETTINGS)
    assert not made.values(CUTS).any()
    names = dict(made.model.named_parameters())
    assert "value_head.weight" in names
    assert len(names) == len(dict(model().named_parameters())) + 2


def test_token_scores_are_the_log_ratio_and_the_logit_of_each_token() -> None:
    prm, rm = implicit(), TokenRewardModel(model(), SETTINGS, end="own")
    ratios, logits = [], []
    for steps in CUTS:
        first, ids = len(steps.rollout.prompt_ids) - 1, torch.tensor(steps.rollout.completion_ids, dtype=torch.int64)
        rows = [m.head(states_alone(m, steps))[first:-1].detach() for m in (prm.model, prm.reference, rm.model)]
        chosen = [row.log_softmax(-1).gather(1, ids[:, None])[:, 0] for row in rows[:2]]
        ratios += (chosen[0] - chosen[1]).tolist()
        logits += rows[2].gather(1, ids[:, None])[:, 0].tolist()
    np.testing.assert_allclose(prm.token_scores(CUTS), ratios, atol=1e-4)
    np.testing.assert_allclose(rm.token_scores(CUTS), logits, atol=1e-4)


def test_the_logit_of_the_end_is_the_mean_of_the_others_unless_the_solution_was_cut() -> None:
    own, mean = TokenRewardModel(model(), SETTINGS, end="own"), token_model()
    there = own.token_scores(CUTS[:1])
    np.testing.assert_allclose(mean.token_scores(CUTS[:1])[-1], there[:-1].mean(), rtol=1e-5)
    np.testing.assert_array_equal(mean.token_scores(CUTS[:1])[:-1], there[:-1])
    outcome = CUTS[0].outcome
    cut = replace(CUTS[0], outcome=replace(outcome, rollout=replace(outcome.rollout, finish="length")))
    np.testing.assert_array_equal(mean.token_scores([cut]), there)


def test_a_model_that_is_its_reference_pays_nothing() -> None:
    same = model()
    assert not ImplicitPrm(same, copied(same), SETTINGS).token_scores(CUTS).any()


def test_verdicts_are_the_columns_of_the_rules_step_by_step() -> None:
    made = critic()
    values = [verdict.score for verdict in asyncio.run(made.judge(CUTS[0]))]
    np.testing.assert_allclose(values[:-1], made.values(CUTS[:1])[1:-1], atol=1e-6)
    last = made.model.value_head(states_alone(made.model.trunk, CUTS[0])[-1]).item()
    assert values[-1] == pytest.approx(last, abs=1e-4)
    prm = implicit()
    scores = [verdict.score for verdict in asyncio.run(prm.judge(CUTS[0]))]
    assert len(scores) == len(CUTS[0])
    assert sum(scores) == pytest.approx(float(prm.token_scores(CUTS[:1]).sum()), abs=1e-3)
    rm = token_model()
    means = [rm.token_scores(CUTS[:1])[a:b].mean() for a, b in CUTS[0].spans]
    np.testing.assert_allclose([verdict.score for verdict in asyncio.run(rm.judge(CUTS[0]))], means, atol=1e-5)
    for judge in (made, prm, rm):
        assert asyncio.run(judge.judge(empty())) == ()


def test_the_first_loss_is_the_one_worked_out_from_the_columns() -> None:
    every = FittingSettings(1e-3, batch=100, token_budget=100)
    made = critic(every)
    read = [[made.values([steps])[0], *(v.score for v in asyncio.run(made.judge(steps)))] for steps in CUTS]
    target = np.repeat(rewards(CUTS), [len(steps) + 1 for steps in CUTS])
    error = np.square(np.concatenate(read) - target).mean()
    assert made.fit(unjudged(CUTS)) == pytest.approx(error, rel=1e-4)
    prm = implicit(every)
    ends = np.cumsum([len(steps.rollout.completion_ids) for steps in CUTS])[:-1]
    sums = torch.tensor([part.sum() for part in np.split(prm.token_scores(CUTS), ends)])
    right = torch.tensor(rewards(CUTS) > 0, dtype=torch.float32)
    cost = outcome_cross_entropy(sums, right, beta=0.05).mean().item()
    assert prm.fit(unjudged(CUTS)) == pytest.approx(cost, rel=1e-4)
    rm = TokenRewardModel(model(), every, end="own")
    pairs = pairs_of(CUTS, seed=0)
    means = [[float(rm.token_scores([steps]).mean()) for steps in pair] for pair in pairs]
    cost = q_rm_cost(*torch.tensor(means).T).mean().item()
    assert rm.fit(unjudged(CUTS)) == pytest.approx(cost, rel=1e-4)


def test_a_critic_is_regressed_on_the_returns_of_another_rule_where_they_are_given() -> None:
    made, rng = critic(FittingSettings(1e-3, batch=100, token_budget=100)), np.random.default_rng(0)
    returns = [rng.normal(size=len(steps) + 1) for steps in CUTS]
    returns[1] = np.full(len(CUTS[1]) + 1, np.nan)
    read = [[made.values([steps])[0], *(v.score for v in asyncio.run(made.judge(steps)))] for steps in CUTS]
    known = [place for place in range(len(CUTS)) if place != 1]
    errors = np.concatenate([np.square(np.array(read[place]) - returns[place]) for place in known])
    assert made.fit(unjudged(CUTS), returns=returns) == pytest.approx(errors.mean(), rel=1e-4)
    with pytest.raises(JudgeError, match=r"g0-s0: returns: got 1 entries"):
        made.fit(unjudged(CUTS), returns=[np.zeros(1)] * len(CUTS))
    with pytest.raises(JudgeError, match="known returns"):
        made.fit(unjudged(CUTS[1:2]), returns=returns[1:2])


@pytest.mark.parametrize("make", MAKERS)
def test_a_pass_does_not_depend_on_the_token_budget(make: object) -> None:
    found = []
    for budget in (1, 100, 10_000):
        made = make(replace(SETTINGS, token_budget=budget))
        made.fit(unjudged(CUTS))
        found.append(column(made))
    np.testing.assert_allclose(found[1], found[0], atol=2e-3)
    np.testing.assert_allclose(found[2], found[0], atol=2e-3)


def column(made: Made) -> np.ndarray:
    return made.values(CUTS) if isinstance(made, Critic) else made.token_scores(CUTS)


@pytest.mark.parametrize("make", MAKERS)
def test_a_state_goes_on_bit_identically(make: object) -> None:
    one, other = make(), make()
    one.fit(unjudged(CUTS))
    other.load(one.state())
    assert other.fingerprint == one.fingerprint
    assert [one.fit(unjudged(CUTS)), one.fit(unjudged(CUTS))] == [other.fit(unjudged(CUTS)), other.fit(unjudged(CUTS))]
    np.testing.assert_array_equal(column(one), column(other))


def test_a_state_of_another_judge_is_refused() -> None:
    with pytest.raises(EngineError, match="of another judge"):
        implicit().load(critic().state())
    with pytest.raises(EngineError, match="not a learner state"):
        critic().load(b"nothing")


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_scorable_is_an_error_and_unscorable_rollouts_teach_nothing(make: object) -> None:
    unknown = [replace(steps, outcome=Outcome(steps.rollout, "unscorable", reason="no reference")) for steps in CUTS]
    with pytest.raises(JudgeError, match="nothing to learn from"):
        make().fit(unjudged([*unknown, empty()]))
    one, other = make(), make()
    assert one.fit(unjudged(CUTS)) == other.fit(unjudged([*CUTS, empty()]))
    np.testing.assert_array_equal(column(one), column(other))


def test_pairs_are_a_right_and_a_wrong_rollout_of_one_group_each_used_once() -> None:
    cuts = solutions(20, group_size=5, seed=3)
    pairs = pairs_of(cuts, seed=0)
    counts = [
        min(sum(s.outcome.status == side for s in cuts if s.rollout.group == group) for side in ("right", "wrong"))
        for group in {steps.rollout.group for steps in cuts}
    ]
    assert len(pairs) == sum(counts) > 10
    assert all(right.rollout.group == wrong.rollout.group for right, wrong in pairs)
    assert {(right.outcome.status, wrong.outcome.status) for right, wrong in pairs} == {("right", "wrong")}
    used = [steps.rollout.id for pair in pairs for steps in pair]
    assert len(set(used)) == len(used)


def test_groups_of_one_outcome_give_no_pairs() -> None:
    right = [steps for steps in CUTS if steps.outcome.status == "right"]
    with pytest.raises(JudgeError, match="no pair to learn from"):
        token_model().fit(unjudged(right))


def test_a_rollout_without_prompt_is_refused_by_name() -> None:
    outcome = CUTS[0].outcome
    bare = replace(CUTS[0], outcome=replace(outcome, rollout=replace(outcome.rollout, prompt_ids=np.zeros(0))))
    for read in (critic().values, implicit().token_scores, token_model().token_scores):
        with pytest.raises(EngineError, match=r"g0-s0: a rollout without a prompt"):
            read([bare])


def test_a_loss_that_is_not_finite_leaves_the_weights() -> None:
    made = critic()
    before = {name: weight.clone() for name, weight in made.model.named_parameters()}
    with torch.no_grad():
        made.model.value_head.bias.fill_(1e30)
    with pytest.raises(EngineError, match="lower its learning_rate"):
        made.fit(unjudged(CUTS))
    for name, weight in made.model.named_parameters():
        if name != "value_head.bias":
            assert torch.equal(weight, before[name])


def test_bad_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="learning_rate must be above 0"):
        FittingSettings(0.0)
    with pytest.raises(UsageError, match="batch must be at least 1"):
        FittingSettings(1e-3, batch=0)
    with pytest.raises(UsageError, match="max_grad_norm must be above 0"):
        FittingSettings(1e-3, max_grad_norm=-1.0)
    same = model()
    with pytest.raises(UsageError, match="the same object"):
        ImplicitPrm(same, same, SETTINGS)
    with pytest.raises(UsageError, match="beta must be above 0"):
        ImplicitPrm(model(), model(), SETTINGS, beta=0.0)
    with pytest.raises(UsageError, match="beta must be above 0"):
        TokenRewardModel(model(), SETTINGS, beta=-1.0)
    with pytest.raises(UsageError, match="end must be"):
        TokenRewardModel(model(), SETTINGS, end="none")


def test_their_columns_fit_the_rules() -> None:
    layout = layout_of(CUTS)
    paid = gae_critic(layout, rewards(CUTS), critic().values(CUTS), settings=GaeCriticSettings())
    assert paid.shape == (layout.tokens,)
    scores = implicit().token_scores(CUTS)
    settings = PrimeSettings(accuracy_low=0.0, accuracy_high=1.0)
    assert np.isfinite(prime(layout, rewards(CUTS), scores, settings=settings)).all()
