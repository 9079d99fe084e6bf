"""Masked cross entropy, normalised over the whole update: supervised fine-tuning of policies and judges."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from stepcredit.losses.logprobs import token_logprobs


def cross_entropy(
    logits: Float[Tensor, "T V"], ids: Int[Tensor, " T"], *, mask: Bool[Tensor, " T"], tokens: int | None = None
) -> Float[Tensor, ""]:
    """Sum of -log p(ids) over the masked tokens, divided by the tokens of the whole update.

    Args:
        logits: [T, V] logits of the rows that predict the tokens.
        ids: [T] the tokens.
        mask: [T] True for tokens that count.
        tokens: counted tokens of the whole update, over all micro-batches; `None` if this is the whole of it.

    Returns:
        Nats a token; the values of micro-batches add up to the update's. 0 if nothing counts.

    Source: own. Differs: none.

    >>> import torch
    >>> loss = cross_entropy(torch.zeros(2, 4), torch.tensor([0, 1]), mask=torch.tensor([True, False]))
    >>> round(loss.item(), 4)
    1.3863
    """
    logprobs, _ = token_logprobs(logits[mask], ids[mask])
    return negative_log_likelihood(logprobs, tokens=tokens)


def negative_log_likelihood(logprobs: Float[Tensor, " T"], *, tokens: int | None = None) -> Float[Tensor, ""]:
    """Sum of -logprobs over the tokens of the whole update (default: over these).

    Source: own. Differs: none.

    >>> import torch
    >>> negative_log_likelihood(torch.tensor([-1.0, -3.0]))
    tensor(2.)
    """
    return -logprobs.sum() / max(len(logprobs) if tokens is None else tokens, 1)
