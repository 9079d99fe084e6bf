"""RLSP: the mixed reward by hand, its limits, and what unknown numbers do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.core.records import Outcome, Problem, Rollout, Steps
from stepcredit.credit.algebra import gae, standardise
from stepcredit.credit.grpo import GrpoSettings, grpo
from stepcredit.credit.rlsp import RlspSettings, exploration, mixed_reward, outcome_part, rlsp, rlsp_bonus

PLAIN = RlspSettings()
FOUR = Layout(np.arange(4), np.arange(4), np.zeros(4))
REWARDS = np.array([1.0, 1.0, -1.0, -1.0])


def cut(text: str, *, thought: int, status: str, answer: str | None) -> Steps:
    """One token a character; the first `thought` characters are reasoning, the rest the answer block."""
    size = len(text)
    rollout = Rollout("r", Problem("p", "?", "1"), "g", 0, text, np.zeros(1), np.zeros(size), np.arange(size))
    starts = np.array([0, thought]) if thought < size else np.array([0])
    inside = np.array([False, True][: len(starts)])
    return Steps(Outcome(rollout, status, answer), starts, "line", inside, closed=True)


def test_the_mix_by_hand() -> None:
    """C = 1000: 8,000 characters cost 0.5, 4,000 cost 1; the last one gave no answer, -0.5."""
    bonus = exploration(np.array([8000, 4000, 8000, 4000])) + np.array([0.0, 0.0, 0.0, -0.5])
    assert mixed_reward(FOUR, REWARDS, bonus, settings=PLAIN).tolist() == [0.5, 0.0, -0.5, -1.5]
    judged = np.array([1.0, 0.0, 0.5, 0.25])
    settings = RlspSettings(creativity=0.2)
    mixed = mixed_reward(FOUR, REWARDS, bonus, settings=settings, outcome_scores=judged)
    assert mixed.tolist() == pytest.approx([0.6, 0.0, -0.3, -1.15])


def test_the_advantages_by_hand() -> None:
    """Mixed rewards 1.5, .5, -.5, -1.5: mean 0, population deviation sqrt(1.25)."""
    bonus = np.array([0.5, -0.5, -0.5, -1.5])
    found = rlsp(FOUR, REWARDS, bonus, settings=PLAIN)
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx(np.array([1.5, 0.5, -0.5, -1.5]) / np.sqrt(1.25), rel=1e-6)


@given(st.integers(0, 2**31), st.sampled_from(["population", "sample", "none"]))
@settings(deadline=None)
def test_without_bonus_it_is_grpo(seed, std) -> None:
    """The deviation of 0 and 1 is half that of -1 and +1; only Dr. GRPO's centring keeps the factor."""
    rewards = np.random.default_rng(seed).choice([-1.0, 1.0, np.nan], 4)
    found = rlsp(FOUR, rewards, np.zeros(4), settings=RlspSettings(std=std))
    want = grpo(FOUR, rewards, settings=GrpoSettings(std))
    np.testing.assert_allclose(found, want * (0.5 if std == "none" else 1.0), atol=1e-6)
    np.testing.assert_array_equal(found, outcome_part(FOUR, rewards, settings=RlspSettings(std=std)))


@given(st.integers(0, 2**31))
@settings(deadline=None)
def test_equal_answers_are_ranked_by_their_length_alone(seed) -> None:
    characters = np.random.default_rng(seed).permutation(np.array([400, 1600, 4000, 40000]))
    found = rlsp(FOUR, np.ones(4), exploration(characters), settings=PLAIN)
    assert (np.argsort(found) == np.argsort(characters)).all()
    assert found.sum() == pytest.approx(0.0, abs=1e-5)


def test_exploration_saturates() -> None:
    bonus = exploration(np.array([0, 4, 400, 4000, 8000, 12000]))
    assert bonus.tolist() == pytest.approx([-1000.0, -1000.0, -10.0, -1.0, -0.5, -1 / 3])
    assert (np.diff(bonus)[2:] < np.diff(bonus)[1:-1]).all()


@given(st.permutations(range(4)))
@settings(deadline=None)
def test_order_within_the_group_does_not_matter(order) -> None:
    bonus = np.array([-0.5, -1.0, -0.3, -2.0])
    index = np.array(order)
    found = rlsp(FOUR, REWARDS[index], bonus[index], settings=PLAIN)
    np.testing.assert_allclose(found, rlsp(FOUR, REWARDS, bonus, settings=PLAIN)[index], atol=1e-6)


def test_with_a_critic_it_is_gae_of_the_mix_at_the_end() -> None:
    layout = Layout(np.array([0, 0, 1, 2]), np.array([0, 0, 1]), np.zeros(2))
    settings = RlspSettings(baseline="critic")
    values = np.array([0.2, 0.6, 99.0, 0.5, np.nan])  # the ends are not read
    found = rlsp(layout, np.array([1.0, -1.0]), np.array([-0.5, -1.0]), settings=settings, values=values)
    assert found.tolist() == pytest.approx([0.4 + 0.95 * -0.1] * 2 + [-0.1, -1.5])
    nodes = np.array([0.2, 0.6, 0.5, 0.5, -1.0])
    np.testing.assert_allclose(found, gae(np.zeros(3), nodes, layout, lam=0.95)[[0, 0, 1, 2]], atol=1e-6)
    assert outcome_part(layout, np.array([1.0, -1.0]), settings=settings).tolist() == [0.0] * 4


def test_unknown_numbers_stay_unknown() -> None:
    rewards, bonus = np.array([1.0, np.nan, -1.0, -1.0]), np.array([0.0, 0.0, np.nan, -1.0])
    assert np.isnan(rlsp(FOUR, rewards, bonus, settings=PLAIN)).tolist() == [False, True, True, False]
    judged = np.array([0.5, np.nan, 0.5, 0.5])
    drop = mixed_reward(FOUR, REWARDS, np.zeros(4), settings=RlspSettings(creativity=0.2), outcome_scores=judged)
    assert np.isnan(drop).tolist() == [False, True, False, False]
    half = RlspSettings(creativity=0.2, on_unread="half")
    assert mixed_reward(FOUR, REWARDS, np.zeros(4), settings=half, outcome_scores=judged)[1] == pytest.approx(0.9)


def test_the_bonus_of_records_counts_reasoning_and_missing_answers() -> None:
    batch = [
        cut("x" * 400 + "y" * 100, thought=400, status="right", answer="1"),
        cut("x" * 400, thought=400, status="wrong", answer=None),
        cut("x" * 400, thought=400, status="wrong", answer="2"),
    ]
    assert rlsp_bonus(batch).tolist() == pytest.approx([-10.0, -10.5, -10.0])


def test_refused() -> None:
    with pytest.raises(CreditError, match="needs outcome_scores"):
        rlsp(FOUR, REWARDS, np.zeros(4), settings=RlspSettings(creativity=0.2))
    with pytest.raises(CreditError, match="needs values"):
        rlsp(FOUR, REWARDS, np.zeros(4), settings=RlspSettings(baseline="critic"))
    with pytest.raises(CreditError, match="values: got 4 entries, the layout has 8 nodes"):
        rlsp(FOUR, REWARDS, np.zeros(4), settings=RlspSettings(baseline="critic"), values=np.zeros(4))
    with pytest.raises(CreditError, match="bonus: got 3 entries, the layout has 4"):
        rlsp(FOUR, REWARDS, np.zeros(3), settings=PLAIN)
    with pytest.raises(CreditError, match=r"\[0, 1\], got 7.0"):
        mixed_reward(
            FOUR, REWARDS, np.zeros(4), settings=RlspSettings(creativity=0.2), outcome_scores=np.array([7.0, 0, 0, 0])
        )
    with pytest.raises(CreditError, match=r"got 0\.5"):
        rlsp(FOUR, np.array([0.5, 1, 1, 1]), np.zeros(4), settings=PLAIN)
    with pytest.raises(UsageError, match=r"creativity must be in \[0, 1\], by process_weight too, got 2"):
        RlspSettings(creativity=2.0)
    with pytest.raises(UsageError, match="right must be above wrong"):
        RlspSettings(right=0.0)
    with pytest.raises(UsageError, match="did you mean 'critic'"):
        RlspSettings(baseline="critics")


def test_the_process_weight_scales_bonus_and_judge_and_0_reads_neither() -> None:
    unknown = np.full(4, np.nan)
    off = RlspSettings(process_weight=0.0, creativity=0.2)
    np.testing.assert_array_equal(rlsp(FOUR, REWARDS, unknown, settings=off), outcome_part(FOUR, REWARDS, settings=off))
    bonus, judged = np.array([-1.0, -2.0, -1.0, -2.0]), np.array([1.0, 0.0, 1.0, 0.0])
    half = RlspSettings(process_weight=0.5, creativity=0.2)
    mixed = mixed_reward(FOUR, REWARDS, bonus, settings=half, outcome_scores=judged)
    assert mixed.tolist() == pytest.approx([0.9 * 0.5 + 0.1, 0.0, 0.9 * -0.5 + 0.1, -0.9])


def test_groups_are_apart() -> None:
    layout = Layout(np.arange(4), np.arange(4), np.array([0, 0, 1, 1]))
    bonus = np.array([0.0, -1.0, -3.0, -7.0])
    want = standardise(np.array([1.0, 0.0, -3.0, -7.0]), layout)
    np.testing.assert_allclose(rlsp(layout, REWARDS, bonus, settings=PLAIN), want, atol=1e-6)
