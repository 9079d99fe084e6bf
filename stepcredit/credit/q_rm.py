"""Q-RM: a reward model's logit of each token, trained from pairs, is that token's credit."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import FLAT, Std, spread, whiten
from stepcredit.credit.choices import check_choice, check_number
from stepcredit.credit.vineppo import written

LogitScale = Literal["none", "std", "standardise"]
"""What is done to the logits first: nothing, divided by their deviation over the batch, or centred as well."""


@final
@dataclass(frozen=True)
class QRmSettings:
    """How logits become advantages; the defaults are the paper's REINFORCE form, which reads nothing else.

    The released PPO form is `QRmSettings("std", value_weight=0.01, kl_weight=0.01)`; the paper's formula is
    `QRmSettings("standardise", value_weight=1.0)`. Both want `values`, the first `log_ratio` too.

    Args:
        logit_scale: what is done to the logits first.
        value_weight: of the critic's value, which is taken off; 0 reads no values.
        kl_weight: of the absolute log-ratio to the reference, which is taken off; 0 reads none.
        std: standard deviation of the logits, as in `algebra.whiten`.
        epsilon: added to it.
    """

    logit_scale: LogitScale = "none"
    value_weight: float = 0.0
    kl_weight: float = 0.0
    std: Std = "population"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        check_choice("logit_scale", self.logit_scale, LogitScale)
        check_choice("std", self.std, Std)
        for name in ("value_weight", "kl_weight", "epsilon"):
            check_number(name, getattr(self, name))


def q_rm(
    layout: Layout,
    token_scores: Float[np.ndarray, " T"],
    *,
    settings: QRmSettings,
    values: Float[np.ndarray, " nodes"] | None = None,
    log_ratio: Float[np.ndarray, " T"] | None = None,
    trained: Float[np.ndarray, " T"] | None = None,
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token: its logit under the reward model, less what the critic expected. No sum, no GAE.

    A[t] = Z[t] (scaled) - value_weight * V[before t's step] - kl_weight * |log pi - log pi_ref|[t]

    At the optimum of the pair loss (`losses.preference`) beta * log softmax(Z) = Q* - V*, so that Z ranks the actions
    of a state by their Q.

    Args:
        layout: the batch; its steps are read only to find V: give single tokens for the published form.
        token_scores: [T] logits Z of the tokens that were written; NaN and infinite ones are unknown. Groups are not
            compared.
        settings: the dials.
        values: [S + N] node values of a critic; needed where `value_weight` is not 0.
        log_ratio: [T] log pi - log pi_ref in nats, infinite ones unknown; needed where `kl_weight` is not 0.
        trained: [T] 1 for tokens that the policy wrote; the others count in no statistic and get 0. `None` counts all.

    Returns:
        [T] advantages; NaN for all tokens of a rollout in which a token that counts is unknown.

    Raises:
        CreditError: if a column's length does not fit the layout, or one that a weight asks for is missing.

    Source: arXiv:2505.23363 (Q-RM); credit.md 2.5. Differs: unknown values; V may be read before steps; the logit of
    the end token is set by the reward model's reader (`engines.trained_judges.q_rm`).

    >>> layout = Layout(np.array([0, 0, 1]), np.array([0, 1]), np.zeros(2))
    >>> q_rm(layout, np.array([2.0, 0.0, 1.0]), settings=QRmSettings("standardise", std="none"))
    array([ 1., -1.,  0.], dtype=float32)
    """
    if len(token_scores) != layout.tokens:
        raise CreditError(f"token_scores: got {len(token_scores)} entries, the layout has {layout.tokens}")
    counted = written(trained, layout.tokens)
    off = np.zeros(layout.tokens)
    if settings.value_weight:
        node = _asked("values", values, layout.steps + layout.rollouts, weight="value_weight")
        before = node[np.arange(layout.steps) + layout.rollout_of_step]
        off += settings.value_weight * spread(before, layout)
    if settings.kl_weight:
        off += settings.kl_weight * np.abs(_asked("log_ratio", log_ratio, layout.tokens, weight="kl_weight"))
    logits = np.where(counted, token_scores, 0.0).astype(np.float64)
    unknown = counted & ~(np.isfinite(logits) & np.isfinite(off))
    lost = layout.holders(unknown)
    logits[spread(lost, layout, site="rollout") & counted] = np.nan
    return np.where(counted, _scaled(logits, counted, settings) - off, 0.0).astype(np.float32)


def _scaled(
    logits: Float64[np.ndarray, " T"], counted: Bool[np.ndarray, " T"], settings: QRmSettings
) -> Float64[np.ndarray, " T"]:
    """[T] logits on the scale that is asked for, by the statistics of those that count and are known."""
    if settings.logit_scale == "standardise":
        return whiten(logits, weights=counted, std=settings.std, epsilon=settings.epsilon)
    if settings.logit_scale == "none" or settings.std == "none":
        return logits
    found = logits[counted & ~np.isnan(logits)]
    if len(found) < 2:
        return np.full(len(logits), np.nan)
    deviation = float(found.std(ddof=settings.std == "sample"))
    return logits * 0.0 if deviation < FLAT else logits / (deviation + settings.epsilon)


def _asked(name: str, column: Float[np.ndarray, " n"] | None, want: int, *, weight: str) -> Float64[np.ndarray, " n"]:
    if column is None:
        raise CreditError(f"{weight} is not 0, so that q_rm reads {name}, and none were given")
    if len(column) != want:
        raise CreditError(f"{name}: got {len(column)} entries, the layout has {want}")
    return np.asarray(column, np.float64)
