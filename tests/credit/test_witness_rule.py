"""Witness credit: numbers by hand, what it adds to a group, and the rules that it equals in the limit."""

from dataclasses import replace

import numpy as np
import pytest
from batches import batches, build
from hypothesis import given, settings

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.grpo import GrpoSettings, grpo
from stepcredit.credit.witness import WitnessCreditSettings, outcome_part, witness

OURS = WitnessCreditSettings()
ADDED = replace(OURS, outcome_yields="never")
LAYOUT = Layout(np.array([0, 0, 1, 2, 3, 3, 3, 4]), np.array([0, 0, 1, 1, 1]), np.zeros(2))
REWARDS = np.array([1.0, -1.0])
TOLD = np.array([1.0, -1.0, 1.0, -1.0, np.nan])
"""Two rollouts: two tokens borne out, one refuted; one borne out, three refuted, one of which nobody testifies."""


def credit_of(made: WitnessCreditSettings, told: np.ndarray = TOLD, rewards: np.ndarray = REWARDS) -> list[float]:
    return witness(LAYOUT, rewards, told, settings=made).round(4).tolist()


def test_numbers_worked_by_hand():
    """m = (2 - 1 + 1 - 3) / 7 = -1/7; z = 1 and -1."""
    borne, refuted = 8 / 7, -6 / 7
    want = [1 + borne, 1 + borne, 1 + refuted, -1 + borne, *[-1 + refuted] * 3, -1]
    assert credit_of(ADDED) == pytest.approx(want, abs=1e-4)
    yielding = [1 + borne, 1 + borne, refuted, borne, *[-1 + refuted] * 3, -1]
    assert credit_of(replace(OURS, alpha=1.0, outcome_yields="contradicted")) == pytest.approx(yielding, abs=1e-4)
    alone = [borne, borne, refuted, borne, *[refuted] * 3, -1]
    assert credit_of(replace(OURS, outcome_yields="witnessed")) == pytest.approx(alone, abs=1e-4)
    half = replace(OURS, outcome_yields="contradicted", process_weight=0.5)
    between = (np.array(yielding) + np.array([1.0] * 3 + [-1.0] * 5)) / 2
    assert credit_of(half) == pytest.approx(between.tolist(), abs=1e-4)


def test_a_group_without_a_right_solution_still_learns():
    got = credit_of(ADDED, rewards=np.array([-1.0, -1.0]))
    assert got == pytest.approx([8 / 7, 8 / 7, -6 / 7, 8 / 7, *[-6 / 7] * 3, 0], abs=1e-4)


def test_where_all_agree_nothing_is_paid_but_right_steps_of_a_wrong_solution_are_not_blamed():
    assert credit_of(OURS, np.ones(5)) == [1, 1, 1, 0, 0, 0, 0, 0]
    assert credit_of(ADDED, np.ones(5)) == [1, 1, 1, -1, -1, -1, -1, -1]


def test_an_unscorable_rollout_is_unknown_and_its_steps_do_not_count_in_the_mean():
    layout = Layout(np.arange(3), np.arange(3), np.zeros(3))
    got = witness(layout, np.array([1.0, -1.0, np.nan]), np.array([1.0, -1.0, 1.0]), settings=ADDED)
    np.testing.assert_allclose(got, [2.0, -2.0, np.nan])


@given(batch=batches())
@settings(max_examples=50, deadline=None)
def test_what_is_added_to_a_group_sums_to_nothing_over_its_tokens(batch):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    rewards, told = rng.choice([-1.0, 1.0], layout.rollouts), rng.choice([-1.0, 1.0, np.nan], layout.steps)
    added = witness(layout, rewards, told, settings=ADDED) - outcome_part(layout, rewards, settings=ADDED)
    group = layout.group_of_rollout[layout.rollout_of_token]
    known = ~np.isnan(added)
    np.testing.assert_allclose(np.bincount(group[known], weights=added[known]), 0.0, atol=1e-4)


@given(batch=batches())
@settings(max_examples=50, deadline=None)
def test_without_testimony_it_is_grpo(batch):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    rewards = rng.choice([-1.0, 1.0], layout.rollouts)
    for told in (np.full(layout.steps, np.nan), np.zeros(layout.steps)):
        got = witness(layout, rewards, told, settings=replace(OURS, alpha=2.0))
        np.testing.assert_array_equal(got, grpo(layout, rewards, settings=GrpoSettings()))


@given(batch=batches())
@settings(max_examples=50, deadline=None)
def test_a_refuted_step_gets_less_and_one_borne_out_more_than_its_rollout(batch):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    rewards, told = rng.choice([-1.0, 1.0], layout.rollouts), rng.choice([-1.0, 1.0], layout.steps)
    for yields in ("never", "contradicted"):
        made = replace(OURS, outcome_yields=yields)
        extra = witness(layout, rewards, told, settings=made) - outcome_part(layout, rewards, settings=made)
        signed = extra * told[layout.step_of_token]
        assert (signed[~np.isnan(signed)] >= -1e-6).all()


def test_columns_and_words_that_do_not_fit_are_refused():
    with pytest.raises(CreditError, match="testimony: got 4 entries, the layout has 5"):
        witness(LAYOUT, REWARDS, TOLD[:4], settings=OURS)
    with pytest.raises(UsageError, match="outcome_yields = 'contradict' is unknown; did you mean 'contradicted'"):
        WitnessCreditSettings(outcome_yields="contradict")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="alpha must be a finite number"):
        WitnessCreditSettings(alpha=-1.0)
