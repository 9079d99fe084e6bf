"""Losses on preference pairs: values by hand, gradients, and what the ceiling does."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import UsageError
from stepcredit.losses.pairs import (
    angle_similarity,
    bradley_terry,
    length_ratio,
    margin_ceiling,
    pcrm,
    policy_return,
)


def slope(loss, at: float) -> float:
    x = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    loss(x).sum().backward()
    return x.grad.item()


def test_bradley_terry_by_hand() -> None:
    d = torch.tensor([0.0, 2.0, -2.0], dtype=torch.float64)
    want = [math.log(2), math.log1p(math.exp(-2)), math.log1p(math.exp(2))]
    assert bradley_terry(d).tolist() == pytest.approx(want)
    assert slope(bradley_terry, 2.0) == pytest.approx(-1 / (1 + math.exp(2)))


def test_no_margin_overflows() -> None:
    far = torch.tensor([1e4, -1e4], requires_grad=True)
    cost = pcrm(far, torch.tensor([3.0, 3.0]))
    cost.sum().backward()
    assert torch.isfinite(cost).all()
    assert far.grad.tolist() == [1.0, -1.0]


@given(st.floats(-4, 4), st.floats(0.1, 9))
@settings(max_examples=50, deadline=None)
def test_pcrm_is_the_definition_and_its_gradient_the_finite_difference(d: float, delta: float) -> None:
    ceiling = torch.tensor([delta], dtype=torch.float64)

    def value(x: float) -> float:
        return -math.log(1 / (1 + math.exp(-x))) - math.log(1 / (1 + math.exp(-(delta - x))))

    assert pcrm(torch.tensor([d], dtype=torch.float64), ceiling).item() == pytest.approx(value(d))
    assert slope(lambda x: pcrm(x, ceiling), d) == pytest.approx((value(d + 1e-6) - value(d - 1e-6)) / 2e-6, abs=1e-6)


@given(st.floats(0.1, 20))
@settings(max_examples=30, deadline=None)
def test_the_best_margin_under_a_ceiling_is_half_of_it(delta: float) -> None:
    ceiling = torch.tensor([delta], dtype=torch.float64)
    assert slope(lambda x: pcrm(x, ceiling), delta / 2) == pytest.approx(0.0, abs=1e-12)
    assert slope(lambda x: pcrm(x, ceiling), delta) > 0


def test_an_infinite_ceiling_is_bradley_terry() -> None:
    d = torch.linspace(-5, 5, 11, dtype=torch.float64)
    assert torch.equal(pcrm(d, torch.full((11,), math.inf, dtype=torch.float64)), bradley_terry(d))


def test_ceilings_by_hand_with_the_published_constants() -> None:
    """20 / (sim + 0.001) less 15; with lengths less 13, 17 or 19."""
    likeness = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    assert margin_ceiling(likeness).tolist() == pytest.approx([20 / 1.001 - 15, 20 / 0.501 - 15, 19985.0])
    for shift in (13.0, 17.0, 19.0):
        assert margin_ceiling(likeness, beta3=-shift)[0].item() == pytest.approx(20 / 1.001 - shift)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_the_more_alike_the_lower_the_ceiling(values: list[float]) -> None:
    likeness = torch.tensor(sorted(values), dtype=torch.float64)
    assert (margin_ceiling(likeness).diff() <= 0).all()


def test_likeness() -> None:
    assert length_ratio(torch.tensor([2, 6]), torch.tensor([4, 3])).tolist() == [0.5, 0.5]
    one, half_turn = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[3.0, 0.0], [0.0, 1.0], [-2.0, 0.0]])
    assert angle_similarity(one, half_turn).tolist() == pytest.approx([1.0, 0.5, 0.0])
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    assert angle_similarity(x, x).tolist() == pytest.approx([1.0] * 4, abs=1e-6)


def test_the_policys_return_pushes_scores_up_and_a_negative_weight_down() -> None:
    assert slope(lambda x: policy_return(x, weight=0.5), 3.0) == -0.5
    assert slope(lambda x: policy_return(x, weight=-0.5), 3.0) == 0.5


@pytest.mark.parametrize(
    ("likeness", "constants", "message"),
    [
        ([1.2], {}, r"a similarity lies in \[0, 1\], got 1.2..1.2"),
        ([-0.1, 0.5], {}, r"got -0.1..0.5"),
        ([1.0], {"beta3": -20.0}, "the ceiling must stay above 0"),
        ([1.0], {"beta2": 0.0}, "the ceiling must stay above 0"),
    ],
)
def test_refused(likeness: list[float], constants: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        margin_ceiling(torch.tensor(likeness), **constants)
