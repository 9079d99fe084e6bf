"""VPPO: the prefix before the first error is spared, the rest pays; nothing else of the scores is read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.grpo import GrpoSettings, grpo
from stepcredit.credit.scored.vppo import VppoSettings, vppo

LAYOUT = Layout(np.array([0, 0, 1, 2, 3, 3, 4]), np.array([0, 0, 1, 1, 1]), np.zeros(2))
REWARDS = np.array([1.0, -1.0])


def test_vppo_by_hand():
    got = vppo(LAYOUT, REWARDS, np.array([0.1, 0.9, 0.9, 0.2, 0.9]), settings=VppoSettings())
    np.testing.assert_array_equal(got, [1, 1, 1, 0, -1, -1, -1])
    assert got.dtype == np.float32
    half = vppo(LAYOUT, REWARDS, np.array([0.1, 0.9, 0.9, 0.2, 0.9]), settings=VppoSettings(process_weight=0.5))
    np.testing.assert_array_equal(half, [1, 1, 1, -0.5, -1, -1, -1])


def test_an_error_in_the_first_step_spares_nothing_and_one_in_the_last_all_but_that():
    first = vppo(LAYOUT, REWARDS, np.array([0.9, 0.9, 0.2, 0.9, 0.9]), settings=VppoSettings())
    np.testing.assert_array_equal(first[3:], [-1, -1, -1, -1])
    last = vppo(LAYOUT, REWARDS, np.array([0.9, 0.9, 0.9, 0.9, 0.2]), settings=VppoSettings())
    np.testing.assert_array_equal(last[3:], [0, 0, 0, -1])


def test_a_wrong_solution_without_an_error_pays_all_or_nothing():
    scores = np.full(5, 0.9)
    np.testing.assert_array_equal(vppo(LAYOUT, REWARDS, scores, settings=VppoSettings())[3:], [-1] * 4)
    none = vppo(LAYOUT, REWARDS, scores, settings=VppoSettings(no_error="nothing"))
    np.testing.assert_array_equal(none[3:], [0] * 4)


def test_a_prefix_may_also_be_paid_for_the_part_that_was_right():
    got = vppo(LAYOUT, REWARDS, np.array([0.9, 0.9, 0.9, 0.2, 0.9]), settings=VppoSettings(prefix=-0.5))
    np.testing.assert_array_equal(got[3:], [0.5, -1, -1, -1])


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.integers(0, 2**16))
@settings(deadline=None)
def test_only_the_side_of_the_threshold_counts_and_only_up_to_the_first_error(lengths, seed):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    layout = Layout(np.arange(len(owner)), owner, np.zeros(len(lengths)))
    rewards, scores = rng.choice([-1.0, 1.0], len(lengths)), rng.random(len(owner))
    want = vppo(layout, rewards, scores, settings=VppoSettings())
    sided = vppo(layout, rewards, np.where(scores < 0.5, 0.0, 1.0), settings=VppoSettings())
    np.testing.assert_array_equal(sided, want)
    for index in range(len(lengths)):
        own = np.flatnonzero(owner == index)
        wrong = np.flatnonzero(scores[own] < 0.5)
        if len(wrong):
            scores[own[wrong[0] + 1 :]] = np.nan
    np.testing.assert_array_equal(vppo(layout, rewards, scores, settings=VppoSettings()), want)
    same = vppo(layout, rewards, scores, settings=VppoSettings(prefix=1.0, on_unknown="outcome_only"))
    np.testing.assert_array_equal(same, grpo(layout, rewards, settings=GrpoSettings()))


def test_an_unknown_score_before_the_error_drops_the_rollout_or_leaves_the_outcome():
    scores = np.array([np.nan, 0.9, np.nan, 0.2, 0.9])
    got = vppo(LAYOUT, REWARDS, scores, settings=VppoSettings())
    np.testing.assert_array_equal(got, [1, 1, 1, np.nan, np.nan, np.nan, np.nan])
    kept = vppo(LAYOUT, REWARDS, scores, settings=VppoSettings(on_unknown="outcome_only"))
    np.testing.assert_array_equal(kept, [1, 1, 1, -1, -1, -1, -1])


def test_what_does_not_fit_is_refused():
    with pytest.raises(CreditError, match="scores: got 4 entries, the layout has 5"):
        vppo(LAYOUT, REWARDS, np.zeros(4), settings=VppoSettings())
    with pytest.raises(UsageError, match=r"prefix must be in \[-1, 1\], got 2"):
        VppoSettings(prefix=2.0)
    with pytest.raises(UsageError, match="threshold must be finite, got nan"):
        VppoSettings(threshold=np.nan)
