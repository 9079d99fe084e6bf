"""Figures of the credit X-ray by hand: signs, correlations, ranks, gains, and what is unknown."""

import numpy as np
import pytest

from stepcredit.core.errors import UsageError
from stepcredit.core.layout import Layout
from stepcredit.evaluation.credit_xray import (
    credit_xray,
    inside_solutions,
    pearson,
    spearman,
    step_credit,
    value_gains,
)

# Two groups of one rollout each: steps of 2, 1 and 1, 2 tokens.
LAYOUT = Layout(np.array([0, 0, 1, 2, 3, 3]), np.array([0, 0, 1, 1]), np.array([0, 1]))
PAID = np.array([1.0, 3.0, -1.0, 2.0, 0.0, 0.0], np.float32)
"""By step: 2, -1, 2, 0."""


def test_mean_std_and_variance_are_over_known_tokens() -> None:
    column = PAID.copy()
    column[3:] = np.nan
    [found] = credit_xray(LAYOUT, {"rule": column})
    assert (found.tokens, found.mean) == (3, 1.0)
    assert found.variance == pytest.approx(8 / 3)
    assert found.std == pytest.approx((8 / 3) ** 0.5)
    assert found.paid == 0.5
    assert (found.signs, found.following) == (None, None)


def test_a_rule_that_pays_nobody_has_no_figures() -> None:
    [found] = credit_xray(LAYOUT, {"rule": np.full(6, np.nan, np.float32)}, truth=np.ones(4))
    assert (found.paid, found.tokens, found.mean, found.std, found.variance) == (0.0, 0, None, None, None)
    assert found.signs is not None
    assert (found.signs.share.value, found.signs.steps, found.correlation["rule"]) == (None, 0, None)


def test_signs_are_counted_on_steps_of_known_truth_that_are_paid() -> None:
    """Step credit 2, -1, 2, 0 beside right, wrong, wrong, right: two of three agree, and one step has no sign."""
    [found] = credit_xray(LAYOUT, {"rule": PAID}, truth=np.array([1.0, 0.0, 0.0, 1.0]), resamples=0)
    assert found.signs is not None
    assert found.signs.share.value == pytest.approx(2 / 3)
    assert (found.signs.right, found.signs.wrong) == (1.0, 0.5)
    assert (found.signs.steps, found.signs.silent) == (3, 1)
    [other] = credit_xray(LAYOUT, {"rule": PAID}, truth=np.array([1.0, np.nan, np.nan, np.nan]), resamples=0)
    assert other.signs is not None
    assert (other.signs.share.value, other.signs.right, other.signs.wrong, other.signs.steps) == (1.0, 1.0, None, 1)


def test_gains_are_value_differences_with_the_outcome_at_the_end() -> None:
    values = np.array([0.0, 0.5, 9.0, -0.2, np.nan, 9.0])
    gains = value_gains(LAYOUT, np.array([1.0, -1.0]), values)
    np.testing.assert_allclose(gains, [0.5, 0.5, np.nan, np.nan])
    whole = value_gains(LAYOUT, np.array([1.0, -1.0]), np.array([0.0, 0.5, 9.0, -0.2, 0.4, 9.0]))
    assert whole[:2].sum() == pytest.approx(1.0 - 0.0)
    assert whole[2:].sum() == pytest.approx(-1.0 - -0.2)


def test_gains_pass_over_a_rollout_without_steps() -> None:
    layout = Layout(np.array([0, 1]), np.array([0, 2]), np.array([0, 0, 0]))
    gains = value_gains(layout, np.array([1.0, -1.0, -1.0]), np.array([0.5, 0.0, 7.0, 0.25, 0.0]))
    assert gains.tolist() == [0.5, -1.25]


def test_correlations_by_hand() -> None:
    one, other = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    assert spearman(one, other) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert pearson(one, np.array([2.0, 1.0, 0.0, -1.0])) == pytest.approx(-1.0)
    assert spearman(one, np.array([1.0, 10.0, 100.0, 1000.0])) == pytest.approx(1.0)
    # Ranks of 1, 1, 2 are 1.5, 1.5, 3; beside 1, 2, 3 that is 1.5 / sqrt(1.5 * 2).
    assert spearman(np.array([1.0, 1.0, 2.0]), np.array([5.0, 6.0, 7.0])) == pytest.approx(1.5 / 3.0**0.5)


def test_what_does_not_vary_has_no_correlation() -> None:
    flat = np.full(3, 0.1 + 0.2)
    assert pearson(flat, np.arange(3.0)) is None
    assert pearson(np.array([1.0, np.nan]), np.array([1.0, 2.0])) is None
    assert pearson(np.zeros(3), np.zeros(3)) is None


def test_steps_of_equal_tokens_are_equal_whatever_their_length() -> None:
    """Sums of 3 and of 7 tokens of 0.1 differ in the last bit: ranks would tell them apart."""
    layout = Layout(np.repeat([0, 1], [3, 7]), np.zeros(2), np.zeros(1))
    first, last = step_credit(layout, np.full(10, 0.1, np.float32)).tolist()
    assert first == last == pytest.approx(0.1)


def test_following_by_hand() -> None:
    """Step credit 2, -1, 2, 0; gains 1, -1, 0, 0: within solutions 1.5, -1.5, 1, -1 beside 1, -1, 0, 0."""
    gains = np.array([1.0, -1.0, 0.0, 0.0])
    [found] = credit_xray(LAYOUT, {"rule": PAID}, gains=gains, resamples=0)
    assert found.following is not None
    assert found.following.steps == 4
    assert found.following.inside.value == pytest.approx(3.0 / (6.5 * 2.0) ** 0.5)
    assert found.following.pearson == pytest.approx(3.0 / (6.75 * 2.0) ** 0.5)
    # Ranks 3.5, 1, 3.5, 2 beside 4, 1, 2.5, 2.5: less their mean 1, -1.5, 1, -.5 beside 1.5, -1.5, 0, 0.
    assert found.following.spearman.value == pytest.approx(3.75 / 4.5)


def test_a_rule_that_pays_a_solution_alike_follows_nothing_within() -> None:
    alike = np.array([0.57735, 0.57735, 0.57735, -1.73, -1.73, -1.73], np.float32)
    gains = np.array([1.0, -1.0, -1.0, 0.5])
    [found] = credit_xray(LAYOUT, {"grpo": alike}, gains=gains, resamples=0)
    assert found.following is not None
    assert found.following.inside.value is None
    assert found.following.pearson is not None


def test_what_is_inside_solutions_has_mean_zero_in_each() -> None:
    one, other = inside_solutions(LAYOUT, np.array([1.0, 3.0, np.nan, 5.0]), np.array([2.0, 2.0, 1.0, 4.0]))
    np.testing.assert_allclose(one, [-1.0, 1.0, np.nan, 0.0])
    np.testing.assert_allclose(other, [0.0, 0.0, np.nan, 0.0])


def test_rules_are_correlated_on_tokens_that_both_pay() -> None:
    half = PAID.copy()
    half[3:] = np.nan
    one, two = credit_xray(LAYOUT, {"one": PAID, "two": (2.0 * half + 1.0).astype(np.float32)})
    assert one.correlation == {"one": pytest.approx(1.0), "two": pytest.approx(1.0)}
    assert two.correlation["one"] == pytest.approx(1.0)


def test_an_interval_is_over_groups() -> None:
    """In one group all steps agree, in the other none: drawing groups gives 0, 1/2 or 1."""
    column = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], np.float32)
    [found] = credit_xray(LAYOUT, {"rule": column}, truth=np.array([1.0, 1.0, 0.0, 0.0]), resamples=200)
    assert found.signs is not None
    assert (found.signs.share.value, found.signs.share.low, found.signs.share.high) == (0.5, 0.0, 1.0)
    lone = Layout(LAYOUT.step_of_token, LAYOUT.rollout_of_step, np.zeros(2))
    [alone] = credit_xray(lone, {"rule": column}, truth=np.array([1.0, 1.0, 0.0, 0.0]))
    assert alone.signs is not None
    assert (alone.signs.share.value, alone.signs.share.low) == (0.5, None)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"advantages": {"rule": np.zeros(5, np.float32)}}, r"advantages of rule: wanted \[6\], got \[5\]"),
        ({"truth": np.zeros(3)}, r"truth: wanted \[4\], got \[3\]"),
        ({"gains": np.zeros(5)}, r"gains: wanted \[4\], got \[5\]"),
    ],
)
def test_a_column_of_another_length_is_refused(columns: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        credit_xray(LAYOUT, **({"advantages": {"rule": PAID}} | columns))  # type: ignore[arg-type]


def test_values_of_another_length_are_refused() -> None:
    with pytest.raises(UsageError, match="wanted 6 values and 2 rewards, got 4 and 2"):
        value_gains(LAYOUT, np.zeros(2), np.zeros(4))
