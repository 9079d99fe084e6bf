"""The Layout: three index columns that place every completion token of a batch in a step, a rollout and a group.

No padding, no magic numbers: sum to steps is a bincount, spread to tokens is a gather (`DESIGN.md` 3).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Bool, Int32, Int64

from stepcredit.core.arrays import frozen
from stepcredit.core.errors import LayoutError


@final
@dataclass(frozen=True)
class Layout:
    """Index columns of a batch, in the order group > rollout > step > token.

    Args:
        step_of_token: [T] step of each token; rises from 0 by at most 1, so every step has a token.
        rollout_of_step: [S] rollout of each step, never falling.
        group_of_rollout: [N] group of each rollout; rises from 0 by at most 1.
        unit: what a step is in this Layout; streams of different units meet only on tokens.

    Raises:
        LayoutError: if the columns are not such a partition.

    >>> layout = Layout(np.array([0, 0, 1, 2]), np.array([0, 0, 1]), np.array([0, 0]))
    >>> layout.tokens, layout.steps, layout.rollouts, layout.groups
    (4, 3, 2, 1)
    >>> layout.rollout_of_token
    array([0, 0, 0, 1], dtype=int32)
    """

    step_of_token: Int32[np.ndarray, " T"]
    rollout_of_step: Int32[np.ndarray, " S"]
    group_of_rollout: Int32[np.ndarray, " N"]
    unit: str = "step"

    def __post_init__(self) -> None:
        for name in ("step_of_token", "rollout_of_step", "group_of_rollout"):
            object.__setattr__(self, name, frozen(getattr(self, name), np.int32))
        _check_counting(self.step_of_token, "step_of_token", size=self.steps)
        _check_counting(self.group_of_rollout, "group_of_rollout")
        column = self.rollout_of_step
        if len(column) and (column[0] < 0 or column[-1] >= self.rollouts or (np.diff(column) < 0).any()):
            raise LayoutError(f"rollout_of_step must rise within 0..{self.rollouts - 1}, in order")

    @property
    def tokens(self) -> int:
        """T, completion tokens of the batch."""
        return len(self.step_of_token)

    @property
    def steps(self) -> int:
        """S, steps of the batch."""
        return len(self.rollout_of_step)

    @property
    def rollouts(self) -> int:
        """N, rollouts of the batch."""
        return len(self.group_of_rollout)

    @cached_property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.group_of_rollout[-1]) + 1 if self.rollouts else 0

    @cached_property
    def rollout_of_token(self) -> Int32[np.ndarray, " T"]:
        """[T] rollout of each token."""
        return frozen(self.rollout_of_step[self.step_of_token], np.int32)

    @cached_property
    def token_steps(self) -> Int64[np.ndarray, " T"]:
        """[T] `step_of_token` as numpy indexes with: a gather by it takes half as long as one by int32."""
        return frozen(self.step_of_token, np.int64)

    @cached_property
    def group_of_step(self) -> Int32[np.ndarray, " S"]:
        """[S] group of each step."""
        return frozen(self.group_of_rollout[self.rollout_of_step], np.int32)

    @cached_property
    def tokens_of_step(self) -> Int64[np.ndarray, " S"]:
        """[S] number of tokens of each step."""
        return frozen(np.bincount(self.step_of_token, minlength=self.steps), np.int64)

    @cached_property
    def steps_of_rollout(self) -> Int64[np.ndarray, " N"]:
        """[N] number of steps of each rollout."""
        return frozen(np.bincount(self.rollout_of_step, minlength=self.rollouts), np.int64)

    @cached_property
    def tokens_of_rollout(self) -> Int64[np.ndarray, " N"]:
        """[N] number of tokens of each rollout."""
        return frozen(np.bincount(self.rollout_of_token, minlength=self.rollouts), np.int64)

    @cached_property
    def rollouts_of_group(self) -> Int64[np.ndarray, " M"]:
        """[groups] number of rollouts of each group."""
        return frozen(np.bincount(self.group_of_rollout, minlength=self.groups), np.int64)

    @cached_property
    def token_starts(self) -> Int64[np.ndarray, " N+1"]:
        """[N + 1] first token of each rollout, and T."""
        return _starts(self.tokens_of_rollout)

    @cached_property
    def step_token_starts(self) -> Int64[np.ndarray, " S+1"]:
        """[S + 1] first token of each step, and T."""
        return _starts(self.tokens_of_step)

    @cached_property
    def step_starts(self) -> Int64[np.ndarray, " N+1"]:
        """[N + 1] first step of each rollout, and S."""
        return _starts(self.steps_of_rollout)

    @cached_property
    def tokens_left(self) -> Int32[np.ndarray, " T"]:
        """[T] tokens from each one to the end of its rollout, itself included."""
        return _left(self.tokens_of_rollout)

    @cached_property
    def steps_left(self) -> Int32[np.ndarray, " S"]:
        """[S] steps from each one to the end of its rollout, itself included."""
        return _left(self.steps_of_rollout)

    @cached_property
    def place_of_token(self) -> Int64[np.ndarray, " T"]:
        """[T] one number for each position of each group: the n-th tokens of a group's rollouts have the same.

        Places of a group stand side by side, as many as its longest rollout has tokens, those of the last group last.

        >>> Layout(np.arange(4), np.array([0, 0, 1, 2]), np.array([0, 0, 1])).place_of_token
        array([0, 1, 0, 2])
        """
        longest = np.zeros(self.groups, np.int64)
        np.maximum.at(longest, self.group_of_rollout, self.tokens_of_rollout)
        first = (np.cumsum(longest) - longest)[self.group_of_rollout] - self.token_starts[:-1]
        return frozen(np.repeat(first, self.tokens_of_rollout) + np.arange(self.tokens), np.int64)

    def holders(self, found: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " N"]:
        """Rollouts of which an entry was found, such as an unknown one.

        Args:
            found: [S] or [T] True for steps or tokens that were found.

        Returns:
            [N] True for rollouts with at least one of them.

        Raises:
            LayoutError: if there is not one entry a step or token.

        >>> Layout(np.arange(3), np.array([0, 0, 1]), np.zeros(2)).holders(np.array([False, True, False]))
        array([ True, False])
        """
        if len(found) not in (self.steps, self.tokens):
            raise LayoutError(f"found has {len(found)} entries for {self.steps} steps and {self.tokens} tokens")
        owner = self.rollout_of_step if len(found) == self.steps else self.rollout_of_token
        held = np.zeros(self.rollouts, np.bool_)
        held[owner[found]] = True
        return held


@final
@dataclass(frozen=True)
class Selection:
    """A filtered batch: its own Layout, and where its tokens, steps and rollouts stood before.

    Args:
        layout: Layout of what was kept, renumbered.
        tokens: [T'] indices of the kept tokens in the full batch.
        steps: [S'] indices of the kept steps.
        rollouts: [N'] indices of the kept rollouts.
    """

    layout: Layout
    tokens: Int64[np.ndarray, " T"]
    steps: Int64[np.ndarray, " S"]
    rollouts: Int64[np.ndarray, " N"]


def select(layout: Layout, keep: Bool[np.ndarray, " N"]) -> Selection:
    """Keep some rollouts of a batch; statistics are taken on full groups before this.

    Args:
        layout: the full batch.
        keep: [N] True for the rollouts to keep.

    Returns:
        The kept part. Groups that lost all rollouts vanish and the rest are renumbered in order.

    Raises:
        LayoutError: if `keep` has not one entry a rollout.

    >>> layout = Layout(np.array([0, 0, 1, 2]), np.array([0, 0, 1]), np.array([0, 0]))
    >>> select(layout, np.array([False, True])).tokens
    array([3])
    """
    if len(keep) != layout.rollouts:
        raise LayoutError(f"keep has {len(keep)} entries for {layout.rollouts} rollouts")
    rollouts = np.flatnonzero(keep)
    steps = np.flatnonzero(keep[layout.rollout_of_step])
    tokens = np.flatnonzero(keep[layout.rollout_of_token])
    kept = Layout(
        _renumber(layout.step_of_token[tokens]),
        (np.cumsum(keep) - 1)[layout.rollout_of_step[steps]],
        _renumber(layout.group_of_rollout[rollouts]),
        layout.unit,
    )
    return Selection(kept, tokens, steps, rollouts)


def _renumber(column: Int32[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    changes = np.diff(column, prepend=column[:1]) != 0
    return np.cumsum(changes)


def _starts(sizes: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n+1"]:
    return frozen(np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]), np.int64)


def _left(sizes: Int64[np.ndarray, " n"]) -> Int32[np.ndarray, " m"]:
    ends = np.cumsum(sizes, dtype=np.int32)
    return frozen(np.repeat(ends, sizes) - np.arange(sizes.sum(), dtype=np.int32), np.int32)


def _check_counting(column: Int32[np.ndarray, " n"], name: str, *, size: int | None = None) -> None:
    rises = np.diff(column)
    counting = not len(column) or (column[0] == 0 and bool(((rises == 0) | (rises == 1)).all()))
    if not counting:
        raise LayoutError(f"{name} must count 0, 0, ..., 1, ... with rises of 0 or 1")
    last = int(column[-1]) + 1 if len(column) else 0
    if size is not None and last != size:
        raise LayoutError(f"{name} names {last} steps, rollout_of_step has {size}; every step needs a token")
