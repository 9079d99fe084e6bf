"""What the credit X-ray looks at: rollouts that are there already, their verdicts, the truth of steps, and signals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from jaxtyping import Float64

from stepcredit.adapters.logged.signals import BroughtSignals
from stepcredit.core.columns import layout_of, rewards_of
from stepcredit.core.errors import UsageError
from stepcredit.core.layout import Layout
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Group, Judgement, Outcome, Steps
from stepcredit.credit.rlsp import rlsp_bonus
from stepcredit.credit.rule import Need
from stepcredit.recipes.evaluating.reading import LABEL_SCORES, THRESHOLDS
from stepcredit.report.progress import Task

BONUS_SCALE = 1000.0
"""Length of the reasoning, in tokens of four characters, at which the bonus is -1."""

Cut = Judgement | Steps
"""A rollout's steps, judged or not."""

Entries = Mapping[str, Float64[np.ndarray, " n"]]
"""Entries of a signal by rollout."""


SignalMaker = Callable[[Sequence[Steps]], Entries]
"""Computes a signal that is not written down, when a rule reads it."""


Continuer = Callable[[Sequence[Steps], int, Task], Entries]
"""Takes values with the policy that wrote the rollouts: steps, number of continuations of each prefix, and a task that
is advanced by one a rollout, to [K + 1] node values in [-1, 1] by rollout."""


@final
@dataclass(frozen=True)
class XrayBatch:
    """Rollouts to look through.

    Args:
        name: of what was read.
        kind: what it is, in a few words.
        groups: complete groups.
        cuts: one a rollout, in the order of the groups; all of one unit.
        judge: who gave the verdicts, empty if nobody did.
        scale: what the judge's scores mean.
        labels: by rollout: the truth of each step, `None` unknown.
        labels_by: whose truth that is; empty if there is none.
        signals: by signal and rollout.
        sources: what each signal comes from.
        makers: signals that can be computed, by need; `sources` names what from.
        lacking: why a signal that might be there is not, by signal.
        right_above: the logged reward above which an outcome is right; `None` where a checker said it.
        warning: what is to be feared of these outcomes; empty if nothing is.
        logged: what the run itself paid each rollout, `None` unknown; empty if it does not say.
        facts: further names and values, for the report.
        continues: takes values by continuation; `None` where no policy is at hand.
        no_policy: why not.
        round: of training, `None` elsewhere.
    """

    name: str
    kind: str
    groups: tuple[Group, ...]
    cuts: tuple[Cut, ...]
    judge: str = ""
    scale: Scale | None = None
    labels: Mapping[str, tuple[bool | None, ...]] = field(default_factory=dict[str, tuple[bool | None, ...]])
    labels_by: str = ""
    signals: Mapping[Need, Entries] = field(default_factory=dict[Need, Entries])
    sources: Mapping[Need, str] = field(default_factory=dict[Need, str])
    makers: Mapping[Need, SignalMaker] = field(default_factory=dict[Need, SignalMaker])
    lacking: Mapping[Need, str] = field(default_factory=dict[Need, str])
    right_above: float | None = None
    warning: str = ""
    logged: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    facts: tuple[tuple[str, str], ...] = ()
    continues: Continuer | None = None
    no_policy: str = ""
    round: int | None = None

    @property
    def outcomes(self) -> list[Outcome]:
        """All outcomes, in the order of the groups."""
        return [outcome for group in self.groups for outcome in group.outcomes]

    @property
    def steps(self) -> list[Steps]:
        """Steps of each rollout, in order; one without tokens has none."""
        return [cut.steps if isinstance(cut, Judgement) else cut for cut in self.cuts]

    @property
    def layout(self) -> Layout:
        """Layout of the rollouts in their steps; one without tokens has no step, and still counts in its group."""
        filled = [steps for steps in self.steps if len(steps)]
        owner = np.repeat(np.arange(len(self.groups)), [len(group.outcomes) for group in self.groups])
        if not filled:
            return Layout(np.zeros(0, np.int32), np.zeros(0, np.int32), owner)
        dense = layout_of(filled)
        index = np.flatnonzero([len(steps) > 0 for steps in self.steps])
        return Layout(dense.step_of_token, index[dense.rollout_of_step], owner, dense.unit)

    @property
    def rewards(self) -> Float64[np.ndarray, " N"]:
        """[N] outcome rewards, NaN where unscorable."""
        return rewards_of([steps.outcome for steps in self.steps])

    def truth(self, by: str) -> Float64[np.ndarray, " S"] | None:
        """[S] truth of the steps: 1 right, 0 wrong, NaN unknown; `None` if that source says nothing.

        Args:
            by: `labels` or `verdicts`.
        """
        found: list[float] = []
        for cut, steps in zip(self.cuts, self.steps, strict=True):
            given = self.labels.get(steps.rollout.id) if by == "labels" else _said(cut, self.scale)
            found += [np.nan if known is None else float(known) for known in given or (None,) * len(steps)]
        column = np.array(found, np.float64)
        return None if np.isnan(column).all() else column

    def column(self, need: Need) -> Float64[np.ndarray, " n"]:
        """The signal laid end to end over the rollouts, NaN for those that lack it."""
        entries = self.signals[need]
        parts = [entries.get(steps.rollout.id, np.full(_length(need, steps), np.nan)) for steps in self.steps]
        return np.concatenate([*parts, np.zeros(0)])

    def with_signal(self, need: Need, entries: Entries, source: str) -> "XrayBatch":
        """The batch with one more signal."""
        return replace(self, signals={**self.signals, need: entries}, sources={**self.sources, need: source})


def with_lengths(batch: XrayBatch, *, answers: bool = True) -> XrayBatch:
    """The batch with the bonus for reasoning at length, which every text has.

    Args:
        batch: without it.
        answers: the outcomes say which answer was read; False takes nothing off for a missing one.

    Source: Ye et al. 2025, arXiv:2502.06773 (RLSP). Differs: none.
    """
    cuts = batch.steps
    given: dict[str, float] = {} if answers else {"unanswered": 0.0}
    bonus = rlsp_bonus(cuts, scale=BONUS_SCALE, **given) if cuts else np.zeros(0)
    entries = {steps.rollout.id: np.array([number]) for steps, number in zip(cuts, bonus, strict=True)}
    said = "" if answers else "; the file does not say whether an answer was given"
    return batch.with_signal(Need.BONUS, entries, f"the length of the reasoning, scale {BONUS_SCALE:g}{said}")


def with_brought(batch: XrayBatch, brought: Mapping[str, BroughtSignals], places: Mapping[str, str]) -> XrayBatch:
    """The batch with the signals that its lines bring.

    Args:
        batch: without them.
        brought: by rollout.
        places: file and line by rollout, for messages.

    Raises:
        UsageError: for values that do not fit the steps.
    """
    found: dict[Need, dict[str, Float64[np.ndarray, " n"]]] = {}
    unfit: dict[Need, list[str]] = {}
    for steps in batch.steps:
        name = steps.rollout.id
        mine = brought.get(name, BroughtSignals())
        if mine.values is not None:
            found.setdefault(Need.VALUES, {})[name] = nodes_of(mine.values, steps, place=places[name])
        if mine.outcome_score is not None:
            found.setdefault(Need.OUTCOME_SCORES, {})[name] = np.array([mine.outcome_score])
        for need, columns in (
            (Need.LOG_RATIO, (mine.old_logprobs, mine.ref_logprobs)),
            (Need.TOKEN_SCORES, (mine.token_scores,)),
        ):
            if all(column is not None for column in columns):
                fitted = [_by_token(column, steps) for column in columns if column is not None]
                if any(column is None for column in fitted):
                    got, want = len(columns[0] if columns[0] is not None else ()), len(steps.rollout.completion_ids)
                    unfit.setdefault(need, []).append(f"{places[name]} has {got} entries for {want} tokens")
                else:
                    known = [column for column in fitted if column is not None]
                    found.setdefault(need, {})[name] = known[0] - known[1] if len(known) == 2 else known[0]
    for need, entries in found.items():
        left = f"; {len(unfit[need])} solutions do not fit their tokens and are unknown" if need in unfit else ""
        batch = batch.with_signal(need, entries, f"columns of the file, {len(entries)} solutions{left}")
    alone = {need: rows for need, rows in unfit.items() if need not in found}
    mend = "give --tokenizer, that of the policy"
    return replace(batch, lacking={**batch.lacking, **{n: f"{rows[0]}; {mend}" for n, rows in alone.items()}})


def nodes_of(values: Float64[np.ndarray, " n"], steps: Steps, *, place: str) -> Float64[np.ndarray, " K+1"]:
    """[K + 1] node values of a rollout, the outcome's reward at the end.

    Args:
        values: [K] before each step, or [K + 1] with the end, which is not read.
        steps: the rollout as it was cut.
        place: for the message.

    Raises:
        UsageError: for another number of values.
    """
    if len(values) not in (len(steps), len(steps) + 1):
        mend = "bring `steps` too, or cut as the values were taken (--set steps.splitter=...)"
        raise UsageError(
            f"{len(values)} values for the {len(steps)} steps of {steps.rollout.id}, wanted one before each; {mend}",
            item=place,
        )
    reward = steps.outcome.reward
    return np.append(values[: len(steps)], np.nan if reward is None else reward)


def _by_token(column: Float64[np.ndarray, " n"], steps: Steps) -> Float64[np.ndarray, " T"] | None:
    """The column of the text's tokens; one further entry is the end token's."""
    tokens = len(steps.rollout.completion_ids)
    return column[:tokens] if len(column) in (tokens, tokens + 1) else None


def _said(cut: Cut, scale: Scale | None) -> tuple[bool | None, ...]:
    """What the verdicts say of each step."""
    if isinstance(cut, Steps):
        return ()
    threshold = THRESHOLDS.get(scale or Scale.PROBABILITY)
    found: list[bool | None] = []
    for verdict in cut.verdicts:
        if verdict.label is not None:
            found.append(LABEL_SCORES[verdict.label] > 0.5)
        else:
            found.append(None if verdict.score is None or threshold is None else verdict.score >= threshold)
    return tuple(found)


def _length(need: Need, steps: Steps) -> int:
    single: dict[Need, Any] = {
        Need.LOG_RATIO: len(steps.rollout.completion_ids),
        Need.TOKEN_SCORES: len(steps.rollout.completion_ids),
        Need.VALUES: len(steps) + 1,
        Need.TESTIMONY: len(steps),
    }
    return single.get(need, 1)
