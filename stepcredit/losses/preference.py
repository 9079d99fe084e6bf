"""Loss of a token reward model that is trained from pairs: Q-RM."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def q_rm_cost(
    chosen: Float[Tensor, " P"], rejected: Float[Tensor, " P"], *, beta: float = 0.2, margin: float = 2.0
) -> Float[Tensor, " P"]:
    """Cost of each pair: how far the chosen answer's mean logit falls short of the rejected one's plus a margin.

    cost = -log sigmoid( beta * (mean_t Z(chosen) - mean_t Z(rejected)) - margin )

    Args:
        chosen: [P] mean over its tokens of the logit Z of each token that was written, with gradient.
        rejected: [P] the same of the other answer.
        beta: weight of the difference.
        margin: gamma of the paper, in the unit of beta times a logit.

    Returns:
        [P] costs in nats.

    Source: arXiv:2505.23363 (Q-RM); credit.md 2.5. Differs: none.

    >>> import torch
    >>> q_rm_cost(torch.tensor([10.0]), torch.tensor([0.0]))
    tensor([0.6931])
    """
    return -functional.logsigmoid(beta * (chosen - rejected) - margin)


def mean_by_owner(values: Float[Tensor, " T"], owner: Int[Tensor, " T"], *, count: int) -> Float[Tensor, " N"]:
    """Mean of each owner's values.

    Args:
        values: [T] with or without gradient.
        owner: [T] index of the sequence that each value belongs to, in any order.
        count: N.

    Returns:
        [N] means; 0 for an owner without values.

    Source: own. Differs: none.

    >>> import torch
    >>> mean_by_owner(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), count=2)
    tensor([2., 5.])
    """
    sizes = values.new_zeros(count).index_add(0, owner, values.new_ones(len(values)))
    return values.new_zeros(count).index_add(0, owner, values) / sizes.clamp(min=1.0)
