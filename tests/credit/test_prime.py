"""PRIME: the released code re-derived one rollout at a time, the baseline identity, the accuracy bounds; and Q-RM."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import leave_one_out, spread
from stepcredit.credit.prime import PrimeSettings, accuracy_within, outcome_part, over_baseline, prime
from stepcredit.credit.q_rm import QRmSettings, q_rm

ALL = PrimeSettings(accuracy_low=0.0, accuracy_high=1.0)

Batch = tuple[Layout, np.ndarray, np.ndarray]


@st.composite
def scored_batches(draw: st.DrawFn) -> Batch:
    """Groups with rewards and a number a token."""
    sizes = draw(st.lists(st.integers(2, 4), min_size=1, max_size=3))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    lengths = [draw(st.integers(1, 6)) for _ in groups]
    layout = Layout(np.repeat(np.arange(len(groups)), lengths), np.arange(len(groups)), groups)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return layout, rng.choice([-1.0, 1.0], layout.rollouts), rng.normal(size=layout.tokens)


def released(layout: Layout, rewards: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The released code's advantages in padded rows: batch norm, masked RLOO, sum to go, whitening; accuracy 1 or 0."""
    acc = (rewards + 1.0) / 2.0
    width = int(layout.tokens_of_rollout.max())
    mask = np.arange(width) < layout.tokens_of_rollout[:, None]
    rows = np.zeros(mask.shape)
    rows[mask] = q
    rows /= np.abs(np.cumsum(rows[:, ::-1], axis=1)).max() + 1e-6
    final = np.zeros(mask.shape)
    for group in range(layout.groups):
        members = np.flatnonzero(layout.group_of_rollout == group)
        n = len(members)
        mean_sum = sum(rows[k][mask[k]].mean() for k in members)
        for i in members:
            row = np.where(mask[i], rows[i] * n / (n - 1) - mean_sum / (n - 1), 0.0)
            row[mask[i].sum() - 1] += acc[i] * n / (n - 1) - acc[members].sum() / (n - 1)
            final[i] = row
    returns = np.cumsum(final[:, ::-1], axis=1)[:, ::-1]
    white = returns[mask] - returns[mask].mean()
    return white / white.std()


def test_worked_numbers() -> None:
    layout = Layout(np.array([0, 0, 1]), np.array([0, 1]), np.zeros(2))
    settings = PrimeSettings(process_scale="none", whiten=False)
    # loo = 1, -1; means 0.5 and -1; released: 2 q + 0.5, so 2.5, 0.5 and -1.5; to go 3, 0.5 and -1.5
    found = prime(layout, np.array([1.0, -1.0]), np.array([1.0, 0.0, -1.0]), settings=settings)
    np.testing.assert_allclose(found, [4.0, 1.5, -2.5])
    # leave-one-out alone: q + 1 and q - 0.5
    settings = PrimeSettings(baseline="leave_one_out", process_scale="none", whiten=False)
    found = prime(layout, np.array([1.0, -1.0]), np.array([1.0, 0.0, -1.0]), settings=settings)
    np.testing.assert_allclose(found, [4.0, 2.0, -2.5])


@settings(deadline=None, max_examples=60)
@given(scored_batches())
def test_defaults_are_the_released_code_on_groups_that_the_filter_keeps(batch: Batch) -> None:
    layout, rewards, q = batch
    np.testing.assert_allclose(prime(layout, rewards, q, settings=ALL), released(layout, rewards, q), atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(scored_batches())
def test_baseline_identity_the_released_one_is_leave_one_out_and_a_rest_that_adds_up_to_nothing(batch: Batch) -> None:
    layout, _, q = batch
    every = np.ones(layout.tokens, np.bool_)
    full = over_baseline(layout, q, every, baseline="released")
    part = over_baseline(layout, q, every, baseline="leave_one_out")
    owner = layout.rollout_of_token
    own = (np.bincount(owner, weights=q) / layout.tokens_of_rollout)[owner]
    n = layout.rollouts_of_group[layout.group_of_rollout][owner]
    np.testing.assert_allclose(full - part, (q - own) / (n - 1), atol=1e-9)
    np.testing.assert_allclose(np.bincount(owner, weights=full - part), 0.0, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(scored_batches())
def test_process_weight_zero_is_leave_one_out_and_reads_no_token(batch: Batch) -> None:
    layout, rewards, q = batch
    settings = PrimeSettings(process_weight=0.0, accuracy_low=0.0, accuracy_high=1.0, whiten=False)
    found = prime(layout, rewards, np.full(len(q), np.nan), settings=settings)
    want = spread(leave_one_out((rewards + 1.0) / 2.0, layout), layout, site="rollout")
    np.testing.assert_allclose(found, want, atol=1e-6)
    np.testing.assert_array_equal(found, outcome_part(layout, rewards, settings=settings))


@settings(deadline=None, max_examples=60)
@given(scored_batches(), st.floats(0.1, 10.0))
def test_the_unit_of_the_implicit_reward_does_not_matter(batch: Batch, unit: float) -> None:
    layout, rewards, q = batch
    there = prime(layout, rewards, q, settings=ALL)
    np.testing.assert_allclose(prime(layout, rewards, unit * q, settings=ALL), there, atol=1e-3)


@settings(deadline=None, max_examples=60)
@given(scored_batches())
def test_padding_does_not_change_prime_or_q_rm(batch: Batch) -> None:
    layout, rewards, q = batch
    padded = Layout(np.repeat(np.arange(layout.steps), layout.tokens_of_step + 3), *columns(layout))
    offset = np.arange(padded.tokens) - padded.step_token_starts[:-1][padded.step_of_token]
    trained = (offset < layout.tokens_of_step[padded.step_of_token]).astype(np.float32)
    wide = np.full(padded.tokens, np.nan)
    wide[trained == 1.0] = q
    found = prime(padded, rewards, wide, settings=ALL, trained=trained)
    np.testing.assert_allclose(found[trained == 1.0], prime(layout, rewards, q, settings=ALL), atol=1e-4)
    assert not found[trained == 0.0].any()
    settings = QRmSettings("standardise")
    found = q_rm(padded, wide, settings=settings, trained=trained)
    np.testing.assert_allclose(found[trained == 1.0], q_rm(layout, q, settings=settings), atol=1e-5)
    assert not found[trained == 0.0].any()


@settings(deadline=None, max_examples=60)
@given(scored_batches(), st.randoms())
def test_order_within_a_group_does_not_matter(batch: Batch, random: object) -> None:
    layout, rewards, q = batch
    order = np.arange(layout.rollouts)
    for group in range(layout.groups):
        members = np.flatnonzero(layout.group_of_rollout == group).tolist()
        random.shuffle(members)
        order[layout.group_of_rollout == group] = members
    tokens = np.concatenate([np.flatnonzero(layout.rollout_of_token == i) for i in order])
    moved = Layout(
        np.repeat(np.arange(layout.steps), layout.tokens_of_rollout[order]), np.arange(len(order)), columns(layout)[1]
    )
    there = prime(layout, rewards, q, settings=ALL)
    np.testing.assert_allclose(prime(moved, rewards[order], q[tokens], settings=ALL), there[tokens], atol=1e-4)


def columns(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    return layout.rollout_of_step, layout.group_of_rollout


def test_groups_outside_the_accuracy_bounds_get_nothing_and_the_whitening_does_not_see_them() -> None:
    mixed = Layout(np.arange(4), np.arange(4), np.zeros(4))
    both = Layout(np.arange(8), np.arange(8), np.repeat([0, 1], 4))
    rewards, q = np.array([1.0, -1.0, -1.0, 1.0]), np.array([0.3, -0.2, 0.1, 0.5])
    alone = prime(mixed, rewards, q, settings=PrimeSettings())
    found = prime(both, np.append(rewards, np.ones(4)), np.append(q, 9.0 * np.ones(4)), settings=PrimeSettings())
    np.testing.assert_allclose(found[:4], alone, atol=1e-6)
    assert not found[4:].any()


def test_the_accuracy_bounds_include_their_ends() -> None:
    layout = Layout(np.arange(10), np.arange(10), np.repeat([0, 1], 5))
    rewards = np.array([1.0, -1, -1, -1, -1, 1, 1, 1, 1, -1])
    assert accuracy_within(layout, rewards, low=0.2, high=0.8).all()
    assert not accuracy_within(layout, rewards, low=0.25, high=0.75).any()


def test_an_unknown_outcome_or_token_is_left_out_of_every_statistic() -> None:
    layout = Layout(np.arange(4), np.arange(4), np.zeros(4))
    three = Layout(np.arange(3), np.arange(3), np.zeros(3))
    rewards, q = np.array([1.0, -1.0, np.nan, 1.0]), np.array([0.3, -0.2, 7.0, 0.5])
    kept = np.array([0, 1, 3])
    want = prime(three, rewards[kept], q[kept], settings=PrimeSettings())
    found = prime(layout, rewards, q, settings=PrimeSettings())
    np.testing.assert_allclose(found[kept], want, atol=1e-6)
    assert np.isnan(found[2])
    found = prime(layout, np.nan_to_num(rewards), np.where(q == 7.0, np.nan, q), settings=PrimeSettings())
    np.testing.assert_allclose(found[kept], want, atol=1e-6)
    assert np.isnan(found[2])


def test_a_group_with_one_known_rollout_is_unknown() -> None:
    layout = Layout(np.arange(2), np.arange(2), np.zeros(2))
    assert np.isnan(prime(layout, np.array([1.0, np.nan]), np.zeros(2), settings=ALL)).all()


def test_wrong_columns_and_settings_of_prime_are_refused() -> None:
    layout = Layout(np.arange(2), np.arange(2), np.zeros(2))
    with pytest.raises(CreditError, match="token_scores: got 3 entries, the layout has 2"):
        prime(layout, np.ones(2), np.zeros(3), settings=ALL)
    with pytest.raises(CreditError, match="rewards: got 3 entries"):
        prime(layout, np.ones(3), np.zeros(2), settings=ALL)
    with pytest.raises(UsageError, match="must rise within"):
        PrimeSettings(accuracy_low=0.9, accuracy_high=0.1)
    with pytest.raises(UsageError, match="did you mean 'released'"):
        PrimeSettings(baseline="release")


# --- Q-RM ----------------------------------------------------------------------------------------------------------


def test_q_rm_as_published_for_reinforce_is_the_logit() -> None:
    layout = Layout(np.array([0, 0, 1]), np.array([0, 1]), np.zeros(2))
    np.testing.assert_array_equal(q_rm(layout, np.array([2.0, -1.0, 4.0]), settings=QRmSettings()), [2.0, -1.0, 4.0])


def test_q_rm_as_released_for_ppo() -> None:
    layout = Layout(np.arange(4), np.array([0, 0, 1, 1]), np.zeros(2), "token")
    logits, ratio = np.array([1.0, 3.0, -1.0, 1.0]), np.array([0.5, -0.5, 0.0, 1.0])
    values = np.array([1.0, 2.0, 9.0, 3.0, 4.0, 9.0])
    settings = QRmSettings("std", value_weight=0.01, kl_weight=0.01)
    want = logits / logits.std() - 0.01 * np.array([1.0, 2.0, 3.0, 4.0]) - 0.01 * np.abs(ratio)
    np.testing.assert_allclose(q_rm(layout, logits, settings=settings, values=values, log_ratio=ratio), want, atol=1e-6)
    paper = q_rm(layout, logits, settings=QRmSettings("standardise", value_weight=1.0), values=values)
    np.testing.assert_allclose(paper, (logits - 1.0) / logits.std() - np.array([1.0, 2.0, 3.0, 4.0]), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(scored_batches(), st.floats(-5, 5), st.floats(0.1, 5))
def test_standardised_logits_have_no_origin_and_no_unit(batch: Batch, shift: float, unit: float) -> None:
    layout, _, q = batch
    there = q_rm(layout, q, settings=QRmSettings("standardise"))
    np.testing.assert_allclose(q_rm(layout, unit * q + shift, settings=QRmSettings("standardise")), there, atol=1e-4)


def test_an_unknown_logit_drops_its_rollout_only() -> None:
    layout = Layout(np.array([0, 0, 1, 1]), np.array([0, 1]), np.zeros(2))
    found = q_rm(layout, np.array([1.0, np.nan, 3.0, 5.0]), settings=QRmSettings("standardise"))
    np.testing.assert_array_equal(found, [np.nan, np.nan, -1.0, 1.0])


def test_q_rm_refuses_what_its_weights_ask_for_and_nobody_gave() -> None:
    layout = Layout(np.arange(2), np.arange(2), np.zeros(2))
    with pytest.raises(CreditError, match="value_weight is not 0, so that q_rm reads values"):
        q_rm(layout, np.zeros(2), settings=QRmSettings(value_weight=1.0))
    with pytest.raises(CreditError, match="log_ratio: got 3 entries, the layout has 2"):
        q_rm(layout, np.zeros(2), settings=QRmSettings(kl_weight=1.0), log_ratio=np.zeros(3))
    with pytest.raises(CreditError, match="token_scores: got 1 entries"):
        q_rm(layout, np.zeros(1), settings=QRmSettings())
    with pytest.raises(UsageError, match="logit_scale"):
        QRmSettings("std_only")


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_an_infinite_number_is_unknown_and_spoils_its_own_rollout_alone(strange: float) -> None:
    """Were its size taken for the batch's largest, all others would be paid nothing; a kept one would be no number."""
    layout = Layout(np.repeat(np.arange(6), 2), np.arange(6), np.array([0, 0, 0, 1, 1, 1]))
    rewards, q = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]), np.linspace(-1.0, 1.0, 12)
    whole = np.where(np.arange(12) == 3, np.nan, q)
    want = prime(layout, rewards, whole, settings=ALL)
    got = prime(layout, rewards, np.where(np.arange(12) == 3, strange, q), settings=ALL)
    np.testing.assert_array_equal(got, want)
    assert np.isnan(got).tolist() == [k in (2, 3) for k in range(12)]
    for scores, ratio in ((np.where(np.arange(12) == 3, strange, q), q), (q, np.where(np.arange(12) == 3, strange, q))):
        paid = q_rm(layout, scores, settings=QRmSettings(kl_weight=0.01), log_ratio=ratio)
        assert np.isnan(paid).tolist() == [k in (2, 3) for k in range(12)]
