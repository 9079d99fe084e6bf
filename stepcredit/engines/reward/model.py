"""RewardModel: any packed model with a scalar head, read at any token."""

from collections.abc import Iterator, Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int32
from torch import Tensor, nn

from stepcredit.engines.learner.forward import PackedModel, device_of, module_of

Ids = Int32[np.ndarray, " _"]


@final
class RewardModel(nn.Module):
    """A causal LM's hidden states and one linear head: the score of a text up to each of its tokens.

    The head starts at 0, so that before training every answer has the same score. It has no bias: pairs
    tell nothing of it. The language model's own head is not read and keeps its weights.

    Args:
        model: any model with `hidden` (`engines.learner.PackedModel`); trained in place with the head.
        width: d, size of its hidden states.
    """

    def __init__(self, model: PackedModel, *, width: int) -> None:
        super().__init__()
        self._reader = (model,)  # a tuple, so that a model that is a module is not registered twice
        self.trunk = module_of(model)
        self.score = nn.Linear(width, 1, bias=False).to(device_of(model))
        nn.init.zeros_(self.score.weight)

    @property
    def backbone(self) -> PackedModel:
        """The language model under the head."""
        return self._reader[0]

    def forward(
        self,
        ids: Int[Tensor, " X"],
        positions: Int[Tensor, " X"],
        starts: Int[Tensor, " N+1"],
        rows: Int[Tensor, " y"],
    ) -> Float[Tensor, " y"]:
        """[y] scores at `rows`, each named once; `starts` is on the CPU."""
        states = self.backbone.hidden(ids, positions, starts, rows)
        return self.score(states).squeeze(-1)


def packed(
    sequences: Sequence[Ids], *, device: torch.device
) -> tuple[Int[Tensor, " X"], Int[Tensor, " X"], Int[Tensor, " N+1"]]:
    """Ids, positions and starts of sequences laid end to end."""
    lengths = [len(sequence) for sequence in sequences]
    ids = torch.from_numpy(np.concatenate(sequences).astype(np.int64)).to(device)
    positions = torch.cat([torch.arange(length) for length in lengths]).to(device)
    return ids, positions, torch.tensor([0, *np.cumsum(lengths).tolist()])


def scores(
    model: RewardModel, sequences: Sequence[Ids], *, token_budget: int = 4096
) -> list[Float32[np.ndarray, " _"]]:
    """Score at every token of every sequence, without gradient.

    Args:
        model: the reward model.
        sequences: token ids, prompt included, none empty.
        token_budget: most tokens of one forward pass; a longer sequence stands alone.
    """
    device = device_of(model.backbone)
    found: list[Float32[np.ndarray, " _"]] = []
    with torch.no_grad():
        for part in _parts(sequences, token_budget):
            ids, positions, starts = packed(part, device=device)
            values = model(ids, positions, starts, torch.arange(len(ids), device=device)).float().cpu().numpy()
            found += np.split(values, starts[1:-1].numpy())
    return found


def embeddings(model: PackedModel, sequences: Sequence[Ids], *, token_budget: int = 4096) -> Float[Tensor, "N d"]:
    """[N, d] mean of each sequence's last hidden states: an encoder for PCRM's likeness of answers.

    Source: PCRM 2024, arXiv:2404.00978. Differs: any of our models stands in for the paper's encoder.
    """
    device = device_of(model)
    found: list[Tensor] = []
    with torch.no_grad():
        for part in _parts(sequences, token_budget):
            ids, positions, starts = packed(part, device=device)
            states = model.hidden(ids, positions, starts, torch.arange(len(ids), device=device)).float()
            found += [rows.mean(0) for rows in states.split(starts.diff().tolist())]
    return torch.stack(found)


def _parts(sequences: Sequence[Ids], token_budget: int) -> Iterator[Sequence[Ids]]:
    """Neighbouring sequences, as many as the budget takes."""
    first, filled = 0, 0
    for index, sequence in enumerate(sequences):
        if index > first and filled + len(sequence) > token_budget:
            yield sequences[first:index]
            first, filled = index, 0
        filled += len(sequence)
    if first < len(sequences):
        yield sequences[first:]
