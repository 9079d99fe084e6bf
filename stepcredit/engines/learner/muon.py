"""Muon with float32 products, for processors where bfloat16 products are slow."""

import math
from collections.abc import Callable, Iterable
from typing import Any, final, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


def orthogonalise(matrix: Float[Tensor, "a b"]) -> Float[Tensor, "a b"]:
    """The matrix with its singular values pushed towards 1 (into about 0.7 to 1.2), by five Newton-Schulz rounds.

    Source: Jordan et al. 2024, 'Muon: an optimizer for hidden layers in neural networks'. Differs: float32 products.

    >>> orthogonalise(torch.diag(torch.tensor([3.0, 1.0]))).diag().gt(0.6).tolist()
    [True, True]
    """
    first, second, third = _QUINTIC
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(_ROUNDS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=second, alpha=third), wide, beta=first)
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


@final
class FloatMuon(Optimizer):
    """`torch.optim.Muon` (Nesterov momentum, rate scaled by sqrt(max(1, rows / columns))) in the weights' own type.

    Args:
        params: 2-D weights.
        lr: learning rate.
        weight_decay: decoupled decay.
        momentum: decay rate of the momentum.

    Source: Jordan et al. 2024, as in torch 2.9. Differs: no bfloat16, which costs 20 times more on processors without
    matrix units.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], *, lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step on the gradients; `closure` is called first, as torch's optimisers do."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        if gradient is None:
            return
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        running: Tensor = state["momentum_buffer"]
        running.lerp_(gradient, 1 - group["momentum"])
        direction = orthogonalise(gradient.lerp(running, group["momentum"]))
        rows, columns = parameter.shape
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))
