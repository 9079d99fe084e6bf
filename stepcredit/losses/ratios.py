"""Policy losses with another importance ratio than the token's own: GSPO, GSPO-token, CISPO; and the table of losses.

Like `clipped_surrogate` each is a column of costs on flat tokens, to be summed with `token_weights`. With w[t] =
exp(logprobs - old_logprobs) and, over the trained tokens of a sequence, s = exp(mean(log w)):

| loss | ratio | capped | gradient of the cost by logprobs[t], uncapped |
|---|---|---|---|
| `clipped` | w[t] | the token, by the sign of its advantage | -w[t] A[t] |
| `gspo` | s | the whole sequence | -s A / tokens, from every token's cost |
| `gspo_token` | s, but the token's own gradient | the token, by the sign of its advantage | -s A[t] |
| `cispo` | w[t], capped and then held fixed | only its weight: every token keeps a gradient | -min(w[t], cap) A[t] |
"""

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stepcredit.core.errors import UsageError
from stepcredit.losses.policy import check_caps, clipped_surrogate
from stepcredit.losses.presets import Loss

Cost = Callable[..., Tensor]
"""`(logprobs, old_logprobs, advantages, *, tokens, eps_low, eps_high, dual_clip) -> [T]` costs."""


def sequence_mean(values: Float[Tensor, " T"], tokens: Int[Tensor, " N"]) -> Float[Tensor, " T"]:
    """Mean over each sequence's tokens, given to every one of them; differentiable.

    Args:
        values: [T] a column, sequence by sequence.
        tokens: [N] how many of them each sequence has; 0 is fine.

    Raises:
        UsageError: if the counts do not add up to T.

    Source: Zheng et al. 2025, arXiv:2507.18071. Differs: none.

    >>> sequence_mean(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([2, 1]))
    tensor([2., 2., 5.])
    """
    if int(tokens.sum()) != len(values):
        raise UsageError(f"sequences of {int(tokens.sum())} tokens altogether do not fit a column of {len(values)}")
    if not len(values):
        return values
    counts = tokens.to(values.device)
    means = torch.segment_reduce(values, "sum", lengths=counts) / counts.clamp(min=1)
    return means.repeat_interleave(counts)


def gspo(
    logprobs: Float[Tensor, " T"],
    old_logprobs: Float[Tensor, " T"],
    advantages: Float[Tensor, " T"],
    *,
    tokens: Int[Tensor, " N"],
    eps_low: float,
    eps_high: float,
    dual_clip: float | None = None,
) -> Float[Tensor, " T"]:
    """GSPO: the sequence's ratio is the geometric mean of its tokens' ratios, and a sequence is capped as a whole.

    cost[t] = -min(s A, clip(s, 1 - eps_low, 1 + eps_high) A)  with  s = exp(mean over the sequence of log w)

    The cost is the same on every token, so that reduction `grpo` gives the paper's mean over sequences; `token` counts
    long ones more. An advantage that differs inside a sequence would be averaged, credit lost: see `check_constant`.

    Args:
        logprobs: [T] under the policy that is trained, sequence by sequence, in nats, with gradient.
        old_logprobs: [T] under the policy that sampled, in nats.
        advantages: [T] the same on all tokens of a sequence; never differentiated.
        tokens: [N] trained tokens of each sequence; those that are not trained stand in no column.
        eps_low: cap below, in [0, 1).
        eps_high: cap above, at least 0.
        dual_clip: as in `clipped_surrogate`, on s.

    Returns:
        [T] costs in units of the advantages.

    Raises:
        UsageError: if a cap is outside its range, or the counts do not fit.

    Source: Zheng et al. 2025, arXiv:2507.18071. Differs: none.

    >>> ratio, advantages = torch.tensor([4.0, 1.0, 0.5]), torch.tensor([1.0, 1.0, -1.0])
    >>> gspo(ratio.log(), torch.zeros(3), advantages, tokens=torch.tensor([2, 1]), eps_low=0.2, eps_high=3.0)
    tensor([-2.0000, -2.0000,  0.8000])
    """
    log_ratio = sequence_mean(logprobs - old_logprobs.detach(), tokens)
    none = torch.zeros_like(log_ratio)
    return clipped_surrogate(log_ratio, none, advantages, eps_low=eps_low, eps_high=eps_high, dual_clip=dual_clip)


def gspo_token(
    logprobs: Float[Tensor, " T"],
    old_logprobs: Float[Tensor, " T"],
    advantages: Float[Tensor, " T"],
    *,
    tokens: Int[Tensor, " N"],
    eps_low: float,
    eps_high: float,
    dual_clip: float | None = None,
) -> Float[Tensor, " T"]:
    """GSPO-token: the value of the sequence's ratio, the gradient of the token's own; for credit that differs by token.

    cost[t] = -min(s[t] A[t], clip(s[t], 1 - eps_low, 1 + eps_high) A[t])  with  s[t] = sg(s) p[t] / sg(p[t])

    Where the advantage is the same throughout a sequence, the update has the value and the gradient of `gspo`.

    Args:
        logprobs: [T] under the policy that is trained, sequence by sequence, in nats, with gradient.
        old_logprobs: [T] under the policy that sampled, in nats.
        advantages: [T] one a token; never differentiated.
        tokens: [N] trained tokens of each sequence.
        eps_low: cap below, in [0, 1).
        eps_high: cap above, at least 0.
        dual_clip: as in `clipped_surrogate`, on s.

    Returns:
        [T] costs in units of the advantages.

    Raises:
        UsageError: if a cap is outside its range, or the counts do not fit.

    Source: Zheng et al. 2025, arXiv:2507.18071. Differs: none.

    >>> ratio, advantages = torch.tensor([4.0, 1.0]), torch.tensor([1.0, -1.0])
    >>> gspo_token(ratio.log(), torch.zeros(2), advantages, tokens=torch.tensor([2]), eps_low=0.2, eps_high=3.0)
    tensor([-2.,  2.])
    """
    held = logprobs.detach()
    log_ratio = sequence_mean(held - old_logprobs.detach(), tokens) + (logprobs - held)
    none = torch.zeros_like(log_ratio)
    return clipped_surrogate(log_ratio, none, advantages, eps_low=eps_low, eps_high=eps_high, dual_clip=dual_clip)


def cispo(
    logprobs: Float[Tensor, " T"],
    old_logprobs: Float[Tensor, " T"],
    advantages: Float[Tensor, " T"],
    *,
    eps_low: float,
    eps_high: float,
    dual_clip: float | None = None,
) -> Float[Tensor, " T"]:
    """CISPO: the policy gradient with a capped importance weight; no token loses its gradient.

    cost[t] = -sg(clip(w[t], 1 - eps_low, 1 + eps_high)) A[t] logprobs[t]

    Its gradient is that of REINFORCE weighted by the capped ratio; its value is no estimate of the return.

    Args:
        logprobs: [T] under the policy that is trained, in nats, with gradient.
        old_logprobs: [T] under the policy that sampled, in nats.
        advantages: [T] one a token; never differentiated.
        eps_low: cap below, in [0, 1]; 1 for none, as the paper has it.
        eps_high: cap above, at least 0; `inf` for none.
        dual_clip: refused.

    Returns:
        [T] costs in units of the advantages, times nats.

    Raises:
        UsageError: if a cap is outside its range, or `dual_clip` is set: the weight is capped on both sides already.

    Source: MiniMax 2025, arXiv:2506.13585 (MiniMax-M1). Differs: none.

    >>> logprobs = torch.tensor([-1.0, -1.0], requires_grad=True)
    >>> old = logprobs.detach() - torch.tensor([2.0, 0.5]).log()
    >>> cispo(logprobs, old, torch.tensor([1.0, -1.0]), eps_low=1.0, eps_high=0.5).sum().backward()
    >>> logprobs.grad
    tensor([-1.5000,  0.5000])
    """
    if dual_clip is not None:
        raise UsageError("loss 'cispo' has no dual_clip: eps_high caps its weight on both signs already")
    check_caps(eps_low=0.0 if eps_low == 1.0 else eps_low, eps_high=eps_high, dual_clip=None)
    log_ratio = logprobs.detach() - old_logprobs.detach()
    weight = log_ratio.clamp(_log_floor(eps_low), math.log1p(eps_high)).exp()
    return -weight * advantages.detach() * logprobs


def _of_tokens(cost: Cost) -> Cost:
    """A loss that takes no statistic over a sequence, with the arguments of the table."""

    def without_tokens(*columns: Tensor, tokens: Tensor, **caps: float | None) -> Tensor:
        del tokens
        return cost(*columns, **caps)

    return without_tokens


COSTS: Mapping[Loss, Cost] = {
    "clipped": _of_tokens(clipped_surrogate),
    "gspo": gspo,
    "gspo_token": gspo_token,
    "cispo": _of_tokens(cispo),
}
"""Losses by name."""


def capped(
    log_ratio: Float[Tensor, " T"],
    advantages: Float[Tensor, " T"],
    *,
    loss: Loss,
    tokens: Int[Tensor, " N"] | None,
    eps_low: float,
    eps_high: float,
) -> tuple[Bool[Tensor, " T"], Bool[Tensor, " T"]]:
    """[T] True for tokens that the loss caps below, and above.

    Args:
        log_ratio: [T] log w = logprobs - old_logprobs, sequence by sequence.
        advantages: [T] their advantages; a token of advantage 0 is never capped.
        loss: a name of `COSTS`.
        tokens: [N] trained tokens of each sequence; needed by `gspo` and `gspo_token`.
        eps_low: cap below.
        eps_high: cap above.

    Raises:
        UsageError: if the loss needs `tokens` and has none, or they do not fit.

    Source: tp_grpo.md 6, F2, for the losses of this module. Differs: none.

    >>> log_ratio, advantages = torch.tensor([0.0, 1.0]), torch.tensor([1.0, -1.0])
    >>> capped(log_ratio, advantages, loss="cispo", tokens=None, eps_low=0.2, eps_high=0.28)[1]
    tensor([False,  True])
    """
    if loss in ("gspo", "gspo_token"):
        if tokens is None:
            raise UsageError(f"loss {loss!r} takes a mean over each sequence: give the tokens of each")
        log_ratio = sequence_mean(log_ratio, tokens)
    falling, rising = advantages < 0, advantages > 0
    if loss == "cispo":
        falling = rising = advantages != 0
    return falling & (log_ratio < _log_floor(eps_low)), rising & (log_ratio > math.log1p(eps_high))


def check_constant(advantages: Float[Tensor, " T"], tokens: Int[Tensor, " N"]) -> None:
    """Refuse credit that differs inside a sequence, which `gspo` would average away.

    Raises:
        UsageError: naming the first such sequence.

    >>> check_constant(torch.tensor([1.0, 1.0, -2.0]), torch.tensor([2, 1]))
    """
    for index, part in enumerate(advantages.split(tokens.tolist())):
        if len(part) and bool((part != part[0]).any()):
            raise UsageError(
                f"loss 'gspo' pays a whole sequence one advantage, sequence {index} of the pack has several: "
                "take loss 'gspo_token', or a credit rule without process rewards"
            )


def _log_floor(eps_low: float) -> float:
    """log(1 - eps_low), minus infinity at 1."""
    return -math.inf if eps_low >= 1.0 else math.log1p(-eps_low)
