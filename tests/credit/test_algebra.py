"""The credit algebra: identities of credit.md 3.6, limits, unknowns, and columns with holes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import (
    gae,
    leave_one_out,
    log_mean_exp,
    pooled,
    softmin,
    spread,
    standardise,
    sum_by_step,
    to_go,
    whiten,
)


def build(rollouts: list[list[int]], groups: list[int]) -> Layout:
    """Layout of rollouts given as lists of step lengths."""
    lengths = [length for rollout in rollouts for length in rollout]
    owners = np.repeat(np.arange(len(rollouts)), [len(rollout) for rollout in rollouts])
    return Layout(np.repeat(np.arange(len(lengths)), lengths), owners, np.array(groups))


def one_step_each(groups: list[int]) -> Layout:
    return build([[1]] * len(groups), groups)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Layout, np.random.Generator]:
    """A Layout of 1 to 4 groups of 1 to 4 rollouts of 1 to 6 steps of 1 to 4 tokens, and numbers to fill it with."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    step = st.integers(1, 4)
    rollouts = [draw(st.lists(step, min_size=1, max_size=6)) for _ in groups]
    return build(rollouts, groups), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def loop_to_go(values: np.ndarray, owner: np.ndarray, decay: float = 1.0) -> np.ndarray:
    """The definition, one entry at a time."""
    out = np.array(values, np.float64)
    for index in range(len(out) - 2, -1, -1):
        if owner[index] == owner[index + 1]:
            out[index] += decay * out[index + 1]
    return out


# --- statistics of a group ---------------------------------------------------------------------------------------


def test_standardise_by_hand():
    rewards = np.array([1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    layout = one_step_each([0] * 8)
    assert standardise(rewards, layout).round(4).tolist() == [0.7746] * 5 + [-1.291] * 3
    assert standardise(rewards, layout, std="sample").round(4).tolist() == [0.7246] * 5 + [-1.2076] * 3
    assert standardise(rewards, layout, std="none").round(4).tolist() == [0.75] * 5 + [-1.25] * 3
    shrunk = standardise(rewards, layout, epsilon=1.0)
    assert shrunk[0] == pytest.approx(0.75 / (math.sqrt(15) / 4 + 1.0))


def test_zero_or_one_rewards_standardise_like_plus_minus_one():
    rewards = np.array([1.0, -1.0, -1.0, -1.0])
    layout = one_step_each([0] * 4)
    np.testing.assert_allclose(standardise((rewards + 1) / 2, layout), standardise(rewards, layout), rtol=1e-15)


def test_groups_without_spread_are_zero_and_groups_of_one_unknown():
    layout = one_step_each([0, 0, 0, 1])
    for std in ("population", "sample", "none"):
        got = standardise(np.array([0.1, 0.1, 0.1, 5.0]), layout, std=std)
        np.testing.assert_array_equal(got, [0.0, 0.0, 0.0, np.nan])


def test_unscorable_rollouts_are_left_out_of_the_statistics():
    layout = one_step_each([0, 0, 0, 1, 1])
    rewards = np.array([1.0, np.nan, -1.0, np.nan, 1.0])
    np.testing.assert_array_equal(standardise(rewards, layout), [1.0, np.nan, -1.0, np.nan, np.nan])
    np.testing.assert_array_equal(leave_one_out(rewards, layout), [2.0, np.nan, -2.0, np.nan, np.nan])


def test_large_means_do_no_harm_to_the_variance():
    layout = one_step_each([0] * 3)
    np.testing.assert_allclose(
        standardise(np.array([1e9 + 1, 1e9, 1e9 - 1]), layout), [math.sqrt(1.5), 0, -math.sqrt(1.5)]
    )


def test_leave_one_out_by_hand():
    np.testing.assert_allclose(leave_one_out(np.array([3.0, 1.0, 2.0]), one_step_each([0] * 3)), [1.5, -1.5, 0.0])


@given(batches())
def test_group_statistics_follow_a_permutation_within_the_group(batch):
    layout, rng = batch
    rewards = np.where(rng.random(layout.rollouts) < 0.2, np.nan, rng.normal(size=layout.rollouts))
    order = np.lexsort((rng.random(layout.rollouts), layout.group_of_rollout))
    for rule in (standardise, leave_one_out):
        np.testing.assert_allclose(rule(rewards[order], layout), rule(rewards, layout)[order], rtol=1e-9, atol=1e-9)


@given(batches(), st.floats(-100, 100), st.floats(0.5, 50))
def test_standardise_forgets_shift_and_scale(batch, shift, scale):
    layout, rng = batch
    rewards = rng.choice([-1.0, 1.0], layout.rollouts)
    np.testing.assert_allclose(standardise(scale * rewards + shift, layout), standardise(rewards, layout), atol=1e-9)


@given(batches())
def test_group_statistics_have_mean_zero_and_std_one(batch):
    layout, rng = batch
    values = standardise(rng.normal(size=layout.rollouts), layout)
    for group in range(layout.groups):
        mine = values[layout.group_of_rollout == group]
        if len(mine) > 1:
            assert mine.mean() == pytest.approx(0.0, abs=1e-9)
            assert mine.std() == pytest.approx(1.0)


@given(batches())
def test_leave_one_out_is_the_centred_reward_times_n_over_n_minus_one(batch):
    layout, rng = batch
    rewards = rng.normal(size=layout.rollouts)
    size = layout.rollouts_of_group[layout.group_of_rollout]
    want = standardise(rewards, layout, std="none") * size / np.maximum(size - 1, 1)
    np.testing.assert_allclose(leave_one_out(rewards, layout), want, atol=1e-12)


def test_pooled_takes_the_statistics_over_all_steps_of_the_group():
    layout = build([[1, 1, 1], [1], [1, 1]], [0, 0, 1])
    scores = np.array([1.0, 2.0, np.nan, 6.0, 5.0, 5.0])
    got = pooled(scores, layout)
    deviation = np.std([1.0, 2.0, 6.0])
    np.testing.assert_allclose(got, [-2 / deviation, -1 / deviation, np.nan, 3 / deviation, 0.0, 0.0])


@given(batches())
def test_pooled_over_one_step_each_is_standardise(batch):
    layout, rng = batch
    whole = one_step_each(layout.group_of_rollout.tolist())
    rewards = rng.normal(size=layout.rollouts)
    np.testing.assert_array_equal(pooled(rewards, whole), standardise(rewards, whole))


def test_whiten_leaves_out_masked_and_unknown_entries():
    values = np.array([2.0, 4.0, np.nan, 1000.0])
    got = whiten(values, weights=np.array([True, True, True, False]))
    np.testing.assert_array_equal(got, [-1.0, 1.0, np.nan, 0.0])
    np.testing.assert_allclose(whiten(np.array([1.0, 2.0]), std="sample"), [-math.sqrt(0.5), math.sqrt(0.5)])
    np.testing.assert_array_equal(whiten(np.full(3, 0.1)), np.zeros(3))


# --- moving between sites ----------------------------------------------------------------------------------------


def test_spread_keeps_the_dtype_and_checks_the_length():
    layout = build([[2, 1], [1]], [0, 0])
    np.testing.assert_array_equal(spread(np.array([1.0, 2.0, 3.0], np.float32), layout), [1, 1, 2, 3])
    assert spread(np.zeros(3, np.float32), layout).dtype == np.float32
    np.testing.assert_array_equal(spread(np.array([5.0, 6.0]), layout, site="rollout"), [5, 5, 5, 6])
    with pytest.raises(CreditError, match="values a step: got 2 entries, the layout has 3"):
        spread(np.zeros(2), layout)
    with pytest.raises(CreditError, match="only steps and rollouts spread"):
        spread(np.zeros(4), layout, site="token")


def test_sum_by_step_skips_holes_whatever_they_hold():
    layout = build([[2, 2], [1]], [0, 0])
    values = np.array([1.0, np.nan, 2.0, 3.0, np.inf])
    mask = np.array([True, False, True, True, False])
    np.testing.assert_array_equal(sum_by_step(values, layout, mask=mask), [1.0, 5.0, 0.0])
    np.testing.assert_array_equal(sum_by_step(values, layout), [np.nan, 5.0, np.inf])


@given(batches())
def test_spreading_a_sum_and_summing_a_spread(batch):
    layout, rng = batch
    values = rng.normal(size=layout.steps)
    np.testing.assert_allclose(sum_by_step(spread(values, layout), layout), values * layout.tokens_of_step, atol=1e-12)


@given(batches())
def test_token_sums_to_go_at_step_starts_are_step_sums_to_go(batch):
    layout, rng = batch
    values = rng.normal(size=layout.tokens)
    by_token = to_go(values, layout)[layout.step_token_starts[:-1]]
    np.testing.assert_allclose(by_token, to_go(sum_by_step(values, layout), layout, site="step"), atol=1e-9)


@given(batches(), st.sampled_from([0.0, 0.3, 0.9, 1.0]), st.sampled_from(["token", "step"]))
def test_to_go_is_its_definition_also_with_holes(batch, decay, site):
    layout, rng = batch
    owner = layout.rollout_of_token if site == "token" else layout.rollout_of_step
    values, mask = rng.normal(size=len(owner)), rng.random(len(owner)) < 0.7
    want = loop_to_go(np.where(mask, values, 0.0), owner, decay)
    holes = np.where(mask, values, np.nan)
    np.testing.assert_allclose(to_go(holes, layout, site=site, decay=decay, mask=mask), want, atol=1e-9)


def test_to_go_lets_nothing_leak_from_one_rollout_into_another():
    layout = build([[3], [3], [3], [2]], [0, 0, 0, 0])
    values = np.array([1.0, 2.0, 3.0, 1e300, -1e300, 1.0, 0.5, np.nan, 0.25, 0.1, np.inf])
    got = to_go(values, layout)
    np.testing.assert_array_equal(got, [6.0, 5.0, 3.0, 1.0, -1e300, 1.0, np.nan, np.nan, 0.25, np.inf, np.inf])


def test_to_go_of_a_million_tokens_is_as_exact_as_an_exact_sum():
    rng = np.random.default_rng(0)
    layout = build([[600_000], [1], [399_999]], [0, 0, 0])
    values = rng.normal(size=1_000_000) * 10.0 ** rng.integers(-6, 7, 1_000_000)
    got = to_go(values, layout)
    for first, last in (
        (0, 600_000),
        (599_000, 600_000),
        (600_000, 600_001),
        (600_001, 1_000_000),
        (999_900, 1_000_000),
    ):
        exact, size = math.fsum(values[first:last]), np.abs(values[first:last]).sum()
        assert abs(got[first] - exact) <= 1e-15 * size


def test_to_go_reads_float32_and_leaves_its_input_alone():
    layout = build([[2]], [0])
    values = np.array([1.0, 2.0], np.float32)
    assert to_go(values, layout).dtype == np.float64
    np.testing.assert_array_equal(values, [1.0, 2.0])


def test_to_go_refuses_a_decay_outside_its_range_and_the_rollout_site():
    layout = build([[2]], [0])
    with pytest.raises(CreditError, match=r"decay must be in \[0, 1\], got 1.5"):
        to_go(np.zeros(2), layout, decay=1.5)
    with pytest.raises(CreditError, match="runs over tokens or steps"):
        to_go(np.zeros(1), layout, site="rollout")


# --- GAE ---------------------------------------------------------------------------------------------------------


def node_of(layout: Layout) -> np.ndarray:
    return np.arange(layout.steps) + layout.rollout_of_step


def ends_of(layout: Layout) -> np.ndarray:
    return layout.step_starts[1:] + np.arange(layout.rollouts)


@given(batches(), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.4, 1.0]))
def test_gae_is_its_recursion(batch, gamma, lam):
    layout, rng = batch
    rewards, values = rng.normal(size=layout.steps), rng.normal(size=layout.steps + layout.rollouts)
    node = node_of(layout)
    want = loop_to_go(rewards + gamma * values[node + 1] - values[node], layout.rollout_of_step, gamma * lam)
    np.testing.assert_allclose(gae(rewards, values, layout, gamma=gamma, lam=lam), want, atol=1e-9)


@given(batches())
def test_gae_with_lambda_one_is_to_go_less_the_value(batch):
    layout, rng = batch
    rewards, values = rng.normal(size=layout.steps), rng.normal(size=layout.steps + layout.rollouts)
    values[ends_of(layout)] = 0.0
    ahead = to_go(rewards, layout, site="step")
    np.testing.assert_array_equal(gae(rewards, np.zeros_like(values), layout), ahead)
    np.testing.assert_allclose(gae(rewards, values, layout), ahead - values[node_of(layout)], atol=1e-9)


@given(batches())
def test_value_differences_telescope_to_the_end_less_the_root(batch):
    layout, rng = batch
    values = rng.normal(size=layout.steps + layout.rollouts)
    deltas = gae(np.zeros(layout.steps), values, layout, lam=0.0)
    total = np.bincount(layout.rollout_of_step, weights=deltas, minlength=layout.rollouts)
    roots = layout.step_starts[:-1] + np.arange(layout.rollouts)
    np.testing.assert_allclose(total, values[ends_of(layout)] - values[roots], atol=1e-9)


@given(batches())
def test_outcome_on_the_end_node_or_on_the_last_step_is_the_same(batch):
    layout, rng = batch
    outcome, values = rng.normal(size=layout.rollouts), rng.normal(size=layout.steps + layout.rollouts)
    on_node, on_step = values.copy(), values.copy()
    on_node[ends_of(layout)], on_step[ends_of(layout)] = outcome, 0.0
    rewards = np.zeros(layout.steps)
    rewards[layout.step_starts[1:] - 1] = outcome
    for lam in (0.0, 0.6, 1.0):
        got = gae(np.zeros(layout.steps), on_node, layout, lam=lam)
        np.testing.assert_allclose(got, gae(rewards, on_step, layout, lam=lam), atol=1e-9)


def test_gae_checks_the_node_column():
    with pytest.raises(CreditError, match="node values: got 2 entries, the layout has 3"):
        gae(np.zeros(2), np.zeros(2), build([[1, 1]], [0]))


# --- soft minimum ------------------------------------------------------------------------------------------------


def test_softmin_by_hand():
    scores = np.array([0.0, math.log(3.0)])
    got = softmin(scores, build([[1, 1]], [0]), temperature=1.0)
    np.testing.assert_allclose(got, [0.0, 0.25 * math.log(3.0)])


@given(batches())
def test_softmin_limits_are_min_then_zero_and_the_mean_form(batch):
    layout, rng = batch
    scores = rng.permutation(layout.steps) / layout.steps * 2.0 - 1.0
    owner = layout.rollout_of_step
    worst = np.array([scores[owner == rollout].min() for rollout in range(layout.rollouts)])
    ahead = to_go(softmin(scores, layout, temperature=1e-5), layout, site="step")
    at_worst = np.array([np.flatnonzero((owner == r) & (scores == worst[r]))[0] for r in range(layout.rollouts)])
    want = np.where(np.arange(layout.steps) <= at_worst[owner], worst[owner], 0.0)
    np.testing.assert_allclose(ahead, want, atol=1e-9)
    flat = scores / layout.steps_of_rollout[owner]
    np.testing.assert_allclose(softmin(scores, layout, temperature=1e9), flat, atol=1e-6)
    np.testing.assert_allclose(softmin(scores, layout, temperature=math.inf), flat, atol=1e-12)


def test_an_unknown_step_makes_the_softmin_of_its_rollout_unknown_and_of_no_other():
    layout = build([[1, 1], [1]], [0, 0])
    np.testing.assert_array_equal(softmin(np.array([0.5, np.nan, 0.25]), layout), [np.nan, np.nan, 0.25])


def test_softmin_steps_over_rollouts_without_steps():
    layout = Layout(np.arange(2), np.array([0, 2]), np.zeros(3))
    np.testing.assert_array_equal(softmin(np.array([0.5, -1.0]), layout), [0.5, -1.0])


def test_softmin_refuses_a_temperature_of_zero():
    with pytest.raises(CreditError, match="temperature must be above 0, got 0"):
        softmin(np.zeros(1), build([[1]], [0]), temperature=0.0)


def test_refining_a_step_changes_sums_of_scores_and_no_additive_signal():
    """The rule of credit.md 3.2: cut each step in two with copied scores, or split log-ratios."""
    rng = np.random.default_rng(1)
    coarse, fine = build([[5] * 4] * 3, [0] * 3), build([[3, 2] * 4] * 3, [0] * 3)
    ratios, scores = rng.normal(size=coarse.tokens), rng.uniform(-1, 1, coarse.steps)
    sums = [to_go(sum_by_step(ratios, layout), layout, site="step") for layout in (coarse, fine)]
    np.testing.assert_allclose(sums[0], sums[1][::2], atol=1e-12)
    low = [
        to_go(softmin(column, layout, temperature=1e-6), layout, site="step")
        for column, layout in ((scores, coarse), (np.repeat(scores, 2), fine))
    ]
    np.testing.assert_allclose(low[0], low[1][::2], atol=1e-9)
    plain = [to_go(column, layout, site="step") for column, layout in ((scores, coarse), (np.repeat(scores, 2), fine))]
    assert np.abs(plain[0] - plain[1][::2]).max() > 0.1


# --- soft maximum of completions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "label"), [(0.1, 0.159), (0.5, 0.620), (0.9, 0.935)])
def test_log_mean_exp_gives_the_figures_of_the_spec(share, label):
    values = np.repeat([1.0, 0.0], [round(10 * share), round(10 * (1 - share))])
    got = log_mean_exp(values, np.zeros(10, np.int64), count=1, eta=1.0)
    assert got[0] == pytest.approx(label, abs=5e-4)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 2**16))
def test_log_mean_exp_limits_are_the_mean_and_any(wins, seed):
    rng = np.random.default_rng(seed)
    values, owner = np.array(wins, np.float64), rng.integers(0, 3, len(wins))
    mean = np.array([values[owner == o].mean() if (owner == o).any() else np.nan for o in range(3)])
    any_right = np.where(np.isnan(mean), np.nan, mean > 0)
    for eta, want, slack in ((0.0, mean, 1e-12), (1e-7, mean, 1e-6), (1e6, any_right, 1e-4), (math.inf, any_right, 0)):
        np.testing.assert_allclose(log_mean_exp(values, owner, count=3, eta=eta), want, atol=slack)


def test_log_mean_exp_leaves_out_unscorable_completions_and_says_unknown_without_any():
    values, owner = np.array([1.0, np.nan, 0.0, np.nan]), np.array([0, 0, 0, 1])
    np.testing.assert_array_equal(log_mean_exp(values, owner, count=3, eta=0.0), [0.5, np.nan, np.nan])
    assert np.isfinite(log_mean_exp(values * 1e4, owner, count=3, eta=5.0)[0])


def test_log_mean_exp_refuses_negative_eta_and_strange_owners():
    with pytest.raises(CreditError, match="eta must be 0 or more"):
        log_mean_exp(np.zeros(1), np.zeros(1, np.int64), count=1, eta=-1.0)
    with pytest.raises(CreditError, match=r"owners must lie in 0\.\.0, got 1\.\.1"):
        log_mean_exp(np.zeros(1), np.ones(1, np.int64), count=1, eta=1.0)


def test_everything_takes_an_empty_batch():
    empty = Layout(np.zeros(0), np.zeros(0), np.zeros(0))
    nothing = np.zeros(0)
    results = [standardise(nothing, empty), leave_one_out(nothing, empty), pooled(nothing, empty), whiten(nothing)]
    results += [spread(nothing, empty), sum_by_step(nothing, empty), to_go(nothing, empty), softmin(nothing, empty)]
    results += [gae(nothing, nothing, empty), log_mean_exp(nothing, np.zeros(0, np.int64), count=0, eta=1.0)]
    assert all(len(result) == 0 for result in results)
