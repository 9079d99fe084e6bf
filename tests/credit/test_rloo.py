"""RLOO and Dr. GRPO: golden numbers, and what they have to do with each other."""

import numpy as np
from batches import batches, build
from hypothesis import given, settings

from stepcredit.core.layout import Layout
from stepcredit.credit.dr_grpo import DrGrpoSettings, dr_grpo
from stepcredit.credit.grpo import GrpoSettings, grpo
from stepcredit.credit.rloo import RlooSettings, rloo

LAYOUT = Layout(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 2, 3]), np.zeros(4))


def test_rloo_by_hand():
    got = rloo(LAYOUT, np.array([1.0, -1.0, -1.0, 3.0]), settings=RlooSettings())
    np.testing.assert_allclose(got, [2 / 3, 2 / 3, -2.0, -2.0, 10 / 3], rtol=1e-6)
    assert got.dtype == np.float32


def test_dr_grpo_by_hand():
    got = dr_grpo(LAYOUT, np.array([1.0, -1.0, -1.0, 3.0]), settings=DrGrpoSettings())
    np.testing.assert_allclose(got, [0.5, 0.5, -1.5, -1.5, 2.5], rtol=1e-6)


@given(batch=batches())
@settings(max_examples=40, deadline=None)
def test_rloo_is_dr_grpo_times_g_over_g_less_1_and_dr_grpo_is_grpo_without_std(batch):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    rewards = rng.normal(size=layout.rollouts)
    centred = dr_grpo(layout, rewards, settings=DrGrpoSettings())
    np.testing.assert_array_equal(centred, grpo(layout, rewards, settings=GrpoSettings(std="none")))
    size = layout.rollouts_of_group[layout.group_of_rollout][layout.rollout_of_token].astype(float)
    factor = np.divide(size, size - 1.0, out=np.full(len(size), np.nan), where=size > 1.0)
    np.testing.assert_allclose(rloo(layout, rewards, settings=RlooSettings()), centred * factor, rtol=1e-5, atol=1e-6)


def test_the_baseline_of_rloo_does_not_hold_the_own_reward():
    """A reward that rises by one raises the own advantage by one, not by (G - 1) / G."""
    before = rloo(LAYOUT, np.array([0.0, 1.0, 2.0, 3.0]), settings=RlooSettings())
    after = rloo(LAYOUT, np.array([1.0, 1.0, 2.0, 3.0]), settings=RlooSettings())
    np.testing.assert_allclose((after - before)[:2], 1.0, rtol=1e-6)


def test_unscorable_rollouts_are_left_out():
    rewards = np.array([1.0, np.nan, -1.0, -1.0])
    np.testing.assert_array_equal(rloo(LAYOUT, rewards, settings=RlooSettings()), [2.0, 2.0, np.nan, -1.0, -1.0])
