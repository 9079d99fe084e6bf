"""The token-level clipped policy loss on flat token columns, and the weights that sum it (Credit -> Update).

A loss is two columns: what each token costs (`clipped_surrogate`) and what each token counts (`token_weights`).
Weights are made once for the whole update, so any split into micro-batches sums to the same loss.
"""

import math

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from stepcredit.core.errors import UsageError
from stepcredit.losses.presets import Reduction


def clipped_surrogate(
    logprobs: Float[Tensor, " *T"],
    old_logprobs: Float[Tensor, " *T"],
    advantages: Float[Tensor, " *#T"],
    *,
    eps_low: float,
    eps_high: float,
    dual_clip: float | None = None,
) -> Float[Tensor, " *T"]:
    """Cost of each token: minus the clipped importance-weighted advantage.

    cost[t] = -min(w A, clip(w, 1 - eps_low, 1 + eps_high) A)  with  w = exp(logprobs - old_logprobs)

    So a positive advantage caps only above, a negative one only below; capped tokens have no gradient. The cap is
    applied to log w, hence a ratio too large for floating point gives no NaN gradient.

    Args:
        logprobs: [T] under the policy that is trained, in nats, with gradient.
        old_logprobs: [T] under the policy that sampled, in nats.
        advantages: [T] one a token, or a shape that spreads to it; never differentiated.
        eps_low: cap below, in [0, 1).
        eps_high: cap above, at least 0; `inf` for none.
        dual_clip: c > 1 also caps w at c where the advantage is negative, which bounds the cost by c |A|.

    Returns:
        [T] costs in units of the advantages.

    Raises:
        UsageError: if a cap is outside its range.

    Source: Yu et al. 2025, arXiv:2503.14476 (asymmetric); Ye et al. 2020, arXiv:1912.09729 (dual clip);
    tp_grpo.md 1.7. Differs: none.

    >>> ratio, advantages = torch.tensor([2.0, 2.0, 0.5, 0.5]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    >>> clipped_surrogate(ratio.log(), torch.zeros(4), advantages, eps_low=0.2, eps_high=0.28)
    tensor([-1.2800,  2.0000, -0.5000,  0.8000])
    """
    check_caps(eps_low=eps_low, eps_high=eps_high, dual_clip=dual_clip)
    advantages = advantages.detach()
    falling = advantages < 0
    log_ratio = logprobs - old_logprobs.detach()
    bound = log_ratio.new_tensor
    lowest = torch.where(falling, bound(math.log1p(-eps_low)), bound(-math.inf))
    above = math.inf if dual_clip is None else math.log(dual_clip)
    highest = torch.where(falling, bound(above), bound(math.log1p(eps_high)))
    return -log_ratio.clamp(lowest, highest).exp() * advantages


def token_weights(
    tokens: Int[Tensor, " N"], *, reduction: Reduction, max_tokens: int | None = None
) -> Float64[Tensor, " T"]:
    """Weight of each trained token, such that the whole update's loss is sum(weight * cost).

    | reduction | weight of a token of rollout i | meaning |
    |---|---|---|
    | `token` | 1 / sum(tokens) | every token of the update counts the same |
    | `grpo` | 1 / (tokens[i] N) | mean in each rollout, then over the rollouts |
    | `dr_grpo` | 1 / (max_tokens N) | sum over a constant: length changes no token's weight |

    Args:
        tokens: [N] trained tokens of each rollout of the whole update; rollouts with none do not count in N.
        reduction: one of the table.
        max_tokens: the constant of `dr_grpo`, the longest completion that was allowed.

    Returns:
        [T] weights, rollout by rollout, T = sum(tokens).

    Raises:
        UsageError: for `dr_grpo` without `max_tokens`, or an unknown reduction.

    Source: `token` Yu et al. 2025, arXiv:2503.14476; `grpo` Shao et al. 2024, arXiv:2402.03300; `dr_grpo` Liu et al.
    2025, arXiv:2503.20783. Differs: N is the rollouts of the update, not of one group.

    >>> token_weights(torch.tensor([1, 3]), reduction="grpo")
    tensor([0.5000, 0.1667, 0.1667, 0.1667], dtype=torch.float64)
    """
    rollouts = max(int((tokens > 0).sum()), 1)
    if reduction == "token":
        weights = torch.full(tokens.shape, 1.0 / max(int(tokens.sum()), 1), dtype=torch.float64)
    elif reduction == "grpo":
        weights = 1.0 / (tokens.clamp(min=1).double() * rollouts)
    elif reduction == "dr_grpo":
        if max_tokens is None:
            raise UsageError("reduction 'dr_grpo' divides by a constant: set max_tokens to the sampler's limit")
        weights = torch.full(tokens.shape, 1.0 / (max_tokens * rollouts), dtype=torch.float64)
    else:
        raise UsageError(f"unknown reduction {reduction!r}; known: token, grpo, dr_grpo")
    return weights.to(tokens.device).repeat_interleave(tokens)


def check_caps(*, eps_low: float, eps_high: float, dual_clip: float | None) -> None:
    """Refuse caps outside their range.

    Raises:
        UsageError: unless 0 <= eps_low < 1, eps_high >= 0 and dual_clip > 1.
    """
    if not 0.0 <= eps_low < 1.0:
        raise UsageError(f"eps_low must be in [0, 1), got {eps_low}")
    if not eps_high >= 0.0:
        raise UsageError(f"eps_high must be at least 0, got {eps_high}")
    if dual_clip is not None and not dual_clip > 1.0:
        raise UsageError(f"dual_clip must be above 1, got {dual_clip}")
