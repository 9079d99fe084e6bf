"""PRL and FRPO: golden numbers, the released code derived once more, identities, and the traps of credit.md 1.7."""

import numpy as np
import pytest
from batches import batches, build
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import spread, standardise, to_go
from stepcredit.credit.grpo import GrpoSettings, grpo
from stepcredit.credit.prl import PrlSettings, outcome_part, prl, to_come

EXACT = {"std": "population", "epsilon": 0.0}
TWO = build([[2, 1], [1, 2]], [0, 0])
KAPPA = np.array([1.0, 2.0, 4.0, -1.0, 0.5, 0.25])
REWARDS = np.array([1.0, -1.0])


def ones(layout: Layout) -> Layout:
    """The same tokens, each a step of its own."""
    return Layout(np.arange(layout.tokens), layout.rollout_of_token, layout.group_of_rollout, "token")


# --- golden numbers, worked by hand --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own_step", "cost"),
    [
        ("all", [7.0, 7.0, 4.0, -0.25, 0.75, 0.75]),
        ("last", [6.0, 6.0, 4.0, -0.25, 0.25, 0.25]),
        ("none", [4.0, 4.0, 0.0, 0.75, 0.0, 0.0]),
    ],
)
def test_prl_by_hand(own_step, cost):
    got = prl(TWO, REWARDS, KAPPA, settings=PrlSettings(eta=10.0, own_step=own_step, **EXACT))
    np.testing.assert_allclose(got, np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0]) - np.array(cost) / 10.0, rtol=1e-6)


def test_process_first_by_hand():
    """No group baseline at all: R is 1 or 0, and the sum runs from the token itself."""
    got = prl(TWO, REWARDS, KAPPA, settings=PrlSettings(eta=10.0, order="process_first"))
    np.testing.assert_allclose(got, [0.3, 0.4, 0.6, 0.025, -0.075, -0.025], rtol=1e-5)


def test_process_grouped_by_hand():
    """The first commit's: the mean over step ends, standardised; every token of a rollout gets the same."""
    got = prl(TWO, REWARDS, KAPPA, settings=PrlSettings(eta=10.0, own_step="last", order="process_grouped", std="none"))
    scores = [1.0 - (6.0 + 4.0) / 20.0, 0.0 - (-0.25 + 0.25) / 20.0]
    half = (scores[0] - scores[1]) / 2.0
    np.testing.assert_allclose(got, [half] * 3 + [-half] * 3, rtol=1e-6)


def test_the_baseline_is_the_mean_of_the_others_at_the_same_position():
    layout = build([[1, 1, 1], [1, 1], [1]], [0, 0, 0])
    kappa = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    to_end = np.array([7.0, 6.0, 4.0, 24.0, 16.0, 32.0])
    others = np.array([(24 + 32) / 2, 16 / 2, 0, (7 + 32) / 2, 6 / 2, (7 + 24) / 2])
    rewards = np.array([1.0, 1.0, 1.0])
    got = prl(layout, rewards, kappa, settings=PrlSettings(eta=1.0, baseline="leave_one_out"))
    np.testing.assert_allclose(got, -(to_end - others), rtol=1e-6)


def test_the_bonus_is_standardised_on_its_own_and_added():
    bonus = np.array([3.0, 1.0])
    made = PrlSettings(eta=10.0, bonus_weight=0.5, **EXACT)
    plain = prl(TWO, REWARDS, KAPPA, settings=PrlSettings(eta=10.0, **EXACT))
    got = prl(TWO, REWARDS, KAPPA, settings=made, bonus=bonus)
    np.testing.assert_allclose(got - plain, [0.5] * 3 + [-0.5] * 3, atol=1e-6)
    with pytest.raises(CreditError, match=r"no bonus was given; give Need\.BONUS, or set bonus_weight to 0"):
        prl(TWO, REWARDS, KAPPA, settings=made)
    unread = prl(TWO, REWARDS, KAPPA, settings=PrlSettings(eta=10.0, **EXACT), bonus=bonus * np.nan)
    np.testing.assert_array_equal(unread, plain)


# --- the released code, step for step (credit.md 1.3) ----------------------------------------------------------------


def released(old, ref, mask, right, groups, *, eta, ends, order="orm"):
    """Padded rectangles as in the trainer: [N, T] log-probabilities and mask, [N] 1 or 0, [N] groups, [N, T] step ends.

    Written from the seven steps of the specification, without our Layout or algebra.
    """
    kl = (old - ref) * mask
    suffix = kl.sum(1, keepdims=True) - np.cumsum(kl, 1) + kl
    scalar = np.array(right, np.float64)
    if order == "orm":
        for group in np.unique(groups):
            own = groups == group
            mean, std = (scalar[own].mean(), scalar[own].std(ddof=1)) if own.sum() > 1 else (0.0, 1.0)
            scalar[own] = (scalar[own] - mean) / (std + 1e-6)
    dense = scalar[:, None] * mask - suffix / eta
    if order == "orm":
        dense = np.where(ends, dense, 0.0)
        dense = dense * mask
        for row in dense:
            following = 0.0
            for t in range(len(row) - 1, -1, -1):
                following = row[t] if row[t] != 0.0 else following
                row[t] = following
    return dense * mask


@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    step=st.integers(1, 4),
    eta=st.sampled_from([1.0, 100.0, 200.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_the_released_code_is_z_less_the_log_ratio_from_the_last_token_of_the_step_on(lengths, step, eta, seed):
    """credit.md 1.3: A = z(R) - S[e(t)] / eta; `own_step = last` with the code's standard deviation and epsilon."""
    rng, size, longest = np.random.default_rng(seed), len(lengths), max(lengths) + 2
    mask = np.arange(longest)[None] < np.array(lengths)[:, None]
    old, ref = rng.normal(size=(2, size, longest))
    right, groups = rng.integers(0, 2, size), np.sort(rng.integers(0, 2, size))
    groups = np.unique(groups, return_inverse=True)[1]
    ends = mask & ((np.arange(longest) + 1) % step == 0)
    ends[np.arange(size), np.array(lengths) - 1] = True
    want = released(old, ref, mask, right, groups, eta=eta, ends=ends)[mask]
    parts = [[min(step, length - at) for at in range(0, length, step)] for length in lengths]
    layout = build(parts, groups.tolist())
    got = prl(layout, right.astype(float), (old - ref)[mask], settings=PrlSettings(eta=eta, own_step="last"))
    alone = np.bincount(groups)[groups][layout.rollout_of_token] < 2
    np.testing.assert_allclose(got[~alone], want[~alone], rtol=1e-5, atol=1e-5)
    assert np.isnan(got[alone]).all()
    dense = released(old, ref, mask, right, groups, eta=eta, ends=ends, order="prm")[mask]
    first = PrlSettings(eta=eta, order="process_first")
    np.testing.assert_allclose(
        prl(layout, 2.0 * right - 1.0, (old - ref)[mask], settings=first), dense, rtol=1e-5, atol=1e-5
    )


def test_a_step_end_that_is_exactly_zero_is_still_a_step_end():
    """The released fill takes the next non-zero value, and so loses the step (credit.md 1.7, 6)."""
    layout = build([[1, 1], [2]], [0, 0])
    kappa, right = np.array([2.0, -1.0, 0.0, 0.0]), np.array([1.0, 1.0])
    got = prl(layout, right, kappa, settings=PrlSettings(eta=1.0, own_step="last"))
    np.testing.assert_array_equal(got[:2], [-1.0, 1.0])
    zero = prl(layout, right, np.array([1.0, -1.0, 0.0, 0.0]), settings=PrlSettings(eta=1.0, own_step="last"))
    np.testing.assert_array_equal(zero[:2], [0.0, 1.0])
    mask = np.ones((1, 2), np.bool_)
    filled = released(np.array([[1.0, -1.0]]), np.zeros((1, 2)), mask, [0.0], np.zeros(1), eta=1.0, ends=mask)
    assert filled[0].tolist() == [1.0, 1.0]


# --- identities (credit.md 3.6) --------------------------------------------------------------------------------------


@given(batch=batches(), eta=st.sampled_from([0.5, 100.0]))
@settings(max_examples=40, deadline=None)
def test_in_single_tokens_prl_is_frpo(batch, eta):
    rollouts, groups, rng = batch
    layout = ones(build(rollouts, groups))
    rewards, kappa = rng.choice([-1.0, 1.0], layout.rollouts), rng.normal(size=layout.tokens)
    z = standardise(rewards, layout)
    frpo = spread(z, layout, site="rollout") - (1.0 / eta) * to_go(kappa, layout)
    got = prl(layout, rewards, kappa, settings=PrlSettings(eta=eta, **EXACT))
    np.testing.assert_allclose(got, frpo, rtol=1e-5, atol=1e-6)
    last = prl(layout, rewards, kappa, settings=PrlSettings(eta=eta, own_step="last", **EXACT))
    np.testing.assert_allclose(last, frpo, rtol=1e-5, atol=1e-6)


@given(batch=batches())
@settings(max_examples=40, deadline=None)
def test_without_weight_and_without_log_ratio_prl_is_grpo(batch):
    """beta = 0, eta = inf, and the first update, where the reference is the policy itself."""
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    rewards, kappa = rng.choice([-1.0, 1.0], layout.rollouts), rng.normal(size=layout.tokens)
    want = grpo(layout, rewards, settings=GrpoSettings(std="sample", epsilon=1e-6))
    off, endless = PrlSettings(process_weight=0.0), PrlSettings(eta=np.inf)
    for made, column in ((off, kappa), (endless, kappa), (PrlSettings(), 0.0 * kappa)):
        np.testing.assert_array_equal(prl(layout, rewards, column, settings=made), want)
    np.testing.assert_array_equal(outcome_part(layout, rewards, settings=PrlSettings()), want)


@given(batch=batches())
@settings(max_examples=40, deadline=None)
def test_the_first_token_bears_the_whole_log_ratio_however_steps_are_cut(batch):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    kappa = rng.normal(size=layout.tokens)
    whole = build([[sum(parts)] for parts in rollouts], groups)
    total = np.bincount(layout.rollout_of_token, weights=kappa)
    for cut in (layout, ones(layout), whole):
        np.testing.assert_allclose(to_come(cut, kappa)[cut.step_starts[:-1]], total, atol=1e-9)


@given(batch=batches(), weights=st.sampled_from(["none", "leave_one_out"]))
@settings(max_examples=40, deadline=None)
def test_tokens_that_the_policy_did_not_write_count_nothing_whatever_they_hold(batch, weights):
    """Masks with holes: their log-ratio may be anything, and the credit of the others is as if it were 0."""
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    rewards, kappa = rng.choice([-1.0, 1.0], layout.rollouts), rng.normal(size=layout.tokens)
    trained = rng.random(layout.tokens) < 0.6
    for own_step in ("all", "last", "none"):
        made = PrlSettings(eta=3.0, own_step=own_step, baseline=weights)
        want = prl(layout, rewards, np.where(trained, kappa, 0.0), settings=made)
        got = prl(layout, rewards, np.where(trained, kappa, np.nan), settings=made, trained=trained)
        np.testing.assert_array_equal(got, np.where(trained, want, 0.0))


@given(batch=batches(smallest=2))
@settings(max_examples=40, deadline=None)
def test_holes_can_be_cut_out_of_the_batch(batch):
    rollouts, groups, rng = batch
    layout = build(rollouts, groups)
    rewards, kappa = rng.choice([-1.0, 1.0], layout.rollouts), rng.normal(size=layout.tokens)
    trained = rng.random(layout.tokens) < 0.6
    trained[layout.step_token_starts[:-1]] = True
    cut = Layout(layout.step_of_token[trained], layout.rollout_of_step, layout.group_of_rollout)
    whole = prl(layout, rewards, kappa, settings=PrlSettings(eta=3.0), trained=trained)
    np.testing.assert_allclose(
        whole[trained], prl(cut, rewards, kappa[trained], settings=PrlSettings(eta=3.0)), rtol=1e-5, atol=1e-6
    )


# --- groups without spread, unknowns, guards -------------------------------------------------------------------------


def test_groups_without_spread_keep_their_log_ratio_unless_they_are_dropped():
    layout = build([[1], [1], [1], [1]], [0, 0, 1, 1])
    rewards, kappa = np.array([1.0, 1.0, 1.0, -1.0]), np.array([2.0, -2.0, 1.0, 1.0])
    kept = prl(layout, rewards, kappa, settings=PrlSettings(eta=2.0, **EXACT))
    np.testing.assert_allclose(kept, [-1.0, 1.0, 0.5, -1.5])
    dropped = prl(layout, rewards, kappa, settings=PrlSettings(eta=2.0, zero_spread="drop", **EXACT))
    np.testing.assert_allclose(dropped, [0.0, 0.0, 0.5, -1.5])
    for order in ("process_first", "process_grouped"):
        with pytest.raises(UsageError, match="zero_spread 'drop' looks at the standardised outcome: take order 'adva"):
            PrlSettings(order=order, zero_spread="drop")


@pytest.mark.parametrize("weight", [0.0, 1e-9])
def test_dropped_groups_get_no_bonus_at_any_process_weight(weight):
    layout = build([[1], [1], [1], [1]], [0, 0, 1, 1])
    rewards, bonus = np.array([1.0, 1.0, 1.0, -1.0]), np.array([1.0, 0.0, 1.0, 0.0])
    made = PrlSettings(zero_spread="drop", bonus_weight=1.0, process_weight=weight, **EXACT)
    got = prl(layout, rewards, np.zeros(4), settings=made, bonus=bonus)
    np.testing.assert_allclose(got, [0.0, 0.0, 2.0, -2.0], atol=1e-6)


@pytest.mark.parametrize("order", ["advantage_first", "process_first", "process_grouped"])
def test_without_a_standard_deviation_right_and_wrong_are_one_apart_in_every_order(order):
    """The code's R is 1 or 0: with 1 and -1 the outcome would weigh twice as much beside the log-ratio."""
    layout = build([[1], [1]], [0, 0])
    for weight in (0.0, 1.0):
        made = PrlSettings(order=order, std="none", process_weight=weight)
        got = prl(layout, np.array([1.0, -1.0]), np.zeros(2), settings=made)
        np.testing.assert_allclose(got[0] - got[1], 1.0)


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_an_unknown_log_ratio_or_a_probability_of_zero_spoils_only_what_it_is_part_of(strange):
    kappa = np.array([1.0, 2.0, 4.0, -1.0, strange, 0.25])
    got = prl(TWO, REWARDS, kappa, settings=PrlSettings(eta=10.0, **EXACT))
    np.testing.assert_allclose(got, [0.3, 0.3, 0.6, np.nan, np.nan, np.nan], rtol=1e-6)
    last = prl(TWO, REWARDS, kappa, settings=PrlSettings(eta=10.0, own_step="last", baseline="leave_one_out", **EXACT))
    assert np.isfinite(last[:3]).all()


def test_unscorable_and_lonely_rollouts_get_no_advantage():
    layout = build([[1], [1], [1], [1]], [0, 0, 0, 1])
    got = prl(layout, np.array([1.0, -1.0, np.nan, 1.0]), np.zeros(4), settings=PrlSettings(**EXACT))
    np.testing.assert_array_equal(got, [1.0, -1.0, np.nan, np.nan])


def test_the_coefficient_in_units_of_reward_is_beta_times_the_spread_of_the_group():
    """credit.md 1.8: R is divided by the group's std and kappa is not."""
    layout = build([[1]] * 4, [0] * 4)
    rewards, kappa = np.array([1.0, 1.0, 1.0, -1.0]), np.arange(4.0)
    got = prl(layout, rewards, kappa, settings=PrlSettings(eta=4.0, **EXACT))
    sigma = rewards.std()
    np.testing.assert_allclose(got * sigma, rewards - rewards.mean() - sigma / 4.0 * kappa, atol=1e-6)


def test_columns_and_settings_that_do_not_fit_are_refused():
    with pytest.raises(CreditError, match="log_ratio: got 5 entries, the layout has 6"):
        prl(TWO, REWARDS, KAPPA[:5], settings=PrlSettings())
    with pytest.raises(UsageError, match=r"eta must be above 0 \(inf is GRPO\), got 0"):
        PrlSettings(eta=0.0)
    with pytest.raises(UsageError, match="own_step = 'al' is unknown; did you mean 'all'"):
        PrlSettings(own_step="al")
    with pytest.raises(UsageError, match="pays tokens, not steps: own_step must be 'all', got 'last'"):
        PrlSettings(order="process_first", own_step="last")
    with pytest.raises(UsageError, match="it takes no baseline"):
        PrlSettings(order="process_grouped", baseline="leave_one_out")
