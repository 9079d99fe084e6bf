"""Estimators checked by exact enumeration of a categorical distribution, in float64."""

import pytest
import torch

from stepcredit.core.errors import UsageError
from stepcredit.losses.kl import ESTIMATORS, kl_k1, kl_k2, kl_k3, kl_penalty

LOGITS = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64)
REF = torch.tensor([-0.4, 0.5, 0.2, 1.0], dtype=torch.float64).log_softmax(0)
OLD = torch.tensor([0.0, 0.4, -0.3, 0.2], dtype=torch.float64).log_softmax(0)


def _gradient(value: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(value, logits)[0]


def _policy() -> tuple[torch.Tensor, torch.Tensor]:
    logits = LOGITS.clone().requires_grad_()
    return logits, logits.log_softmax(0)


def _divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return (p.exp() * (p - q)).sum()


def test_values_by_hand() -> None:
    logprobs, ref = torch.tensor([-1.0]), torch.tensor([-1.5])
    assert kl_k1(logprobs, ref).item() == pytest.approx(0.5)
    assert kl_k2(logprobs, ref).item() == pytest.approx(0.125)
    assert kl_k3(logprobs, ref).item() == pytest.approx(0.1065307, abs=1e-6)


def test_all_are_zero_at_the_reference() -> None:
    for estimator in ESTIMATORS.values():
        assert torch.equal(estimator(REF, REF), torch.zeros_like(REF))


def test_k1_and_k3_are_unbiased_and_k3_is_never_negative() -> None:
    _, policy = _policy()
    exact = _divergence(policy, REF).item()
    assert (policy.exp() * kl_k1(policy, REF)).sum().item() == pytest.approx(exact)
    assert (policy.exp() * kl_k3(policy, REF)).sum().item() == pytest.approx(exact)
    assert (kl_k3(policy, REF) >= 0).all()


def _expected_gradient(kind: str, *, weighted: bool) -> torch.Tensor:
    """Mean over tokens drawn from the sampling policy of the penalty's gradient; the draw itself has none."""
    logits, policy = _policy()
    sampled = OLD if weighted else policy.detach()
    penalty = kl_penalty(policy, REF, kind=kind, old_logprobs=OLD if weighted else None)
    return _gradient((sampled.exp() * penalty).sum(), logits)


def test_gradients_are_what_the_table_says() -> None:
    logits, policy = _policy()
    reverse = _gradient(_divergence(policy, REF), logits)
    logits, policy = _policy()
    forward = _gradient(_divergence(REF, policy), logits)
    assert torch.allclose(_expected_gradient("k2", weighted=False), reverse)
    assert torch.allclose(_expected_gradient("k3", weighted=False), forward)
    assert torch.allclose(_expected_gradient("k1", weighted=True), reverse)
    assert torch.allclose(_expected_gradient("k3", weighted=True), reverse)
    assert not torch.allclose(forward, reverse, atol=1e-2)


def test_unweighted_k1_has_zero_expected_gradient_and_is_refused() -> None:
    logits, policy = _policy()
    gradient = _gradient((policy.detach().exp() * kl_k1(policy, REF)).sum(), logits)
    assert torch.allclose(gradient, torch.zeros_like(gradient), atol=1e-12)
    with pytest.raises(UsageError, match="zero expected gradient"):
        kl_penalty(policy, REF, kind="k1")


@pytest.mark.parametrize(("kind", "weighted"), [("k2", False), ("k3", False), ("k1", True), ("k3", True)])
def test_gradcheck(kind: str, weighted: bool) -> None:
    logprobs = LOGITS.log_softmax(0).requires_grad_()
    old = OLD if weighted else None
    assert torch.autograd.gradcheck(lambda x: kl_penalty(x, REF, kind=kind, old_logprobs=old), logprobs)


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="known: none, k1, k2, k3"):
        kl_penalty(REF, REF, kind="k4")
    with pytest.raises(UsageError, match="needs an estimator"):
        kl_penalty(REF, REF, kind="none")
