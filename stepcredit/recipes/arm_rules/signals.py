"""Where the signals of an arm come from, and what they cost; a signal that its rule does not read is not computed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.protocols import Learner, Sampler
from stepcredit.core.records import Judgement, Steps
from stepcredit.core.seeds import derive
from stepcredit.credit import rule_named
from stepcredit.credit.rule import Need
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.judges.intrinsic.claims import world_claims
from stepcredit.judges.montecarlo import MonteCarloSettings, MonteCarloValues
from stepcredit.recipes.arm_rules.arm import ArmPart
from stepcredit.recipes.arm_rules.credit import settings_of
from stepcredit.recipes.arm_rules.trained import CriticValues, ImplicitScores, LearningSource, Start, TokenLogits
from stepcredit.recipes.world import WorldTask
from stepcredit.steps import align
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.parts import Learning, Reference, RoundSignals
from stepcredit.training.signals import ContinuedValues, Exploration, LogRatio, SignalSource, Witnesses, signals_of


@final
@dataclass(frozen=True)
class ArmSignals:
    """Signals of an arm's rounds.

    Args:
        arm: the arm.
        sources: those that its rule may read.
        learning: those of them whose judge learns in every round.
    """

    arm: ArmPart
    sources: tuple[SignalSource, ...]
    learning: tuple[LearningSource, ...] = ()

    async def __call__(self, cut: Sequence[Steps], process_weight: float) -> RoundSignals:
        """The signals that the rule reads under this process weight."""
        wanted = rule_named(self.arm.rule).wanted(settings_of(self.arm, process_weight=process_weight))
        return await signals_of([source for source in self.sources if source.need in wanted], cut)

    async def prepare(self, folder: RunFolder, task: WorldTask, sampler: EmbeddedSampler) -> None:
        """Teach the judges that learn before the first round, or take them from the arm's folder.

        Args:
            folder: the arm's.
            task: its world.
            sampler: holds the starting policy.

        Raises:
            UsageError: if there was nothing to learn from.
        """
        for source in self.sources:
            if isinstance(source, TokenLogits):
                await source.prepare(folder, task, sampler)

    @property
    def learned(self) -> Learning | None:
        """The judges that learn, as the rounds teach and keep them; `None` if there are none."""
        if not self.learning:
            return None
        by_name = {source.name: source for source in self.learning}

        def learn(judgements: Sequence[Judgement], process_weight: float) -> Mapping[str, float]:
            settings = settings_of(self.arm, process_weight=process_weight)
            found = {name: source.learn(judgements, settings) for name, source in by_name.items()}
            return {name: loss for name, loss in found.items() if loss is not None}

        def load(states: Mapping[str, bytes]) -> None:
            for name, source in by_name.items():
                source.load(states[name])

        return Learning(
            names=tuple(by_name),
            learn=learn,
            state=lambda: {name: source.state() for name, source in by_name.items()},
            load=load,
        )

    @property
    def tokens(self) -> int:
        """Tokens read and written for signals so far, in this session."""
        return sum(source.tokens for source in self.sources)


def arm_signals(
    arm: ArmPart,
    task: WorldTask,
    *,
    learner: Learner,
    sampler: Sampler,
    reference: Callable[[], Reference],
    start: Start,
) -> ArmSignals:
    """The sources of what the arm's rule reads beside the records.

    Args:
        arm: the arm.
        task: its world.
        learner: the policy as it is trained.
        sampler: the policy as it samples.
        reference: loads the frozen policy; asked only if the rule reads log-ratios.
        start: what the judges that are trained begin from; asked only if the rule reads them.
    """
    wanted = arm.wanted
    sources: list[SignalSource] = []
    learning: list[LearningSource] = []
    if Need.LOG_RATIO in wanted:
        sources.append(LogRatio(learner, reference()))
    if Need.VALUES in wanted and arm.values_by == "continuations":
        settings = MonteCarloSettings(task.sampling(), completions=arm.continuations, seed=derive(start.seed, "values"))
        sources.append(ContinuedValues(MonteCarloValues(sampler, task.tokenizer, task.checker, settings, align=align)))
    elif Need.VALUES in wanted:
        learning.append(CriticValues(arm.critic, start, exploration_scale=arm.exploration_scale))
    if Need.TOKEN_SCORES in wanted:
        own = arm.token_scores_by
        if own == "token_model":
            sources.append(TokenLogits(arm.token_model, start))
        else:
            learning.append(ImplicitScores(arm.implicit_prm, start))
    if Need.BONUS in wanted:
        sources.append(Exploration(scale=arm.exploration_scale))
    if Need.TESTIMONY in wanted:
        sources.append(Witnesses(world_claims, arm.witnesses.settings()))
    return ArmSignals(arm, (*sources, *learning), tuple(learning))
