"""Logged rollouts under every rule: what each would have paid, side by side on the same tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from jaxtyping import Float32

from stepcredit.adapters.judging import judge_all
from stepcredit.adapters.logged.formats import LoggedRollout
from stepcredit.adapters.logged.threshold import (
    RIGHT_ABOVE,
    OutcomeCounts,
    check_threshold,
    counted,
    threshold_warning,
)
from stepcredit.adapters.loop import Loop
from stepcredit.core.digests import digest
from stepcredit.core.errors import CreditError, StepsError, UsageError
from stepcredit.core.protocols import Judge, Splitter, Tokenizer
from stepcredit.core.records import Group, Judgement, Outcome, Problem, Rollout, Steps
from stepcredit.credit import Need, Rule, all_rules, rule_named
from stepcredit.credit.batch import assign
from stepcredit.engines.byte_tokenizer import ByteTokenizer
from stepcredit.steps import retokenise, thoughts

LOGGED = "logged"
"""Name of what the run itself paid, beside the rules."""


@final
@dataclass(frozen=True)
class RuleFigures:
    """What one rule pays.

    Args:
        name: of the rule, or `logged`.
        paid: share of the rollouts with a known advantage.
        size: mean absolute advantage a token, over known ones.
        variance: of the advantages of these tokens.
        process_size: mean absolute process part a token; `None` for what the run logged.
        correlation: Pearson's with each other rule over the tokens that both pay, `None` where one does not vary.
    """

    name: str
    paid: float
    size: float
    variance: float
    process_size: float | None
    correlation: dict[str, float | None] = field(default_factory=dict[str, float | None])


@final
@dataclass(frozen=True)
class Compared:
    """A log under every rule that it allows.

    Args:
        rollouts: number of rollouts.
        groups: number of groups.
        tokens: number of tokens, of the tokenizer that was given.
        rules: what each paid, by name.
        advantages: [T] each rule's advantages, rollouts end to end in the order of the log, NaN where unknown.
        left_out: rules that the log does not allow, and why.
        outcomes: how many were taken as right and as wrong, and where rewards were cut.
        warning: what is to be feared of that threshold; empty if nothing is.
    """

    rollouts: int
    groups: int
    tokens: int
    rules: dict[str, RuleFigures]
    advantages: dict[str, Float32[np.ndarray, " T"]]
    left_out: dict[str, str]
    outcomes: OutcomeCounts
    warning: str = ""

    def as_markdown(self) -> str:
        """The table; correlations are those of the rule in the row with the rule in the column."""
        names = list(self.rules)
        head = ["rule", "paid", "size", "variance", "process", *(f"r with {name}" for name in names)]
        lines = [
            f"{self.rollouts} rollouts in {self.groups} groups, {self.tokens} tokens.",
            f"Outcomes: {self.outcomes}.",
            *([f"Warning: {self.warning}."] if self.warning else []),
            "",
            "| " + " | ".join(head) + " |",
            "|" + " --- |" * len(head),
        ]
        for row in self.rules.values():
            cells = [row.name, f"{row.paid:.3f}", f"{row.size:.3f}", f"{row.variance:.3f}", _cell(row.process_size)]
            lines.append("| " + " | ".join([*cells, *(_cell(row.correlation[name]) for name in names)]) + " |")
        return "\n".join([*lines, "", *(f"Left out: {name}: {why}." for name, why in self.left_out.items())])


def retro_credit(
    rows: Sequence[LoggedRollout],
    splitter: Splitter,
    *,
    judge: Judge | None = None,
    settings: Mapping[str, object] | None = None,
    tokenizer: Tokenizer | None = None,
    right_above: float = RIGHT_ABOVE,
    judging: int = 64,
) -> Compared:
    """Pay logged rollouts by every rule that their fields and the judge allow.

    Ids are made from text again, so the credit is for comparison and never for training.

    Args:
        rows: as `read_log` gives them: members of a group side by side.
        splitter: cuts completions into steps.
        judge: gives verdicts; `None` leaves out the rules that read them.
        settings: settings of rules by name; others take their defaults.
        tokenizer: the policy's; `None` takes bytes as tokens.
        right_above: a reward above it is right, else wrong; none is unscorable.
        judging: rollouts that wait for the judge at the same time.

    Raises:
        UsageError: if there are no rows, settings name no rule, `right_above` is not finite, `judging` is below 1, or
            the tokenizer cannot encode a completion.

    Source: own; the rules are those of the table in `stepcredit.credit`. Differs: none.
    """
    if not rows:
        raise UsageError("there are no rollouts to pay; read_log gives those of a log")
    for name in settings or {}:
        rule_named(name)
    outcomes = outcomes_of(rows, tokenizer=tokenizer, right_above=right_above)
    groups = _groups(outcomes)
    with Loop() as loop:
        cuts = loop.run(judge_all(outcomes, splitter, judge, judging=judging, timeout_s=None))
    advantages: dict[str, Float32[np.ndarray, " T"]] = {}
    process: dict[str, float | None] = {}
    left_out: dict[str, str] = {}
    for name, rule in all_rules().items():
        given = (settings or {}).get(name, rule.settings())
        try:
            process[name], advantages[name] = _paid(name, rule, given, groups=groups, cuts=cuts)
        except (CreditError, StepsError) as error:
            left_out[name] = str(error)
    if any(row.advantage is not None for row in rows):
        process[LOGGED], advantages[LOGGED] = None, _logged(rows, outcomes)
    sizes = [len(outcome.rollout.completion_ids) for outcome in outcomes]
    figures = {name: _figures(name, process[name], advantages, sizes) for name in advantages}
    counts, warning = counted(outcomes, right_above), threshold_warning(rows, right_above)
    return Compared(len(outcomes), len(groups), sum(sizes), figures, advantages, left_out, counts, warning)


def outcomes_of(
    rows: Sequence[LoggedRollout], *, tokenizer: Tokenizer | None = None, right_above: float = RIGHT_ABOVE
) -> list[Outcome]:
    """One outcome a row, in their order; ids are made from text again, and marked so.

    Args:
        rows: as `read_log` gives them.
        tokenizer: the policy's; `None` takes bytes as tokens.
        right_above: a reward above it is right, else wrong; none is unscorable.

    Raises:
        UsageError: if `right_above` is not finite, or the tokenizer cannot encode a completion.
    """
    check_threshold(right_above)
    return [_outcome(row, k, tokenizer or ByteTokenizer(), right_above) for k, row in enumerate(_numbered(rows))]


def _numbered(rows: Sequence[LoggedRollout]) -> list[tuple[LoggedRollout, int]]:
    counts: dict[str, int] = {}
    numbered: list[tuple[LoggedRollout, int]] = []
    for row in rows:
        numbered.append((row, counts.get(row.group, 0)))
        counts[row.group] = counts.get(row.group, 0) + 1
    return numbered


def _outcome(
    row_and_sample: tuple[LoggedRollout, int], index: int, tokenizer: Tokenizer, right_above: float
) -> Outcome:
    row, sample = row_and_sample
    try:
        ids, text, char_starts = retokenise(row.completion, tokenizer)
    except UsageError as error:
        raise UsageError(f"{error}; give the tokenizer of the policy, or none for bytes", item=row.place) from error
    problem = Problem(digest(row.prompt, row.answer)[:12], row.prompt, row.answer, "log")
    prompt = np.zeros(0, np.int32)
    rollout = Rollout(
        f"{row.group}#{index}", problem, row.group, sample, text, prompt, ids, char_starts, retokenised=True
    )
    if row.reward is None:
        return Outcome(rollout, "unscorable", reason="the log has no reward")
    return Outcome(rollout, "right" if row.reward > right_above else "wrong", reason=f"reward {row.reward:g}")


def _groups(outcomes: Sequence[Outcome]) -> tuple[Group, ...]:
    members: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        members.setdefault(outcome.rollout.group, []).append(outcome)
    return tuple(Group(name, tuple(found)) for name, found in members.items())


def _paid(
    name: str, rule: Rule, settings: Any, *, groups: Sequence[Group], cuts: Sequence[Judgement | Steps]
) -> tuple[float, Float32[np.ndarray, " T"]]:
    """Size of the process part, and the advantages."""
    absent = [str(need) for need in rule.needs if need not in (Need.OUTCOME, Need.FLAGS, Need.SCORES)]
    if absent:
        raise CreditError(f"reads {', '.join(absent)}, which the log does not have")
    unit = rule.unit_for(settings)
    given = [thoughts(cut) if unit == "thought" and isinstance(cut, Judgement) else cut for cut in cuts]
    credited, summary = assign(groups, given, rule=name, settings=settings, keep="all")
    return summary.process_size, np.concatenate([credit.advantages for credit in credited])


def _logged(rows: Sequence[LoggedRollout], outcomes: Sequence[Outcome]) -> Float32[np.ndarray, " T"]:
    """What the run itself paid, the same on every token of a completion."""
    values = np.array([np.nan if row.advantage is None else row.advantage for row in rows], np.float32)
    return np.repeat(values, [len(outcome.rollout.completion_ids) for outcome in outcomes])


def _figures(
    name: str, process: float | None, advantages: Mapping[str, Float32[np.ndarray, " T"]], sizes: Sequence[int]
) -> RuleFigures:
    own = advantages[name].astype(np.float64)
    known = own[~np.isnan(own)]
    starts = np.cumsum([0, *sizes])[:-1]
    told = [not np.isnan(own[start : start + size]).any() for start, size in zip(starts, sizes, strict=True) if size]
    return RuleFigures(
        name,
        paid=sum(told) / max(len(sizes), 1),
        size=float(np.abs(known).mean()) if len(known) else 0.0,
        variance=float(known.var()) if len(known) else 0.0,
        process_size=process,
        correlation={other: _correlation(own, column.astype(np.float64)) for other, column in advantages.items()},
    )


def _correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    both = ~(np.isnan(one) | np.isnan(other))
    left, right = one[both], other[both]
    if len(left) < 2 or left.std() < 1e-9 or right.std() < 1e-9:
        return None
    return float(np.corrcoef(left, right)[0, 1])


def _cell(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"
