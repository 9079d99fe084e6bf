"""Figures of a round's row beyond its outcomes: tokens by kind, groups without spread, KL to the starting policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from stepcredit.core.pack import pack_of_rollouts
from stepcredit.core.records import Group
from stepcredit.credit.rule import Need
from stepcredit.training.evaluate import Evaluated
from stepcredit.training.history import RoundRow
from stepcredit.training.parts import Parts, RoundSignals
from stepcredit.training.train import Trained


@final
@dataclass(frozen=True)
class StartKl:
    """How far the policy has come from where it started, on tokens that it drew itself.

    Args:
        k1: mean of log pi - log start, nats per token: unbiased, may be negative; times the tokens of a rollout it is
            the KL of whole rollouts.
        k3: mean of exp(-d) - 1 + d with d as above: unbiased too, never negative.
        left_out: tokens without a finite log-ratio; they are in neither mean.
    """

    k1: float | None
    k3: float | None
    left_out: int


def before_training(parts: Parts, groups: Sequence[Group], signals: RoundSignals) -> dict[str, Any]:
    """Fields of the row that are known before the first update: the policy is still the one that sampled.

    Args:
        parts: its `start` is asked, if there is one.
        groups: of the round.
        signals: of the round.
    """
    drift = start_kl(parts, groups) if parts.start else None
    counts = [drift.left_out] if drift else []
    if Need.LOG_RATIO in signals:
        counts += [int((~np.isfinite(column)).sum()) for column in signals[Need.LOG_RATIO].values()]
    return {
        "zero_spread": zero_spread(groups),
        "guarded_ratios": sum(counts) if counts else None,
        "start_kl": drift.k3 if drift else None,
        "start_kl_k1": drift.k1 if drift else None,
    }


def start_kl(parts: Parts, groups: Sequence[Group]) -> StartKl:
    """KL(policy || start) on one rollout of each group, the first: a fixed share of the round, drawn on policy.

    Source: credit.md 1.8; Schulman 2020, 'Approximating KL divergence'. Differs: none.
    """
    drawn = [group.outcomes[0].rollout for group in groups if group.outcomes]
    drawn = [rollout for rollout in drawn if len(rollout.completion_ids)]
    if not drawn or parts.start is None:
        return StartKl(None, None, 0)
    pack = pack_of_rollouts(drawn)
    with np.errstate(invalid="ignore", over="ignore"):  # both impossible: NaN, left out like the infinite ones
        ratio = (parts.learner.logprobs(pack) - parts.start(pack))[pack.trained].astype(np.float64)
        found = ratio[np.isfinite(ratio)]
        if not len(found):
            return StartKl(None, None, len(ratio))
        return StartKl(float(found.mean()), float((np.expm1(-found) + found).mean()), len(ratio) - len(found))


def zero_spread(groups: Sequence[Group]) -> float | None:
    """Share of the groups whose scorable rollouts all have the same outcome, among those with at least two.

    In such groups the standardised outcome is 0: GRPO learns nothing from them, PRL only what the reference says.

    Source: credit.md 1.8. Differs: none.
    """
    told = [{o.status for o in g.outcomes if o.status != "unscorable"} for g in groups if _scorable(g) > 1]
    return sum(len(statuses) == 1 for statuses in told) / len(told) if told else None


def tokens_so_far(parts: Parts, last: RoundRow, evaluated: Evaluated, trained: Trained) -> dict[str, int | None]:
    """Tokens by kind from the start of the run to the end of this round; unknown where the last row does not tell.

    Args:
        parts: its `spent` is asked for those of the judge and of the signals.
        last: row before this round.
        evaluated: the round's rollouts.
        trained: its updates.
    """
    sampled = sum(len(outcome.rollout.completion_ids) for outcome in evaluated.outcomes)
    learnt = sum(update.tokens for update in trained.updates)
    spent = parts.spent() if parts.spent else None
    return {
        "sampled_tokens": None if last.sampled_tokens is None else last.sampled_tokens + sampled,
        "trained_tokens": None if last.trained_tokens is None else last.trained_tokens + learnt,
        "judge_tokens": spent.judge if spent else None,
        "signal_tokens": spent.signal if spent else None,
    }


def _scorable(group: Group) -> int:
    return sum(outcome.status != "unscorable" for outcome in group.outcomes)
