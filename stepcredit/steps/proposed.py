"""Steps that a judge proposes, as ranges of finer steps."""

from collections.abc import Sequence

import numpy as np

from stepcredit.core.errors import StepsError
from stepcredit.core.records import Steps


def apply_ranges(steps: Steps, ranges: Sequence[tuple[int, int]]) -> Steps:
    """Join finer steps into the proposed ones.

    The ranges must tile the think block's steps, or all steps: in order, contiguous, without gap or overlap, complete.
    None may hold steps of both blocks. Where they tile the think block only, the answer block's steps stay as they are.

    Args:
        steps: the indexed steps that the judge was shown.
        ranges: half-open ranges of step indices, counted from 0.

    Returns:
        Steps of unit `proposed`.

    Raises:
        StepsError: if the ranges are not such a tiling; names the first range that is wrong.

    Source: tp_grpo.md 1.2. Differs: none.
    """
    total, think = len(steps), int((~steps.in_answer).sum())
    at = 0
    for index, (first, last) in enumerate(ranges):
        problem = _problem(first, last, at=at, think=think, total=total)
        if problem:
            raise StepsError(f"proposed range {index}, [{first}, {last}): {problem}", item=steps.rollout.id)
        at = last
    if at not in (think, total):
        raise StepsError(f"proposed ranges end at step {at}, want {think}", item=steps.rollout.id)
    firsts = np.array([first for first, _ in ranges] + list(range(at, total)), np.int64)
    return Steps(steps.outcome, steps.starts[firsts], "proposed", steps.in_answer[firsts], steps.closed, steps.form)


def _problem(first: int, last: int, *, at: int, think: int, total: int) -> str:
    """What is wrong with a range that should start at `at`, empty if nothing is."""
    if first > at:
        return f"leaves a gap, want a start at {at}"
    if first < at:
        return f"overlaps or is out of order, want a start at {at}"
    if last <= first:
        return "is empty"
    if last > total:
        return f"reaches past the {total} steps"
    if first < think < last:
        return f"holds steps of think and answer block, which begins at {think}"
    return ""
