"""GRPO with outcome and with process supervision."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.grpo import GrpoSettings, grpo
from stepcredit.credit.grpo_ps import GrpoPsSettings, grpo_ps

TWO_BY_TWO = Layout(np.array([0, 0, 1, 2, 3, 3]), np.array([0, 0, 1, 1]), np.zeros(2))


def test_grpo_by_hand():
    layout = Layout(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 2, 3]), np.zeros(4))
    rewards = np.array([1.0, -1.0, -1.0, -1.0])
    got = grpo(layout, rewards, settings=GrpoSettings())
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [np.sqrt(3), np.sqrt(3)] + [-np.sqrt(1 / 3)] * 3, rtol=1e-6)
    np.testing.assert_allclose(
        grpo(layout, rewards, settings=GrpoSettings(std="none")), [1.5, 1.5, -0.5, -0.5, -0.5], rtol=1e-6
    )


def test_grpo_gives_unscorable_rollouts_and_lonely_ones_nothing():
    layout = Layout(np.arange(5), np.arange(5), np.array([0, 0, 0, 1, 1]))
    got = grpo(layout, np.array([1.0, np.nan, -1.0, 1.0, np.nan]), settings=GrpoSettings())
    np.testing.assert_array_equal(got, [1, np.nan, -1, np.nan, np.nan])


def test_grpo_ps_by_hand():
    got = grpo_ps(TWO_BY_TWO, np.array([1.0, -1.0, 1.0, 1.0]), settings=GrpoPsSettings(std="none"))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [-1.0, -1.0, -1.5, 1.0, 0.5, 0.5])


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.integers(0, 2**16))
def test_grpo_ps_on_one_whole_answer_step_is_grpo(lengths, seed):
    layout = Layout(np.repeat(np.arange(len(lengths)), lengths), np.arange(len(lengths)), np.zeros(len(lengths)))
    rewards = np.random.default_rng(seed).normal(size=len(lengths))
    for std in ("population", "sample", "none"):
        got = grpo_ps(layout, rewards, settings=GrpoPsSettings(std=std))
        np.testing.assert_array_equal(got, grpo(layout, rewards, settings=GrpoSettings(std=std)))


def test_grpo_ps_pays_good_chains_for_length_and_bad_ones_for_brevity():
    """credit.md 2.13: the same score on every step; cut in twice as many, the sums double."""
    score = {"good": 1.0, "bad": -1.0}
    paid = {}
    for name, sizes in {"short": [2, 2], "long": [4, 4]}.items():
        owner = np.repeat([0, 1], sizes)
        layout = Layout(np.arange(len(owner)), owner, np.zeros(2))
        scores = np.array([score["good"], score["bad"]])[owner]
        got = grpo_ps(layout, scores, settings=GrpoPsSettings())
        paid[name] = got[layout.token_starts[:-1]]
    assert paid["long"][0] == pytest.approx(2 * paid["short"][0])
    assert paid["short"][0] > 0
    assert paid["long"][1] == pytest.approx(2 * paid["short"][1])
    assert paid["short"][1] < 0


def test_grpo_ps_with_an_unscored_step_drops_the_rollout_or_counts_the_step_as_the_mean():
    scores = np.array([1.0, np.nan, -1.0, 0.0])
    dropped = grpo_ps(TWO_BY_TWO, scores, settings=GrpoPsSettings(std="none"))
    np.testing.assert_array_equal(dropped, [np.nan, np.nan, np.nan, -1, 0, 0])
    neutral = grpo_ps(TWO_BY_TWO, scores, settings=GrpoPsSettings(std="none", on_unknown="neutral"))
    np.testing.assert_array_equal(neutral, [1, 1, 0, -1, 0, 0])


@pytest.mark.parametrize("on_unknown", ["drop", "neutral"])
def test_grpo_ps_says_nothing_about_a_group_with_one_known_score(on_unknown):
    got = grpo_ps(TWO_BY_TWO, np.array([np.nan] * 3 + [1.0]), settings=GrpoPsSettings(on_unknown=on_unknown))
    assert np.isnan(got).all()


def test_columns_of_the_wrong_length_are_refused():
    with pytest.raises(CreditError, match="rewards: got 3 entries, the layout has 2"):
        grpo(TWO_BY_TWO, np.zeros(3), settings=GrpoSettings())
    with pytest.raises(CreditError, match="scores: got 3 entries, the layout has 4"):
        grpo_ps(TWO_BY_TWO, np.zeros(3), settings=GrpoPsSettings())


def test_settings_name_the_nearest_choice_and_refuse_strange_numbers():
    with pytest.raises(UsageError, match="std = 'popluation' is unknown; did you mean 'population'"):
        GrpoSettings(std="popluation")
    with pytest.raises(UsageError, match="epsilon must be a finite number of at least 0, got -1"):
        GrpoSettings(epsilon=-1.0)
    with pytest.raises(UsageError, match="on_unknown = 'outcome_only' is unknown; there are: drop, neutral"):
        GrpoPsSettings(on_unknown="outcome_only")
