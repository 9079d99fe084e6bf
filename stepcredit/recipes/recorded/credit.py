"""Credit of recorded solutions: walked solutions to groups, to per-token advantages, to a shard of token columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from stepcredit.core.columns import rewards_of
from stepcredit.core.digests import digest
from stepcredit.core.records import Credit, Group, Judgement, Steps
from stepcredit.credit import rule_named
from stepcredit.credit.batch import CreditSummary, assign
from stepcredit.credit.rlsp import rlsp_bonus
from stepcredit.credit.rule import Need, Rule
from stepcredit.credit.scored.line_level import comment_lines
from stepcredit.recipes.recorded.settings import CreditPart
from stepcredit.recipes.recorded.walk import Walked
from stepcredit.steps import thoughts
from stepcredit.store.run_folder import RunFolder
from stepcredit.store.shards import Shard

STAGE = "credit"


@final
@dataclass(frozen=True)
class Credited:
    """What credit gave.

    Args:
        credits: one a rollout, in the order of groups and samples.
        summary: what became of the batch.
        shard: where the token columns are.
    """

    credits: tuple[Credit, ...]
    summary: CreditSummary
    shard: Shard


def groups_of(walked: Sequence[Walked]) -> tuple[Group, ...]:
    """Groups in order of first appearance, members by sample."""
    members: dict[str, list[Walked]] = {}
    for item in walked:
        members.setdefault(item.rollout.group, []).append(item)
    ordered = {name: sorted(found, key=lambda item: item.rollout.sample) for name, found in members.items()}
    return tuple(Group(name, tuple(item.outcome for item in found)) for name, found in ordered.items())


def credit_all(
    walked: Sequence[Walked], folder: RunFolder, *, rule: str, settings: object, part: CreditPart
) -> Credited:
    """Token credit of all solutions, exported.

    Groups with fewer than two scorable solutions get no advantage (NaN in the shard); the summary counts them.

    Args:
        walked: judged solutions.
        folder: where the shard goes.
        rule: name of the credit rule.
        settings: its settings.
        part: `[credit]`: the keep rule, and the scale of the bonus, for a rule that takes one.
    """
    unit = getattr(settings, "unit", rule_named(rule).unit)
    cuts = [_cut(item, unit) for item in walked]
    groups = groups_of(walked)
    signals = _signals(walked, groups, rule_named(rule), settings, exploration_scale=part.exploration_scale)
    credited, summary = assign(groups, cuts, rule=rule, settings=settings, keep=part.keep, signals=signals)
    columns = columns_of(credited)
    name = digest(rule, settings, part.keep, columns["group_id"].tolist(), columns["advantage"])
    shard = folder.write_shard(STAGE, f"{rule}-{name[:12]}", columns=columns)
    return Credited(credited, summary, shard)


def columns_of(credited: Sequence[Credit]) -> dict[str, NDArray[Any]]:
    """Columns of a shard, all tokens end to end.

    Args:
        credited: N credits.

    Returns:
        `token_id`, `advantage` (NaN: none) and `step_of_token` [T]; `rollout_of_step` and `label_of_step` (empty:
        unknown) [S]; `rollout_id`, `group_id`, `reward` (NaN: unscorable), `kept` [N]; `unit` of the steps. The
        rollouts are re-tokenised text: their ids were never sampled, and no trainer may take them.
    """
    steps = [credit.steps for credit in credited]
    counts = np.array([len(cut) for cut in steps], np.int64)
    sizes = [end - start for cut in steps for start, end in cut.spans]
    labels = [label for credit in credited for label in _labels(credit)]
    return {
        "token_id": _joined([cut.rollout.completion_ids for cut in steps], np.int32),
        "advantage": _joined([credit.advantages for credit in credited], np.float32),
        "step_of_token": np.repeat(np.arange(len(sizes), dtype=np.int32), sizes),
        "rollout_of_step": np.repeat(np.arange(len(steps), dtype=np.int32), counts),
        "label_of_step": np.array(labels, np.str_),
        "rollout_id": np.array([cut.rollout.id for cut in steps], np.str_),
        "group_id": np.array([cut.rollout.group for cut in steps], np.str_),
        "reward": rewards_of([cut.outcome for cut in steps]).astype(np.float32),
        "kept": np.array([credit.kept for credit in credited], np.bool_),
        "retokenised": np.array([cut.rollout.retokenised for cut in steps], np.bool_),
        "unit": np.array(steps[0].unit if steps else "", np.str_),
    }


def _cut(item: Walked, unit: str) -> Judgement | Steps:
    if item.judgement is None or unit == "any":
        return item.steps
    return thoughts(item.judgement) if unit == "thought" else item.judgement


def _signals(
    walked: Sequence[Walked], groups: Sequence[Group], rule: Rule, settings: object, *, exploration_scale: float
) -> dict[Need, NDArray[Any]]:
    """What a rule reads beside the records: bonus and comments of the text, a judge's score of a whole solution."""
    wanted = rule.wanted(settings)
    by_rollout = {item.rollout.id: item for item in walked}
    ordered = [by_rollout[outcome.rollout.id] for group in groups for outcome in group.outcomes]
    found: dict[Need, NDArray[Any]] = {}
    if Need.BONUS in wanted:
        found[Need.BONUS] = rlsp_bonus([item.steps for item in ordered], scale=exploration_scale)
    if Need.OUTCOME_SCORES in wanted:
        found[Need.OUTCOME_SCORES] = np.array([_whole_score(item) for item in ordered], np.float64)
    if Need.NEUTRAL in rule.optional:
        found[Need.NEUTRAL] = comment_lines([_steps(item) for item in ordered])
    return found


def _steps(item: Walked) -> Steps:
    """The steps that are paid: as judged, where a judge cut anew."""
    return item.steps if item.judgement is None else item.judgement.steps


def _whole_score(item: Walked) -> float:
    """The score of a solution that was judged as one step, NaN where there is none."""
    verdicts = item.judgement.verdicts if item.judgement is not None else ()
    score = verdicts[0].score if len(verdicts) == 1 else None
    return float("nan") if score is None else score


def _labels(credit: Credit) -> list[str]:
    if credit.judgement is None:
        return [""] * len(credit.steps)
    return [verdict.label or "" for verdict in credit.judgement.verdicts]


def _joined(parts: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)
