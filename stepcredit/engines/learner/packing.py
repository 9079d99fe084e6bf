"""Micro-batches of a Pack: whole sequences, sorted by length, as many as the token budget takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np
import torch
from jaxtyping import Int, Int32, Int64
from torch import Tensor

from stepcredit.core.errors import LayoutError
from stepcredit.core.pack import Pack


@final
@dataclass(frozen=True)
class MicroBatch:
    """Some whole sequences of a pack, for one forward and backward pass.

    Args:
        ids: [x] token ids.
        positions: [x] position of each token in its own sequence.
        starts: [n + 1] first token of each sequence, and x; on the CPU.
        rows: [y] rows that predict a trained token: the token before it.
        targets: [y] the trained tokens, as rows of `ids`.
        origin: [y] the same tokens as indices of the whole pack.
        tokens: [n] trained tokens of each sequence, in the order of `targets`.
    """

    ids: Int[Tensor, " x"]
    positions: Int[Tensor, " x"]
    starts: Int[Tensor, " n+1"]
    rows: Int[Tensor, " y"]
    targets: Int[Tensor, " y"]
    origin: Int[Tensor, " y"]
    tokens: Int[Tensor, " n"]


def micro_batches(pack: Pack, *, token_budget: int, device: torch.device) -> list[MicroBatch]:
    """Cut a pack into micro-batches; sequences without a trained token are left out, they give no gradient.

    Args:
        pack: the sequences.
        token_budget: most tokens of a micro-batch; a longer sequence stands alone.
        device: where the columns go (`starts` stays on the CPU).

    Raises:
        LayoutError: if a trained token opens its sequence, so that nothing predicts it.
    """
    first = pack.starts[:-1][pack.trained[pack.starts[:-1]]]
    if len(first):
        raise LayoutError(f"trained token {int(first[0])} opens its sequence: nothing predicts it; give a prompt token")
    lengths = np.diff(pack.starts)
    useful = np.flatnonzero(trained_of_sequence(pack))
    order = useful[np.argsort(lengths[useful], kind="stable")]
    cuts = _cuts(lengths[order], token_budget)
    return [_micro_batch(pack, order[a:b], device=device) for a, b in pairwise(cuts)]


def trained_of_sequence(pack: Pack) -> Int64[np.ndarray, " N"]:
    """[N] trained tokens of each sequence."""
    return np.add.reduceat(pack.trained.astype(np.int64), pack.starts[:-1])


def demonstration_pack(sequences: Sequence[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]]) -> Pack:
    """Pack prompts and the completions to imitate; all completion tokens are trained on.

    Args:
        sequences: N pairs (prompt ids, completion ids), prompts not empty.

    Returns:
        A pack for `TorchLearner.imitate`; its advantages are 0 and its old logprobs unknown (NaN).
    """
    lengths = np.array([(len(prompt), len(completion)) for prompt, completion in sequences], np.int64).reshape(-1, 2)
    totals = lengths.sum(1)
    size = int(totals.sum())
    return Pack(
        ids=np.concatenate([part for pair in sequences for part in pair]),
        positions=np.concatenate([np.arange(total) for total in totals]),
        starts=np.concatenate([[0], np.cumsum(totals)]),
        trained=np.repeat(np.tile([False, True], len(lengths)), lengths.ravel()),
        advantages=np.zeros(size, np.float32),
        old_logprobs=np.full(size, np.nan, np.float32),
    )


def _cuts(lengths: Int64[np.ndarray, " n"], token_budget: int) -> list[int]:
    cuts, filled = [0], 0
    for index, length in enumerate(lengths.tolist()):
        if filled and filled + length > token_budget:
            cuts.append(index)
            filled = 0
        filled += length
    return [*cuts, len(lengths)] if len(lengths) else cuts


def _micro_batch(pack: Pack, members: Int64[np.ndarray, " n"], *, device: torch.device) -> MicroBatch:
    starts: list[int] = pack.starts.tolist()
    spans = [np.arange(starts[member], starts[member + 1]) for member in members.tolist()]
    tokens = np.concatenate(spans)
    targets = np.flatnonzero(pack.trained[tokens])

    def column(values: Int64[np.ndarray, " n"] | Int32[np.ndarray, " n"]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(device)

    return MicroBatch(
        ids=column(pack.ids[tokens]),
        positions=column(pack.positions[tokens]),
        starts=torch.tensor([0, *np.cumsum([len(span) for span in spans])]),
        rows=column(targets - 1),
        targets=column(targets),
        origin=column(tokens[targets]),
        tokens=column(np.array([pack.trained[span].sum() for span in spans], np.int64)),
    )
