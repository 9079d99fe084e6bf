"""The driver of TP-GRPO's rounds: sample, evaluate, train, over a run folder that can be left and resumed anywhere.

Resuming: rollouts and verdicts are recorded one by one; a round's training is repeated from the checkpoint at its
start, which gives the same weights again (same machine, library versions and thread count). Monitors decide on the
recorded history alone, so a resumed run decides alike.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, final

from stepcredit.core.errors import PartialError
from stepcredit.core.records import Credit, Update
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.evaluate import Evaluated, evaluate_round
from stepcredit.training.history import STAGE, History, Round, RoundRow
from stepcredit.training.monitor_facts import (
    RoundFacts,
    behaviour_facts,
    judge_loops,
    known,
    largest_kl,
    outcome_facts,
    parse_rates,
    scorable_right,
    score_mass,
)
from stepcredit.training.monitoring import Firing, Readings, ask_round, ask_update, monitored_weight, strongest
from stepcredit.training.parts import Measurement, Parts, RoundSettings
from stepcredit.training.rejudge import SecondReading, rejudge_round
from stepcredit.training.round_figures import before_training, tokens_so_far
from stepcredit.training.sample import sample_round
from stepcredit.training.schedule import Signs, process_weight
from stepcredit.training.train import BAD_BATCH, Going, Trained, train_round

__all__ = ["RoundRow", "Watcher", "checkpoint_name", "recorded_firings", "run_rounds", "unknown_monitors"]


@final
@dataclass(frozen=True)
class Watcher:
    """What a caller may hear of a run while it goes on, and say to it; every field may be left as it is.

    Args:
        on_row: after each round, and once before the first (index -1).
        on_update: after each optimiser step.
        on_credit: the round's credits, for reports.
        stop: asked before each round, after sampling, after judging and after each update. Once it says True,
            `run_rounds` returns: rollouts and verdicts are recorded, and where the round was being trained, its
            updates are undone and will be taken again. A round whose last update is done is measured and recorded.
    """

    on_row: Callable[[RoundRow], None] = lambda _row: None
    on_update: Callable[[Update], None] = lambda _update: None
    on_credit: Callable[[int, Sequence[Credit]], None] = lambda _index, _credited: None
    stop: Callable[[], bool] = lambda: False


@final
@dataclass
class _Walk:
    """What a round needs at hand, and what it has seen so far; `updates` are all of the run, earlier rounds first."""

    parts: Parts
    settings: RoundSettings
    folder: RunFolder
    watch: Watcher
    history: History
    index: int
    marks: list[float] = field(default_factory=lambda: [time.monotonic()])
    rejected: int = 0
    updates: list[Update] = field(init=False)
    firings: list[Firing] = field(default_factory=list[Firing])
    figures: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        self.updates = self.history.updates

    @property
    def rollouts(self) -> int:
        """Rollouts sampled once this round is."""
        return self.history.rows[-1].rollouts + self.settings.problems * self.settings.group_size

    def mark(self) -> None:
        """One stage is done."""
        self.marks.append(time.monotonic())


async def run_rounds(
    parts: Parts, settings: RoundSettings, folder: RunFolder, *, watcher: Watcher | None = None
) -> list[RoundRow]:
    """Walk the rounds to the end, from wherever the folder stands.

    Args:
        parts: what walks; the learner holds the starting weights.
        settings: how.
        folder: where everything is recorded.
        watcher: told of rows, updates and credits as they come; may ask the run to stop.

    Returns:
        All rows, those of earlier sessions included; fewer than `settings.rounds` rounds if the watcher stopped it.

    Raises:
        EngineError: if an engine failed; the folder can be resumed.
        PartialError: if a monitor stopped the run; the round is recorded, and the same call goes on with the next.

    Source: tp_grpo.md 1.8. Differs: none.
    """
    watch = watcher or Watcher()
    history = History.of(folder.ledger)
    if history.rounds:
        _load(parts, folder, history.rows[-1].index)
    parts.sync()
    if not history.rounds:
        history.rounds.append(await _first_round(parts, folder))
        watch.on_row(history.rows[-1])
    for index in range(history.rows[-1].index + 1, settings.rounds):
        if watch.stop():
            break
        length = replace(settings, problems=_problems(settings, history))
        done = await _one_round(_Walk(parts, length, folder, watch, history, index))
        if done is None:
            break
        history.rounds.append(done)
        watch.on_row(done.row)
        _stop_if_told(done)
    return history.rows


def checkpoint_name(index: int, name: str = "learner") -> str:
    """Name of the checkpoint of the learner, or of a judge that learns, after a round; -1 is the start."""
    return f"{name}-{index + 1:04d}.bin"


def recorded_firings(folder: RunFolder) -> tuple[Firing, ...]:
    """Everything that the monitors of a run have fired so far, round by round."""
    return tuple(History.of(folder.ledger).firings)


def unknown_monitors(folder: RunFolder) -> tuple[str, ...]:
    """Monitors of the rounds whose inputs were absent in every round so far, by name."""
    told = [set(row["unknown"]) for row in folder.metrics() if row.get("kind") == "monitors"]
    return tuple(sorted(set[str]().union(*told[:1]).intersection(*told)))


async def _first_round(parts: Parts, folder: RunFolder) -> Round:
    measured = await parts.measure() if parts.measure else None
    spent = parts.spent() if parts.spent else None
    row = RoundRow(
        index=-1,
        rollouts=0,
        sampled_tokens=0,
        trained_tokens=0,
        judge_tokens=spent.judge if spent else None,
        signal_tokens=spent.signal if spent else None,
        **_measured(measured),
    )
    held_out = {} if measured is None else measured.figures
    first = Round(row, facts=RoundFacts(-1, 0, accuracy=row.accuracy, held_out=dict(held_out)))
    _record(folder, parts, first, readings=None)
    return first


async def _one_round(walk: _Walk) -> Round | None:
    """One round; `None` if the watcher stopped it before it was done."""
    parts, settings, folder, index = walk.parts, walk.settings, walk.folder, walk.index
    walk.rejected = len(parts.evidence.rejected()) if parts.evidence.rejected else 0
    rollouts = await sample_round(parts, settings, folder, round_index=index)
    if walk.watch.stop():
        return None
    walk.mark()
    evaluated = await evaluate_round(parts, settings, folder, rollouts=rollouts)
    scheduled = process_weight(settings.process_weight, index, history=_signs(walk.history.rounds))
    weight, reason = monitored_weight(settings.monitors, scheduled, round_index=index, firings=walk.history.firings)
    signals = await parts.signals([j.steps for j in evaluated.judgements], weight) if parts.signals else {}
    bound = partial(parts.credit, process_weight=weight, round_index=index, signals=signals)
    second = await rejudge_round(
        parts, settings, folder, evaluated=evaluated, credit=bound if weight else None, round_index=index
    )
    paid = bound(evaluated.groups, evaluated.judgements)
    walk.watch.on_credit(index, paid.credits)
    if walk.watch.stop():
        return None
    sizes = {"outcome_size": paid.sizes.outcome, "process_size": paid.sizes.process}
    walk.figures = before_training(parts, evaluated.groups, signals) | sizes
    walk.mark()
    trained = train_round(
        parts.learner,
        settings,
        folder,
        credited=paid.credits,
        round_index=index,
        after_update=lambda update: _after_update(walk, update),
        reference=parts.reference,
    )
    if trained.going == "leave":
        parts.learner.load(folder.read_checkpoint(checkpoint_name(index - 1)))
        parts.sync()
        return None
    parts.sync()
    learned = parts.learning.learn(evaluated.judgements, weight) if parts.learning else {}
    walk.mark()
    due = (index + 1) % settings.measure_every == 0 or index + 1 == settings.rounds
    measured = await parts.measure() if parts.measure and due and trained.going != "stop" else None
    walk.mark()
    row = _row(walk, evaluated, trained, measured=measured)
    facts = _facts(walk, evaluated, trained, second=second, row=row)
    readings = ask_round(settings.monitors, [*walk.history.facts, facts])
    firings = (*walk.firings, *readings.firings)
    row = replace(row, fired=sorted({f.monitor for f in firings}))
    if parts.judge is not None or parts.signals is not None:  # a rule of outcomes has no process stream to weigh
        row = replace(row, process_weight=weight, process_weight_reason=reason)
    done = Round(row, trained.updates, facts, firings)
    _record(folder, parts, done, readings=readings, learned=learned)
    return done


def _load(parts: Parts, folder: RunFolder, index: int) -> None:
    """The learner, and the judges that learn beside it, as they were after a round."""
    parts.learner.load(folder.read_checkpoint(checkpoint_name(index)))
    if parts.learning is not None:
        found = {name: folder.read_checkpoint(checkpoint_name(index, name)) for name in parts.learning.names}
        parts.learning.load(found)


def _after_update(walk: _Walk, update: Update) -> Going:
    """Tell the watcher, ask the monitors of the updates, and say how the round goes on."""
    walk.watch.on_update(update)
    walk.updates.append(update)
    readings = ask_update(walk.settings.monitors, walk.updates, round_index=walk.index, rollouts=walk.rollouts)
    walk.firings += readings.firings
    action = strongest(readings.firings)
    if action in ("stop", "end_round"):
        return action
    return "leave" if walk.watch.stop() else "on"


def _stop_if_told(done: Round) -> None:
    """Raise if a monitor of the round says `stop`; its row and checkpoint are safe by now."""
    told = [firing for firing in done.firings if firing.action == "stop"]
    if told:
        kept = [f"shard {BAD_BATCH}/{f.update}" for f in told if f.monitor == "skipped_updates"]
        kept += [f"shard columns/{f.round}" for f in told if f.monitor == "broken_logprobs"]
        where = f"; the batch is kept as {', '.join(kept)}" if kept else ""
        named = "; ".join(firing.sentence for firing in told)
        raise PartialError(f"stopped by monitor {named}{where}; the same command goes on after this round")


def _problems(settings: RoundSettings, history: History) -> int:
    """Problems of the next round: the settings', or as long as the drift of the last round allows."""
    length, last = settings.monitors.round_length, history.rows[-1]
    if length is None or last.problems is None:
        return settings.problems
    return length.after(last.problems, last.kl)


def _signs(rounds: Sequence[Round]) -> list[Signs]:
    """From the updates themselves: a KL that is not finite stands in them as NaN, in the rows as unknown."""
    played = [found for found in rounds if found.row.index >= 0]
    return [Signs(r.row.parse_rate, largest_kl(r.updates), r.row.accuracy) for r in played]


def _row(walk: _Walk, evaluated: Evaluated, trained: Trained, *, measured: Measurement | None) -> RoundRow:
    names = ("sample", "evaluate", "train", "measure")
    spent = zip(names, walk.marks[:-1], walk.marks[1:], strict=True)
    return RoundRow(
        index=walk.index,
        rollouts=walk.rollouts,
        seconds={name: round(b - a, 3) for name, a, b in spent},
        problems=walk.settings.problems,
        **walk.figures,
        **tokens_so_far(walk.parts, walk.history.rows[-1], evaluated, trained),
        **_evaluated(evaluated),
        **_trained(trained),
        **_measured(measured),
    )


def _facts(walk: _Walk, evaluated: Evaluated, trained: Trained, *, second: SecondReading, row: RoundRow) -> RoundFacts:
    """What the monitors look at after the round."""
    parts, evidence = walk.parts, walk.parts.evidence
    judged = evaluated.judgements if parts.judge else ()
    rejected = evidence.rejected()[walk.rejected :] if evidence.rejected else ()
    facts: dict[str, Any] = {
        **outcome_facts(evaluated.groups),
        **behaviour_facts(evaluated.judgements, evidence.reflections),
    }
    return RoundFacts(
        walk.index,
        walk.rollouts,
        right=row.right,
        accuracy=row.accuracy,
        parse=parse_rates(judged),
        agreement=second.agreement,
        changed=second.changed,
        score_mass=score_mass(judged, parts.judge.scale if parts.judge else None),
        judge_loops=judge_loops(judged, rejected),
        broken=trained.broken,
        impossible=trained.impossible,
        sampler_gap=trained.sampler_gap,
        kl_ratio=trained.kl_ratio,
        reference=parts.reference.fingerprint() if parts.reference else None,
        own=dict(evidence.figures(evaluated.outcomes)) if evidence.figures else {},
        held_out=row.figures,
        **facts,
    )


def _evaluated(evaluated: Evaluated) -> dict[str, Any]:
    outcomes = evaluated.outcomes
    lengths = [len(outcome.rollout.completion_ids) for outcome in outcomes]
    return {
        "right": scorable_right(outcomes),
        "unscorable": sum(outcome.status == "unscorable" for outcome in outcomes),
        "parse_rate": evaluated.parse_rate,
        "unknown_reasons": dict(evaluated.reasons.most_common(8)),
        "mean_tokens": sum(lengths) / len(lengths) if lengths else None,
        "cut": sum(o.rollout.finish == "length" for o in outcomes) / len(outcomes) if outcomes else None,
    }


def _trained(trained: Trained) -> dict[str, Any]:
    first, last = (trained.updates[0], trained.updates[-1]) if trained.updates else (None, None)
    return {
        "kept": trained.kept,
        "updates": len(trained.updates),
        "sampler_gap": trained.sampler_gap,
        "kl": last.kl_k3 if last else None,
        "largest_kl": known(largest_kl(trained.updates)),
        "clip_low": last.clip_low if last else None,
        "clip_high": last.clip_high if last else None,
        "entropy": last.entropy if last else None,
        "sampling_entropy": known(first.entropy) if first else None,
        "broken": trained.broken,
        "impossible": trained.impossible,
    }


def _measured(measured: Measurement | None) -> dict[str, Any]:
    return {} if measured is None else {"accuracy": measured.accuracy, "figures": measured.figures}


def _record(
    folder: RunFolder,
    parts: Parts,
    done: Round,
    *,
    readings: Readings | None,
    learned: Mapping[str, float] | None = None,
) -> None:
    """Checkpoints first, row after: a row in the ledger means that its checkpoints are on disk."""
    index = done.row.index
    states = {"learner": parts.learner.state(), **(parts.learning.state() if parts.learning else {})}
    for name, state in states.items():
        folder.write_checkpoint(checkpoint_name(index, name), state)
    for update in done.updates:
        metrics = {"kind": "update", "round": index, **asdict(update)}
        folder.append_metrics(metrics, key=f"update/{update.index}")
    for firing in done.firings:
        place = "" if firing.update is None else f"/{firing.update}"
        metrics = {"kind": "monitor", **firing.as_payload()}
        folder.append_metrics(metrics, key=f"monitor/{index}{place}/{firing.monitor}")
    if readings is not None:
        folder.append_metrics(readings.as_row(index), key=f"monitors/{index}")
    if learned:
        folder.append_metrics({"kind": "learning", "round": index, **learned}, key=f"learning/{index}")
    folder.append_metrics({"kind": "round", **asdict(done.row)}, key=f"round/{index}")
    folder.ledger.put(STAGE, str(index), done.as_payload())
    folder.ledger.flush()
    for name in states:
        folder.remove_checkpoint(checkpoint_name(index - 2, name))
