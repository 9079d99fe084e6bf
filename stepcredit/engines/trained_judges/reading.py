"""Cut rollouts as forward passes: whole sequences by length, and the rows that a judge reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from stepcredit.core.errors import EngineError
from stepcredit.core.records import Steps

Rows = Callable[[Steps], Int64[np.ndarray, " r"]]
"""Which rows of a rollout's prompt and completion are read."""


@final
@dataclass(frozen=True)
class Reading:
    """Some whole rollouts, for one forward pass.

    Args:
        ids: [x] prompts and completions, end to end.
        positions: [x] position of each token in its own sequence.
        starts: [n + 1] first token of each sequence, and x; on the CPU.
        rows: [y] rows that are read, each once.
        following: [y] the token after each row; the row's own at the end of a sequence.
        place: [y] where each row's number stands in the column of the whole batch.
        owner: [y] index of the rollout in the batch.
    """

    ids: Int[Tensor, " x"]
    positions: Int[Tensor, " x"]
    starts: Int[Tensor, " n+1"]
    rows: Int[Tensor, " y"]
    following: Int[Tensor, " y"]
    place: Int[Tensor, " y"]
    owner: Int[Tensor, " y"]


def node_rows(steps: Steps) -> Int64[np.ndarray, " K+1"]:
    """[K + 1] the last token before each step, and the last token of all: where a node's value is read.

    A solution without steps has its prompt's last token alone.
    """
    first = len(steps.rollout.prompt_ids) - 1
    ends = [*steps.starts.tolist(), len(steps.rollout.completion_ids)]
    return first + np.array(ends, np.int64)


def token_rows(steps: Steps) -> Int64[np.ndarray, " T"]:
    """[T] the row that predicts each completion token."""
    rollout = steps.rollout
    return len(rollout.prompt_ids) - 1 + np.arange(len(rollout.completion_ids))


def readings(cuts: Sequence[Steps], rows_of: Rows, *, token_budget: int, device: torch.device) -> list[Reading]:
    """Forward passes that read a batch.

    Args:
        cuts: the rollouts, in the order of the column that is to be made.
        rows_of: which rows are read; the column holds them rollout by rollout.
        token_budget: most tokens of a pass; a longer sequence stands alone.
        device: where the columns go (`starts` stays on the CPU).

    Returns:
        The passes, shortest sequences first; a rollout of which nothing is read is left out.

    Raises:
        EngineError: if a rollout has no prompt: nothing predicts its first token.
    """
    for steps in cuts:
        if not len(steps.rollout.prompt_ids):
            raise EngineError("a rollout without a prompt cannot be read", item=steps.rollout.id)
    rows = [rows_of(steps) for steps in cuts]
    places = np.cumsum([0, *(len(found) for found in rows)])
    lengths = [len(steps.rollout.prompt_ids) + len(steps.rollout.completion_ids) for steps in cuts]
    found: list[Reading] = []
    members: list[int] = []
    size = 0
    for index in sorted(range(len(cuts)), key=lambda index: lengths[index]):
        if not len(rows[index]):
            continue
        if members and size + lengths[index] > token_budget:
            found.append(_reading(cuts, rows, places, members, device))
            members, size = [], 0
        members.append(index)
        size += lengths[index]
    return [*found, _reading(cuts, rows, places, members, device)] if members else found


def _reading(
    cuts: Sequence[Steps],
    rows: Sequence[Int64[np.ndarray, " _"]],
    places: Int64[np.ndarray, " N+1"],
    members: Sequence[int],
    device: torch.device,
) -> Reading:
    sequences = [np.concatenate([cuts[i].rollout.prompt_ids, cuts[i].rollout.completion_ids]) for i in members]
    starts = np.cumsum([0, *(len(ids) for ids in sequences)])
    following = [ids[np.minimum(rows[i] + 1, len(ids) - 1)] for i, ids in zip(members, sequences, strict=True)]

    def column(parts: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)

    return Reading(
        ids=column(sequences),
        positions=column([np.arange(len(ids)) for ids in sequences]),
        starts=torch.from_numpy(starts.astype(np.int64)),
        rows=column([rows[i] + start for i, start in zip(members, starts[:-1].tolist(), strict=True)]),
        following=column(following),
        place=column([np.arange(places[i], places[i + 1]) for i in members]),
        owner=column([np.full(len(rows[i]), i) for i in members]),
    )
