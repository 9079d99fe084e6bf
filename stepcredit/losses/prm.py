"""Losses of reward models that are trained on outcomes alone: an implicit PRM, and a critic's values."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def outcome_cross_entropy(
    log_ratios: Float[Tensor, " N"], right: Float[Tensor, " N"], *, beta: float
) -> Float[Tensor, " N"]:
    """Cost of each rollout: cross entropy of its outcome under the implicit outcome model.

    cost = -[ r log s + (1 - r) log(1 - s) ],  s = sigmoid(beta * sum_t q_t),  q_t = log phi(y_t) - log phi_ref(y_t)

    Trained so, q_t is the reward of token t: no step was ever labelled.

    Args:
        log_ratios: [N] sum of q_t over each rollout, in nats, with gradient.
        right: [N] 1 for right, 0 for wrong.
        beta: weight of the log-ratio; 0.05 in the paper.

    Returns:
        [N] costs in nats.

    Source: Cui et al. 2025, arXiv:2502.01456 (PRIME); credit.md 2.3. Differs: none.

    >>> import torch
    >>> outcome_cross_entropy(torch.zeros(1), torch.ones(1), beta=0.05)
    tensor([0.6931])
    """
    return functional.binary_cross_entropy_with_logits(beta * log_ratios, right, reduction="none")


def value_error(values: Float[Tensor, " n"], returns: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Cost of each node: the squared error of its value.

    cost = (V - R)^2

    Args:
        values: [n] in the unit of the returns, with gradient.
        returns: [n] what was reached from there; never differentiated.

    Returns:
        [n] costs.

    Source: Schulman et al. 2015, arXiv:1506.02438 (value regression). Differs: no trust region, no value clipping.

    >>> import torch
    >>> value_error(torch.tensor([0.5]), torch.tensor([1.0]))
    tensor([0.2500])
    """
    return (values - returns.detach()).square()
