"""Shuffled credit: a control that keeps every size of process credit and forgets where it belongs."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.core.seeds import derive
from stepcredit.credit.choices import check_choice

Pool = Literal["batch", "group", "rollout"]
"""Inside what process credit is exchanged."""

Over = Literal["step", "token"]
"""What moves as one piece: the tokens of a step, or each token alone."""


@final
@dataclass(frozen=True)
class ShuffledSettings:
    """How the process part is shuffled.

    Args:
        seed: equal seeds on equal batches give equal shuffles; derive one a batch.
        pool: `batch` leaves no information at all; `group` leaves how much a problem's rollouts got together;
            `rollout` leaves how much each rollout got, and forgets only the place.
        over: `step` keeps runs of equal credit as long as they were; `token` breaks them up.
    """

    seed: int
    pool: Pool = "batch"
    over: Over = "step"

    def __post_init__(self) -> None:
        check_choice("pool", self.pool, Pool)
        check_choice("over", self.over, Over)


def shuffled(
    layout: Layout,
    advantages: Float[np.ndarray, " T"],
    outcome: Float[np.ndarray, " T"],
    *,
    settings: ShuffledSettings,
    mask: Bool[np.ndarray, " T"] | None = None,
) -> Float32[np.ndarray, " T"]:
    """Advantages of any rule, with the process part permuted and the outcome part left where it was.

    process = advantages - outcome;  out = outcome + process[permuted within the pool]

    The steps of a pool are drawn in random order, and the process values of their tokens, laid end to end in that
    order, are given to the pool's tokens from first to last. So each pool holds exactly the process values it held
    before, token for token: same mean, same variance, same share of zeros, same total; runs keep their lengths, but for
    those that the end of a rollout cuts. What is lost is which token, step and (pool `batch`) rollout earned them. A
    gain that survives this is not due to credit assignment.

    Args:
        layout: the batch, in the unit that the rule paid.
        advantages: [T] a rule's output.
        outcome: [T] its outcome part (`Rule.outcome_part`); zeros for a rule without one.
        settings: seed, pool and piece.
        mask: [T] True for tokens that take part, such as those of rollouts that are kept. `None` counts all.

    Returns:
        [T] advantages; tokens that do not take part, or are NaN (unknown), keep what they had.

    Raises:
        CreditError: if a column has not one entry a token.

    Source: own, a permutation control. Differs: none.

    >>> layout = Layout(np.array([0, 0, 1, 2]), np.array([0, 0, 1]), np.zeros(2))
    >>> outcome, process = np.array([1.0, 1.0, 1.0, -1.0]), np.array([-0.5, -0.5, 0.0, 0.0])
    >>> out = shuffled(layout, outcome + process, outcome, settings=ShuffledSettings(0))
    >>> np.sort(out - outcome)
    array([-0.5, -0.5,  0. ,  0. ])
    """
    counts = np.ones(layout.tokens, np.bool_) if mask is None else mask
    for name, column in (("advantages", advantages), ("outcome", outcome), ("mask", counts)):
        if len(column) != layout.tokens:
            raise CreditError(f"{name}: got {len(column)} entries, the layout has {layout.tokens} tokens")
    process = np.asarray(advantages, np.float64) - outcome
    tokens = np.flatnonzero(counts & ~np.isnan(process))
    piece = layout.step_of_token[tokens] if settings.over == "step" else tokens
    pool = _pool_of_token(layout, settings.pool)[tokens]
    out = np.array(advantages, np.float32)
    order = _shuffled_order(piece, pool, seed=derive(settings.seed, "shuffled-credit"))
    out[tokens] = outcome[tokens] + process[tokens[order]]
    return out


def _pool_of_token(layout: Layout, pool: Pool) -> Int[np.ndarray, " T"]:
    """[T] pool of each token; never falls along the batch."""
    if pool == "batch":
        return np.zeros(layout.tokens, np.int32)
    return layout.rollout_of_token if pool == "rollout" else layout.group_of_rollout[layout.rollout_of_token]


def _shuffled_order(piece: Int[np.ndarray, " n"], pool: Int[np.ndarray, " n"], *, seed: int) -> Int[np.ndarray, " n"]:
    """[n] for each place the index that moves there: pieces stay whole, and inside their pool."""
    first = np.flatnonzero(np.diff(piece, prepend=-1))
    size = np.diff(first, append=len(piece))
    order = np.lexsort((np.random.default_rng(seed).random(len(first)), pool[first]))
    moved = size[order]
    return np.repeat(first[order] - (np.cumsum(moved) - moved), moved) + np.arange(len(piece))
