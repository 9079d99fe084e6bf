"""Records to credit: complete groups and their judgements in, one `Credit` a rollout out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from stepcredit.core.columns import flags_of, layout_of, rewards_of, scores_of
from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.core.records import Credit, Group, Judgement, Outcome, Steps, Verdict
from stepcredit.credit import rule_named
from stepcredit.credit.keep import UNKNOWN, Keep, Kept, keep_rollouts
from stepcredit.credit.rule import Need, Rule
from stepcredit.credit.shuffled import ShuffledSettings, shuffled
from stepcredit.credit.signals import Signals, check_separable, check_signals, checked_columns

EMPTY = "empty completion"
UNSCORABLE = "unscorable outcome"
SHORT_GROUP = "fewer than 2 scorable rollouts in the group"
UNJUDGED = "not judged"
UNKNOWN_VERDICT = "unknown verdict"
UNLABELLED = "a verdict without a label"
UNSCORED = "a verdict without a score"
UNKNOWN_SIGNAL = "an unknown signal"


@final
@dataclass(frozen=True)
class CreditSummary:
    """What became of a batch; `rollouts == kept + sum(dropped.values())`.

    Args:
        groups: groups given.
        short_groups: groups with fewer than two scorable rollouts: nothing to compare, no advantage.
        all_right: groups of at least two scorable rollouts that are all right.
        all_wrong: the same, all wrong.
        failures: samples that never became a rollout; they count in no statistic.
        rollouts: rollouts with an outcome.
        kept: rollouts to train on.
        dropped: rollouts left out, by reason.
        tokens: completion tokens of the rollouts.
        kept_tokens: those of the kept ones.
        outcome_size: mean absolute outcome part over kept tokens, NaN if there are none.
        process_size: mean absolute process part over kept tokens, NaN if there are none.
        flat_groups: groups of at least two scorable rollouts whose rewards do not differ: the outcome says nothing.
        flat_kept: kept rollouts of such groups; only the process part moves them (PRL, credit.md 1.8).
    """

    groups: int
    short_groups: int
    all_right: int
    all_wrong: int
    failures: int
    rollouts: int
    kept: int
    dropped: Mapping[str, int]
    tokens: int
    kept_tokens: int
    outcome_size: float
    process_size: float
    flat_groups: int = 0
    flat_kept: int = 0


@final
@dataclass(frozen=True)
class _Batch:
    """Records of a batch in the order of its Layout; `groups` are those given, less the ones that failed altogether."""

    given: tuple[Group, ...]
    groups: tuple[Group, ...]
    outcomes: tuple[Outcome, ...]
    steps: tuple[Steps, ...]
    judgements: tuple[Judgement | None, ...]
    layout: Layout
    rewards: Float64[np.ndarray, " N"]

    @property
    def scorable(self) -> Int64[np.ndarray, " M"]:
        """[groups] number of rollouts with a reward."""
        return np.bincount(self.layout.group_of_rollout[~np.isnan(self.rewards)], minlength=len(self.groups))


def assign(
    groups: Sequence[Group],
    cuts: Sequence[Judgement | Steps],
    *,
    rule: str,
    settings: object,
    keep: Keep = "nonzero_advantage",
    control: ShuffledSettings | None = None,
    signals: Signals | None = None,
) -> tuple[tuple[Credit, ...], CreditSummary]:
    """Turn judged groups into per-token advantages.

    Statistics (mean, std, acc_G) are taken over every scorable rollout of its group, also over those whose judging
    failed; only then the keep rule filters, and only then the control shuffles, among kept tokens.

    Args:
        groups: complete groups; their outcomes carry the rewards.
        cuts: in any order, at most one a rollout: its judgement in the unit that the rule pays (thoughts for `tp_grpo`,
            already merged), or its steps where it was cut and not judged. A rollout without either counts as not
            judged, in one piece; outcome-only rules need none.
        rule: name in the table of rules.
        settings: the rule's settings.
        keep: which rollouts to train on. `nonzero_process` means `nonzero_advantage` where no process reward is paid at
            all: an outcome-only rule, or process weight 0.
        control: shuffles the process part of what is kept, for the shuffled-credit control.
        signals: columns of the signals that no record holds (`Need`), in the order of the groups, their rollouts, steps
            and tokens, as `Need` says how long; a rollout without tokens has no entry a step or token. What the rule
            does not read is not looked at.

    Returns:
        One credit for each rollout, in the order of the groups and samples, and the summary. Where `kept` is False
        `note` says why, and the advantages of a rollout that could not be credited are NaN.

    Raises:
        UsageError: for an unknown rule or keep rule, settings of another rule, a whitened rule whose process part is
            asked for by `keep` or `control`, or a signal that is missing, that the records hold already or that has not
            one entry for each place of its site.
        CreditError: if a group or a cut comes twice, a cut belongs to none of the groups or disagrees on the outcome,
            units are mixed, a rollout is a continuation, or the rule needs verdicts and none is given, or none with
            the label or score that it reads.

    Source: tp_grpo.md 1.8; DESIGN.md 3. Differs: none.
    """
    chosen = rule_named(rule)
    if isinstance(chosen.settings, type) and not isinstance(settings, chosen.settings):
        raise UsageError(f"rule {rule} takes {chosen.settings.__name__}, got {type(settings).__name__}")
    if control is not None or keep == "nonzero_process":
        check_separable(chosen, settings, name=rule)
    extra = signals or {}
    check_signals(chosen, settings, extra, name=rule)
    batch = _batch_of(groups, cuts)
    if chosen.reads_verdicts(settings) and batch.outcomes and not any(batch.judgements):
        raise CreditError(f"rule {rule} needs judgements, and none of the {len(batch.outcomes)} rollouts has one")
    if chosen.reads_verdicts(settings):
        _check_signal(batch, chosen, name=rule)
    columns = checked_columns(chosen, extra, batch.layout, name=rule)
    advantages, outcome = _advantages(batch, chosen, settings, columns)
    if keep == "nonzero_process" and not chosen.reads_process(settings):
        keep = "nonzero_advantage"
    kept = keep_rollouts(batch.layout, advantages, outcome, keep=keep)
    read = chosen.reads_verdicts(settings)
    reasons = tuple(_reason(batch, index, reason, rule=chosen, read=read) for index, reason in enumerate(kept.reasons))
    summary = _summary(batch, kept, reasons, advantages=advantages, outcome=outcome)
    if control is not None:
        mask = kept.mask[batch.layout.rollout_of_token]
        advantages = shuffled(batch.layout, advantages, outcome, settings=control, mask=mask)
    name = rule if control is None else f"shuffled({rule})"
    credited = _credits(batch, chosen, reasons, advantages=advantages, name=name, settings=settings, given=extra)
    return credited, summary


def _check_signal(batch: _Batch, rule: Rule, *, name: str) -> None:
    """Refuse a judge that never gives what the rule reads: the rule would silently pay outcomes alone, or nobody."""
    judged = [found for found in batch.judgements if found is not None and found.steps.outcome.status != "unscorable"]
    verdicts = [verdict for judgement in judged for verdict in judgement.verdicts if verdict.known]
    if verdicts and not any(_read_by(rule, verdict) for verdict in verdicts):
        reads, gives, mend = "labels", "scores", "take grpo_ps, or a judge of labels"
        if Need.SCORES in rule.needs:
            reads, gives, mend = "scores", "labels", "take tp_grpo, or a judge that scores every step"
        raise CreditError(f"rule {name} reads {reads}, and the judge gave {gives} only; {mend}")


def _read_by(rule: Rule, verdict: Verdict) -> bool:
    """True if the verdict holds every signal that the rule reads of it."""
    labelled = Need.FLAGS not in rule.needs or verdict.label is not None
    return labelled and (Need.SCORES not in rule.needs or verdict.score is not None)


def _batch_of(groups: Sequence[Group], cuts: Sequence[Judgement | Steps]) -> _Batch:
    """Check that the records belong together and lay them end to end."""
    outcomes = tuple(outcome for group in groups for outcome in group.outcomes)
    _check_groups(groups, outcomes)
    given = _by_rollout(cuts, {outcome.rollout.id: outcome for outcome in outcomes})
    units = {_steps(cut).unit for cut in cuts}
    if len(units) > 1:
        got = ", ".join(sorted(units))
        raise CreditError(f"one batch is credited in one unit, got {got}; leave out the rollouts that were not judged")
    unit = units.pop() if units else "whole"
    steps = tuple(_steps(given[o.rollout.id]) if o.rollout.id in given else _in_one_piece(o, unit) for o in outcomes)
    judged = [given.get(outcome.rollout.id) for outcome in outcomes]
    judgements = tuple(cut if isinstance(cut, Judgement) else None for cut in judged)
    filled = tuple(group for group in groups if group.outcomes)
    owner = np.repeat(np.arange(len(filled)), [len(group.outcomes) for group in filled])
    layout = _layout(steps, owner.astype(np.int32), unit)
    return _Batch(tuple(groups), filled, outcomes, steps, judgements, layout, rewards_of(outcomes))


def _check_groups(groups: Sequence[Group], outcomes: Sequence[Outcome]) -> None:
    for name, count in Counter(group.id for group in groups).items():
        if count > 1:
            raise CreditError(f"the group was given {count} times", item=name)
    for outcome in outcomes:
        if outcome.rollout.prefix is not None:
            raise CreditError("a continuation is not credited as a rollout of its own", item=outcome.rollout.id)


def _by_rollout(cuts: Sequence[Judgement | Steps], outcomes: Mapping[str, Outcome]) -> dict[str, Judgement | Steps]:
    given: dict[str, Judgement | Steps] = {}
    for cut in cuts:
        outcome = _steps(cut).outcome
        name = outcome.rollout.id
        if name not in outcomes:
            raise CreditError("the rollout was cut or judged, and is in none of the groups", item=name)
        if name in given:
            raise CreditError("the rollout was cut or judged twice", item=name)
        if outcome.status != outcomes[name].status:
            raise CreditError(f"judged as {outcome.status}, its group says {outcomes[name].status}", item=name)
        given[name] = cut
    return given


def _steps(cut: Judgement | Steps) -> Steps:
    return cut.steps if isinstance(cut, Judgement) else cut


def _in_one_piece(outcome: Outcome, unit: str) -> Steps:
    """Stand-in for a rollout that nobody cut: one step, which no verdict is known of."""
    pieces = min(len(outcome.rollout.completion_ids), 1)
    return Steps(outcome, np.zeros(pieces, np.int32), unit, np.zeros(pieces, np.bool_), closed=False)


def _layout(steps: Sequence[Steps], group_of_rollout: np.ndarray, unit: str) -> Layout:
    """Layout of all rollouts; one without tokens has no step, and still counts in its group."""
    filled = [cut for cut in steps if len(cut)]
    if not filled:
        return Layout(np.zeros(0, np.int32), np.zeros(0, np.int32), group_of_rollout, unit)
    dense = layout_of(filled)
    index = np.flatnonzero([len(cut) > 0 for cut in steps])
    return Layout(dense.step_of_token, index[dense.rollout_of_step], group_of_rollout, unit)


def _advantages(
    batch: _Batch, rule: Rule, settings: object, given: Mapping[Need, Float[np.ndarray, " n"]]
) -> tuple[Float32[np.ndarray, " T"], Float32[np.ndarray, " T"]]:
    """[T] the rule's output, and [T] its outcome part."""
    blank = Verdict(reason=UNJUDGED)
    judgements = [
        judgement or Judgement(steps, (blank,) * len(steps), "")
        for steps, judgement in zip(batch.steps, batch.judgements, strict=True)
    ]
    columns: dict[Need, Float[np.ndarray, " n"]] = {**given, Need.OUTCOME: batch.rewards}
    if Need.FLAGS in rule.needs:
        columns[Need.FLAGS] = flags_of(judgements)
    if Need.SCORES in rule.needs:
        columns[Need.SCORES] = scores_of(judgements)
    named = {str(need): columns[need] for need in rule.optional if need in columns}
    advantages = rule.function(batch.layout, *(columns[need] for need in rule.needs), settings=settings, **named)
    if advantages.dtype != np.float32 or advantages.shape != (batch.layout.tokens,):
        got = f"{advantages.dtype}{list(advantages.shape)}"
        raise CreditError(f"a rule returns float32[{batch.layout.tokens}], one advantage a token, got {got}")
    if rule.outcome_part is None:
        return advantages, np.zeros(batch.layout.tokens, np.float32)
    return advantages, rule.outcome_part(batch.layout, batch.rewards, settings=settings)


def _reason(batch: _Batch, index: int, reason: str, *, rule: Rule, read: bool) -> str:
    """Why a rollout is left out, traced to its cause; empty for one that is kept."""
    if not len(batch.steps[index]):
        return EMPTY
    if reason != UNKNOWN:
        return reason
    if batch.outcomes[index].status == "unscorable":
        return UNSCORABLE
    if batch.scorable[batch.layout.group_of_rollout[index]] < 2:
        return SHORT_GROUP
    if not read:
        return UNKNOWN_SIGNAL
    judgement = batch.judgements[index]
    if judgement is None:
        return UNJUDGED
    if not judgement.known:
        return UNKNOWN_VERDICT
    if all(_read_by(rule, verdict) for verdict in judgement.verdicts):
        return UNKNOWN_SIGNAL
    return UNSCORED if Need.SCORES in rule.needs else UNLABELLED


def _summary(
    batch: _Batch,
    kept: Kept,
    reasons: Sequence[str],
    *,
    advantages: Float32[np.ndarray, " T"],
    outcome: Float32[np.ndarray, " T"],
) -> CreditSummary:
    owner, size = batch.layout.group_of_rollout, len(batch.groups)
    scorable = batch.scorable
    right = np.bincount(owner, weights=batch.rewards > 0.0, minlength=size)
    mask = kept.mask & (batch.layout.tokens_of_rollout > 0)
    tokens = mask[batch.layout.rollout_of_token]
    process = (advantages[tokens] - outcome[tokens]).astype(np.float64)
    flat = (scorable >= 2) & ((right == scorable) | (right == 0))
    return CreditSummary(
        groups=len(batch.given),
        short_groups=int((scorable < 2).sum()) + len(batch.given) - size,
        all_right=int(((scorable >= 2) & (right == scorable)).sum()),
        all_wrong=int(((scorable >= 2) & (right == 0)).sum()),
        failures=sum(len(group.failures) for group in batch.given),
        rollouts=len(batch.outcomes),
        kept=int(mask.sum()),
        dropped=dict(sorted(Counter(reason for reason in reasons if reason).items())),
        tokens=batch.layout.tokens,
        kept_tokens=int(tokens.sum()),
        outcome_size=float(np.abs(outcome[tokens], dtype=np.float64).mean()) if tokens.any() else float("nan"),
        process_size=float(np.abs(process).mean()) if tokens.any() else float("nan"),
        flat_groups=int(flat.sum()),
        flat_kept=int((mask & flat[owner]).sum()),
    )


def _credits(
    batch: _Batch,
    rule: Rule,
    reasons: Sequence[str],
    *,
    advantages: Float32[np.ndarray, " T"],
    name: str,
    settings: object,
    given: Signals,
) -> tuple[Credit, ...]:
    """One record a rollout, in the order of the batch."""
    read = rule.reads_verdicts(settings)
    parts = np.split(advantages, batch.layout.token_starts[1:-1])
    process = rule.reads_process(settings)
    signals = tuple(str(need) for need in rule.needs if process or need is Need.OUTCOME)
    signals += tuple(str(need) for need in rule.optional if need in given)
    credited: list[Credit] = []
    for index, (steps, judgement) in enumerate(zip(batch.steps, batch.judgements, strict=True)):
        group = batch.groups[int(batch.layout.group_of_rollout[index])]
        note = reasons[index] or (_remark(judgement, rule) if read else "")
        used = judgement if read else None
        credited.append(Credit(steps, used, parts[index], name, signals, group.digest, not reasons[index], note))
    return tuple(credited)


def _remark(judgement: Judgement | None, rule: Rule) -> str:
    """What a kept rollout's reader should know of its verdicts: how many lack what the rule reads."""
    if judgement is None:
        return UNJUDGED
    total = len(judgement.verdicts)
    unknown = sum(not verdict.known for verdict in judgement.verdicts)
    unread = sum(verdict.known and not _read_by(rule, verdict) for verdict in judgement.verdicts)
    signal = "score" if Need.SCORES in rule.needs else "label"
    told = [f"{unknown} of {total} verdicts unknown"] if unknown else []
    told += [f"{unread} of {total} verdicts without a {signal}"] if unread else []
    return "; ".join(told)
