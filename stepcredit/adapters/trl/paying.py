"""The batch of all processes to credit: groups by place, the rule over all of it, the figures that the trainer logs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import final

from stepcredit.adapters.trl.settings import StepCredit
from stepcredit.core.errors import CreditError
from stepcredit.core.records import Credit, Group, Judgement, Outcome, Steps
from stepcredit.credit.batch import CreditSummary, assign
from stepcredit.steps import thoughts
from stepcredit.training.monitor_facts import askable


@final
@dataclass(frozen=True)
class Paid:
    """Credit of a batch.

    Args:
        credits: [N] one a completion, in the order of the processes.
        figures: for the trainer's log, by name; what is unknown is left out.
    """

    credits: tuple[Credit, ...]
    figures: dict[str, float]


def pay(cuts: Sequence[Judgement | Steps], credit: StepCredit, *, group_size: int, batch: str = "") -> Paid:
    """Credit of a whole batch; statistics are taken over complete groups, whichever processes sampled them.

    Args:
        cuts: [N] steps or judgements of all processes, in their order.
        credit: the rule and its settings.
        group_size: completions of each prompt; groups are neighbours.
        batch: name of the sampling call; the shuffled control draws by it.

    Raises:
        CreditError: if the batch is not made of whole groups, or the rule cannot read what the judge gives.

    Source: engines.md 1.5, trap 1. Differs: none.
    """
    outcomes = [_outcome(cut) for cut in cuts]
    if len(outcomes) % group_size:
        raise CreditError(f"got {len(outcomes)} completions, wanted whole groups of {group_size}")
    groups = tuple(
        Group(outcomes[k].rollout.group, tuple(outcomes[k : k + group_size]))
        for k in range(0, len(outcomes), group_size)
    )
    for group in groups:
        if [(o.rollout.group, o.rollout.sample) for o in group.outcomes] != [(group.id, k) for k in range(group_size)]:
            raise CreditError("the completions of the processes are not in the order of their groups", item=group.id)
    unit = credit.chosen.unit_for(credit.settings)
    given = [thoughts(cut) if unit == "thought" and isinstance(cut, Judgement) else cut for cut in cuts]
    credited, summary = assign(
        groups, given, rule=credit.rule, settings=credit.settings, keep=credit.keep, control=credit.control(batch)
    )
    return Paid(credited, {**_outcome_figures(outcomes), **_judge_figures(cuts), **_credit_figures(summary)})


def _outcome(cut: Judgement | Steps) -> Outcome:
    return cut.steps.outcome if isinstance(cut, Judgement) else cut.outcome


def _outcome_figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    known = [outcome.status == "right" for outcome in outcomes if outcome.status != "unscorable"]
    return {
        **({"right": sum(known) / len(known)} if known else {}),
        "unscorable": 1 - len(known) / len(outcomes),
        "cut": sum(outcome.rollout.finish == "length" for outcome in outcomes) / len(outcomes),
    }


def _judge_figures(cuts: Sequence[Judgement | Steps]) -> dict[str, float]:
    """Share of the judgements that could be read (F3), and of the steps without a verdict, among those asked about."""
    asked = [cut for cut in cuts if isinstance(cut, Judgement) and askable(cut)]
    steps = [verdict.known for judgement in asked for verdict in judgement.verdicts]
    if not asked:
        return {}
    return {
        "parse_rate": sum(judgement.known for judgement in asked) / len(asked),
        "unknown_steps": 1 - sum(steps) / len(steps),
        "steps": len(steps) / len(asked),
    }


def _credit_figures(summary: CreditSummary) -> dict[str, float]:
    figures = {
        "kept": summary.kept / summary.rollouts,
        "all_right": summary.all_right / summary.groups,
        "all_wrong": summary.all_wrong / summary.groups,
        "outcome_size": summary.outcome_size,
        "process_size": summary.process_size,
    }
    return {name: value for name, value in figures.items() if isfinite(value)}
