"""When process and outcome rewards take turns: the process_weight schedules F1 (the paper's lambda)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from stepcredit.core.errors import UsageError
from stepcredit.credit.choices import check_choice, check_number

Kind = Literal["process", "outcome", "alternate", "anneal", "adaptive"]


@final
@dataclass(frozen=True)
class Signs:
    """What the adaptive schedule looks at after each round.

    Args:
        parse_rate: share of the rollouts that the judge could be asked about whose judgement was read, in [0, 1];
            `None` if there was none.
        kl: largest moving KL(old || current) of the round's updates, nats per token; NaN if one of them was not
            finite, `None` if no update was taken.
        accuracy: held-out accuracy after the round, `None` if it was not measured.
    """

    parse_rate: float | None
    kl: float | None
    accuracy: float | None


@final
@dataclass(frozen=True)
class ProcessWeight:
    """Schedule of process_weight over rounds; 1 is the paper, 0 is outcome-only GRPO.

    Args:
        kind: `process` (always 1), `outcome` (always 0), `alternate` (process_rounds of 1, then outcome_rounds of 0),
            `anneal` (linear from 1 to 0 over anneal_rounds), `adaptive` (0 while a sign is out of bounds or unknown, 1
            after).
        process_rounds: rounds of 1 in a cycle of `alternate`.
        outcome_rounds: rounds of 0 in a cycle of `alternate`.
        anneal_rounds: rounds until `anneal` is at 0.
        min_parse_rate: `adaptive` goes to 0 below this share of readable judgements.
        max_kl: `adaptive` goes to 0 above this KL, nats per token.
        flat_rounds: `adaptive` goes to 0 when accuracy rose by less than `flat_gain` over the so many rounds that end
            with the newest measurement; 0 = never.
        flat_gain: least rise of held-out accuracy that counts as learning.

    Raises:
        UsageError: for an unknown kind, or a bound outside its range.

    Source: tp_grpo.md 6, F1. Differs: the paper leaves the alternation open; the bounds are our choice.
    """

    kind: Kind = "process"
    process_rounds: int = 1
    outcome_rounds: int = 1
    anneal_rounds: int = 8
    min_parse_rate: float = 0.9
    max_kl: float = 0.1
    flat_rounds: int = 0
    flat_gain: float = 0.005

    def __post_init__(self) -> None:
        check_choice("process_weight schedule", self.kind, Kind)
        for name in ("min_parse_rate", "max_kl", "flat_gain"):
            check_number(f"process_weight schedule: {name}", getattr(self, name))
        if self.min_parse_rate > 1.0:
            raise UsageError(f"process_weight schedule: min_parse_rate must be in [0, 1], got {self.min_parse_rate}")
        if min(self.process_rounds, self.outcome_rounds, self.anneal_rounds) < 1 or self.flat_rounds < 0:
            raise UsageError("process_weight schedule: rounds must be at least 1 (flat_rounds at least 0)")


def process_weight(schedule: ProcessWeight, round_index: int, *, history: Sequence[Signs] = ()) -> tuple[float, str]:
    """Weight of the process stream in one round, and why; replayable from the history alone.

    Args:
        schedule: the settings.
        round_index: the round about to be credited, from 0.
        history: signs of all rounds before it, in order.

    Returns:
        Weight in [0, 1] and the reason for the switch log.

    Source: tp_grpo.md 6, F1. Differs: none.

    >>> process_weight(ProcessWeight("alternate", process_rounds=2), 2)
    (0.0, 'alternate: outcome round 1 of 1')
    >>> process_weight(ProcessWeight("anneal", anneal_rounds=4), 1)[0]
    0.75
    """
    if schedule.kind == "process":
        return 1.0, "process"
    if schedule.kind == "outcome":
        return 0.0, "outcome"
    if schedule.kind == "alternate":
        place = round_index % (schedule.process_rounds + schedule.outcome_rounds)
        if place < schedule.process_rounds:
            return 1.0, f"alternate: process round {place + 1} of {schedule.process_rounds}"
        return 0.0, f"alternate: outcome round {place - schedule.process_rounds + 1} of {schedule.outcome_rounds}"
    if schedule.kind == "anneal":
        return max(0.0, 1.0 - round_index / schedule.anneal_rounds), "anneal"
    reason = _out_of_bounds(schedule, history)
    return (0.0, f"adaptive: {reason}") if reason else (1.0, "adaptive: all signs in bounds")


def _out_of_bounds(schedule: ProcessWeight, history: Sequence[Signs]) -> str:
    if not history:
        return ""
    last = history[-1]
    if last.parse_rate is None:
        return "parse rate unknown, the judge could be asked about no rollout"
    if not last.parse_rate >= schedule.min_parse_rate:
        return f"parse rate {last.parse_rate:.3f} below {schedule.min_parse_rate}"
    if last.kl is None:
        return "KL unknown, no update was taken"
    if not math.isfinite(last.kl):
        return "KL is not finite"
    if last.kl > schedule.max_kl:
        return f"KL {last.kl:.4f} above {schedule.max_kl}"
    return _flat(schedule, history) if schedule.flat_rounds else ""


def _flat(schedule: ProcessWeight, history: Sequence[Signs]) -> str:
    """That accuracy stood still in the rounds to the newest measurement; empty if it rose, or too little is known."""
    told = [(index, signs.accuracy) for index, signs in enumerate(history)]
    curve = [(index, accuracy) for index, accuracy in told if accuracy is not None and math.isfinite(accuracy)]
    if not curve:
        return ""
    first = curve[-1][0] - schedule.flat_rounds
    before = [accuracy for index, accuracy in curve if index <= first]
    if not before:
        return ""
    gain = max(accuracy for index, accuracy in curve if index > first) - max(before)
    if gain < schedule.flat_gain:
        return f"accuracy rose by {gain:.4f} in {schedule.flat_rounds} rounds"
    return ""
