"""Merging: neighbouring steps with equal labels become one thought."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int64

from stepcredit.core.errors import StepsError
from stepcredit.core.records import Judgement, Label, Steps, Verdict


def merge(steps: Steps, labels: Sequence[Label | None]) -> tuple[Steps, tuple[Label | None, ...]]:
    """Thoughts: maximal runs of steps with equal labels.

    Labels of neighbouring thoughts differ. The answer block takes part like other steps and merges with the last
    think steps where labels agree; a thought is `in_answer` only if all its steps are. Unknown steps (`None`) merge
    with one another only.

    Args:
        steps: what was judged.
        labels: [K] label of each step, `None` where unknown.

    Returns:
        Steps of unit `thought`, and the label of each.

    Raises:
        StepsError: if there is not one label a step.

    Source: tp_grpo.md 1.5. Differs: none.
    """
    if len(labels) != len(steps):
        raise StepsError(f"got {len(labels)} labels for {len(steps)} steps", item=steps.rollout.id)
    firsts = _run_starts(labels)
    thoughts = Steps(
        steps.outcome,
        steps.starts[firsts],
        "thought",
        np.logical_and.reduceat(steps.in_answer, firsts) if len(firsts) else steps.in_answer,
        steps.closed,
        steps.form,
    )
    return thoughts, tuple(labels[first] for first in firsts.tolist())


def thoughts(judgement: Judgement) -> Judgement:
    """The judgement on thoughts in place of steps.

    A thought's score is its steps' score if they all have the same, else `None`: scores of steps do not add up.
    Reasons and calls are collected in order.

    Args:
        judgement: labelled verdicts.

    Returns:
        Verdicts on `merge`'s thoughts, by the same judge.

    Raises:
        StepsError: if a verdict has a score but no label; thoughts are runs of labels.

    Source: tp_grpo.md 1.5. Differs: none.
    """
    labels = [verdict.label for verdict in judgement.verdicts]
    for index, verdict in enumerate(judgement.verdicts):
        if verdict.label is None and verdict.score is not None:
            message = f"verdict {index} of judge {judgement.judge} has a score but no label; thoughts need labels"
            raise StepsError(message, item=judgement.steps.rollout.id)
    merged, _ = merge(judgement.steps, labels)
    bounds = [*_run_starts(labels).tolist(), len(labels)]
    verdicts = tuple(_joined(judgement.verdicts[a:b]) for a, b in pairwise(bounds))
    return Judgement(merged, verdicts, judgement.judge)


def _run_starts(labels: Sequence[Label | None]) -> Int64[np.ndarray, " k"]:
    firsts = [index for index, label in enumerate(labels) if index == 0 or label != labels[index - 1]]
    return np.array(firsts, np.int64)


def _joined(run: Sequence[Verdict]) -> Verdict:
    scores = {verdict.score for verdict in run}
    reasons = dict.fromkeys(verdict.reason for verdict in run if verdict.reason)
    calls = dict.fromkeys(call for verdict in run for call in verdict.calls)
    return Verdict(scores.pop() if len(scores) == 1 else None, run[0].label, "; ".join(reasons), tuple(calls))
