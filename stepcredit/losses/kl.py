"""Estimates of the KL divergence between the policy and its frozen reference, and the penalty made of them.

With d = logprobs - ref_logprobs on tokens drawn from the policy, the mean of each estimator is KL(policy || ref) at
the visited prefixes. Their gradients differ, because differentiating a sample mean forgets that the sampling
distribution moves too. At one prefix, with E over the policy:

| estimator | value | gradient of the sample mean | with `ratio` |
|---|---|---|---|
| k1 | d | 0 in expectation: no penalty at all | exact: grad KL(policy, ref) |
| k2 | d^2 / 2 | exact: E[d grad logprob] = grad KL(policy, ref) | not a KL: grad E[d^2 / 2] |
| k3 | exp(-d) - 1 + d | of the *other* direction, grad KL(ref, policy) | exact: grad KL(policy, ref) |

None of them charges a token for the divergence of the tokens after it; that belongs into the advantage (credit.md 1.8,
rules `prl` and `frpo`).
"""

from jaxtyping import Float
from torch import Tensor

from stepcredit.core.errors import UsageError
from stepcredit.losses.presets import Penalty


def kl_k1(logprobs: Float[Tensor, " T"], ref_logprobs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
    """[T] d = logprobs - ref_logprobs, nats: unbiased, may be negative.

    Source: Schulman 2020, 'Approximating KL divergence'. Differs: none.
    """
    return logprobs - ref_logprobs


def kl_k2(logprobs: Float[Tensor, " T"], ref_logprobs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
    """[T] d^2 / 2, nats: biased, low variance; its direct gradient is the KL's.

    Source: Schulman 2020, 'Approximating KL divergence'. Differs: none.
    """
    return (logprobs - ref_logprobs).square() / 2


def kl_k3(logprobs: Float[Tensor, " T"], ref_logprobs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
    """[T] exp(-d) - 1 + d, nats: unbiased, never negative; GRPO's choice.

    Source: Schulman 2020, 'Approximating KL divergence'; Shao et al. 2024, arXiv:2402.03300. Differs: none.

    >>> import torch
    >>> kl_k3(torch.tensor([0.0]), torch.tensor([0.0]))
    tensor([0.])
    """
    difference = logprobs - ref_logprobs
    return (-difference).expm1() + difference


ESTIMATORS = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}
"""Estimators by name."""


def kl_penalty(
    logprobs: Float[Tensor, " T"],
    ref_logprobs: Float[Tensor, " T"],
    *,
    kind: Penalty,
    old_logprobs: Float[Tensor, " T"] | None = None,
) -> Float[Tensor, " T"]:
    """Penalty of each token, to be added to the loss with weight beta.

    Args:
        logprobs: [T] under the policy, with gradient.
        ref_logprobs: [T] under the frozen reference.
        kind: the estimator; the module's table says what its gradient is.
        old_logprobs: [T] under the policy that sampled: the estimate is weighted by the ratio to it, *with* gradient.
            `None` leaves it unweighted, as GRPO does.

    Raises:
        UsageError: for `none`, and for unweighted `k1`, whose expected gradient is 0.

    Source: Shao et al. 2024, arXiv:2402.03300 (unweighted k3); weighted: own derivation, tested by enumeration.
    Differs: none.
    """
    if kind == "none":
        raise UsageError("kl_penalty needs an estimator: k1, k2 or k3")
    check_penalty(kind, weighted=old_logprobs is not None)
    estimate = ESTIMATORS[kind](logprobs, ref_logprobs.detach())
    return estimate if old_logprobs is None else estimate * (logprobs - old_logprobs.detach()).exp()


def check_penalty(kind: Penalty, *, weighted: bool) -> None:
    """Refuse a penalty that does nothing.

    Raises:
        UsageError: for an unknown name, and for `k1` without ratio weighting.
    """
    if kind != "none" and kind not in ESTIMATORS:
        raise UsageError(f"unknown KL estimator {kind!r}; known: none, k1, k2, k3")
    if kind == "k1" and not weighted:
        raise UsageError("k1 as a loss has zero expected gradient: weight it by the ratio, or use k2 or k3")
