"""Optimiser steps of a judge that is trained inside the loop, and its exact state."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar, final

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from stepcredit.core.errors import EngineError, JudgeError, UsageError
from stepcredit.core.records import Judgement, Steps
from stepcredit.core.seeds import derive
from stepcredit.engines.learner.forward import without_dropout
from stepcredit.engines.learner.optimisers import build_optimisers
from stepcredit.engines.learner.settings import LearnerSettings
from stepcredit.engines.learner.state import pack_state, unpack_state
from stepcredit.engines.learner.weights import architecture, weights_fingerprint
from stepcredit.engines.trained_judges.reading import Reading, Rows, readings

AnyT = TypeVar("AnyT")


@final
@dataclass(frozen=True)
class FittingSettings:
    """How a judge learns from a batch of rollouts.

    Args:
        learning_rate: rate of AdamW.
        batch: rollouts (or pairs) of an optimiser step.
        max_grad_norm: the gradient is scaled down to this global norm; `None` for no limit.
        token_budget: most tokens of a forward pass; results do not depend on it, beyond rounding.
        seed: of the order in which a pass goes through its rollouts.

    Raises:
        UsageError: for a value outside its range.
    """

    learning_rate: float
    batch: int = 64
    max_grad_norm: float | None = 1.0
    token_budget: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.learning_rate > 0.0:
            raise UsageError(f"learning_rate must be above 0, got {self.learning_rate}")
        for name in ("batch", "token_budget"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0.0:
            raise UsageError(f"max_grad_norm must be above 0, or none, got {self.max_grad_norm}")


@final
class Fitting:
    """A module, its optimiser, and passes over data.

    Args:
        module: what is trained, in place; dropout is switched off.
        settings: how.

    Raises:
        EngineError: if there is nothing to train, or a trained weight is in half precision.
    """

    def __init__(self, module: nn.Module, settings: FittingSettings) -> None:
        self.module, self.settings = without_dropout(module), settings
        [(self._optimiser, _)] = build_optimisers(module, LearnerSettings(settings.learning_rate))
        self._passes = 0
        self._fingerprint: str | None = None

    @property
    def device(self) -> torch.device:
        """Device of the first weight."""
        return next(self.module.parameters()).device

    @property
    def fingerprint(self) -> str:
        """Digest of the current weights."""
        if self._fingerprint is None:
            self._fingerprint = weights_fingerprint(self.module)
        return self._fingerprint

    def one_pass(self, items: Sequence[AnyT], cost: Callable[[Sequence[AnyT]], Iterator[Tensor]]) -> float:
        """Go through all items once, `batch` of them an optimiser step, in an order drawn with the seed.

        Args:
            items: at least one.
            cost: losses of the forward passes of a batch, which add up to its loss; each is differentiated before the
                next is made.

        Returns:
            The mean loss of the batches, before each one's own step.

        Raises:
            EngineError: if a loss or gradient is not finite; the weights keep what the batches before it taught.
        """
        order = list(range(len(items)))
        Random(derive(self.settings.seed, "pass", self._passes)).shuffle(order)
        self._passes += 1
        size = self.settings.batch
        batches = [[items[index] for index in order[first : first + size]] for first in range(0, len(order), size)]
        losses = [self._step(cost(batch)) for batch in batches]
        return sum(losses) / len(losses)

    def state(self) -> bytes:
        """Everything that `load` needs to go on bit-identically."""
        return pack_state(
            {
                "architecture": architecture(self.module),
                "weights": dict(self.module.state_dict()),
                "optimiser": self._optimiser.state_dict(),
                "passes": self._passes,
            }
        )

    def load(self, state: bytes) -> None:
        """Go back to a state.

        Raises:
            EngineError: if the bytes are no state of this architecture; nothing has changed then.
        """
        parts = unpack_state(state)
        if parts.get("architecture") != architecture(self.module) or "passes" not in parts:
            raise EngineError("the state is of another judge: names, shapes or types of the weights differ")
        self.module.load_state_dict(parts["weights"])
        self._optimiser.load_state_dict(parts["optimiser"])
        for group in self._optimiser.param_groups:
            group["lr"] = self.settings.learning_rate
        self._passes = int(parts["passes"])
        self._fingerprint = None

    def _step(self, losses: Iterator[Tensor]) -> float:
        self.module.zero_grad(set_to_none=True)
        total = 0.0
        for loss in losses:
            loss.backward()
            total += loss.item()
        limit = float("inf") if self.settings.max_grad_norm is None else self.settings.max_grad_norm
        norm = float(torch.nn.utils.clip_grad_norm_(self.module.parameters(), limit))
        finite = abs(total) < float("inf") and norm < float("inf")
        if finite:
            self._optimiser.step()
            self._fingerprint = None
        self.module.zero_grad(set_to_none=True)
        if not finite:
            raise EngineError(f"the judge's loss is {total} and its gradient norm {norm}: lower its learning_rate")
        return total


def scorable(judgements: Sequence[Judgement]) -> list[Steps]:
    """The cut rollouts that have tokens and a right or wrong outcome.

    Raises:
        JudgeError: if there is none.
    """
    found = [j.steps for j in judgements if j.steps.outcome.reward is not None and len(j.steps)]
    if not found:
        raise JudgeError("none of the rollouts has tokens and a scorable outcome: there is nothing to learn from")
    return found


@torch.no_grad()
def read_column(
    fitting: Fitting, cuts: Sequence[Steps], rows_of: Rows, read: Callable[[Reading], Tensor]
) -> Float32[np.ndarray, " n"]:
    """[n] what a module says at the rows of a batch, rollout by rollout.

    Args:
        fitting: says the device and the token budget.
        cuts: the rollouts.
        rows_of: which rows are read.
        read: gives one number a row of a `Reading`.

    Raises:
        EngineError: if a rollout has no prompt.
    """
    found = np.zeros(sum(len(rows_of(steps)) for steps in cuts), np.float32)
    for reading in readings(cuts, rows_of, token_budget=fitting.settings.token_budget, device=fitting.device):
        found[reading.place.cpu().numpy()] = read(reading).float().cpu().numpy()
    return found
