"""VPPO: outcome credit, from which the steps before the first error of a wrong solution are spared."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from stepcredit.core.errors import CreditError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.credit.algebra import Std, spread, standardise
from stepcredit.credit.choices import check_choice, check_number
from stepcredit.credit.grpo import GrpoSettings, grpo

NoError = Literal["all", "nothing"]
"""What a wrong solution without a wrong step costs: all of it the outcome, or nothing."""

OnUnknown = Literal["drop", "outcome_only"]
"""What a wrong solution gets that has an unscored step before its first known error: no credit, or the outcome."""


@final
@dataclass(frozen=True)
class VppoSettings:
    """Settings of VPPO; where the paper was not to be had, the choice is ours.

    Args:
        threshold: a step with a lower score is wrong.
        prefix: share of the outcome that steps before the first error get: 0 protects them, 1 is GRPO, less than 0 pays
            them for the part that was right.
        no_error: see `NoError`.
        std: standard deviation of the outcome rewards, as in `grpo`.
        epsilon: added to it.
        process_weight: 1 is the rule, 0 is GRPO, between them the prefix keeps some of the blame.
        on_unknown: see `OnUnknown`.
    """

    threshold: float = 0.5
    prefix: float = 0.0
    no_error: NoError = "all"
    std: Std = "population"
    epsilon: float = 0.0
    process_weight: float = 1.0
    on_unknown: OnUnknown = "drop"

    def __post_init__(self) -> None:
        for name, allowed in (("no_error", NoError), ("std", Std), ("on_unknown", OnUnknown)):
            check_choice(name, getattr(self, name), allowed)
        check_number("epsilon", self.epsilon)
        check_number("process_weight", self.process_weight)
        if not -1.0 <= self.prefix <= 1.0:
            raise UsageError(f"prefix must be in [-1, 1], got {self.prefix}")
        if not np.isfinite(self.threshold):
            raise UsageError(f"threshold must be finite, got {self.threshold}")


def vppo(
    layout: Layout, rewards: Float[np.ndarray, " N"], scores: Float[np.ndarray, " S"], *, settings: VppoSettings
) -> Float32[np.ndarray, " T"]:
    """Advantage of every token: its rollout's standardised reward, but not before the first error of a wrong solution.

    With z the standardised reward, f the first step whose score is below the threshold and w the process weight,

        A[t] = z                              in right solutions, and from step f on in wrong ones
        A[t] = z * (1 - w * (1 - prefix))     before step f of wrong solutions

    The size of a score does not count, only on which side of the threshold it lies: a judge that is sure of itself pays
    no more than one that is not. Right solutions are not read at all.

    Args:
        layout: the batch in the unit of the scores.
        rewards: [N] above 0 right, below 0 wrong, NaN unscorable.
        scores: [S] step scores, NaN unknown; a step behind the first error may be unknown.
        settings: the dials.

    Returns:
        [T] advantages; NaN for unscorable and dropped rollouts, and in groups with fewer than two scorable ones.

    Raises:
        CreditError: if a column does not fit the layout.

    Source: VPPO, arXiv:2601.18984, of which one sentence is known: the judge only locates the first error, the prefix
    is protected and the suffix penalised (credit.md 2.16). Differs: the numbers, and what happens without an error.

    >>> layout = Layout(np.arange(4), np.array([0, 1, 1, 1]), np.zeros(2))
    >>> vppo(layout, np.array([1.0, -1.0]), np.array([0.1, 0.9, 0.2, 0.9]), settings=VppoSettings())
    array([ 1.,  0., -1., -1.], dtype=float32)
    """
    if len(scores) != layout.steps:
        raise CreditError(f"scores: got {len(scores)} entries, the layout has {layout.steps}")
    outcome = standardise(rewards, layout, std=settings.std, epsilon=settings.epsilon)
    if settings.process_weight == 0.0:
        return spread(outcome.astype(np.float32), layout, site="rollout")
    owner, wrong = layout.rollout_of_step, rewards < 0.0
    first = _first(layout, scores < settings.threshold)
    unsure = wrong & (_first(layout, np.isnan(scores)) < first)
    spared = wrong & ~unsure & ((first < layout.step_starts[1:]) | (settings.no_error == "nothing"))
    before = spared[owner] & (np.arange(layout.steps) < first[owner])
    share = 1.0 - settings.process_weight * (1.0 - settings.prefix)
    advantages = outcome[owner] * np.where(before, share, 1.0) + 0.0  # a protected step costs 0, not -0
    if settings.on_unknown == "drop":
        advantages[unsure[owner]] = np.nan
    return spread(advantages.astype(np.float32), layout)


def outcome_part(
    layout: Layout, rewards: Float[np.ndarray, " N"], *, settings: VppoSettings
) -> Float32[np.ndarray, " T"]:
    """What `vppo` gives with a process weight of 0: `grpo` with the same standard deviation, bit for bit.

    Args:
        layout: the batch.
        rewards: [N] outcome rewards, NaN unscorable.
        settings: `std` and `epsilon` are read.

    Returns:
        [T] outcome advantages.

    Source: credit.md 2.16. Differs: none.

    >>> layout = Layout(np.array([0, 1]), np.array([0, 1]), np.zeros(2))
    >>> outcome_part(layout, np.array([1.0, -1.0]), settings=VppoSettings())
    array([ 1., -1.], dtype=float32)
    """
    return grpo(layout, rewards, settings=GrpoSettings(settings.std, settings.epsilon))


def _first(layout: Layout, found: Bool[np.ndarray, " S"]) -> Int64[np.ndarray, " N"]:
    """[N] index of the rollout's first step that was found, or the index behind its last step."""
    at = np.append(np.flatnonzero(found), layout.steps)
    return np.minimum(at[np.searchsorted(at, layout.step_starts[:-1])], layout.step_starts[1:])
