"""How far the policy has moved from the one that sampled: the figures logged with every update (tp_grpo.md 6, F2)."""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stepcredit.core.errors import UsageError
from stepcredit.losses.presets import Loss
from stepcredit.losses.ratios import capped


@final
@dataclass(frozen=True)
class Drift:
    """Ratios of the whole update in figures, taken on tokens drawn from the old policy.

    Args:
        kl_k1: mean of -log w, nats a token; estimates KL(old || current), may be negative.
        kl_k3: mean of w - 1 - log w, nats a token; estimates the same, never negative.
        log_ratio_p99: |log w| that 99% of the tokens do not exceed (nearest rank), nats.
        log_ratio_max: largest |log w|, nats.
        ess: effective sample size (sum w)^2 / (n sum w^2), a share in (0, 1].
        clip_low: share of tokens capped below (negative advantage, ratio < 1 - eps_low).
        clip_high: share of tokens capped above (positive advantage, ratio > 1 + eps_high). The ratio is the loss's own:
            the sequence's for GSPO; CISPO caps it whatever the sign.
    """

    kl_k1: float
    kl_k3: float
    log_ratio_p99: float
    log_ratio_max: float
    ess: float
    clip_low: float
    clip_high: float


def drift(
    log_ratio: Float[Tensor, " T"],
    advantages: Float[Tensor, " T"],
    *,
    eps_low: float,
    eps_high: float,
    loss: Loss = "clipped",
    tokens: Int[Tensor, " N"] | None = None,
) -> Drift:
    """Figures of F2 from the update's log ratios log w = logprobs - old_logprobs.

    Args:
        log_ratio: [T] of all trained tokens of the update, in nats.
        advantages: [T] their advantages.
        eps_low: cap below of the loss.
        eps_high: cap above of the loss.
        loss: whose caps are counted; all other figures are of the tokens' ratios.
        tokens: [N] trained tokens of each sequence, for losses that take a mean over it.

    Raises:
        UsageError: if there are no tokens, or the loss needs the sequences and has none.

    Source: tp_grpo.md 6, F2; k1 and k3 after Schulman 2020, 'Approximating KL divergence'. Differs: none.

    >>> figures = drift(torch.tensor([0.0, 0.0]), torch.tensor([1.0, -1.0]), eps_low=0.2, eps_high=0.28)
    >>> figures.kl_k3, figures.ess, figures.clip_high
    (0.0, 1.0, 0.0)
    """
    size = len(log_ratio)
    if not size:
        raise UsageError("drift needs at least one trained token")
    log_w = log_ratio.detach().double()
    sizes = log_w.abs().sort().values
    low, high = capped(log_w, advantages, loss=loss, tokens=tokens, eps_low=eps_low, eps_high=eps_high)
    figures = [
        (-log_w).mean(),
        (torch.expm1(log_w) - log_w).mean(),
        sizes[math.ceil(0.99 * size) - 1],
        sizes[-1],
        _effective_share(log_w),
        low.double().mean(),
        high.double().mean(),
    ]
    return Drift(*torch.stack(figures).tolist())


def _effective_share(log_w: Tensor) -> Tensor:
    w = (log_w - log_w.max()).exp()
    return w.sum() ** 2 / (len(w) * (w * w).sum())
