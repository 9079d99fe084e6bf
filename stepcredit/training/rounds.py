"""The driver of TP-GRPO's rounds: sample, evaluate, train, over a run folder that can be left and resumed anywhere.

Resuming: rollouts and verdicts are recorded one by one; a round's training is repeated from the checkpoint at its
start, which gives the same weights again (same machine, library versions and thread count).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, final

from stepcredit.core.records import Credit, Update
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.evaluate import Evaluated, evaluate_round
from stepcredit.training.parts import Measurement, Parts, RoundSettings
from stepcredit.training.sample import sample_round
from stepcredit.training.schedule import Signs, process_weight
from stepcredit.training.train import Trained, train_round

STAGE = "round"


@final
@dataclass(frozen=True)
class RoundRow:
    """One row of the per-round table; also a line of `metrics.jsonl`.

    Args:
        index: round, from 0; -1 holds the measurement before any training.
        rollouts: sampled rollouts so far, all rounds.
        right: share of right outcomes among the round's scorable rollouts.
        unscorable: rollouts without an outcome.
        parse_rate: share of scorable rollouts whose judgement was read.
        unknown_reasons: reasons of unknown judgements, counted.
        kept: rollouts trained on.
        updates: optimiser steps.
        process_weight: weight of the process stream, and the schedule's reason.
        sampler_gap: mean |trainer - sampler| logprob gap, nats per token.
        kl: KL(old || current) of the last update (k3), nats per token.
        clip_low: share of tokens clipped from below at the last update.
        clip_high: share of tokens clipped from above.
        entropy: of the policy at the last update, nats per token.
        mean_tokens: completion tokens of a rollout.
        cut: share of rollouts that ended by length.
        seconds: wall time of each stage.
        accuracy: held-out accuracy after the round, `None` if not measured.
        figures: further held-out figures.
    """

    index: int
    rollouts: int
    right: float | None = None
    unscorable: int = 0
    parse_rate: float | None = None
    unknown_reasons: dict[str, int] = field(default_factory=dict[str, int])
    kept: int = 0
    updates: int = 0
    process_weight: float | None = None
    process_weight_reason: str = ""
    sampler_gap: float | None = None
    kl: float | None = None
    clip_low: float | None = None
    clip_high: float | None = None
    entropy: float | None = None
    mean_tokens: float | None = None
    cut: float | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    accuracy: float | None = None
    figures: dict[str, float] = field(default_factory=dict[str, float])


@final
@dataclass(frozen=True)
class Watcher:
    """What a caller may hear of a run while it goes on; every field may be left as it is.

    Args:
        on_row: after each round, and once before the first (index -1).
        on_update: after each optimiser step.
        on_credit: the round's credits, for reports.
    """

    on_row: Callable[[RoundRow], None] = lambda _row: None
    on_update: Callable[[Update], None] = lambda _update: None
    on_credit: Callable[[int, Sequence[Credit]], None] = lambda _index, _credited: None


async def run_rounds(
    parts: Parts, settings: RoundSettings, folder: RunFolder, *, watcher: Watcher | None = None
) -> list[RoundRow]:
    """Walk the rounds to the end, from wherever the folder stands.

    Args:
        parts: what walks; the learner holds the starting weights.
        settings: how.
        folder: where everything is recorded.
        watcher: told of rows, updates and credits as they come.

    Returns:
        All rows, those of earlier sessions included.

    Raises:
        EngineError: if an engine failed; the folder can be resumed.

    Source: tp_grpo.md 1.8. Differs: none.
    """
    watch = watcher or Watcher()
    rows = _recorded(folder)
    if rows:
        parts.learner.load(folder.read_checkpoint(checkpoint_name(rows[-1].index)))
    parts.sync()
    if not rows:
        rows.append(await _first_row(parts, folder))
        watch.on_row(rows[-1])
    for index in range(rows[-1].index + 1, settings.rounds):
        row = await _one_round(parts, settings, folder, index=index, rows=rows, watch=watch)
        rows.append(row)
        watch.on_row(row)
    return rows


def checkpoint_name(index: int) -> str:
    """Name of the learner's checkpoint after a round; -1 is the start."""
    return f"learner-{index + 1:04d}.bin"


async def _first_row(parts: Parts, folder: RunFolder) -> RoundRow:
    measured = await parts.measure() if parts.measure else None
    row = RoundRow(index=-1, rollouts=0, **_measured(measured))
    _record(folder, parts, row, updates=())
    return row


async def _one_round(
    parts: Parts, settings: RoundSettings, folder: RunFolder, *, index: int, rows: Sequence[RoundRow], watch: Watcher
) -> RoundRow:
    marks = [time.monotonic()]
    rollouts = await sample_round(parts, settings, folder, round_index=index)
    marks.append(time.monotonic())
    evaluated = await evaluate_round(parts, settings, folder, rollouts=rollouts)
    weight, reason = process_weight(settings.process_weight, index, history=_signs(rows))
    credited = parts.credit(evaluated.groups, evaluated.judgements, process_weight=weight, round_index=index)
    watch.on_credit(index, credited)
    marks.append(time.monotonic())
    trained = train_round(
        parts.learner, settings, folder, credited=credited, round_index=index, on_update=watch.on_update
    )
    parts.sync()
    marks.append(time.monotonic())
    due = (index + 1) % settings.measure_every == 0 or index + 1 == settings.rounds
    measured = await parts.measure() if parts.measure and due else None
    marks.append(time.monotonic())
    names = ("sample", "evaluate", "train", "measure")
    seconds = {name: round(b - a, 3) for name, a, b in zip(names, marks[:-1], marks[1:], strict=True)}
    row = RoundRow(
        index=index,
        rollouts=(index + 1) * settings.problems * settings.group_size,
        process_weight=weight,
        process_weight_reason=reason,
        seconds=seconds,
        **_evaluated(evaluated),
        **_trained(trained),
        **_measured(measured),
    )
    _record(folder, parts, row, updates=trained.updates)
    return row


def _signs(rows: Sequence[RoundRow]) -> list[Signs]:
    played = [row for row in rows if row.index >= 0]
    return [Signs(1.0 if r.parse_rate is None else r.parse_rate, r.kl or 0.0, r.accuracy) for r in played]


def _evaluated(evaluated: Evaluated) -> dict[str, Any]:
    outcomes = evaluated.outcomes
    scorable = [outcome for outcome in outcomes if outcome.status != "unscorable"]
    lengths = [len(outcome.rollout.completion_ids) for outcome in outcomes]
    return {
        "right": sum(o.status == "right" for o in scorable) / len(scorable) if scorable else None,
        "unscorable": len(outcomes) - len(scorable),
        "parse_rate": evaluated.parse_rate,
        "unknown_reasons": dict(evaluated.reasons.most_common(8)),
        "mean_tokens": sum(lengths) / len(lengths) if lengths else None,
        "cut": sum(o.rollout.finish == "length" for o in outcomes) / len(outcomes) if outcomes else None,
    }


def _trained(trained: Trained) -> dict[str, Any]:
    last = trained.updates[-1] if trained.updates else None
    return {
        "kept": trained.kept,
        "updates": len(trained.updates),
        "sampler_gap": trained.sampler_gap,
        "kl": last.kl_k3 if last else None,
        "clip_low": last.clip_low if last else None,
        "clip_high": last.clip_high if last else None,
        "entropy": last.entropy if last else None,
    }


def _measured(measured: Measurement | None) -> dict[str, Any]:
    return {} if measured is None else {"accuracy": measured.accuracy, "figures": measured.figures}


def _record(folder: RunFolder, parts: Parts, row: RoundRow, *, updates: Sequence[Update]) -> None:
    """Checkpoint first, row after: a row in the ledger means that its checkpoint is on disk."""
    folder.write_checkpoint(checkpoint_name(row.index), parts.learner.state())
    payload = {"row": asdict(row), "updates": [asdict(update) for update in updates]}
    for update in updates:
        metrics = {"kind": "update", "round": row.index, **asdict(update)}
        folder.append_metrics(metrics, key=f"update/{update.index}")
    folder.append_metrics({"kind": "round", **asdict(row)}, key=f"round/{row.index}")
    folder.ledger.put(STAGE, str(row.index), payload)
    folder.ledger.flush()
    folder.remove_checkpoint(checkpoint_name(row.index - 2))


def _recorded(folder: RunFolder) -> list[RoundRow]:
    payloads = [payload for _, payload in folder.ledger.items(STAGE)]
    return sorted((RoundRow(**payload["row"]) for payload in payloads), key=lambda row: row.index)
