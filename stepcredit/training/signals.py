"""Signals of a round that no record holds: log-ratios to a reference, values by continuation; computed once a round."""

from collections.abc import Mapping, Sequence
from typing import Protocol, final

import numpy as np
from jaxtyping import Float

from stepcredit.core.errors import CreditError
from stepcredit.core.pack import pack_of_rollouts
from stepcredit.core.protocols import Learner
from stepcredit.core.records import Group, Steps
from stepcredit.credit.rlsp import rlsp_bonus
from stepcredit.credit.rule import Need
from stepcredit.judges.montecarlo import MonteCarloValues
from stepcredit.judges.together import together
from stepcredit.judges.witness import ReadClaims, WitnessSettings, witnessed
from stepcredit.training.parts import Reference, RoundSignals


class SignalSource(Protocol):
    """Computes one signal for the rollouts of a round."""

    @property
    def need(self) -> Need:
        """The signal."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens read or written for it so far, in this session."""
        ...

    async def of(self, cut: Sequence[Steps]) -> list[Float[np.ndarray, " n"]]:
        """One column for each cut rollout, in order and as long as `Need` says for it; NaN where unknown.

        Raises:
            EngineError: if an engine failed after its own retries.
            JudgeError: if a value could not be had; carries the rollout id.
        """
        ...


@final
class LogRatio:
    """Log-ratio of the policy as it is now to a frozen reference, one number a completion token, in nats.

    Args:
        learner: the policy.
        reference: the frozen policy.

    Source: credit.md 1.3. Differs: none.
    """

    need = Need.LOG_RATIO

    def __init__(self, learner: Learner, reference: Reference) -> None:
        self._learner, self._reference = learner, reference
        self.tokens = 0

    async def of(self, cut: Sequence[Steps]) -> list[Float[np.ndarray, " n"]]:
        """[T] of each rollout; infinite or NaN where one of the two gives the token no probability."""
        rollouts = [steps.rollout for steps in cut if len(steps)]
        if not rollouts:
            return [np.zeros(0) for _ in cut]
        pack = pack_of_rollouts(rollouts)
        with np.errstate(invalid="ignore"):  # both impossible: unknown, as NaN says
            ratio = (self._learner.logprobs(pack) - self._reference.logprobs(pack))[pack.trained]
        self.tokens += 2 * len(pack.ids)
        ends = np.cumsum([len(steps.rollout.completion_ids) for steps in cut])
        return np.split(ratio.astype(np.float64), ends[:-1])


@final
class ContinuedValues:
    """Monte-Carlo values of the nodes of each rollout: before every step, and at the end.

    Args:
        values: continues prefixes with the policy as it is now.

    Source: credit.md 2.1. Differs: none.
    """

    need = Need.VALUES

    def __init__(self, values: MonteCarloValues) -> None:
        self._values = values

    @property
    def tokens(self) -> int:
        """Tokens written so far, in this session."""
        return self._values.spending.tokens

    async def of(self, cut: Sequence[Steps]) -> list[Float[np.ndarray, " n"]]:
        """[K + 1] of each rollout, in [-1, 1]."""
        return list(await together(self._values.values(steps) for steps in cut))


@final
class Exploration:
    """Bonus for reasoning at length, one number a rollout; none for a missing answer, and a penalty beside.

    Args:
        scale: length of the reasoning at which the bonus is -1, in tokens of four characters.

    Source: Ye et al. 2025, arXiv:2502.06773 (RLSP); credit.md 2.6. Differs: for any rule that takes a bonus.
    """

    need = Need.BONUS
    tokens = 0

    def __init__(self, *, scale: float) -> None:
        self._scale = scale

    async def of(self, cut: Sequence[Steps]) -> list[Float[np.ndarray, " n"]]:
        """[1] of each rollout."""
        return np.split(rlsp_bonus(cut, scale=self._scale), len(cut)) if cut else []


@final
class Witnesses:
    """What the solutions of a group say of each other's steps, one number a step.

    Args:
        read: reads claims and remarks in a solution's think steps.
        settings: whose word counts.

    Source: own. Differs: n/a.
    """

    need = Need.TESTIMONY
    tokens = 0

    def __init__(self, read: ReadClaims, settings: WitnessSettings) -> None:
        self._read, self._settings = read, settings

    async def of(self, cut: Sequence[Steps]) -> list[Float[np.ndarray, " n"]]:
        """[K] of each rollout."""
        return list(witnessed(cut, self._read, settings=self._settings))


async def signals_of(sources: Sequence[SignalSource], cut: Sequence[Steps]) -> RoundSignals:
    """All signals of a round's cut rollouts, by rollout.

    Raises:
        StepcreditError: what a source raises.
    """
    found: dict[Need, Mapping[str, Float[np.ndarray, " n"]]] = {}
    for source in sources:
        columns = await source.of(cut)
        found[source.need] = {steps.rollout.id: column for steps, column in zip(cut, columns, strict=True)}
    return found


def columns_of(groups: Sequence[Group], signals: RoundSignals) -> dict[Need, Float[np.ndarray, " n"]]:
    """Signals as `credit.batch.assign` takes them: one column each, rollouts in the order of the groups.

    Raises:
        CreditError: for a rollout that a signal was not computed for.

    Source: DESIGN.md 3. Differs: none.
    """
    names = [outcome.rollout.id for group in groups for outcome in group.outcomes]
    joined: dict[Need, Float[np.ndarray, " n"]] = {}
    for need, by_rollout in signals.items():
        missing = next((name for name in names if name not in by_rollout), None)
        if missing is not None:
            raise CreditError(f"signal {need} was not computed for it", item=missing)
        joined[need] = np.concatenate([by_rollout[name] for name in names]) if names else np.zeros(0)
    return joined
