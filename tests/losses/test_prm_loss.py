"""Losses of the reward models: numbers by hand, and gradients."""

import math

import pytest
import torch

from stepcredit.losses.preference import mean_by_owner, q_rm_cost
from stepcredit.losses.prm import outcome_cross_entropy, value_error


def test_outcome_cross_entropy_is_the_binary_one_of_the_scaled_sum() -> None:
    found = outcome_cross_entropy(torch.tensor([20.0, 20.0]), torch.tensor([1.0, 0.0]), beta=0.05)
    assert found.tolist() == pytest.approx([math.log1p(math.exp(-1.0)), math.log1p(math.exp(1.0))])


def test_its_gradient_is_beta_times_the_error() -> None:
    sums = torch.tensor([3.0, -4.0], dtype=torch.float64, requires_grad=True)
    outcome_cross_entropy(sums, torch.tensor([1.0, 0.0], dtype=torch.float64), beta=0.05).sum().backward()
    chances = torch.sigmoid(0.05 * sums.detach())
    assert torch.allclose(sums.grad, 0.05 * (chances - torch.tensor([1.0, 0.0])))


def test_a_sum_of_ten_thousand_nats_stays_finite() -> None:
    sums = torch.tensor([1e4, -1e4], requires_grad=True)
    cost = outcome_cross_entropy(sums, torch.tensor([0.0, 1.0]), beta=0.05)
    cost.sum().backward()
    assert cost.tolist() == pytest.approx([500.0, 500.0])
    assert sums.grad.tolist() == pytest.approx([0.05, -0.05])


def test_value_error_is_squared_and_its_returns_have_no_gradient() -> None:
    values, returns = torch.tensor([0.5, -1.0], requires_grad=True), torch.tensor([1.0, 1.0], requires_grad=True)
    cost = value_error(values, returns)
    cost.sum().backward()
    assert cost.tolist() == [0.25, 4.0]
    assert values.grad.tolist() == [-1.0, -4.0]
    assert returns.grad is None


def test_q_rm_cost_as_published() -> None:
    found = q_rm_cost(torch.tensor([1.0, 30.0]), torch.tensor([1.0, 0.0]))
    assert found.tolist() == pytest.approx([math.log1p(math.exp(2.0)), math.log1p(math.exp(-4.0))], rel=1e-5)


def test_its_gradient_raises_the_chosen_by_what_it_lowers_the_rejected() -> None:
    chosen = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    q_rm_cost(chosen, rejected, beta=0.2, margin=2.0).sum().backward()
    want = -0.2 / (1.0 + math.exp(0.2 - 2.0))
    assert chosen.grad.item() == pytest.approx(want)
    assert rejected.grad.item() == pytest.approx(-want)


def test_means_pass_their_gradient_to_every_value() -> None:
    values = torch.tensor([1.0, 3.0, 5.0, 9.0], requires_grad=True)
    means = mean_by_owner(values, torch.tensor([0, 0, 2, 0]), count=3)
    assert means.tolist() == pytest.approx([13.0 / 3, 0.0, 5.0])
    means.sum().backward()
    assert values.grad.tolist() == pytest.approx([1 / 3, 1 / 3, 1.0, 1 / 3])
