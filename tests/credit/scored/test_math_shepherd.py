"""Math-Shepherd: the return of the scores, and GAE with a critic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.scored.math_shepherd import MathShepherdSettings, math_shepherd

LAYOUT = Layout(np.array([0, 0, 1, 2, 3]), np.array([0, 0, 1, 1]), np.zeros(2))
SCORES = np.array([0.5, 0.25, 1.0, -1.0])


def test_the_return_by_hand():
    got = math_shepherd(LAYOUT, SCORES, settings=MathShepherdSettings())
    np.testing.assert_array_equal(got, [0.75, 0.75, 0.25, 0.0, -1.0])
    assert got.dtype == np.float32
    discounted = math_shepherd(LAYOUT, SCORES, settings=MathShepherdSettings(gamma=0.5))
    np.testing.assert_array_equal(discounted, [0.625, 0.625, 0.25, 0.5, -1.0])


def test_with_a_critic_by_hand():
    values = np.array([0.5, 0.25, 0.0, 1.0, 0.5, 0.0])
    made = MathShepherdSettings(critic=True, lam=0.0)
    got = math_shepherd(LAYOUT, SCORES, settings=made, values=values)
    np.testing.assert_array_equal(got, [0.25, 0.25, 0.0, 0.5, -1.5])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 2**16))
@settings(deadline=None)
def test_a_critic_of_zeros_is_the_return_and_lambda_1_the_return_less_the_value(lengths, seed):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    layout = Layout(np.arange(len(owner)), owner, np.zeros(len(lengths)))
    scores, values = rng.normal(size=layout.steps), rng.normal(size=layout.steps + layout.rollouts)
    values[layout.step_starts[1:] + np.arange(layout.rollouts)] = 0.0
    plain = math_shepherd(layout, scores, settings=MathShepherdSettings())
    zero = math_shepherd(layout, scores, settings=MathShepherdSettings(critic=True), values=0.0 * values)
    np.testing.assert_array_equal(zero, plain)
    less = math_shepherd(layout, scores, settings=MathShepherdSettings(critic=True), values=values)
    before = values[np.arange(layout.steps) + owner]
    np.testing.assert_allclose(less, plain - before, rtol=1e-5, atol=1e-5)


def test_more_steps_of_the_same_score_are_paid_more():
    """The step-count hack of summed scores: it is in the rule as published, and this pins it."""
    short, long = (Layout(np.arange(n), np.zeros(n), np.zeros(1)) for n in (2, 8))
    first = [math_shepherd(one, np.full(one.steps, 0.9), settings=MathShepherdSettings())[0] for one in (short, long)]
    np.testing.assert_allclose(first, [1.8, 7.2], rtol=1e-6)


def test_an_unscored_step_drops_the_rollout_or_earns_nothing():
    scores = np.array([0.5, np.nan, 1.0, -1.0])
    got = math_shepherd(LAYOUT, scores, settings=MathShepherdSettings())
    np.testing.assert_array_equal(got, [np.nan, np.nan, np.nan, 0.0, -1.0])
    kept = math_shepherd(LAYOUT, scores, settings=MathShepherdSettings(on_unknown="neutral"))
    np.testing.assert_array_equal(kept, [0.5, 0.5, 0.0, 0.0, -1.0])


def test_what_does_not_fit_is_refused():
    critic = MathShepherdSettings(critic=True)
    with pytest.raises(CreditError, match=r"critic = true reads node values, and none were given; give Need\.VALUES"):
        math_shepherd(LAYOUT, SCORES, settings=critic)
    with pytest.raises(CreditError, match="the critic's value at the end of a rollout must be 0"):
        math_shepherd(LAYOUT, SCORES, settings=critic, values=np.ones(6))
    with pytest.raises(CreditError, match="node values: got 5 entries, the layout has 6"):
        math_shepherd(LAYOUT, SCORES, settings=critic, values=np.zeros(5))
    with pytest.raises(UsageError, match=r"lam must be in \[0, 1\], got 2"):
        MathShepherdSettings(lam=2.0)
