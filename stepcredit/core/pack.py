"""The Pack: what goes to the learner. Sequences (prompt + completion) stand end to end, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from stepcredit.core.arrays import frozen
from stepcredit.core.errors import LayoutError
from stepcredit.core.records import Credit, Rollout


@final
@dataclass(frozen=True)
class Pack:
    """Columns of the sequences of one update, end to end.

    Args:
        ids: [X] token ids, prompts included.
        positions: [X] position of each token in its own sequence, from 0.
        starts: [N + 1] first token of each sequence, and X.
        trained: [X] True for tokens the policy wrote and is trained on.
        advantages: [X] advantage of each token, 0 where not trained.
        old_logprobs: [X] log probability of `ids[x]` under the policy that sampled, in nats, NaN where not trained.
        ref_logprobs: [X] the same under the frozen reference, or `None`.

    Raises:
        LayoutError: if columns disagree in length, or an old logprob or advantage of a trained token is NaN.
    """

    ids: Int32[np.ndarray, " X"]
    positions: Int32[np.ndarray, " X"]
    starts: Int64[np.ndarray, " N+1"]
    trained: Bool[np.ndarray, " X"]
    advantages: Float32[np.ndarray, " X"]
    old_logprobs: Float32[np.ndarray, " X"]
    ref_logprobs: Float32[np.ndarray, " X"] | None = None

    def __post_init__(self) -> None:
        kinds = {"ids": np.int32, "positions": np.int32, "starts": np.int64, "trained": np.bool_}
        kinds |= {"advantages": np.float32, "old_logprobs": np.float32, "ref_logprobs": np.float32}
        for name, dtype in kinds.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, frozen(getattr(self, name), dtype))
        size = len(self.ids)
        for name in ("positions", "trained", "advantages", "old_logprobs", "ref_logprobs"):
            column = getattr(self, name)
            if column is not None and len(column) != size:
                raise LayoutError(f"Pack.{name} has {len(column)} entries for {size} tokens")
        if self.starts[0] != 0 or self.starts[-1] != size or (np.diff(self.starts) <= 0).any():
            raise LayoutError("Pack.starts must rise from 0 to the number of tokens")
        if np.isnan(self.advantages[self.trained]).any():
            raise LayoutError("a trained token has no advantage (NaN)")

    @property
    def sequences(self) -> int:
        """N, number of sequences."""
        return len(self.starts) - 1

    @property
    def trained_tokens(self) -> int:
        """Number of trained tokens: the token-level loss is normalised by it."""
        return int(self.trained.sum())

    def slice(self, first: int, last: int) -> "Pack":
        """The sequences first..last-1 as a Pack of their own."""
        a, b = int(self.starts[first]), int(self.starts[last])
        return replace(
            self,
            ids=self.ids[a:b],
            positions=self.positions[a:b],
            starts=self.starts[first : last + 1] - a,
            trained=self.trained[a:b],
            advantages=self.advantages[a:b],
            old_logprobs=self.old_logprobs[a:b],
            ref_logprobs=None if self.ref_logprobs is None else self.ref_logprobs[a:b],
        )

    def with_old_logprobs(self, old_logprobs: Float32[np.ndarray, " X"]) -> "Pack":
        """The same Pack with old logprobs as recomputed by the trainer."""
        return replace(self, old_logprobs=old_logprobs)


def pack_of(credited: Sequence[Credit]) -> Pack:
    """Pack credited rollouts for the learner; prompts are never trained on.

    Args:
        credited: N credits; the sampler's logprobs become the old logprobs, NaN where it reported none.

    Raises:
        LayoutError: for `retokenised` text (its ids were never sampled) and for `open` rollouts.
    """
    pack = pack_of_rollouts([credit.steps.rollout for credit in credited])
    advantages = pack.advantages.copy()
    advantages[pack.trained] = np.concatenate([credit.advantages for credit in credited])
    return replace(pack, advantages=advantages)


def pack_of_rollouts(rollouts: Sequence[Rollout]) -> Pack:
    """Pack rollouts that have no credit yet, for a look at their logprobs; all advantages are 0.

    Args:
        rollouts: at least one; the sampler's logprobs become the old logprobs, NaN where it reported none.

    Raises:
        LayoutError: as `pack_of`.
    """
    for rollout in rollouts:
        _check_trainable(rollout)
    lengths = [(len(r.prompt_ids), len(r.completion_ids)) for r in rollouts]
    starts = np.concatenate([[0], np.cumsum([p + c for p, c in lengths])])
    trained = np.concatenate([np.repeat([False, True], pair) for pair in lengths])
    size = int(starts[-1])
    old = np.full(size, np.nan, np.float32)
    blank = [np.full(len(r.completion_ids), np.nan, np.float32) for r in rollouts]
    logged = [b if r.sampler_logprobs is None else r.sampler_logprobs for r, b in zip(rollouts, blank, strict=True)]
    old[trained] = np.concatenate(logged)
    return Pack(
        ids=np.concatenate([part for r in rollouts for part in (r.prompt_ids, r.completion_ids)]),
        positions=np.concatenate([np.arange(p + c) for p, c in lengths]),
        starts=starts,
        trained=trained,
        advantages=np.zeros(size, np.float32),
        old_logprobs=old,
    )


def _check_trainable(rollout: Rollout) -> None:
    if rollout.retokenised:
        raise LayoutError(
            "recorded text was re-tokenised, its ids were never sampled: it cannot be trained on", item=rollout.id
        )
    if rollout.finish == "open":
        raise LayoutError("an unfinished rollout cannot be trained on", item=rollout.id)
    if rollout.prefix is not None:
        raise LayoutError("a continuation cannot be trained on as a rollout of its own", item=rollout.id)
