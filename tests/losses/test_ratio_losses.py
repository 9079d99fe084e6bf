"""GSPO, GSPO-token and CISPO: values and gradients by hand, identities, and what is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stepcredit.core.errors import UsageError
from stepcredit.losses import PRESETS
from stepcredit.losses.drift import drift
from stepcredit.losses.policy import clipped_surrogate, token_weights
from stepcredit.losses.ratios import COSTS, capped, check_constant, cispo, gspo, gspo_token, sequence_mean

CAPS = {"eps_low": 0.2, "eps_high": 0.28}
WIDE = {"eps_low": 0.9, "eps_high": 9.0}


def batch(seed: int, lengths: list[int], *, spread: float = 0.3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """[T] logprobs, old logprobs and advantages in float64, and [N] tokens of each sequence."""
    generator = torch.Generator().manual_seed(seed)
    size = sum(lengths)
    old = -torch.rand(size, dtype=torch.float64, generator=generator) - 0.5
    logprobs = old + spread * torch.randn(size, dtype=torch.float64, generator=generator)
    advantages = torch.randn(size, dtype=torch.float64, generator=generator)
    return logprobs, old, advantages, torch.tensor(lengths)


def update_of(name: str, columns: tuple[Tensor, Tensor, Tensor, Tensor], **caps: float) -> tuple[float, Tensor]:
    """The update's loss under reduction `grpo`, and its gradient."""
    logprobs, old, advantages, tokens = columns
    logprobs = logprobs.clone().requires_grad_()
    cost = COSTS[name](logprobs, old, advantages, tokens=tokens, **(CAPS | caps))
    loss = (token_weights(tokens, reduction="grpo") * cost).sum()
    loss.backward()
    return loss.item(), logprobs.grad


lengths = st.lists(st.integers(1, 6), min_size=1, max_size=6)


def test_gspo_by_hand() -> None:
    """Ratios 4 and 1 make s = 2; on -s A over two tokens each logprob has half of the gradient of each cost."""
    logprobs = torch.tensor([4.0, 1.0], dtype=torch.float64).log().requires_grad_()
    advantages = torch.full((2,), -3.0, dtype=torch.float64)
    cost = gspo(logprobs, torch.zeros(2, dtype=torch.float64), advantages, tokens=torch.tensor([2]), **CAPS)
    assert cost.tolist() == pytest.approx([6.0, 6.0])
    cost.mean().backward()
    assert logprobs.grad.tolist() == pytest.approx([3.0, 3.0])


def test_gspo_caps_a_sequence_as_a_whole() -> None:
    """Ratios 4 and 1/4 make s = 1: nothing is capped, where both tokens would be; ratios 4 and 1 cap both."""
    held = {"tokens": torch.tensor([2]), **CAPS}
    zeros, ones = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    free = torch.tensor([4.0, 0.25], dtype=torch.float64).log().requires_grad_()
    gspo(free, zeros, ones, **held).mean().backward()
    assert free.grad.tolist() == pytest.approx([-0.5, -0.5])
    over = torch.tensor([4.0, 1.0], dtype=torch.float64).log().requires_grad_()
    cost = gspo(over, zeros, ones, **held)
    cost.mean().backward()
    assert cost.tolist() == pytest.approx([-1.28, -1.28])
    assert over.grad.tolist() == [0.0, 0.0]


def test_gspo_token_by_hand() -> None:
    """s = 2 for both tokens; -s A[t] reaches each token's own logprob, and the cap looks at its own advantage."""
    logprobs = torch.tensor([4.0, 1.0, 4.0, 1.0], dtype=torch.float64).log().requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    old, tokens = torch.zeros(4, dtype=torch.float64), torch.tensor([2, 2])
    cost = gspo_token(logprobs, old, advantages, tokens=tokens, **WIDE)
    cost.sum().backward()
    assert cost.tolist() == pytest.approx([-2.0, 2.0, -2.0, 2.0])
    assert logprobs.grad.tolist() == pytest.approx([-2.0, 2.0, -2.0, 2.0])
    logprobs.grad = None
    gspo_token(logprobs, old, advantages, tokens=tokens, **CAPS).sum().backward()
    assert logprobs.grad.tolist() == pytest.approx([0.0, 2.0, 0.0, 2.0])


@given(st.integers(0, 999), lengths, st.sampled_from([CAPS, WIDE, {"eps_low": 3e-4, "eps_high": 4e-4}]))
@settings(max_examples=60, deadline=None)
def test_gspo_token_is_gspo_where_advantages_are_constant_in_a_sequence(seed, sizes, caps) -> None:
    logprobs, old, advantages, tokens = batch(seed, sizes)
    columns = logprobs, old, sequence_mean(advantages, tokens), tokens
    loss, gradient = update_of("gspo", columns, **caps)
    by_token, token_gradient = update_of("gspo_token", columns, **caps)
    assert by_token == pytest.approx(loss, abs=1e-12)
    assert torch.allclose(token_gradient, gradient, atol=1e-12)


def test_they_part_where_advantages_differ() -> None:
    columns = batch(3, [4, 5])
    gradients = [update_of(name, columns, **WIDE)[1] for name in ("gspo", "gspo_token")]
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3


@given(st.integers(0, 999), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_sequences_of_one_token_make_all_three_clipped_ones_the_same(seed: int, size: int) -> None:
    columns = batch(seed, [1] * size)
    loss, gradient = update_of("clipped", columns)
    for name in ("gspo", "gspo_token"):
        other, other_gradient = update_of(name, columns)
        assert other == pytest.approx(loss, abs=1e-12)
        assert torch.allclose(other_gradient, gradient, atol=1e-12)


@pytest.mark.parametrize("name", ["clipped", "gspo", "gspo_token", "cispo"])
def test_on_policy_every_loss_has_the_policy_gradient(name: str) -> None:
    """At ratio 1: -A[t] / (tokens N), GSPO's with the sequence's mean advantage."""
    _, old, advantages, tokens = batch(5, [2, 3, 1])
    advantages = sequence_mean(advantages, tokens)
    _, gradient = update_of(name, (old, old, advantages, tokens))
    assert torch.allclose(gradient, -advantages * token_weights(tokens, reduction="grpo"), atol=1e-12)


@pytest.mark.parametrize(
    ("ratio", "advantage", "gradient"),
    [
        (1.1, 2.0, -2.2),  # inside: the weighted policy gradient, -w A
        (0.9, -2.0, 1.8),
        (3.0, 2.0, -2.56),  # above: the weight stays at 1.28, and the token keeps its gradient
        (3.0, -2.0, 2.56),
        (0.1, 2.0, -1.6),  # below: 0.8
        (0.1, -2.0, 1.6),
    ],
)
def test_cispos_gradient_is_the_policy_gradient_with_a_capped_weight(ratio, advantage, gradient) -> None:
    logprob = torch.tensor([-0.7], dtype=torch.float64, requires_grad=True)
    old = logprob.detach() - math.log(ratio)
    cispo(logprob, old, torch.tensor([advantage], dtype=torch.float64), **CAPS).sum().backward()
    assert logprob.grad.item() == pytest.approx(gradient)


@given(st.integers(0, 999), lengths)
@settings(max_examples=30, deadline=None)
def test_cispos_gradient_is_reinforce_times_the_clipped_ratio(seed: int, sizes: list[int]) -> None:
    logprobs, old, advantages, tokens = columns = batch(seed, sizes, spread=0.6)
    _, gradient = update_of("cispo", columns)
    weight = (logprobs - old).exp().clamp(0.8, 1.28)
    assert torch.allclose(gradient, -weight * advantages * token_weights(tokens, reduction="grpo"), atol=1e-12)


def test_cispo_without_a_cap_below_keeps_small_weights() -> None:
    logprob = torch.tensor([-5.0], requires_grad=True)
    cispo(logprob, logprob.detach() + 4.0, torch.ones(1), eps_low=1.0, eps_high=4.0).sum().backward()
    assert logprob.grad.item() == pytest.approx(-math.exp(-4.0), rel=1e-5)


@pytest.mark.parametrize("name", ["gspo", "cispo"])
def test_finite_differences(name: str) -> None:
    """The gradient is that of the value, CISPO's with its weight held where it was."""
    logprobs, old, advantages, tokens = batch(8, [3, 2, 4], spread=0.1)
    advantages = sequence_mean(advantages, tokens)
    _, gradient = update_of(name, (logprobs, old, advantages, tokens), **WIDE)
    weights, held = token_weights(tokens, reduction="grpo"), (logprobs - old).exp()

    def value(at: Tensor) -> float:
        if name == "cispo":
            return float((-held * advantages * at * weights).sum())
        s = torch.cat([part.mean().exp().expand(len(part)) for part in (at - old).split([3, 2, 4])])
        return float((-s * advantages * weights).sum())

    for index in range(len(logprobs)):
        step = torch.zeros_like(logprobs)
        step[index] = 1e-6
        slope = (value(logprobs + step) - value(logprobs - step)) / 2e-6
        assert gradient[index].item() == pytest.approx(slope, abs=1e-8)


def test_gspo_token_has_gspos_value_and_another_gradient_path() -> None:
    """Its value does not move with s: the definition's stop-gradient, checked by autograd on each token alone."""
    logprobs, old, advantages, tokens = batch(2, [3])
    x = logprobs.clone().requires_grad_()
    cost = gspo_token(x, old, advantages, tokens=tokens, **WIDE)
    table = torch.stack([torch.autograd.grad(part, x, retain_graph=True)[0] for part in cost])
    s = (logprobs - old).mean().exp()
    assert torch.allclose(table, torch.diag(-s * advantages), atol=1e-12)


@pytest.mark.parametrize("name", sorted(COSTS))
def test_no_gradient_reaches_old_logprobs_or_advantages_and_none_is_nan(name: str) -> None:
    logprobs, old, advantages = (torch.zeros(3, requires_grad=True) for _ in range(3))
    COSTS[name](logprobs, old, advantages + 1, tokens=torch.tensor([1, 2]), **CAPS).sum().backward()
    assert logprobs.grad is not None
    assert (old.grad, advantages.grad) == (None, None)
    far = torch.tensor([200.0, -200.0, 0.0], requires_grad=True)
    COSTS[name](far, torch.zeros(3), torch.ones(3), tokens=torch.tensor([1, 2]), **CAPS).sum().backward()
    assert torch.isfinite(far.grad).all()


@pytest.mark.parametrize("name", sorted(COSTS))
def test_sequences_without_trained_tokens_and_empty_updates_cost_nothing(name: str) -> None:
    logprobs, old, advantages, _ = batch(1, [2, 3])
    advantages = sequence_mean(advantages, torch.tensor([2, 3]))
    with_empty = update_of(name, (logprobs, old, advantages, torch.tensor([0, 2, 0, 3])))
    without = update_of(name, (logprobs, old, advantages, torch.tensor([2, 3])))
    assert with_empty[0] == without[0]
    assert torch.equal(with_empty[1], without[1])
    none = torch.zeros(0, dtype=torch.float64)
    assert COSTS[name](none, none, none, tokens=torch.tensor([0, 0]), **CAPS).tolist() == []


def test_the_table_serves_the_token_ratio_unchanged() -> None:
    logprobs, old, advantages, tokens = batch(4, [3, 4])
    expected = clipped_surrogate(logprobs, old, advantages, dual_clip=3.0, **CAPS)
    assert torch.equal(COSTS["clipped"](logprobs, old, advantages, tokens=tokens, dual_clip=3.0, **CAPS), expected)


def test_clip_fractions_are_those_of_the_losses_own_ratio() -> None:
    log_ratio = torch.tensor([4.0, 1.0, 0.5, 1.0]).log()
    advantages, tokens = torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([2, 2])
    shares = {
        name: (figures.clip_low, figures.clip_high)
        for name in COSTS
        for figures in [drift(log_ratio, advantages, loss=name, tokens=tokens, **CAPS)]
    }
    assert shares["clipped"] == (0.0, 0.25)
    assert shares["gspo"] == shares["gspo_token"] == (0.0, 0.5)  # s = 2 and 0.71; A > 0 caps above only
    assert shares["cispo"] == (0.25, 0.25)
    with pytest.raises(UsageError, match="'gspo' takes a mean over each sequence"):
        capped(log_ratio, advantages, loss="gspo", tokens=None, **CAPS)


def test_presets_are_the_published_ones() -> None:
    for name in ("gspo", "gspo_token"):
        preset = PRESETS[name]
        assert (preset.eps_low, preset.eps_high, preset.reduction, preset.loss) == (3e-4, 4e-4, "grpo", name)
    assert (PRESETS["cispo"].eps_low, PRESETS["cispo"].reduction, PRESETS["cispo"].loss) == (1.0, "token", "cispo")


def test_refused() -> None:
    zeros = torch.zeros(3)
    with pytest.raises(UsageError, match="sequences of 2 tokens altogether do not fit a column of 3"):
        gspo(zeros, zeros, zeros, tokens=torch.tensor([2]), **CAPS)
    with pytest.raises(UsageError, match="has no dual_clip"):
        cispo(zeros, zeros, zeros, dual_clip=3.0, **CAPS)
    with pytest.raises(UsageError, match="eps_high must be at least 0"):
        cispo(zeros, zeros, zeros, eps_low=1.0, eps_high=-1.0)
    with pytest.raises(UsageError, match=r"eps_low must be in \[0, 1\), got 1.0"):
        gspo_token(zeros, zeros, zeros, tokens=torch.tensor([3]), eps_low=1.0, eps_high=0.1)
    with pytest.raises(UsageError, match="sequence 1 of the pack has several: take loss 'gspo_token'"):
        check_constant(torch.tensor([1.0, 2.0, 2.5]), torch.tensor([1, 2]))
