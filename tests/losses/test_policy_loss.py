import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.core.errors import UsageError
from stepcredit.losses.policy import clipped_surrogate, token_weights

CAPS = {"eps_low": 0.2, "eps_high": 0.28}


def _gradient(ratio: float, advantage: float, **caps: float) -> float:
    logprob = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([advantage], dtype=torch.float64)
    clipped_surrogate(logprob, torch.zeros(1, dtype=torch.float64), advantages, **(CAPS | caps)).sum().backward()
    return logprob.grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "gradient"),
    [
        (1.0, 2.0, -2.0),  # on policy: REINFORCE, -A
        (1.0, -2.0, 2.0),
        (1.2, 1.0, -1.2),  # inside the caps: -w A
        (0.9, -1.0, 0.9),
        (1.3, 1.0, 0.0),  # A > 0 caps above ...
        (0.5, 1.0, -0.5),  # ... and only above
        (0.7, -1.0, 0.0),  # A < 0 caps below ...
        (3.0, -1.0, 3.0),  # ... and only below
        (5.0, 0.0, 0.0),
    ],
)
def test_gradient_by_hand(ratio: float, advantage: float, gradient: float) -> None:
    assert _gradient(ratio, advantage) == pytest.approx(gradient, abs=1e-12)


def test_dual_clip_bounds_only_the_negative_side() -> None:
    assert _gradient(4.0, -1.0, dual_clip=3.0) == 0.0
    assert _gradient(2.0, -1.0, dual_clip=3.0) == pytest.approx(2.0)
    cost = clipped_surrogate(
        torch.tensor([4.0, 1.1]).log(), torch.zeros(2), torch.tensor([-2.0, 2.0]), dual_clip=3.0, **CAPS
    )
    assert cost.tolist() == pytest.approx([6.0, -2.2])


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-4, 4)), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_equals_the_definition_with_min_and_clip(rows: list[tuple[float, float, float]]) -> None:
    logprobs, old, advantages = torch.tensor(rows, dtype=torch.float64).T
    w = (logprobs - old).exp()
    expected = -torch.minimum(w * advantages, w.clamp(0.8, 1.28) * advantages)
    assert torch.allclose(clipped_surrogate(logprobs, old, advantages, **CAPS), expected)


@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_gradcheck(dual_clip: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    logprobs = torch.randn(12, dtype=torch.float64, generator=generator, requires_grad=True)
    old, advantages = torch.randn(2, 12, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(
        lambda x: clipped_surrogate(x, old, advantages, dual_clip=dual_clip, **CAPS), logprobs
    )


def test_ratio_beyond_floating_point_gives_no_nan_gradient() -> None:
    logprobs = torch.tensor([200.0], requires_grad=True)
    clipped_surrogate(logprobs, torch.zeros(1), torch.ones(1), **CAPS).sum().backward()
    assert logprobs.grad.item() == 0.0


def test_no_gradient_reaches_old_logprobs_or_advantages() -> None:
    logprobs, old, advantages = (torch.zeros(3, requires_grad=True) for _ in range(3))
    clipped_surrogate(logprobs, old, advantages + 1, **CAPS).sum().backward()
    assert logprobs.grad is not None
    assert old.grad is None
    assert advantages.grad is None


def test_one_advantage_a_rollout_equals_the_same_value_on_each_token() -> None:
    logprobs, old = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(1))
    per_rollout = torch.tensor([[0.5], [-1.5]])
    w = (logprobs - old).exp()
    broadcast = -torch.minimum(w * per_rollout, w.clamp(0.8, 1.28) * per_rollout)
    expanded = clipped_surrogate(logprobs.flatten(), old.flatten(), per_rollout.expand(2, 5).flatten(), **CAPS)
    assert torch.allclose(broadcast.flatten(), expanded)


def test_credit_of_two_halves_adds_up() -> None:
    """engines.md 1.1: the gradient of first-half plus second-half credit is the gradient of the whole."""
    old = torch.zeros(6, dtype=torch.float64)
    credit = torch.tensor([1.0, 2.0, -1.0, 0.5, -2.0, 1.0], dtype=torch.float64)
    first = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64)

    def gradient(advantages: torch.Tensor) -> torch.Tensor:
        logprobs = torch.linspace(-0.5, 0.5, 6, dtype=torch.float64, requires_grad=True)
        clipped_surrogate(logprobs, old, advantages, **CAPS).sum().backward()
        return logprobs.grad

    halves = gradient(credit * first) + gradient(credit * (1 - first))
    assert torch.equal(halves, gradient(credit))


def test_weights_by_hand() -> None:
    tokens = torch.tensor([1, 3])
    assert token_weights(tokens, reduction="token").tolist() == [0.25] * 4
    assert token_weights(tokens, reduction="grpo").tolist() == pytest.approx([0.5, 1 / 6, 1 / 6, 1 / 6])
    assert token_weights(tokens, reduction="dr_grpo", max_tokens=10).tolist() == [0.05] * 4


def test_losses_of_the_reductions_by_hand() -> None:
    """Costs 1 | 2 4 6: token 13/4, grpo (1 + 4)/2, dr_grpo 13/(2 x 10)."""
    cost = torch.tensor([1.0, 2.0, 4.0, 6.0], dtype=torch.float64)
    tokens = torch.tensor([1, 3])
    assert (token_weights(tokens, reduction="token") @ cost).item() == pytest.approx(3.25)
    assert (token_weights(tokens, reduction="grpo") @ cost).item() == pytest.approx(2.5)
    assert (token_weights(tokens, reduction="dr_grpo", max_tokens=10) @ cost).item() == pytest.approx(0.65)


def test_a_rollout_without_trained_tokens_neither_adds_nor_counts() -> None:
    for reduction in ("token", "grpo", "dr_grpo"):
        with_empty = token_weights(torch.tensor([2, 0, 3]), reduction=reduction, max_tokens=8)
        assert torch.equal(with_empty, token_weights(torch.tensor([2, 3]), reduction=reduction, max_tokens=8))


def test_equal_lengths_make_token_and_grpo_the_same() -> None:
    tokens = torch.tensor([4, 4, 4])
    assert torch.allclose(token_weights(tokens, reduction="token"), token_weights(tokens, reduction="grpo"))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_weights_sum_to_one(lengths: list[int]) -> None:
    tokens = torch.tensor(lengths)
    assert token_weights(tokens, reduction="token").sum().item() == pytest.approx(1.0)
    grpo = token_weights(tokens, reduction="grpo")
    assert grpo.sum().item() == pytest.approx(1.0)
    shares = [part.sum().item() for part in grpo.split(lengths)]
    assert shares == pytest.approx([1 / len(lengths)] * len(lengths))


@pytest.mark.parametrize(
    ("caps", "message"),
    [
        ({"eps_low": 1.0, "eps_high": 0.2}, r"eps_low must be in \[0, 1\), got 1.0"),
        ({"eps_low": 0.2, "eps_high": -0.1}, "eps_high must be at least 0, got -0.1"),
        ({"eps_low": 0.2, "eps_high": 0.2, "dual_clip": 1.0}, "dual_clip must be above 1, got 1.0"),
    ],
)
def test_caps_outside_their_range(caps: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        clipped_surrogate(torch.zeros(1), torch.zeros(1), torch.zeros(1), **caps)


def test_dr_grpo_needs_its_constant() -> None:
    with pytest.raises(UsageError, match="set max_tokens"):
        token_weights(torch.tensor([1]), reduction="dr_grpo")
    with pytest.raises(UsageError, match="known: token, grpo, dr_grpo"):
        token_weights(torch.tensor([1]), reduction="mean")


@pytest.mark.parametrize("bounds", [(0.2, 0.2), (0.01, 0.0), (0.0, 0.28)])
def test_one_update_a_batch_leaves_the_clip_nothing_to_do(bounds: tuple[float, float]) -> None:
    """credit.md 1.7, trap 4: at the policy that sampled every ratio is 1, inside any bounds; a second update is cut."""
    rng = torch.Generator().manual_seed(0)
    old, advantages = torch.randn(2, 100, dtype=torch.float64, generator=rng)
    low, high = bounds
    for moved, inert in ((0.0, True), (0.5, False), (-0.5, False)):
        logprobs = (old + moved).requires_grad_()
        cost = clipped_surrogate(logprobs, old, advantages, eps_low=low, eps_high=high)
        got = torch.autograd.grad(cost.sum(), logprobs)[0]
        free = -advantages * math.exp(moved)
        assert torch.allclose(got, free) is inert
        assert torch.allclose(cost.detach(), free) is inert
