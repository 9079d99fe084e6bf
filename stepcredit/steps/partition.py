"""Cut points to Steps: the one place where characters become token ranges (Outcome -> Steps)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from stepcredit.core.records import Outcome, Rollout, Steps
from stepcredit.steps.blocks import Blocks, find_blocks


def blocks_of(rollout: Rollout, form: str) -> Blocks:
    """Blocks of a rollout's text; one that ended at the token limit counts as cut.

    Raises:
        UsageError: if `form` is not a known name.
    """
    return find_blocks(rollout.text, form=form, cut=rollout.finish == "length")


def partition(outcome: Outcome, cuts: Sequence[int], *, unit: str, blocks: Blocks) -> Steps:
    """Steps that start at given characters, and at the border of the two blocks.

    A token belongs to the step that holds its first character, so a cut inside a token takes effect behind it. Steps
    without tokens vanish. Markers never stand alone: cuts beside them, outside the blocks' text, are dropped.

    Args:
        outcome: whose completion is cut.
        cuts: characters at which a step starts, in any order.
        unit: what a step is.
        blocks: the blocks of the completion's text.

    Returns:
        The partition; `closed` if an answer block with at least one token follows a closed think block.

    Source: tp_grpo.md 1.2. Differs: none.
    """
    ranges = [blocks.think, *([blocks.answer] if blocks.answer else [])]
    kept = [cut for cut in cuts if any(first < cut < end for first, end in ranges)]
    if blocks.answer:
        kept.append(blocks.border)
    tokens = np.searchsorted(outcome.rollout.char_starts, np.array(kept, np.int64), side="left")
    return at_tokens(outcome, tokens, unit=unit, blocks=blocks)


def at_tokens(outcome: Outcome, tokens: Int64[np.ndarray, " n"], *, unit: str, blocks: Blocks) -> Steps:
    """Steps that start at given tokens.

    Args:
        outcome: whose completion is cut.
        tokens: [n] tokens at which a step starts, in any order; those outside the completion are dropped.
        unit: what a step is.
        blocks: the blocks of the completion's text; no cut is added at their border.

    Source: own. Differs: none.
    """
    total = len(outcome.rollout.completion_ids)
    starts = np.unique(np.append(tokens, 0)) if total else np.zeros(0, np.int64)
    starts = starts[starts < total]
    in_answer = starts >= border_token(outcome.rollout, blocks)
    closed = blocks.closed and border_token(outcome.rollout, blocks) < total
    return Steps(outcome, starts, unit, in_answer, closed, blocks.form)


def border_token(rollout: Rollout, blocks: Blocks) -> int:
    """First token of the answer block, T if there is none."""
    if blocks.answer is None:
        return len(rollout.completion_ids)
    return int(np.searchsorted(rollout.char_starts, blocks.border, side="left"))
