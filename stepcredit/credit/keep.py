"""Keep rules: which rollouts are trained on, decided after the statistics were taken on full groups."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.credit.choices import check_choice

Keep = Literal["nonzero_process", "nonzero_advantage", "all"]
"""Keep rollouts with a process reward, with any advantage at all, or all that have a known advantage."""

UNKNOWN = "unknown"
ZERO_PROCESS = "zero process"
ZERO_ADVANTAGE = "zero advantage"
INCONSISTENT = "inconsistent process"


@final
@dataclass(frozen=True)
class Kept:
    """What a keep rule says of a batch.

    Args:
        mask: [N] True for rollouts to train on.
        reasons: [N] why not: `unknown`, `zero process`, `zero advantage`, `inconsistent process`; empty for those that
            are kept.
    """

    mask: Bool[np.ndarray, " N"]
    reasons: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of rollouts left out, by reason."""
        names, counts = np.unique(np.array([reason for reason in self.reasons if reason], np.str_), return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))


def keep_rollouts(
    layout: Layout, advantages: Float[np.ndarray, " T"], outcome: Float[np.ndarray, " T"], *, keep: Keep
) -> Kept:
    """Apply a keep rule.

    A rollout with an unknown (NaN) advantage is never kept. `nonzero_process` is the paper's own filter: it drops clean
    right solutions as well. Where a rule pays no process reward in the first place it would keep nothing; ask for
    `nonzero_advantage` then, as `assign` does.

    Args:
        layout: the batch.
        advantages: [T] a rule's output.
        outcome: [T] its outcome part; what is left is the process part.
        keep: the rule.

    Returns:
        Mask and reasons.

    Raises:
        CreditError: if a column has not one entry a token.
        UsageError: for an unknown rule, naming the nearest.

    Source: tp_grpo.md 1.8. Differs: none.

    >>> layout = Layout(np.array([0, 1]), np.array([0, 1]), np.zeros(2))
    >>> keep_rollouts(layout, np.array([0.5, 0.0]), np.array([0.5, 0.0]), keep="nonzero_advantage").counts
    {'zero advantage': 1}
    """
    check_choice("keep", keep, Keep)
    for name, column in (("advantages", advantages), ("outcome", outcome)):
        if len(column) != layout.tokens:
            raise CreditError(f"{name}: got {len(column)} entries, the layout has {layout.tokens} tokens")
    unknown = _any_token(layout, np.isnan(advantages))
    process = _any_token(layout, advantages != outcome)
    nonzero = _any_token(layout, advantages != 0.0)
    code = np.zeros(layout.rollouts, np.int8)
    if keep == "nonzero_process":
        code[~process] = 2
    if keep != "all":
        code[~nonzero] = 3
    code[unknown] = 1
    names = np.array(["", UNKNOWN, ZERO_PROCESS, ZERO_ADVANTAGE])
    return Kept(code == 0, tuple(names[code].tolist()))


def _any_token(layout: Layout, found: Bool[np.ndarray, " T"]) -> Bool[np.ndarray, " N"]:
    """[N] True for rollouts of which any token was found."""
    out = np.zeros(layout.rollouts, np.bool_)
    filled = layout.tokens_of_rollout > 0
    if filled.any():
        out[filled] = np.logical_or.reduceat(found, layout.token_starts[:-1][filled])
    return out
