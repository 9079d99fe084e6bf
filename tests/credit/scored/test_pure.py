"""PURE: golden numbers, limits of the temperature, the baseline's length, and unknown scores."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import leave_one_out, spread, to_go, whiten
from stepcredit.credit.rloo import RlooSettings, rloo
from stepcredit.credit.scored.pure import PureSettings, others_reward, outcome_part, pure

LAYOUT = Layout(np.array([0, 0, 1, 2, 3, 3]), np.array([0, 0, 1, 1]), np.zeros(2))
REWARDS = np.array([1.0, -1.0])
SCORES = np.array([0.5, -0.5, 0.25, 0.75])
SIGNED = {"score_scale": "signed"}
PLAIN = {"whiten": False, "max_tokens": 6, **SIGNED}


def test_pure_by_hand():
    """softmin at temperature 1: weights exp(-score) over their sum."""
    w = np.exp(-SCORES)
    earned = np.concatenate([w[:2] / w[:2].sum(), w[2:] / w[2:].sum()]) * SCORES
    coming = np.array([earned[0] + earned[1], earned[1], earned[2] + earned[3], earned[3]])
    share = np.array([earned[2:].sum(), earned[:2].sum()]) / 6.0
    left = np.array([3, 2, 1, 3, 2, 1])
    want = np.repeat([1.0, -1.0], 3) + coming[[0, 0, 1, 2, 3, 3]] - np.repeat(share, 3) * left
    got = pure(LAYOUT, REWARDS, SCORES, settings=PureSettings(temperature=1.0, **PLAIN))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    whitened = pure(LAYOUT, REWARDS, SCORES, settings=PureSettings(temperature=1.0, max_tokens=6, **SIGNED))
    np.testing.assert_allclose(whitened, whiten(want), rtol=1e-5)


def test_a_cold_minimum_pays_the_worst_step_up_to_it_and_nothing_after():
    """credit.md 2.2: as the temperature goes to 0 the return is min p up to the worst step, and 0 behind it."""
    layout = Layout(np.arange(6), np.array([0, 0, 0, 0, 1, 1]), np.zeros(2))
    scores = np.array([0.5, -0.75, 0.9, 0.1, 0.2, 0.2 + 1e-3])
    made = PureSettings(temperature=1e-6, outcome_weight=0.0, baseline="none", whiten=False, **SIGNED)
    got = pure(layout, REWARDS, scores, settings=made)
    np.testing.assert_allclose(got, [-0.75, -0.75, 0.0, 0.0, 0.2, 0.0], atol=1e-6)


def test_a_hot_minimum_is_the_mean_of_the_scores():
    made = PureSettings(temperature=np.inf, outcome_weight=0.0, baseline="none", whiten=False, **SIGNED)
    got = pure(LAYOUT, REWARDS, SCORES, settings=made)
    np.testing.assert_allclose(got, spread(to_go(SCORES / 2.0, LAYOUT, site="step"), LAYOUT), rtol=1e-6)


def test_the_baseline_is_spread_over_the_longest_completion_and_not_over_the_response():
    """By response length, a short response and a long one of equal scores would be told apart by their length."""
    earned = np.array([0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(others_reward(LAYOUT, earned), [1.4, 0.6])
    narrow = pure(LAYOUT, REWARDS, SCORES, settings=PureSettings(temperature=1.0, whiten=False, **SIGNED, max_tokens=3))
    wide = pure(
        LAYOUT, REWARDS, SCORES, settings=PureSettings(temperature=1.0, whiten=False, **SIGNED, max_tokens=3000)
    )
    none = pure(
        LAYOUT, REWARDS, SCORES, settings=PureSettings(temperature=1.0, whiten=False, **SIGNED, baseline="none")
    )
    np.testing.assert_allclose((wide - none) * 1000.0, narrow - none, rtol=1e-2)
    with pytest.raises(CreditError, match="a completion has 3 tokens, max_tokens is 2; set it to the limit"):
        pure(LAYOUT, REWARDS, SCORES, settings=PureSettings(max_tokens=2))


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.integers(0, 2**16))
@settings(deadline=None)
def test_without_scores_it_is_leave_one_out(lengths, seed):
    layout = Layout(np.repeat(np.arange(len(lengths)), lengths), np.arange(len(lengths)), np.zeros(len(lengths)))
    rewards = np.random.default_rng(seed).choice([-1.0, 1.0], len(lengths))
    half = rloo(layout, rewards, settings=RlooSettings()) / 2.0
    zeros = np.zeros(layout.steps)
    np.testing.assert_allclose(
        pure(layout, rewards, zeros, settings=PureSettings(whiten=False, **SIGNED)), half, atol=1e-6
    )
    np.testing.assert_allclose(outcome_part(layout, rewards, settings=PureSettings()), whiten(half), atol=1e-5)


def test_right_and_wrong_are_one_apart_as_in_the_paper():
    got = outcome_part(LAYOUT, REWARDS, settings=PureSettings(whiten=False))
    np.testing.assert_array_equal(got, spread(leave_one_out(np.array([1.0, 0.0]), LAYOUT), LAYOUT, site="rollout"))


def test_a_rollout_with_an_unscored_step_is_dropped_or_paid_for_its_outcome():
    """Any step may be the worst one: a rest of the scores would say something else."""
    scores = np.array([0.5, np.nan, 0.25, 0.75])
    dropped = pure(LAYOUT, REWARDS, scores, settings=PureSettings(**PLAIN))
    assert np.isnan(dropped[:3]).all()
    assert np.isfinite(dropped[3:]).all()
    kept = pure(LAYOUT, REWARDS, scores, settings=PureSettings(on_unknown="outcome_only", **PLAIN))
    np.testing.assert_array_equal(kept[:3], [1.0, 1.0, 1.0])


def test_an_unscored_rollout_counts_in_no_baseline():
    """Among three, each of the two that are scored has the other alone for a baseline: the third is not a 0."""
    layout = Layout(np.arange(3), np.arange(3), np.zeros(3))
    rewards, scores = np.array([1.0, -1.0, -1.0]), np.array([0.8, 0.4, np.nan])
    made = PureSettings(outcome_weight=0.0, max_tokens=1, whiten=False, **SIGNED)
    for on_unknown, last in (("drop", np.nan), ("outcome_only", 0.0)):
        got = pure(layout, rewards, scores, settings=replace(made, on_unknown=on_unknown))
        np.testing.assert_allclose(got, [0.4, -0.4, last], atol=1e-6)


def test_a_right_or_wrong_verdict_is_a_probability_and_the_worst_step_costs():
    """credit.md 2.2: p is the probability of + less that of -: a wrong step is -1; as 0 it would be free."""
    layout = Layout(np.arange(4), np.array([0, 0, 1, 1]), np.zeros(2))
    verdicts = np.array([1.0, 1.0, 1.0, 0.0])
    plain = PureSettings(outcome_weight=0.0, baseline="none", whiten=False)
    got = pure(layout, REWARDS, verdicts, settings=plain)
    np.testing.assert_allclose(got, [1.0, 0.5, -1.0, -1.0], atol=1e-6)
    np.testing.assert_array_equal(got, pure(layout, REWARDS, 2 * verdicts - 1, settings=replace(plain, **SIGNED)))


@pytest.mark.parametrize(
    ("scale", "score", "told"),
    [
        ("probability", -0.5, r"probability scores lie in \[0, 1\], got -0.5; give score_scale = 'signed'"),
        ("probability", 2.0, r"got 2"),
        ("signed", -2.0, r"signed scores lie in \[-1, 1\], got -2"),
    ],
)
def test_scores_off_their_scale_are_refused(scale, score, told):
    with pytest.raises(CreditError, match=told):
        pure(LAYOUT, REWARDS, np.array([score, 0.5, np.nan, 0.5]), settings=PureSettings(score_scale=scale))


def test_unscorable_rollouts_are_paid_only_where_the_outcome_does_not_count():
    rewards = np.array([1.0, np.nan])
    assert np.isnan(pure(LAYOUT, rewards, SCORES, settings=PureSettings(**PLAIN))).all()
    assert np.isfinite(pure(LAYOUT, rewards, SCORES, settings=PureSettings(outcome_weight=0.0, **PLAIN))).all()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="temperature must be above 0"):
        PureSettings(temperature=0.0)
    with pytest.raises(UsageError, match="max_tokens must be at least 1, got 0"):
        PureSettings(max_tokens=0)
    with pytest.raises(UsageError, match="baseline = 'mean' is unknown; there are: leave_one_out, none"):
        PureSettings(baseline="mean")
    with pytest.raises(CreditError, match="scores: got 2 entries, the layout has 4"):
        pure(LAYOUT, REWARDS, SCORES[:2], settings=PureSettings())
