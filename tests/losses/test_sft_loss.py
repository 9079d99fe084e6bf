import math

import pytest
import torch

from stepcredit.losses.logprobs import token_logprobs
from stepcredit.losses.sft import cross_entropy, negative_log_likelihood


def test_uniform_logits_cost_log_v() -> None:
    mask = torch.tensor([True, False, True])
    loss = cross_entropy(torch.zeros(3, 5), torch.tensor([0, 1, 4]), mask=mask)
    assert loss.item() == pytest.approx(math.log(5))


def test_gradient_is_softmax_minus_one_hot_over_the_tokens() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    ids, mask = torch.tensor([1, 3, 0]), torch.tensor([True, True, False])
    cross_entropy(logits, ids, mask=mask).backward()
    expected = (logits.softmax(-1) - torch.eye(4, dtype=torch.float64)[ids]) / 2
    expected[2] = 0
    assert torch.allclose(logits.grad, expected)


def test_micro_batches_add_up_to_the_update() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    ids = torch.randint(4, (6,), generator=generator)
    mask = torch.tensor([True, False, True, True, True, True])
    whole = cross_entropy(logits, ids, mask=mask)
    parts = [cross_entropy(logits[a:b], ids[a:b], mask=mask[a:b], tokens=5) for a, b in ((0, 2), (2, 3), (3, 6))]
    assert torch.allclose(torch.stack(parts).sum(), whole)


def test_nothing_counted_adds_nothing() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([0, 1]), mask=torch.tensor([False, False]), tokens=9)
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()
    assert negative_log_likelihood(torch.tensor([-2.0]), tokens=4).item() == 0.5


def test_logprobs_and_entropy_of_a_known_distribution() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
    logprobs, entropy = token_logprobs(logits, torch.tensor([1]))
    assert logprobs.item() == pytest.approx(math.log(0.25))
    assert entropy.item() == pytest.approx(1.5 * math.log(2))


def test_an_impossible_token_leaves_the_entropy_finite() -> None:
    _, entropy = token_logprobs(torch.tensor([[0.0, 0.0, -math.inf]]), torch.tensor([0]))
    assert entropy.item() == pytest.approx(math.log(2))


def test_half_precision_is_raised_and_entropy_has_no_gradient() -> None:
    logits = torch.zeros(1, 4, dtype=torch.bfloat16, requires_grad=True)
    logprobs, entropy = token_logprobs(logits, torch.tensor([0]))
    assert logprobs.dtype == torch.float32
    assert not entropy.requires_grad
