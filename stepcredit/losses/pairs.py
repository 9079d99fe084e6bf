"""Losses of reward models on preference pairs: Bradley-Terry, PCRM's margin ceiling, REBEL's policy return.

A margin d is the chosen answer's score less the rejected one's: of the whole answers, or of each token after they part.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from stepcredit.core.errors import UsageError


def bradley_terry(margins: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Cost of each margin: minus the log probability that the chosen answer is preferred.

    cost = -log sigmoid(d)

    Args:
        margins: [n] score of the chosen less that of the rejected, with gradient.

    Source: Bradley and Terry 1952, 'Rank analysis of incomplete block designs'; credit.md 2.11. Differs: none.

    >>> bradley_terry(torch.tensor([0.0])).round(decimals=4)
    tensor([0.6931])
    """
    return softplus(-margins)


def pcrm(margins: Float[Tensor, " n"], ceilings: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """PCRM: Bradley-Terry with a ceiling on the margin, lower for answers that are alike.

    cost = -log sigmoid(d) - log sigmoid(delta - d), least at d = delta / 2

    Args:
        margins: [n] score of the chosen less that of the rejected, with gradient.
        ceilings: [n] delta of each margin's pair (`margin_ceiling`), `inf` for none.

    Source: PCRM 2024, arXiv:2404.00978; credit.md 2.11. Differs: none.

    >>> pcrm(torch.tensor([1.0]), torch.tensor([2.0])).round(decimals=4)
    tensor([0.6265])
    """
    return softplus(-margins) + softplus(margins - ceilings)


def margin_ceiling(
    similarity: Float[Tensor, " P"], *, beta1: float = 20.0, beta2: float = 1e-3, beta3: float = -15.0
) -> Float[Tensor, " P"]:
    """Ceiling of a pair's margin: the more alike two answers are, the less their scores may differ.

    delta = beta1 / (similarity + beta2) + beta3

    Args:
        similarity: [P] of each pair, in [0, 1] (`length_ratio`, `angle_similarity`).
        beta1: size.
        beta2: keeps answers that have nothing in common finite.
        beta3: shift; the paper takes -15 with embeddings, -13, -17 or -19 with lengths.

    Returns:
        [P] ceilings.

    Raises:
        UsageError: for a similarity outside [0, 1], or constants that put the ceiling of equal answers at 0 or below.

    Source: PCRM 2024, arXiv:2404.00978; credit.md 2.11. Differs: none.

    >>> margin_ceiling(torch.tensor([1.0, 0.5])).round(decimals=3)
    tensor([ 4.9800, 24.9200])
    """
    if ((similarity < 0) | (similarity > 1)).any():
        raise UsageError(
            f"a similarity lies in [0, 1], got {similarity.min().item():.4g}..{similarity.max().item():.4g}"
        )
    if not (beta1 > 0 and beta2 > 0) or beta1 / (1 + beta2) + beta3 <= 0:
        raise UsageError(f"the ceiling must stay above 0, got beta1 {beta1}, beta2 {beta2}, beta3 {beta3}")
    return beta1 / (similarity + beta2) + beta3


def length_ratio(chosen: Int[Tensor, " P"], rejected: Int[Tensor, " P"]) -> Float[Tensor, " P"]:
    """Likeness of two answers by their lengths alone: the shorter over the longer.

    Args:
        chosen: [P] tokens, at least 1.
        rejected: [P] tokens, at least 1.

    Source: PCRM 2024, arXiv:2404.00978; credit.md 2.11. Differs: shorter over longer, so that it is at most 1;
    which of the two the paper divides by is not known.

    >>> length_ratio(torch.tensor([8, 3]), torch.tensor([4, 3]))
    tensor([0.5000, 1.0000])
    """
    return torch.minimum(chosen, rejected) / torch.maximum(chosen, rejected)


def angle_similarity(chosen: Float[Tensor, "P d"], rejected: Float[Tensor, "P d"]) -> Float[Tensor, " P"]:
    """Likeness of two answers by the angle between their embeddings.

    similarity = (pi - arccos(cosine)) / pi

    Args:
        chosen: [P, d] embeddings of the chosen answers.
        rejected: [P, d] those of the rejected ones.

    Returns:
        [P] in [0, 1]; 1 for one direction, 0 for opposite ones.

    Source: PCRM 2024, arXiv:2404.00978; credit.md 2.11. Differs: none.

    >>> angle_similarity(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    tensor([0.5000])
    """
    cosine = torch.nn.functional.cosine_similarity(chosen.double(), rejected.double(), dim=-1).clamp(-1.0, 1.0)
    return ((math.pi - cosine.arccos()) / math.pi).to(chosen.dtype)


def policy_return(returns: Float[Tensor, " M"], *, weight: float) -> Float[Tensor, " M"]:
    """REBEL's regulariser: the learnt reward's return on the policy's own rollouts, to be added to Bradley-Terry.

    cost = -weight * return, so that the loss is  L_BT - weight * E[sum of rewards under the policy]

    UNVERIFIED: the paper's exact sign and weight were not found. The form is as recalled: a reward is preferred under
    which the present policy, trained by its predecessor, does well. A negative weight turns the sign.

    Args:
        returns: [M] summed reward of each rollout of the present policy, with gradient.
        weight: lambda.

    Source: REBEL 2023, arXiv:2312.14436; credit.md 2.12, unverified. Differs: not known.

    >>> policy_return(torch.tensor([2.0, -1.0]), weight=0.5)
    tensor([-1.0000,  0.5000])
    """
    return -weight * returns
