"""What a run has behind it: rows, facts, updates and firings of its rounds, kept in the ledger and read back."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, final

from stepcredit.core.records import Update
from stepcredit.store.ledger import Ledger
from stepcredit.training.monitor_facts import RoundFacts, updates_of
from stepcredit.training.monitoring import Firing

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
        parse_rate: share of the rollouts that the judge could be asked about whose judgement was read; `None` if there
            was none, or no judge.
        unknown_reasons: reasons of unknown judgements, counted.
        kept: rollouts trained on.
        updates: optimiser steps.
        process_weight: weight of the process stream; `None` for rules that read outcomes only.
        process_weight_reason: the schedule's reason.
        sampler_gap: mean |trainer - sampler| logprob gap, nats per token.
        kl: KL(old || current) of the last update (k3), nats per token.
        largest_kl: the largest of the round's updates; `None` if no update was taken, or one was not finite.
        clip_low: share of tokens clipped from below at the last update.
        clip_high: share of tokens clipped from above.
        entropy: of the policy at the last update, nats per token.
        mean_tokens: completion tokens of a rollout.
        cut: share of rollouts that ended by length.
        seconds: wall time of each stage.
        accuracy: held-out accuracy after the round, `None` if not measured.
        figures: further held-out figures.
        fired: names of the monitors that fired, during the round or after it.
        problems: problems of the round; `None` in rows of older versions.
        sampled_tokens: completion tokens sampled so far, all rounds; this and all that follow are `None` where they are
            unknown, as in rows of older versions.
        trained_tokens: tokens of the updates so far, each pass counted.
        judge_tokens: read and written by the judge so far; what a round that was left took twice, counts twice.
        signal_tokens: the same for signals and the KL term: passes of the reference, continuations.
        sampling_entropy: of the policy that sampled the round: at its first update, nats per token.
        start_kl: KL of that policy to the starting one (k3), nats per token, on the first rollout of each group.
        start_kl_k1: the same as the plain mean of the log-ratio: times the tokens of a rollout, that of a rollout.
        zero_spread: share of the groups in which all outcomes are equal.
        guarded_ratios: log-ratios to a reference that were NaN or infinite, and so left unknown, in this round.
        outcome_size: mean absolute outcome part of the credit of a token; `None` if the rule has none.
        process_size: the same of the rest.
        broken: recomputed logprobs that are NaN.
        impossible: trained tokens to which the trainer or the sampler gives next to no probability.
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
    largest_kl: float | None = None
    clip_low: float | None = None
    clip_high: float | None = None
    entropy: float | None = None
    mean_tokens: float | None = None
    cut: float | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    accuracy: float | None = None
    figures: dict[str, float] = field(default_factory=dict[str, float])
    fired: list[str] = field(default_factory=list[str])
    problems: int | None = None
    sampled_tokens: int | None = None
    trained_tokens: int | None = None
    judge_tokens: int | None = None
    signal_tokens: int | None = None
    sampling_entropy: float | None = None
    start_kl: float | None = None
    start_kl_k1: float | None = None
    zero_spread: float | None = None
    guarded_ratios: int | None = None
    outcome_size: float | None = None
    process_size: float | None = None
    broken: int | None = None
    impossible: int | None = None


@final
@dataclass(frozen=True)
class Round:
    """One finished round; what the ledger holds under its index.

    Args:
        row: its row of the table.
        updates: its optimiser steps.
        facts: what the monitors looked at after it.
        firings: what fired, updates' monitors first.
    """

    row: RoundRow
    updates: tuple[Update, ...] = ()
    facts: RoundFacts | None = None
    firings: tuple[Firing, ...] = ()

    def as_payload(self) -> dict[str, Any]:
        """The round as JSON-able mapping."""
        return {
            "row": asdict(self.row),
            "updates": [asdict(update) for update in self.updates],
            "facts": None if self.facts is None else self.facts.as_payload(),
            "firings": [firing.as_payload() for firing in self.firings],
        }


@final
class History:
    """The rounds behind a run, oldest first.

    Args:
        rounds: finished rounds in order.
    """

    def __init__(self, rounds: Sequence[Round]) -> None:
        self.rounds = list(rounds)

    @staticmethod
    def of(ledger: Ledger) -> "History":
        """The history that a ledger holds."""
        payloads = [payload for _, payload in ledger.items(STAGE)]
        return History(sorted((_round_of(payload) for payload in payloads), key=lambda found: found.row.index))

    @property
    def rows(self) -> list[RoundRow]:
        """Rows of all rounds, the one before training first."""
        return [found.row for found in self.rounds]

    @property
    def facts(self) -> list[RoundFacts]:
        """Facts of all rounds; of rounds that an older version recorded, what their rows tell."""
        return [found.facts or _facts_of(found.row) for found in self.rounds]

    @property
    def updates(self) -> list[Update]:
        """All optimiser steps."""
        return [update for found in self.rounds for update in found.updates]

    @property
    def firings(self) -> list[Firing]:
        """Everything that fired."""
        return [firing for found in self.rounds for firing in found.firings]


def _round_of(payload: dict[str, Any]) -> Round:
    facts = payload.get("facts")
    return Round(
        RoundRow(**payload["row"]),
        tuple(updates_of(payload["updates"])),
        None if facts is None else RoundFacts(**facts),
        tuple(Firing(**firing) for firing in payload.get("firings", ())),
    )


def _facts_of(row: RoundRow) -> RoundFacts:
    return RoundFacts(
        row.index, row.rollouts, right=row.right, accuracy=row.accuracy, tokens=row.mean_tokens, truncated=row.cut,
        held_out=row.figures,
    )  # fmt: skip
