"""The records of the path: Problem -> Rollout -> Outcome -> Steps -> Judgement -> Credit -> Update.

Each record is frozen and holds the record it was made from. Token-long fields are read-only numpy arrays.
Unknown is `None` (NaN inside arrays), never 0.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, Float32, Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.digests import digest
from stepcredit.core.errors import StepsError

Finish = Literal["stop", "length", "open"]
"""Why a completion ended: the model stopped, the token limit cut it, or it is still open (never trained on)."""


class Label(StrEnum):
    """What an intrinsic judge says of a step (tp_grpo.md 1.3 and 1.4).

    `correct` and `incorrect` occur in solutions whose outcome is right, `matched` and `mismatched` in wrong ones.
    """

    CORRECT = "correct"
    INCORRECT = "incorrect"
    MATCHED = "matched"
    MISMATCHED = "mismatched"


@final
@dataclass(frozen=True)
class Problem:
    """A task with its reference answer.

    Args:
        id: unique in its task set.
        text: what the model is asked.
        answer: the reference answer; `None` means that none is known, and the outcome will be `unscorable`.
        source: name of the task set.
    """

    id: str
    text: str
    answer: str | None
    source: str = ""


@final
@dataclass(frozen=True)
class Prefix:
    """Where a continuation starts: the first `tokens` completion tokens of rollout `parent` are shared."""

    parent: str
    tokens: int


@final
@dataclass(frozen=True)
class Rollout:
    """One finished attempt at a problem.

    Args:
        id: unique in the run.
        problem: the problem attempted.
        group: id of the sampling call's group; rollouts are compared inside it, never by prompt text.
        sample: index inside the group, from 0.
        text: the completion as text, for people and for splitters.
        prompt_ids: [P] token ids read.
        completion_ids: [T] token ids written.
        char_starts: [T] for each token the index in `text` of the character that holds its first byte.
        sampler_logprobs: [T] in nats as reported by the engine that wrote the tokens, or `None`.
        finish: why it ended.
        policy: fingerprint of the model that wrote it.
        retokenised: True if the ids were made from recorded text; such rollouts are refused by training.
        prefix: set on continuations only.
    """

    id: str
    problem: Problem
    group: str
    sample: int
    text: str
    prompt_ids: Int32[np.ndarray, " P"]
    completion_ids: Int32[np.ndarray, " T"]
    char_starts: Int32[np.ndarray, " T"]
    sampler_logprobs: Float32[np.ndarray, " T"] | None = None
    finish: Finish = "stop"
    policy: str = ""
    retokenised: bool = False
    prefix: Prefix | None = None

    def __post_init__(self) -> None:
        for name in ("prompt_ids", "completion_ids", "char_starts"):
            object.__setattr__(self, name, frozen(getattr(self, name), np.int32))
        if self.sampler_logprobs is not None:
            object.__setattr__(self, "sampler_logprobs", frozen(self.sampler_logprobs, np.float32))
        if len(self.char_starts) != len(self.completion_ids):
            got, want = len(self.char_starts), len(self.completion_ids)
            raise StepsError(f"char_starts has {got} entries for {want} tokens", item=self.id)
        if self.sampler_logprobs is not None and len(self.sampler_logprobs) != len(self.completion_ids):
            got, want = len(self.sampler_logprobs), len(self.completion_ids)
            raise StepsError(f"sampler_logprobs has {got} entries for {want} tokens", item=self.id)


OutcomeStatus = Literal["right", "wrong", "unscorable"]


@final
@dataclass(frozen=True)
class Outcome:
    """The checker's verdict on a rollout's answer: right, wrong, or unscorable with a reason.

    Args:
        rollout: what was checked.
        status: `unscorable` is not `wrong`: it carries no reward.
        answer: the answer read from the completion, `None` if there was none to read.
        reason: why, in a few words; required when unscorable.
    """

    rollout: Rollout
    status: OutcomeStatus
    answer: str | None = None
    reason: str = ""

    @property
    def reward(self) -> float | None:
        """+1 for right, -1 for wrong, `None` when unscorable (tp_grpo.md 1.1)."""
        return {"right": 1.0, "wrong": -1.0, "unscorable": None}[self.status]


@final
@dataclass(frozen=True)
class Steps:
    """A partition of a rollout's completion tokens into steps.

    Args:
        outcome: the outcome of the rollout that was cut; a judge reads it before it reads a step.
        starts: [K] first token of each step, strictly rising, `starts[0] == 0`; step k ends where k + 1 starts.
        unit: what a step is: `paragraph`, `line`, `thought`, `whole` ...
        in_answer: [K] True for steps of the answer block (the text after the think block).
        closed: True if the think block was closed and an answer block follows.
        form: name of the block format that was recognised: `r1`, `skyt1`, `world`, `none` ...
    """

    outcome: Outcome
    starts: Int32[np.ndarray, " K"]
    unit: str
    in_answer: Bool[np.ndarray, " K"]
    closed: bool
    form: str = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", frozen(self.starts, np.int32))
        object.__setattr__(self, "in_answer", frozen(self.in_answer, np.bool_))
        tokens = len(self.rollout.completion_ids)
        ok = len(self.in_answer) == len(self.starts) and (len(self.starts) == 0) == (tokens == 0)
        if ok and tokens:
            ends = np.append(self.starts[1:], tokens)
            ok = bool(self.starts[0] == 0 and (ends > self.starts).all())
        if not ok:
            raise StepsError(f"steps do not partition the {tokens} completion tokens", item=self.rollout.id)

    @property
    def rollout(self) -> Rollout:
        """The rollout that was cut."""
        return self.outcome.rollout

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """[K] half-open token range of each step."""
        bounds = [*self.starts.tolist(), len(self.rollout.completion_ids)]
        return tuple(itertools.pairwise(bounds))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """[K] text of each step; joined they give the completion text."""
        if not len(self):
            return ()
        cuts = [0, *self.rollout.char_starts[self.starts[1:]].tolist(), len(self.rollout.text)]
        return tuple(self.rollout.text[a:b] for a, b in itertools.pairwise(cuts))


@final
@dataclass(frozen=True)
class Verdict:
    """What a judge says of one step.

    Args:
        score: the number, on the judge's scale; `None` if the judge has none to give.
        label: the class, for judges that give one.
        reason: why the step is unknown, or a rationale; required when score and label are both `None`.
        calls: ids of the model calls that made the verdict.
    """

    score: float | None = None
    label: Label | None = None
    reason: str = ""
    calls: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """True if the verdict says anything: a score or a label."""
        return self.score is not None or self.label is not None


@final
@dataclass(frozen=True)
class Judgement:
    """All verdicts on one rollout, one a step, in order.

    Args:
        steps: what was judged.
        verdicts: [K] verdicts.
        judge: fingerprint of the judge.
    """

    steps: Steps
    verdicts: tuple[Verdict, ...]
    judge: str

    def __post_init__(self) -> None:
        if len(self.verdicts) != len(self.steps):
            got, want = len(self.verdicts), len(self.steps)
            raise StepsError(f"judge {self.judge} gave {got} verdicts for {want} steps", item=self.steps.rollout.id)

    @property
    def known(self) -> bool:
        """True if every step has a score or a label."""
        return all(verdict.known for verdict in self.verdicts)


@final
@dataclass(frozen=True)
class Credit:
    """Per-token advantages of one rollout under one rule.

    Args:
        steps: the steps of the unit the rule paid (thoughts for TP-GRPO).
        judgement: the judgement used, `None` for outcome-only rules.
        advantages: [T] one advantage a completion token.
        rule: name of the credit rule.
        signals: names of the signals the rule read.
        group_digest: digest of the whole group (ids and outcomes) whose statistics were used.
        kept: False if a keep rule filtered the rollout out after the statistics were taken.
        note: why it was filtered, or what was done about unknown verdicts.
    """

    steps: Steps
    judgement: Judgement | None
    advantages: Float32[np.ndarray, " T"]
    rule: str
    signals: tuple[str, ...]
    group_digest: str
    kept: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "advantages", frozen(self.advantages, np.float32))
        got, want = len(self.advantages), len(self.steps.rollout.completion_ids)
        if got != want:
            raise StepsError(f"{got} advantages for {want} tokens", item=self.steps.rollout.id)


@final
@dataclass(frozen=True)
class Update:
    """What one optimiser step did; every quantity is over the whole update and all ranks.

    `kl_k1` and `kl_k3` estimate KL(old || current) in nats per token from tokens drawn from the old policy
    (tp_grpo.md 6, F2); `ess` is the effective sample size of the ratios as a share of the tokens, in (0, 1].
    """

    index: int
    loss: float
    rollouts: int
    tokens: int
    kl_k1: float
    kl_k3: float
    log_ratio_p99: float
    ess: float
    clip_low: float
    clip_high: float
    entropy: float
    grad_norm: float
    learning_rate: float
    skipped: str = ""


@final
@dataclass(frozen=True)
class Failure:
    """A rollout that will never have an outcome, and why; it counts towards its group's completion."""

    group: str
    sample: int
    reason: str


@final
@dataclass(frozen=True)
class Group:
    """The rollouts of one sampling call, compared together.

    Args:
        id: group id, from the sampling call.
        outcomes: sorted by sample index.
        failures: samples that failed, by name.
    """

    id: str
    outcomes: tuple[Outcome, ...]
    failures: tuple[Failure, ...] = field(default=())

    @cached_property
    def digest(self) -> str:
        """Digest of the members' ids, tokens and outcomes: what group statistics depend on."""
        members: Sequence[object] = [
            (o.rollout.id, o.rollout.completion_ids, o.status, o.answer) for o in self.outcomes
        ]
        return digest(self.id, members, [(f.sample, f.reason) for f in self.failures])
