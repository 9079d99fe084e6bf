"""What a run is made of: one part an arrow of the path, chosen by `recipes`, walked by `training`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypedDict, Unpack, final

import numpy as np
from jaxtyping import Float, Float32

from stepcredit.core.pack import Pack
from stepcredit.core.protocols import Checker, Judge, Learner, Sampler, Sampling, Splitter, TaskSet, Tokenizer
from stepcredit.core.records import Credit, Group, Judgement, Outcome, Steps
from stepcredit.credit.rule import Need
from stepcredit.judges.intrinsic.gaming import CountReflections
from stepcredit.training.monitoring import MonitorSettings
from stepcredit.training.schedule import ProcessWeight

RoundSignals = Mapping[Need, Mapping[str, Float[np.ndarray, " n"]]]
"""What the records of a round do not hold: signal -> rollout id -> its entries in that rollout."""


class InRound(TypedDict):
    """What a credit rule is told of the round beside its records."""

    process_weight: float
    round_index: int
    signals: RoundSignals


@final
@dataclass(frozen=True)
class CreditSizes:
    """How much the two streams of a round's credit weigh, token by token (credit.md 1.8).

    Args:
        outcome: mean absolute outcome part; `None` if the rule has none, or nothing was kept.
        process: mean absolute rest.
    """

    outcome: float | None = None
    process: float | None = None


@final
@dataclass(frozen=True)
class PaidRound:
    """What a credit rule makes of a round.

    Args:
        credits: one a scorable rollout, in group order; `kept=False` with a note on those that the keep rule drops.
        sizes: of the two streams over the rollouts that are kept, where the rule can tell them.
    """

    credits: list[Credit]
    sizes: CreditSizes = CreditSizes()


class CreditRule(Protocol):
    """Turns a round's complete groups and judgements into credit."""

    def __call__(
        self, groups: Sequence[Group], judgements: Sequence[Judgement], /, **told: Unpack[InRound]
    ) -> PaidRound:
        """Credits of all scorable rollouts."""
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
class Reference:
    """The frozen policy that the KL term holds on to.

    Args:
        logprobs: [X] log probability in nats of each trained token of a pack, NaN elsewhere.
        fingerprint: digest of its weights as they are now; asked after every round.
        weight: weight of the KL term in the loss (beta of the learner's settings).
    """

    logprobs: Callable[[Pack], Float32[np.ndarray, " X"]]
    fingerprint: Callable[[], str]
    weight: float


@final
@dataclass(frozen=True)
class Proposer:
    """Who proposes the steps, as ranges of those that the splitter cut.

    Args:
        fingerprint: of who proposes, part of the key under which the ranges are kept.
        propose: half-open ranges that tile the think block's steps (`steps.apply_ranges`); `None` where nothing could
            be read. A JudgeError is taken as that, and is not kept.
    """

    fingerprint: str
    propose: Callable[[Steps], Awaitable[tuple[tuple[int, int], ...] | None]]


@final
@dataclass(frozen=True)
class SpentTokens:
    """Tokens read and written beside sampling and training, from the start of the run, all its sessions.

    Args:
        judge: by the judge.
        signal: for signals and the KL term: passes of a reference, continuations.
    """

    judge: int
    signal: int


@final
@dataclass(frozen=True)
class Evidence:
    """What a task and a judge can tell the monitors beyond the records; what is `None` stays unknown to them.

    Args:
        figures: named figures of a round's outcomes; monitors read `catch` (share of own errors caught) and
            `answer_consistency`, each with `NAME_of`, the number of things it is a share of.
        reflections: counts the reflections in the think steps of one solution.
        rejudge: the judge for a second reading of a round's rollouts: without the verdict cache, and with a seed of its
            own where the judge has one. Takes the round's index.
        rejected: all replies of the judge that could not be read in this session, as written.
    """

    figures: Callable[[Sequence[Outcome]], Mapping[str, float]] | None = None
    reflections: CountReflections | None = None
    rejudge: Callable[[int], Judge] | None = None
    rejected: Callable[[], Sequence[str]] | None = None


@final
@dataclass(frozen=True)
class Learning:
    """Judges that learn beside the policy: read in a round, taught by it once the policy is, kept with its checkpoint.

    Args:
        names: of the judges; their checkpoints are called after them.
        learn: teaches every judge the round's judgements under its process weight; returns the mean loss before
            the lesson by name, without those that found nothing to learn from.
        state: by name everything that `load` needs to go on bit-identically.
        load: goes back to the states of all names.
    """

    names: tuple[str, ...]
    learn: Callable[[Sequence[Judgement], float], Mapping[str, float]]
    state: Callable[[], Mapping[str, bytes]]
    load: Callable[[Mapping[str, bytes]], object]


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
        reference: the frozen policy of the KL term, `None` to train without one.
        evidence: what the monitors may look at beyond the records.
        signals: computes what the rule reads beside the records, under the round's process weight; `None` if it reads
            nothing else.
        start: [X] log probability of each trained token of a pack under the starting policy; where it is given, each
            round's row tells the KL to it.
        spent: tokens so far beside sampling and training; `None` leaves them unknown in the rows.
        proposer: joins the splitter's steps into those that it proposes, before anything is judged; `None` leaves them.
        learning: judges that learn in every round; `None` if none does.
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
    reference: Reference | None = None
    evidence: Evidence = field(default_factory=Evidence)
    signals: Callable[[Sequence[Steps], float], Awaitable[RoundSignals]] | None = None
    start: Callable[[Pack], Float32[np.ndarray, " X"]] | None = None
    spent: Callable[[], SpentTokens] | None = None
    proposer: Proposer | None = None
    learning: Learning | None = None


OldLogprobs = Literal["learner", "sampler"]
"""Who says how probable a sampled token was under the policy that sampled it."""


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
        old_logprobs: whose logprobs the ratio is taken to: `learner` recomputes them before the round's first update;
            `sampler` takes those that came with the rollouts, and recomputes one update's share for the gap.
        process_weight: the schedule of the process stream (F1).
        measure_every: rounds between measurements.
        seed: of the whole run.
        monitors: bounds and actions of the monitors (`training.monitors`).

    Source: tp_grpo.md 1.8; whose old logprobs is not found there. Differs: update size is evened out instead of
    dropping a remainder.
    """

    sampling: Sampling
    rounds: int = 8
    problems: int = 128
    group_size: int = 8
    rollouts_per_update: int = 128
    passes: int = 1
    old_logprobs: OldLogprobs = "learner"
    process_weight: ProcessWeight = field(default_factory=ProcessWeight)
    measure_every: int = 1
    seed: int = 0
    monitors: MonitorSettings = field(default_factory=MonitorSettings)
