"""What a run is made of: one part an arrow of the path, chosen by `recipes`, walked by `training`."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, final

from stepcredit.core.protocols import Checker, Judge, Learner, Sampler, Sampling, Splitter, TaskSet, Tokenizer
from stepcredit.core.records import Credit, Group, Judgement
from stepcredit.training.schedule import ProcessWeight


class CreditRule(Protocol):
    """Turns a round's complete groups and judgements into one Credit a scorable rollout, in group order."""

    def __call__(
        self, groups: Sequence[Group], judgements: Sequence[Judgement], /, *, process_weight: float, round_index: int
    ) -> list[Credit]:
        """Credits of all scorable rollouts, `kept=False` with a note on those that the keep rule drops."""
        ...


@final
@dataclass(frozen=True)
class Measurement:
    """What the current policy is worth on held-out problems.

    Args:
        accuracy: share of right answers, sampled at the temperature of training.
        figures: further named figures of the task (first-guess accuracy, catch rate, mean tokens ...).
    """

    accuracy: float
    figures: dict[str, float] = field(default_factory=dict[str, float])


@final
@dataclass(frozen=True)
class Parts:
    """The parts and engines of one run.

    Args:
        tasks: where problems come from.
        tokenizer: of the policy.
        sampler: writes the rollouts.
        checker: says right, wrong or unscorable.
        splitter: cuts completions into steps.
        judge: gives verdicts, `None` for outcome-only rules.
        credit: the credit rule with its settings and keep rule.
        learner: the engine that is trained.
        sync: hands the learner's weights to the sampler.
        measure: measures the current policy, `None` to train without a curve.
    """

    tasks: TaskSet
    tokenizer: Tokenizer
    sampler: Sampler
    checker: Checker
    splitter: Splitter
    judge: Judge | None
    credit: CreditRule
    learner: Learner
    sync: Callable[[], object]
    measure: Callable[[], Awaitable[Measurement]] | None = None


@final
@dataclass(frozen=True)
class RoundSettings:
    """How rounds are run.

    Args:
        sampling: how rollouts are drawn.
        rounds: number of rounds.
        problems: problems of a round.
        group_size: rollouts of each problem (G).
        rollouts_per_update: nominal rollouts of one optimiser step; a round's kept rollouts are divided evenly into
            `round(kept / rollouts_per_update)` updates, so that all updates of a round have equal size within one.
        passes: passes over a round's kept rollouts.
        process_weight: the schedule of the process stream (F1).
        measure_every: rounds between measurements.
        seed: of the whole run.

    Source: tp_grpo.md 1.8. Differs: update size is evened out instead of dropping a remainder.
    """

    sampling: Sampling
    rounds: int = 8
    problems: int = 128
    group_size: int = 8
    rollouts_per_update: int = 128
    passes: int = 1
    process_weight: ProcessWeight = field(default_factory=ProcessWeight)
    measure_every: int = 1
    seed: int = 0
