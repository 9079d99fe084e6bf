"""VinePPO and GAE with a critic: worked numbers, the identities of credit.md 3.6, and what is unknown."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import leave_one_out, spread, to_go, whiten
from stepcredit.credit.gae_critic import GaeCriticSettings, gae_critic
from stepcredit.credit.vineppo import VineppoSettings, node_starts, vineppo

PLAIN = VineppoSettings(whiten=False)
FREE = VineppoSettings(root="leave_one_out", whiten=False)
SUM = GaeCriticSettings(lam=1.0, whiten=False)

Batch = tuple[Layout, np.ndarray, np.ndarray]


@st.composite
def valued_batches(draw: st.DrawFn) -> Batch:
    """Groups with rewards and node values; end nodes hold nothing, as a reader of values leaves them."""
    sizes = draw(st.lists(st.integers(2, 4), min_size=1, max_size=3))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    counts = [draw(st.integers(1, 5)) for _ in groups]
    lengths = [draw(st.integers(1, 3)) for _ in range(sum(counts))]
    layout = Layout(np.repeat(np.arange(len(lengths)), lengths), np.repeat(np.arange(len(groups)), counts), groups)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.uniform(-1, 1, layout.steps + layout.rollouts)
    values[node_starts(layout)[1:] - 1] = np.nan
    return layout, rng.choice([-1.0, 1.0], layout.rollouts), values


def first_nodes(layout: Layout, values: np.ndarray) -> np.ndarray:
    """[N] values of the prompts."""
    return values[node_starts(layout)[:-1]]


def test_worked_numbers_of_two_rollouts() -> None:
    layout = Layout(np.array([0, 0, 1, 2, 3]), np.array([0, 0, 1, 1]), np.zeros(2))
    values = np.array([0.2, 0.6, np.nan, 0.2, -0.4, np.nan])
    found = vineppo(layout, np.array([1.0, -1.0]), values, settings=PLAIN)
    np.testing.assert_allclose(found, [0.4, 0.4, 0.4, -0.6, -0.6], atol=1e-6)
    free = vineppo(layout, np.array([1.0, -1.0]), values, settings=FREE)
    np.testing.assert_allclose(free, [1.6, 1.6, 0.4, -1.4, -0.6], atol=1e-6)


def test_worked_numbers_of_gae_with_a_critic() -> None:
    """Differences of values .4, .4 and -.6, -.6; half of the later one is added to the earlier."""
    layout = Layout(np.array([0, 0, 1, 2, 3]), np.array([0, 0, 1, 1]), np.zeros(2))
    values = np.array([0.2, 0.6, 0.0, 0.2, -0.4, 0.0])
    found = gae_critic(layout, np.array([1.0, -1.0]), values, settings=GaeCriticSettings(lam=0.5, whiten=False))
    np.testing.assert_allclose(found, [0.6, 0.6, 0.4, -0.9, -0.6], atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(valued_batches(), st.sampled_from([PLAIN, FREE]))
def test_advantages_telescope_to_the_reward_less_the_root(batch: Batch, settings: VineppoSettings) -> None:
    layout, rewards, values = batch
    found = vineppo(layout, rewards, values, settings=settings).astype(np.float64)
    steps = found[layout.step_token_starts[:-1]]
    total = np.bincount(layout.rollout_of_step, weights=steps, minlength=layout.rollouts)
    want = leave_one_out(rewards, layout) if settings is FREE else rewards - first_nodes(layout, values)
    np.testing.assert_allclose(total, want, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(valued_batches())
def test_one_step_a_rollout_with_the_free_root_is_leave_one_out(batch: Batch) -> None:
    layout, rewards, _ = batch
    whole = Layout(layout.rollout_of_token, np.arange(layout.rollouts), layout.group_of_rollout)
    found = vineppo(whole, rewards, np.full(2 * layout.rollouts, np.nan), settings=FREE)
    np.testing.assert_allclose(found, spread(leave_one_out(rewards, whole), whole), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(valued_batches())
def test_the_whitening_is_the_algebras(batch: Batch) -> None:
    layout, rewards, values = batch
    plain = vineppo(layout, rewards, values, settings=PLAIN)
    white = vineppo(layout, rewards, values, settings=VineppoSettings())
    np.testing.assert_allclose(white, whiten(plain.astype(np.float64)), atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(valued_batches())
def test_gae_with_lambda_one_and_no_values_is_the_reward_to_go(batch: Batch) -> None:
    layout, rewards, values = batch
    paid = np.zeros(layout.steps)
    paid[layout.step_starts[1:] - 1] = rewards
    found = gae_critic(layout, rewards, np.zeros(len(values)), settings=SUM)
    np.testing.assert_allclose(found, spread(to_go(paid, layout, site="step"), layout), atol=1e-6)
    np.testing.assert_allclose(found, spread(rewards, layout, site="rollout"), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(valued_batches())
def test_gae_with_lambda_one_is_the_reward_to_go_less_the_value(batch: Batch) -> None:
    layout, rewards, values = batch
    before = values[np.arange(layout.steps) + layout.rollout_of_step]
    found = gae_critic(layout, rewards, values, settings=SUM)
    np.testing.assert_allclose(found, spread(rewards[layout.rollout_of_step] - before, layout), atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(valued_batches())
def test_gae_with_lambda_zero_is_vineppo(batch: Batch) -> None:
    layout, rewards, values = batch
    difference = gae_critic(layout, rewards, values, settings=GaeCriticSettings(lam=0.0, whiten=False))
    np.testing.assert_allclose(difference, vineppo(layout, rewards, values, settings=PLAIN), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(valued_batches(), st.floats(0, 1), st.floats(0, 1))
def test_gae_is_its_recursion_one_step_at_a_time(batch: Batch, gamma: float, lam: float) -> None:
    layout, rewards, values = batch
    want = np.zeros(layout.steps)
    for rollout in range(layout.rollouts):
        steps = np.flatnonzero(layout.rollout_of_step == rollout)
        following, after = 0.0, 0.0
        for step in steps[::-1]:
            reward = rewards[rollout] if step == steps[-1] else 0.0
            before = values[step + rollout]
            following = reward + gamma * after - before + gamma * lam * following
            want[step], after = following, before
    found = gae_critic(layout, rewards, values, settings=GaeCriticSettings(gamma, lam, whiten=False))
    np.testing.assert_allclose(found, spread(want, layout), atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(valued_batches(), st.sampled_from([vineppo, gae_critic]), st.randoms())
def test_order_within_a_group_does_not_matter(batch: Batch, rule: object, random: object) -> None:
    layout, rewards, values = batch
    order = np.arange(layout.rollouts)
    for group in range(layout.groups):
        members = np.flatnonzero(layout.group_of_rollout == group).tolist()
        random.shuffle(members)
        order[layout.group_of_rollout == group] = members
    settings = VineppoSettings(root="leave_one_out") if rule is vineppo else GaeCriticSettings()
    there = rule(layout, rewards, values, settings=settings)
    steps = np.concatenate([np.flatnonzero(layout.rollout_of_step == i) for i in order])
    nodes = np.concatenate([np.arange(*node_starts(layout)[i : i + 2]) for i in order])
    tokens = np.concatenate([np.flatnonzero(layout.step_of_token == i) for i in steps])
    sizes, owners = layout.tokens_of_step[steps], np.repeat(np.arange(len(order)), layout.steps_of_rollout[order])
    moved = Layout(np.repeat(np.arange(len(steps)), sizes), owners, layout.group_of_rollout)
    np.testing.assert_allclose(rule(moved, rewards[order], values[nodes], settings=settings), there[tokens], atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(valued_batches(), st.sampled_from([vineppo, gae_critic]))
def test_tokens_that_the_policy_did_not_write_change_nothing(batch: Batch, rule: object) -> None:
    """A padded batch: tokens put behind each step get 0, and the others what they had without them."""
    layout, rewards, values = batch
    settings = VineppoSettings() if rule is vineppo else GaeCriticSettings()
    there = rule(layout, rewards, values, settings=settings)
    padded = Layout(np.repeat(np.arange(layout.steps), layout.tokens_of_step + 2), *columns(layout))
    offset = np.arange(padded.tokens) - padded.step_token_starts[:-1][padded.step_of_token]
    trained = (offset < layout.tokens_of_step[padded.step_of_token]).astype(np.float32)
    found = rule(padded, rewards, values, settings=settings, trained=trained)
    np.testing.assert_allclose(found[trained == 1.0], there, atol=1e-5)
    assert not found[trained == 0.0].any()


def columns(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    return layout.rollout_of_step, layout.group_of_rollout


def test_an_unknown_node_drops_its_rollout_or_takes_the_next_value() -> None:
    layout = Layout(np.arange(5), np.array([0, 0, 0, 1, 1]), np.zeros(2))
    rewards, values = np.array([1.0, -1.0]), np.array([0.0, np.nan, 0.5, np.nan, 0.0, -0.5, np.nan])
    dropped = vineppo(layout, rewards, values, settings=PLAIN)
    np.testing.assert_allclose(dropped, [np.nan, np.nan, np.nan, -0.5, -0.5])
    filled = vineppo(layout, rewards, values, settings=VineppoSettings(on_unknown="fill", whiten=False))
    np.testing.assert_allclose(filled, [0.5, 0.0, 0.5, -0.5, -0.5])


def test_a_filled_gap_never_reaches_into_the_next_rollout() -> None:
    layout = Layout(np.arange(4), np.array([0, 0, 1, 1]), np.zeros(2))
    values = np.array([0.0, np.nan, np.nan, 0.3, 0.1, np.nan])
    settings = VineppoSettings(on_unknown="fill", whiten=False)
    found = vineppo(layout, np.array([np.nan, 1.0]), values, settings=settings)
    np.testing.assert_allclose(found, [np.nan, np.nan, -0.2, 0.9], atol=1e-6)


def test_an_unknown_prompt_is_not_filled_and_the_free_root_needs_none() -> None:
    layout = Layout(np.arange(4), np.array([0, 0, 1, 1]), np.zeros(2))
    values = np.array([np.nan, 0.5, np.nan, np.nan, -0.5, np.nan])
    rewards = np.array([1.0, -1.0])
    assert np.isnan(vineppo(layout, rewards, values, settings=VineppoSettings(on_unknown="fill", whiten=False))).all()
    np.testing.assert_allclose(vineppo(layout, rewards, values, settings=FREE), [1.5, 0.5, -1.5, -0.5])


def test_an_unscorable_rollout_gets_no_credit_and_a_lone_one_has_no_free_root() -> None:
    layout = Layout(np.arange(3), np.arange(3), np.zeros(3))
    values, rewards = np.zeros(6), np.array([1.0, np.nan, np.nan])
    np.testing.assert_array_equal(vineppo(layout, rewards, values, settings=PLAIN), [1.0, np.nan, np.nan])
    assert np.isnan(vineppo(layout, rewards, values, settings=FREE)).all()
    plain = GaeCriticSettings(whiten=False)
    np.testing.assert_array_equal(gae_critic(layout, rewards, values, settings=plain), [1.0, np.nan, np.nan])


def test_an_unknown_value_of_the_critic_drops_its_rollout_only() -> None:
    layout = Layout(np.arange(4), np.array([0, 0, 1, 1]), np.zeros(2))
    values = np.array([0.1, np.nan, 0.0, 0.0, 0.0, 0.0])
    found = gae_critic(layout, np.array([1.0, -1.0]), values, settings=SUM)
    np.testing.assert_array_equal(found, [np.nan, np.nan, -1.0, -1.0])


def test_a_rollout_without_tokens_disturbs_nobody() -> None:
    layout = Layout(np.arange(2), np.array([0, 2]), np.zeros(3))
    values, rewards = np.array([0.5, np.nan, np.nan, 0.25, np.nan]), np.array([1.0, -1.0, -1.0])
    np.testing.assert_allclose(vineppo(layout, rewards, values, settings=PLAIN), [0.5, -1.25])
    np.testing.assert_allclose(gae_critic(layout, rewards, values, settings=SUM), [0.5, -1.25])
    np.testing.assert_allclose(vineppo(layout, rewards, values, settings=FREE), [2.0, -1.0])


@pytest.mark.parametrize("rule", [vineppo, gae_critic])
def test_columns_of_another_length_are_refused(rule: object) -> None:
    layout = Layout(np.arange(2), np.zeros(2), np.zeros(1))
    settings = PLAIN if rule is vineppo else SUM
    with pytest.raises(CreditError, match="values: got 2 entries, the layout has 3"):
        rule(layout, np.ones(1), np.zeros(2), settings=settings)
    with pytest.raises(CreditError, match="rewards: got 2 entries"):
        rule(layout, np.ones(2), np.zeros(3), settings=settings)
    with pytest.raises(CreditError, match="trained: got 1 entries"):
        rule(layout, np.ones(1), np.zeros(3), settings=settings, trained=np.ones(1))
    with pytest.raises(CreditError, match="trained must be 1"):
        rule(layout, np.ones(1), np.zeros(3), settings=settings, trained=np.full(2, 0.5))


def test_settings_outside_their_range_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'leave_one_out'"):
        VineppoSettings(root="leave_one")
    with pytest.raises(UsageError, match=r"lam must be in \[0, 1\], got 1.5"):
        GaeCriticSettings(lam=1.5)
    with pytest.raises(UsageError, match="gamma must be in"):
        GaeCriticSettings(gamma=float("nan"))
