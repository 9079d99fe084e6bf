"""Stage 3 of a round: pack the kept rollouts, recompute old logprobs, take the updates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np

from stepcredit.core.errors import UsageError
from stepcredit.core.pack import Pack, pack_of
from stepcredit.core.protocols import Learner
from stepcredit.core.records import Credit, Update
from stepcredit.core.seeds import derive
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.monitor_formulas import unfinite
from stepcredit.training.parts import Reference, RoundSettings

IMPOSSIBLE = -40.0
"""A sampled token of this logprob or less was as good as impossible (float32 rounds e^-40 away beside 1)."""

BAD_BATCH = "bad_batch"
"""Stage under which the batch of an update is kept that was not finite and stopped the run."""

Going = Literal["on", "end_round", "stop", "leave"]
"""What follows an update: the next one, none in this round, the end of the run, or leaving before the round is done."""


@final
@dataclass(frozen=True)
class Trained:
    """What stage 3 did.

    Args:
        updates: one record an optimiser step.
        kept: rollouts trained on.
        sampler_gap: mean absolute difference in nats between the trainer's logprobs and the sampler's, per token;
            `None` if the sampler reported none.
        going: `on` if all updates were taken, else why the round ended before.
        broken: recomputed logprobs that are NaN; no update is taken then.
        impossible: trained tokens to which trainer or sampler gives next to no probability.
        kl_ratio: mean size of the KL term over that of the advantages at the start of the round; `None` without both.
    """

    updates: tuple[Update, ...]
    kept: int
    sampler_gap: float | None
    going: Going = "on"
    broken: int | None = None
    impossible: int | None = None
    kl_ratio: float | None = None


def train_round(
    learner: Learner,
    settings: RoundSettings,
    folder: RunFolder,
    *,
    credited: Sequence[Credit],
    round_index: int,
    after_update: Callable[[Update], Going],
    reference: Reference | None = None,
) -> Trained:
    """Train on one round's kept rollouts.

    Old logprobs are recomputed by the learner before its first update, or taken from the sampler, as the settings say.
    The gap between the two is reported either way, because it would otherwise be counted as drift; where the sampler's
    are taken it is measured on the share of one update.

    Args:
        learner: what is trained.
        settings: size and order of the updates.
        folder: keeps the token columns.
        credited: the round's credits.
        round_index: the round.
        after_update: told of each update, says how to go on. Where it says `stop` after an update that was not finite,
            that batch is kept as a shard.
        reference: of the KL term.

    Raises:
        UsageError: if the sampler's logprobs are to be taken and it reported none.

    Source: tp_grpo.md 1.8 stage 3. Differs: none.
    """
    kept = [credit for credit in credited if credit.kept]
    if not kept:
        return Trained((), 0, None)
    pack = pack_of(kept)
    pack, trained = _old_logprobs(learner, settings, pack)
    if reference is not None:
        pack = replace(pack, ref_logprobs=reference.logprobs(pack))
        trained = replace(trained, kl_ratio=kl_ratio(pack, reference.weight))
    names = np.array([credit.steps.rollout.id for credit in kept])
    write_columns(folder, pack, names=names, key=str(round_index))
    if trained.broken:
        return replace(trained, going="end_round")
    packs = [pack.slice(place, place + 1) for place in range(len(kept))]
    updates: list[Update] = []
    batches = _batches(settings, round_index, size=len(kept))
    for place, part in enumerate(batches, start=1):
        batch = join([packs[i] for i in part])
        updates.append(learner.update(batch))
        going = after_update(updates[-1])
        if going == "leave" and place == len(batches):
            going = "on"  # nothing is left to undo it for
        if going == "stop" and unfinite(updates[-1]):
            write_columns(folder, batch, names=names[part], key=str(updates[-1].index), stage=BAD_BATCH)
        if going != "on":
            return replace(trained, updates=tuple(updates), going=going)
    return replace(trained, updates=tuple(updates))


def _old_logprobs(learner: Learner, settings: RoundSettings, pack: Pack) -> tuple[Pack, Trained]:
    """The pack with the old logprobs that the ratio is taken to, and what their comparison showed."""
    kept = len(pack.starts) - 1
    sampled = settings.old_logprobs == "sampler"
    if sampled and np.isnan(pack.old_logprobs[pack.trained]).any():
        raise UsageError('old_logprobs = "sampler", but the sampler reported none; set "learner" to recompute them')
    seen = pack.slice(0, min(kept, settings.rollouts_per_update)) if sampled else pack
    recomputed = learner.logprobs(seen)
    broken, impossible = _faults(seen, recomputed)
    trained = Trained((), kept, _gap(seen, recomputed), broken=broken, impossible=impossible)
    return pack if sampled else pack.with_old_logprobs(recomputed), trained


def _batches(settings: RoundSettings, round_index: int, *, size: int) -> list[np.ndarray]:
    """Indices of the kept rollouts of each update of the round, all passes."""
    parts = max(1, round(size / settings.rollouts_per_update))
    orders = (_order(settings, round_index, pass_index, size=size) for pass_index in range(settings.passes))
    return [part for order in orders for part in np.array_split(order, parts)]


def _order(settings: RoundSettings, round_index: int, pass_index: int, *, size: int) -> np.ndarray:
    return np.random.default_rng(derive(settings.seed, "order", round_index, pass_index)).permutation(size)


def write_columns(folder: RunFolder, pack: Pack, *, names: np.ndarray, key: str, stage: str = "columns") -> None:
    """Keep token columns as one immutable shard: those that a round was trained on, or those of one bad batch.

    Args:
        folder: the run folder.
        pack: the columns.
        names: [N] ids of the rollouts.
        key: of the shard: the round, or the update.
        stage: of the shard.
    """
    columns: dict[str, np.ndarray] = {
        "ids": pack.ids,
        "starts": pack.starts,
        "trained": pack.trained,
        "advantages": pack.advantages,
        "old_logprobs": pack.old_logprobs,
        "rollout": names,
    }
    folder.write_shard(stage, key, columns=columns)


def kl_ratio(pack: Pack, weight: float) -> float | None:
    """Mean KL penalty of the trained tokens (weight times k3 to the reference) over their mean absolute advantage.

    Args:
        pack: with reference logprobs; the old logprobs are those of the policy at the start of the round.
        weight: of the KL term.

    Returns:
        The ratio, `None` without reference or where all advantages are 0.

    Source: tp_grpo.md 1.7 (beta); Shao et al. 2024, arXiv:2402.03300 (k3). Differs: at the start of the round.
    """
    if pack.ref_logprobs is None or not pack.trained_tokens:
        return None
    log_ratio = (pack.ref_logprobs - pack.old_logprobs)[pack.trained].astype(np.float64)
    size = float(np.abs(pack.advantages[pack.trained], dtype=np.float64).mean())
    return weight * float((np.expm1(log_ratio) - log_ratio).mean()) / size if size else None


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
    with np.errstate(invalid="ignore"):  # both impossible: unknown, as NaN says
        difference = np.abs(recomputed - pack.old_logprobs)[pack.trained]
    return None if np.isnan(difference).all() else float(np.nanmean(difference))


def _faults(pack: Pack, recomputed: np.ndarray) -> tuple[int, int]:
    """Trained tokens whose logprob is NaN, and those that the trainer or the sampler holds to be impossible."""
    own, sampled = recomputed[pack.trained], pack.old_logprobs[pack.trained]
    return int(np.isnan(own).sum()), int(((own <= IMPOSSIBLE) | (sampled <= IMPOSSIBLE)).sum())
