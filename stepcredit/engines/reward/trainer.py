"""RewardTrainer: one optimiser step of a pair loss on any number of pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.seeds import derive
from stepcredit.engines.learner.forward import autocast, device_of, without_dropout
from stepcredit.engines.learner.optimisers import build_optimisers
from stepcredit.engines.reward.model import RewardModel, packed
from stepcredit.engines.reward.pairs import Pair, margins_of
from stepcredit.engines.reward.settings import SHIFT_BY_ANGLE, SHIFT_BY_LENGTH, RewardSettings
from stepcredit.losses.pairs import bradley_terry, length_ratio, margin_ceiling, pcrm, policy_return

Rollout = tuple[Int32[np.ndarray, " P"], Int32[np.ndarray, " T"]]
"""Prompt and completion ids of one of the policy's own rollouts."""


@final
@dataclass(frozen=True)
class RewardUpdate:
    """What one update, or one look at held-out pairs, found.

    Args:
        loss: of the whole update, nats a pair; NaN where none was taken.
        accuracy: share of pairs whose chosen answer scores higher, ties a half.
        margin: mean margin over pairs, in units of the score.
        largest: largest margin of a pair, by size.
        grad_norm: before it was scaled down; NaN where no gradient was taken.
        pairs: how many.
        skipped: why the step was not taken; empty if it was.
    """

    loss: float
    accuracy: float
    margin: float
    largest: float
    grad_norm: float
    pairs: int
    skipped: str = ""


@final
class RewardTrainer:
    """Trains a reward model on preference pairs; dropout is off, as in the learner.

    The loss is the mean over pairs, each the mean over its margins, whatever the micro-batches. With `rebel` the mean
    over the given rollouts of `policy_return` is added.

    Args:
        model: trained in place.
        settings: loss and optimiser.
    """

    def __init__(self, model: RewardModel, settings: RewardSettings) -> None:
        self.model, self.settings = model, settings
        without_dropout(model)
        self._optimisers = build_optimisers(model, settings.learner())

    def update(self, pairs: Sequence[Pair], *, policy: Sequence[Rollout] = ()) -> RewardUpdate:
        """One optimiser step on all pairs.

        If loss or gradient are not finite, weights and optimiser stay as they were and `skipped` says so.

        Args:
            pairs: at least one.
            policy: rollouts of the present policy, for `rebel`.

        Raises:
            UsageError: without pairs; if `rebel` has no rollouts, or another loss is given some.
        """
        if not pairs:
            raise UsageError("an update of the reward model needs at least one pair")
        if (self.settings.loss == "rebel") != bool(policy):
            raise UsageError(
                f"loss {self.settings.loss!r} got {len(policy)} rollouts of the policy: rebel needs some, no other"
            )
        self.model.zero_grad(set_to_none=True)
        loss, margins = self._passes(pairs, backward=True)
        loss += self._policy_pass(policy)
        limit = float("inf") if self.settings.max_grad_norm is None else self.settings.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit).item()
        finite = np.isfinite(loss) and np.isfinite(norm)
        if finite:
            for optimiser, _ in self._optimisers:
                optimiser.step()
        self.model.zero_grad(set_to_none=True)
        return _figures(loss, margins, norm, "" if finite else f"loss is {loss}, gradient norm {norm}")

    def measure(self, pairs: Sequence[Pair]) -> RewardUpdate:
        """Figures on held-out pairs under the pair loss; no gradient, nothing is trained."""
        with torch.no_grad():
            loss, margins = self._passes(pairs, backward=False)
        return _figures(loss, margins, float("nan"), "")

    def _passes(self, pairs: Sequence[Pair], *, backward: bool) -> tuple[float, Tensor]:
        """Loss of the whole update, and [P] the mean margin of each pair."""
        total, found = 0.0, list[Tensor]()
        for part in _parts(pairs, self.settings.token_budget):
            margins, weights, owner = self._margins(part)
            cost = self._cost(part, margins, owner)
            loss = (weights * cost).sum() / len(pairs)
            if backward:
                loss.backward()
            total += loss.item()
            zeros = torch.zeros(len(part), device=margins.device, dtype=margins.dtype)
            found.append(zeros.index_add(0, owner, weights * margins.detach()))
        return total, torch.cat(found).cpu()

    def _margins(self, pairs: Sequence[Pair]) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"], Tensor]:
        """[D] margins with gradient, their weights, and the pair of each."""
        device = device_of(self.model.backbone)
        where = margins_of(pairs, reading=self.settings.read_at)
        sequences = [
            np.concatenate([pair.prompt_ids, completion])
            for pair in pairs
            for completion in (pair.chosen_ids, pair.rejected_ids)
        ]
        ids, positions, starts = packed(sequences, device=device)
        rows, back = np.unique(np.concatenate([where.chosen, where.rejected]), return_inverse=True)
        with autocast(self.settings.precision, device):
            scores = self.model(ids, positions, starts, _column(rows, device)).float()
        plus, minus = _column(back[: len(where.chosen)], device), _column(back[len(where.chosen) :], device)
        margins = torch.zeros(len(where.pair), device=device)
        margins = margins.index_add(0, _column(where.of_chosen, device), scores[plus])
        margins = margins.index_add(0, _column(where.of_rejected, device), -scores[minus])
        return margins, torch.from_numpy(where.weights).float().to(device), _column(where.pair, device)

    def _cost(self, pairs: Sequence[Pair], margins: Float[Tensor, " D"], owner: Tensor) -> Float[Tensor, " D"]:
        if self.settings.loss != "pcrm":
            return bradley_terry(margins)
        return pcrm(margins, self.ceilings(pairs).to(margins.device)[owner])

    def ceilings(self, pairs: Sequence[Pair]) -> Float[Tensor, " P"]:
        """[P] PCRM's ceiling of each pair, from its similarity or the ratio of its lengths; or that of a control."""
        settings = self.settings
        if settings.ceiling == "constant":
            return torch.full((len(pairs),), 3.0)
        if settings.ceiling == "random":
            return torch.tensor([_drawn(settings.ceiling_seed, pair) for pair in pairs])
        lengths = torch.tensor([(len(pair.chosen_ids), len(pair.rejected_ids)) for pair in pairs])
        by_length = length_ratio(lengths[:, 0], lengths[:, 1])
        given = torch.tensor([float("nan") if pair.similarity is None else pair.similarity for pair in pairs])
        shifts = (SHIFT_BY_ANGLE, SHIFT_BY_LENGTH) if settings.beta3 is None else (settings.beta3, settings.beta3)
        by_angle, by_size = (
            margin_ceiling(likeness, beta1=settings.beta1, beta2=settings.beta2, beta3=shift)
            for likeness, shift in zip((given.nan_to_num(1.0), by_length), shifts, strict=True)
        )
        return torch.where(given.isnan(), by_size, by_angle)

    def _policy_pass(self, policy: Sequence[Rollout]) -> float:
        """REBEL's term, its gradient added."""
        device, total = device_of(self.model.backbone), 0.0
        for prompt, completion in policy:
            ids, positions, starts = packed([np.concatenate([prompt, completion])], device=device)
            rows = torch.arange(len(prompt), len(ids), device=device)
            with autocast(self.settings.precision, device):
                summed = self.model(ids, positions, starts, rows).float().sum()
            cost = policy_return(summed[None], weight=self.settings.policy_weight).sum() / len(policy)
            cost.backward()
            total += cost.item()
        return total


def _drawn(seed: int, pair: Pair) -> float:
    """A pair's own draw from U[1, 2], whichever batch it is in."""
    name = digest(pair.prompt_ids, pair.chosen_ids, pair.rejected_ids)
    return 1.0 + float(np.random.default_rng(derive(seed, "ceiling", name)).random())


def _figures(loss: float, margins: Tensor, norm: float, skipped: str) -> RewardUpdate:
    accuracy = (margins > 0).double() + 0.5 * (margins == 0).double()
    largest = margins[margins.abs().argmax()]
    return RewardUpdate(
        loss, accuracy.mean().item(), margins.double().mean().item(), largest.item(), norm, len(margins), skipped
    )


def _column(values: Int64[np.ndarray, " n"], device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.int64)).to(device)


def _parts(pairs: Sequence[Pair], token_budget: int) -> Iterator[Sequence[Pair]]:
    """Neighbouring pairs, as many as the budget takes."""
    first, filled = 0, 0
    for index, pair in enumerate(pairs):
        if index > first and filled + pair.tokens > token_budget:
            yield pairs[first:index]
            first, filled = index, 0
        filled += pair.tokens
    if first < len(pairs):
        yield pairs[first:]
