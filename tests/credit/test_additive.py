"""Which signals may be summed: the type, and the refinement test with the table of credit.md 3.2."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.credit import RULES, Need, Rule
from stepcredit.credit.additive import Signal, check_additive, refined_change, refinement, summable
from stepcredit.credit.algebra import gae, softmin, spread, to_go
from stepcredit.credit.prl import PrlSettings
from stepcredit.credit.rule import always, never
from stepcredit.credit.scored.math_shepherd import MathShepherdSettings

FOUR_STEPS = Layout(np.arange(4), np.array([0, 0, 0, 1]), np.zeros(2))
SCORES = Signal(np.array([0.5, -0.5, 0.25, 1.0]), "scores", additive=False)


@dataclass(frozen=True)
class Temperature:
    value: float = 0.1


def soft(layout: Layout, scores: np.ndarray, *, settings: Temperature) -> np.ndarray:
    earned = softmin(scores, layout, temperature=settings.value)
    return spread(to_go(earned, layout, site="step"), layout).astype(np.float32)


def over_steps(layout: Layout, scores: np.ndarray, *, settings: Temperature) -> np.ndarray:
    sizes = layout.steps_of_rollout[layout.rollout_of_step]
    signal = Signal(scores, "scores", additive=False).divided(sizes)
    return spread(to_go(signal, layout, site="step"), layout).astype(np.float32)


def differences(layout: Layout, values: np.ndarray, *, settings: Temperature) -> np.ndarray:
    return spread(gae(np.zeros(layout.steps), values, layout, lam=0.0), layout).astype(np.float32)


SOFT = Rule(soft, (Need.SCORES,), Temperature, "step", None, "")
OVER_STEPS = Rule(over_steps, (Need.SCORES,), Temperature, "step", None, "")
DIFFERENCES = Rule(differences, (Need.VALUES,), Temperature, "step", None, "", additive=always)


def test_a_signal_that_is_not_additive_cannot_be_summed_unless_somebody_says_so_by_name():
    with pytest.raises(CreditError, match="scores is not additive: cutting a step in two would change the sum; take"):
        to_go(SCORES, FOUR_STEPS, site="step")
    assert to_go(SCORES, FOUR_STEPS, site="step", summed_by="me").tolist() == [0.25, -0.25, 0.25, 1.0]
    additive = replace(SCORES, additive=True)
    np.testing.assert_array_equal(
        to_go(additive, FOUR_STEPS, site="step"), to_go(SCORES.values, FOUR_STEPS, site="step")
    )


def test_over_the_number_of_steps_a_score_may_be_summed_and_the_sum_is_the_mean():
    sizes = FOUR_STEPS.steps_of_rollout[FOUR_STEPS.rollout_of_step]
    got = to_go(SCORES.divided(sizes), FOUR_STEPS, site="step")
    np.testing.assert_allclose(got[[0, 3]], [0.25 / 3, 1.0])
    assert SCORES.divided(sizes).name == "scores / L"


def test_a_bare_column_is_the_callers_to_answer_for():
    assert summable(SCORES.values) is SCORES.values


def test_refinement_cuts_steps_of_five_after_their_third_token_and_moves_no_token():
    pair = refinement(3)
    assert (pair.coarse.rollouts, pair.coarse.groups) == (12, 3)
    assert 5 <= pair.coarse.tokens_of_rollout.min() <= pair.coarse.tokens_of_rollout.max() <= 37
    np.testing.assert_array_equal(pair.coarse.rollout_of_token, pair.fine.rollout_of_token)
    np.testing.assert_array_equal(pair.step[pair.fine.step_of_token], pair.coarse.step_of_token)
    assert set(pair.coarse.tokens_of_step) <= {1, 2, 3, 4, 5}
    assert set(pair.fine.tokens_of_step) == {1, 2, 3}
    assert pair.fine.steps - pair.coarse.steps == int((pair.coarse.tokens_of_step > 3).sum())


TABLE = {
    "log-ratio suffix sum": (RULES["prl"], PrlSettings(), 0.0),
    "difference of values": (DIFFERENCES, Temperature(), 0.0),
    "hard min": (SOFT, Temperature(1e-6), 0.0),
    "soft-min 0.1": (SOFT, Temperature(0.1), 0.002),
    "score / L, summed": (OVER_STEPS, Temperature(), 0.037),
    "plain sum of scores": (RULES["math_shepherd"], MathShepherdSettings(), 1.03),
    "GRPO-PS": (RULES["grpo_ps"], RULES["grpo_ps"].settings(), 1.79),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_the_specification_comes_out_again(name):
    """Its batch is one draw that we do not have: its figure must lie where 95 of 100 draws of ours do, and 0 be 0."""
    rule, settings, want = TABLE[name]
    found = [refined_change(rule, settings, seed=seed) for seed in range(100)]
    if want == 0.0:
        assert max(found) < 1e-6
    else:
        low, high = np.percentile(found, [2.5, 97.5])
        assert low < want < high
        assert np.mean(found) == pytest.approx(want, rel=0.25)


def test_the_rules_stand_in_the_order_of_the_specification():
    means = [np.mean([refined_change(r, s, seed=seed) for seed in range(50)]) for r, s, _ in list(TABLE.values())[2:]]
    assert means == sorted(means)


def test_check_additive_refuses_a_false_declaration_and_names_the_change():
    assert check_additive(DIFFERENCES, Temperature()) < 1e-6
    with pytest.raises(CreditError, match=r"declared additive, and cutting steps in two changes its credit by 0\.00"):
        check_additive(replace(SOFT, additive=always), Temperature())
    with pytest.raises(CreditError, match="is declared not additive, and cutting steps in two changes its credit by "):
        check_additive(replace(DIFFERENCES, additive=never), Temperature())
    assert check_additive(SOFT, Temperature()) == pytest.approx(0.0023, rel=0.5)


@pytest.mark.parametrize("own_step", ["last", "none"])
def test_only_the_whole_own_step_makes_prl_additive(own_step):
    assert check_additive(RULES["prl"], PrlSettings(own_step=own_step, eta=1.0)) > 0.1
    assert check_additive(RULES["prl"], PrlSettings(eta=1.0)) < 1e-6
