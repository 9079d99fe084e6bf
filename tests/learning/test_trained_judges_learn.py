"""Judges that are trained inside the loop learn world E's steps from outcomes alone, and nothing from shuffled ones.

Two divisions a problem, solutions of the demonstrator (58% right), models of 20,000 weights. No step label is shown.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "engines" / "trained_judges"))

from world_solutions import copied, model, rewards, solutions, unjudged, with_shuffled_outcomes

from stepcredit.core.records import Steps
from stepcredit.engines.trained_judges import Critic, FittingSettings, ImplicitPrm, TokenRewardModel, ValueModel
from stepcredit.recipes.world import true_steps

pytestmark = pytest.mark.learning

Cuts = list[Steps]


@pytest.fixture(scope="module")
def seen() -> Cuts:
    return solutions(800, seed=1)


@pytest.fixture(scope="module")
def fresh() -> Cuts:
    return solutions(150, seed=2)


def auc(scores: np.ndarray, good: np.ndarray) -> float:
    """Chance that a good one scores above a bad one, ties counted half."""
    above = scores[good][:, None] - scores[~good][None, :]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def step_auc(token_scores: np.ndarray, cuts: Cuts) -> float:
    """How well the mean token score of a step tells right steps from wrong ones; steps without a truth are left out."""
    ends = np.cumsum([len(steps.rollout.completion_ids) for steps in cuts])[:-1]
    parts = zip(np.split(token_scores, ends), cuts, strict=True)
    scores = np.array([part[a:b].mean() for part, steps in parts for a, b in steps.spans])
    truth = [value for steps in cuts for value in true_steps(steps)]
    known = np.array([value is not None for value in truth])
    return auc(scores[known], np.array([value is True for value in truth])[known])


def explained(made: Critic, cuts: Cuts) -> float:
    """Share of the variance of outcomes that the values before the steps explain; 0 for their mean."""
    ends = np.cumsum([len(steps) + 1 for steps in cuts]) - 1
    target = np.repeat(rewards(cuts), [len(steps) for steps in cuts])
    return 1.0 - float(np.square(np.delete(made.values(cuts), ends) - target).mean() / target.var())


def taught(make: Callable[[], Critic | ImplicitPrm | TokenRewardModel], cuts: Cuts, *, passes: int) -> object:
    made = make()
    for _ in range(passes):
        made.fit(unjudged(cuts))
    return made


def test_a_critic_knows_more_than_the_mean_and_a_shuffled_one_does_not(seen: Cuts, fresh: Cuts) -> None:
    found = [explained(taught(critic, cuts, passes=2), fresh) for cuts in (seen, with_shuffled_outcomes(seen))]
    assert found[0] > 0.05 > 0.02 > found[1], found


def test_the_implicit_prm_tells_right_steps_from_wrong_ones_and_a_shuffled_one_does_not(
    seen: Cuts, fresh: Cuts
) -> None:
    made = [taught(implicit, cuts, passes=2) for cuts in (seen, with_shuffled_outcomes(seen))]
    found = [step_auc(judge.token_scores(fresh), fresh) for judge in made]
    assert found[0] > 0.6, found
    assert found[0] > found[1] + 0.08, found


def test_q_rm_tells_right_steps_from_wrong_ones_and_a_shuffled_one_does_not(seen: Cuts, fresh: Cuts) -> None:
    made = [taught(token_model, cuts, passes=2) for cuts in (seen, with_shuffled_outcomes(seen))]
    found = [step_auc(judge.token_scores(fresh), fresh) for judge in made]
    assert found[0] > 0.6, found
    assert found[0] > found[1] + 0.08, found


def critic() -> Critic:
    return Critic(ValueModel(model(), dim=32), FittingSettings(3e-3, batch=32))


def implicit() -> ImplicitPrm:
    policy = model()
    return ImplicitPrm(policy, copied(policy), FittingSettings(1e-3, batch=32, max_grad_norm=10.0))


def token_model() -> TokenRewardModel:
    return TokenRewardModel(model(), FittingSettings(1e-3, batch=32))
