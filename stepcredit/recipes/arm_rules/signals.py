"""Where the signals of an arm come from, and what they cost; a signal that its rule does not read is not computed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.protocols import Learner, Sampler
from stepcredit.core.records import Steps
from stepcredit.core.seeds import derive
from stepcredit.credit import rule_named
from stepcredit.credit.rule import Need
from stepcredit.judges.intrinsic.claims import world_claims
from stepcredit.judges.montecarlo import MonteCarloSettings, MonteCarloValues
from stepcredit.recipes.arm_rules.arm import ArmPart
from stepcredit.recipes.arm_rules.credit import settings_of
from stepcredit.recipes.world import WorldTask
from stepcredit.steps import align
from stepcredit.training.parts import Reference, RoundSignals
from stepcredit.training.signals import ContinuedValues, Exploration, LogRatio, SignalSource, Witnesses, signals_of


@final
@dataclass(frozen=True)
class ArmSignals:
    """Signals of an arm's rounds.

    Args:
        arm: the arm.
        sources: those that its rule may read.
    """

    arm: ArmPart
    sources: tuple[SignalSource, ...]

    async def __call__(self, cut: Sequence[Steps], process_weight: float) -> RoundSignals:
        """The signals that the rule reads under this process weight."""
        wanted = rule_named(self.arm.rule).wanted(settings_of(self.arm, process_weight=process_weight))
        return await signals_of([source for source in self.sources if source.need in wanted], cut)

    @property
    def tokens(self) -> int:
        """Tokens read and written for signals so far, in this session."""
        return sum(source.tokens for source in self.sources)


def arm_signals(
    arm: ArmPart, task: WorldTask, *, learner: Learner, sampler: Sampler, reference: Callable[[], Reference], seed: int
) -> ArmSignals:
    """The sources of what the arm's rule reads beside the records.

    Args:
        arm: the arm.
        task: its world.
        learner: the policy as it is trained.
        sampler: the policy as it samples.
        reference: loads the frozen policy; asked only if the rule reads log-ratios.
        seed: of the run.
    """
    wanted = rule_named(arm.rule).wanted(settings_of(arm))
    sources: list[SignalSource] = []
    if Need.LOG_RATIO in wanted:
        sources.append(LogRatio(learner, reference()))
    if Need.VALUES in wanted:
        sampling = task.sampling()
        settings = MonteCarloSettings(sampling, completions=arm.continuations, seed=derive(seed, "values"))
        sources.append(ContinuedValues(MonteCarloValues(sampler, task.tokenizer, task.checker, settings, align=align)))
    if Need.BONUS in wanted:
        sources.append(Exploration(scale=arm.exploration_scale))
    if Need.TESTIMONY in wanted:
        sources.append(Witnesses(world_claims, arm.witnesses.settings()))
    return ArmSignals(arm, tuple(sources))
