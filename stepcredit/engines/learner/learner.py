"""TorchLearner: one optimiser step on a whole pack, whatever its size, and exact states (Credit -> Update)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from stepcredit.core.errors import EngineError, UsageError
from stepcredit.core.pack import Pack
from stepcredit.core.records import Update
from stepcredit.engines.learner.forward import (
    PackedModel,
    device_of,
    module_of,
    packed_logprobs,
    trained_logprobs,
    without_dropout,
)
from stepcredit.engines.learner.optimisers import build_optimisers
from stepcredit.engines.learner.packing import MicroBatch, micro_batches, trained_of_sequence
from stepcredit.engines.learner.settings import LearnerSettings, rate_factor
from stepcredit.engines.learner.state import pack_state, unpack_state
from stepcredit.engines.learner.weights import architecture, weights_fingerprint
from stepcredit.losses.drift import drift
from stepcredit.losses.kl import kl_penalty
from stepcredit.losses.policy import token_weights
from stepcredit.losses.presets import Reduction
from stepcredit.losses.ratios import COSTS, check_constant

_NAN = float("nan")


@final
@dataclass(frozen=True)
class _Columns:
    """Columns [X] of a pack on the learner's device."""

    weights: Tensor
    advantages: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor | None


@final
@dataclass(frozen=True)
class _Pass:
    """What the passes over all micro-batches left: the gradient is in the weights' `.grad`."""

    loss: float
    grad_norm: float
    logprobs: Float[Tensor, " X"]
    entropies: Float[Tensor, " X"]


@final
class TorchLearner:
    """Trains a causal LM on packs: `core.protocols.Learner` on torch.

    Dropout is off throughout, so that the ratio to the old policy is 1 before the first update.

    Args:
        model: any module with `hidden` and `head` (`PackedModel`); trained in place, on the device where it is.
        settings: loss, optimiser and budgets.

    Raises:
        EngineError: if there is nothing to train, or a trained weight is in half precision.
    """

    def __init__(self, model: PackedModel, settings: LearnerSettings) -> None:
        self.model = model
        self.settings = settings
        self._module = without_dropout(module_of(model))
        self._optimisers = build_optimisers(self._module, settings)
        self._updates = 0
        self._fingerprint: str | None = None

    @property
    def updates(self) -> int:
        """Updates so far, skipped ones included: the index of the next."""
        return self._updates

    @property
    def fingerprint(self) -> str:
        """Digest of the current weights."""
        if self._fingerprint is None:
            self._fingerprint = weights_fingerprint(self._module)
        return self._fingerprint

    def logprobs(self, pack: Pack) -> Float32[np.ndarray, " X"]:
        """[X] log probability in nats of each trained token, NaN elsewhere; no gradient."""
        budget, settings = self.settings.token_budget, self.settings
        return packed_logprobs(
            self.model, pack, token_budget=budget, precision=settings.precision, head_rows=settings.head_rows
        )

    def update(self, pack: Pack) -> Update:
        """One optimiser step of the policy loss on the whole pack.

        If the loss or the gradient is not finite, or no token is trained, weights and optimiser stay as they were and
        `Update.skipped` says why.

        Raises:
            UsageError: if old logprobs are unknown, the penalty has no reference logprobs, or loss `gspo` is given
                credit that differs inside a sequence.
        """
        self._check_logprobs(pack)
        if self.settings.loss == "gspo":
            check_constant(torch.tensor(pack.advantages[pack.trained]), torch.tensor(trained_of_sequence(pack)))
        columns = self._columns(pack, self.settings.reduction)
        return self._step(pack, columns, self._policy_cost, old=columns.old_logprobs)

    def imitate(self, pack: Pack) -> Update:
        """One optimiser step of cross entropy on the pack's trained tokens, each counting the same.

        Advantages and logprobs of the pack are not read; `Update.loss` is in nats a token, drift figures are NaN.
        """
        return self._step(pack, self._columns(pack, "token"), lambda logprobs, *_: -logprobs, old=None)

    def state(self) -> bytes:
        """Everything that `load` needs to go on bit-identically: weights, optimisers, counters, random states."""
        device = device_of(self.model)
        return pack_state(
            {
                "architecture": architecture(self._module),
                "optimiser": self.settings.optimiser,
                "weights": dict(self._module.state_dict()),
                "optimisers": [optimiser.state_dict() for optimiser, _ in self._optimisers],
                "updates": self._updates,
                "random": torch.get_rng_state(),
                "device_random": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            }
        )

    def load(self, state: bytes) -> None:
        """Go back to a state; settings stay those of this learner. Also sets torch's random state.

        Raises:
            EngineError: if the bytes are not a state of this architecture and optimiser; nothing has changed then.
        """
        parts = unpack_state(state)
        if parts["architecture"] != architecture(self._module):
            raise EngineError("the state is of another architecture: names, shapes or types of the weights differ")
        if parts["optimiser"] != self.settings.optimiser:
            raise EngineError(f"the state is of optimiser {parts['optimiser']!r}, this is {self.settings.optimiser!r}")
        self._module.load_state_dict(parts["weights"])
        for (optimiser, _), saved in zip(self._optimisers, parts["optimisers"], strict=True):
            _load_moments(optimiser, saved)
        self._updates = int(parts["updates"])
        self._fingerprint = None
        torch.set_rng_state(parts["random"])
        device = device_of(self.model)
        if device.type == "cuda" and parts["device_random"] is not None:
            torch.cuda.set_rng_state(parts["device_random"], device)

    def _policy_cost(self, logprobs: Tensor, columns: _Columns, micro: MicroBatch) -> Tensor:
        settings, origin = self.settings, micro.origin
        old = columns.old_logprobs[origin]
        cost = COSTS[settings.loss](
            logprobs,
            old,
            columns.advantages[origin],
            tokens=micro.tokens,
            eps_low=settings.eps_low,
            eps_high=settings.eps_high,
            dual_clip=settings.dual_clip,
        )
        if columns.ref_logprobs is None or settings.kl == "none":
            return cost
        weighting = old if settings.kl_weighted else None
        reference = columns.ref_logprobs[origin]
        return cost + settings.beta * kl_penalty(logprobs, reference, kind=settings.kl, old_logprobs=weighting)

    def _check_logprobs(self, pack: Pack) -> None:
        unknown = int(np.isnan(pack.old_logprobs[pack.trained]).sum())
        if unknown:
            raise UsageError(
                f"{unknown} trained tokens have no old logprob: use pack.with_old_logprobs(learner.logprobs(pack)) "
                "before the round's first update"
            )
        if self.settings.kl == "none":
            return
        if pack.ref_logprobs is None or np.isnan(pack.ref_logprobs[pack.trained]).any():
            raise UsageError(f"kl {self.settings.kl!r} needs Pack.ref_logprobs of every trained token")

    def _columns(self, pack: Pack, reduction: Reduction) -> _Columns:
        device = device_of(self.model)
        counts = torch.from_numpy(trained_of_sequence(pack))
        weights = torch.zeros(len(pack.ids), dtype=torch.float64)
        mask = torch.tensor(pack.trained)
        weights[mask] = token_weights(counts, reduction=reduction, max_tokens=self.settings.max_tokens)
        return _Columns(
            weights=weights.float().to(device),
            advantages=_tensor(pack.advantages, device),
            old_logprobs=_tensor(pack.old_logprobs, device),
            ref_logprobs=None if pack.ref_logprobs is None else _tensor(pack.ref_logprobs, device),
        )

    def _step(
        self,
        pack: Pack,
        columns: _Columns,
        cost: Callable[[Tensor, _Columns, MicroBatch], Tensor],
        *,
        old: Tensor | None,
    ) -> Update:
        factor = rate_factor(self.settings, self._updates)
        if not pack.trained_tokens:
            return self._record(pack, None, factor, skipped="no trained tokens")
        done = self._accumulate(pack, columns, cost)
        skipped = _reason(done, pack)
        if not skipped:
            for optimiser, rate in self._optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = rate * factor
                optimiser.step()
            self._fingerprint = None
        self._module.zero_grad(set_to_none=True)
        return self._record(pack, done, factor, skipped=skipped, old=old)

    def _accumulate(
        self, pack: Pack, columns: _Columns, cost: Callable[[Tensor, _Columns, MicroBatch], Tensor]
    ) -> _Pass:
        settings, device = self.settings, device_of(self.model)
        logprobs = torch.full((len(pack.ids),), _NAN, device=device)
        entropies = logprobs.clone()
        total = torch.zeros((), dtype=torch.float64, device=device)
        self._module.zero_grad(set_to_none=True)
        for micro in micro_batches(pack, token_budget=settings.token_budget, device=device):
            current, entropy = trained_logprobs(
                self.model, micro, precision=settings.precision, head_rows=settings.head_rows
            )
            loss = (columns.weights[micro.origin] * cost(current, columns, micro)).sum()
            loss.backward()
            total += loss.detach()
            logprobs[micro.origin] = current.detach().float()
            entropies[micro.origin] = entropy.float()
        limit = float("inf") if settings.max_grad_norm is None else settings.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(self._module.parameters(), limit)
        return _Pass(total.item(), norm.item(), logprobs, entropies)

    def _record(
        self, pack: Pack, done: _Pass | None, factor: float, *, skipped: str, old: Tensor | None = None
    ) -> Update:
        mask = torch.tensor(pack.trained)
        figures = None
        if done is not None and old is not None:
            log_ratio = (done.logprobs - old)[mask.to(old.device)].cpu()
            advantages = torch.tensor(pack.advantages)[mask]
            figures = drift(
                log_ratio,
                advantages,
                eps_low=self.settings.eps_low,
                eps_high=self.settings.eps_high,
                loss=self.settings.loss,
                tokens=torch.tensor(trained_of_sequence(pack)),
            )
        update = Update(
            index=self._updates,
            loss=_NAN if done is None else done.loss,
            rollouts=int((trained_of_sequence(pack) > 0).sum()),
            tokens=pack.trained_tokens,
            kl_k1=_NAN if figures is None else figures.kl_k1,
            kl_k3=_NAN if figures is None else figures.kl_k3,
            log_ratio_p99=_NAN if figures is None else figures.log_ratio_p99,
            ess=_NAN if figures is None else figures.ess,
            clip_low=_NAN if figures is None else figures.clip_low,
            clip_high=_NAN if figures is None else figures.clip_high,
            entropy=_NAN if done is None else float(done.entropies[mask.to(done.entropies.device)].mean()),
            grad_norm=_NAN if done is None else done.grad_norm,
            learning_rate=self.settings.learning_rate * factor,
            skipped=skipped,
        )
        self._updates += 1
        return update


def _tensor(column: Float32[np.ndarray, " X"] | Float64[np.ndarray, " X"], device: torch.device) -> Tensor:
    return torch.tensor(column, device=device)


def _reason(done: _Pass, pack: Pack) -> str:
    """Why the update must not be applied, or nothing."""
    if not np.isfinite(done.loss):
        bad = np.flatnonzero(pack.trained & ~torch.isfinite(done.logprobs).cpu().numpy())
        if not len(bad):
            return f"loss is {done.loss}"
        sequence = int(np.searchsorted(pack.starts, bad[0], side="right")) - 1
        return f"loss is {done.loss}: the first logprob that is not finite is in sequence {sequence}"
    if not np.isfinite(done.grad_norm):
        return f"gradient norm is {done.grad_norm}"
    return ""


def _load_moments(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load moments and counters; rates and decays stay those of the optimiser's own settings."""
    own = [{key: value for key, value in group.items() if key != "params"} for group in optimiser.param_groups]
    optimiser.load_state_dict(saved)
    for group, options in zip(optimiser.param_groups, own, strict=True):
        group.update(options)
