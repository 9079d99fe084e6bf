"""Stage 3 of a round: pack the kept rollouts, recompute old logprobs, take the updates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from stepcredit.core.pack import Pack, pack_of
from stepcredit.core.protocols import Learner
from stepcredit.core.records import Credit, Update
from stepcredit.core.seeds import derive
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.parts import RoundSettings


@final
@dataclass(frozen=True)
class Trained:
    """What stage 3 did.

    Args:
        updates: one record an optimiser step.
        kept: rollouts trained on.
        sampler_gap: mean absolute difference in nats between the trainer's logprobs and the sampler's, per token;
            `None` if the sampler reported none.
    """

    updates: tuple[Update, ...]
    kept: int
    sampler_gap: float | None


def train_round(
    learner: Learner,
    settings: RoundSettings,
    folder: RunFolder,
    *,
    credited: Sequence[Credit],
    round_index: int,
    on_update: Callable[[Update], None],
) -> Trained:
    """Train on one round's kept rollouts.

    Old logprobs are recomputed by the learner before its first update; the gap to the sampler's is reported, because it
    would otherwise be counted as drift.

    Source: tp_grpo.md 1.8 stage 3. Differs: none.
    """
    kept = [credit for credit in credited if credit.kept]
    if not kept:
        return Trained((), 0, None)
    packs, gap = _recomputed(learner, folder, kept=kept, round_index=round_index)
    updates: list[Update] = []
    for pass_index in range(settings.passes):
        order = _order(settings, round_index, pass_index, size=len(kept))
        for part in np.array_split(order, max(1, round(len(kept) / settings.rollouts_per_update))):
            update = learner.update(join([packs[i] for i in part]))
            updates.append(update)
            on_update(update)
    return Trained(tuple(updates), len(kept), gap)


def _order(settings: RoundSettings, round_index: int, pass_index: int, *, size: int) -> np.ndarray:
    return np.random.default_rng(derive(settings.seed, "order", round_index, pass_index)).permutation(size)


def _recomputed(
    learner: Learner, folder: RunFolder, *, kept: Sequence[Credit], round_index: int
) -> tuple[list[Pack], float | None]:
    """One Pack a rollout, with the learner's own old logprobs, and their gap to the sampler's."""
    pack = pack_of(kept)
    recomputed = learner.logprobs(pack)
    gap = _gap(pack, recomputed)
    pack = pack.with_old_logprobs(recomputed)
    write_columns(folder, pack, credited=kept, round_index=round_index)
    return [pack.slice(place, place + 1) for place in range(len(kept))], gap


def write_columns(folder: RunFolder, pack: Pack, *, credited: Sequence[Credit], round_index: int) -> None:
    """Keep the token columns that a round was trained on as one immutable shard."""
    columns: dict[str, np.ndarray] = {
        "ids": pack.ids,
        "starts": pack.starts,
        "trained": pack.trained,
        "advantages": pack.advantages,
        "old_logprobs": pack.old_logprobs,
        "rollout": np.array([credit.steps.rollout.id for credit in credited]),
    }
    folder.write_shard("columns", str(round_index), columns=columns)


def join(packs: Sequence[Pack]) -> Pack:
    """Packs laid end to end as one."""
    offsets = np.cumsum([0, *(len(p.ids) for p in packs)])
    starts = [p.starts[:-1] + offset for p, offset in zip(packs, offsets, strict=False)]
    references = [p.ref_logprobs for p in packs if p.ref_logprobs is not None]
    return Pack(
        ids=np.concatenate([p.ids for p in packs]),
        positions=np.concatenate([p.positions for p in packs]),
        starts=np.concatenate([*starts, offsets[-1:]]),
        trained=np.concatenate([p.trained for p in packs]),
        advantages=np.concatenate([p.advantages for p in packs]),
        old_logprobs=np.concatenate([p.old_logprobs for p in packs]),
        ref_logprobs=np.concatenate(references) if references else None,
    )


def _gap(pack: Pack, recomputed: np.ndarray) -> float | None:
    difference = np.abs(recomputed - pack.old_logprobs)[pack.trained]
    return None if np.isnan(difference).all() else float(np.nanmean(difference))
