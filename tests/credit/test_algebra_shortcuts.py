"""What the algebra does for speed gives what the long way gives: sums to go in parts, whitening by steps."""

import numpy as np
import pytest
from batches import batches, build
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.credit.algebra import spread, sum_by_step, to_go, whiten


@given(batches(), st.sampled_from(["population", "sample", "none"]))
def test_whitening_steps_by_their_tokens_is_whitening_tokens(batch, std):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    steps, trained = rng.normal(size=layout.steps), rng.random(layout.tokens) < 0.7
    steps[rng.random(layout.steps) < 0.2] = np.nan
    by_token = whiten(spread(steps, layout), weights=trained, std=std)
    by_step = whiten(steps, weights=sum_by_step(trained, layout), std=std)
    np.testing.assert_allclose(spread(by_step, layout)[trained], by_token[trained], atol=1e-9)
    np.testing.assert_array_equal(by_token[~trained], 0.0)


@given(batches(), st.sampled_from([1, 2, 5, 1000]))
def test_to_go_is_the_same_however_many_entries_are_summed_at_once(batch, cached):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    values = rng.normal(size=layout.tokens)
    want = to_go(values, layout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stepcredit.credit.algebra.CACHED", cached)
        np.testing.assert_array_equal(to_go(values, layout), want)
