"""Log probability and entropy of tokens from logits: what every loss starts from."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def token_logprobs(
    logits: Float[Tensor, "T V"], ids: Int[Tensor, " T"]
) -> tuple[Float[Tensor, " T"], Float[Tensor, " T"]]:
    """Log probability of each token, and the entropy of the distribution that it was drawn from.

    Half precision is raised to float32 first.

    Args:
        logits: [T, V] logits of the rows that predict the tokens.
        ids: [T] the tokens.

    Returns:
        [T] log probabilities in nats, with gradient, and [T] entropies in nats, without.

    Source: own. Differs: none.

    >>> logprobs, entropy = token_logprobs(torch.zeros(1, 4), torch.tensor([2]))
    >>> round(logprobs.item(), 4), round(entropy.item(), 4)
    (-1.3863, 1.3863)
    """
    wide = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    table = wide.log_softmax(-1)
    with torch.no_grad():
        entropy = torch.special.entr(table.exp()).sum(-1)
    return table.gather(-1, ids[:, None]).squeeze(-1), entropy
