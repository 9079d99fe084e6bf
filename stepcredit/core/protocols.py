"""Protocols: what every implementation of a part or an engine owes, above all on failure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.pack import Pack
from stepcredit.core.records import Finish, Group, Judgement, Outcome, Problem, Rollout, Steps, Update, Verdict


class Scale(StrEnum):
    """What a judge's scores mean."""

    PROBABILITY = "probability"
    SIGNED = "signed"
    LOG_RATIO = "log-ratio"
    BINARY = "binary"


@final
@dataclass(frozen=True)
class Sampling:
    """How a sampler draws tokens.

    Args:
        max_tokens: upper bound on completion tokens; reaching it means `finish == "length"`.
        temperature: 0 takes the most probable token; logprobs are always those of temperature 1.
        top_p: nucleus mass, 1.0 = all tokens.
        stop_ids: token ids that end the completion; the stop token is part of it.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop_ids: tuple[int, ...] = ()


@final
@dataclass(frozen=True)
class Completion:
    """What a sampler wrote for one request.

    Args:
        ids: [T] token ids.
        logprobs: [T] log probability of each id under the policy, in nats; `None` if the engine has none.
        finish: why it ended.
        policy: fingerprint of the weights that wrote it.
    """

    ids: Int32[np.ndarray, " T"]
    logprobs: Float32[np.ndarray, " T"] | None
    finish: Finish
    policy: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", frozen(self.ids, np.int32))
        if self.logprobs is not None:
            object.__setattr__(self, "logprobs", frozen(self.logprobs, np.float32))


@final
@dataclass(frozen=True)
class Writing:
    """How a writer goes on with a prompt; every value is sent, so that no server's defaults apply.

    Args:
        max_tokens: upper bound on written tokens; reaching it means `finish == "length"`.
        temperature: 0 takes the most probable token.
        top_p: nucleus mass, 1.0 = all tokens.
        top_k: tokens kept, -1 = all.
        stop: strings that end the text; the end-of-sequence token ends it too.
        keep_stop: True leaves the stop string at the end of the text.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = -1
    stop: tuple[str, ...] = ()
    keep_stop: bool = False


@final
@dataclass(frozen=True)
class Written:
    """What a writer wrote.

    Args:
        text: special tokens left out; with or without the stop string, as asked.
        finish: `stop`, or `length` if it was cut.
        stop: the stop string that ended it, empty if the end-of-sequence token or the length did.
        call: id of the call in the attempts table.
        input_tokens: tokens read, `None` if the server did not say.
        output_tokens: tokens written, `None` if the server did not say.
    """

    text: str
    finish: Finish
    stop: str = ""
    call: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None


@final
@dataclass(frozen=True)
class NextTokens:
    """Raw log probabilities of a few candidates as the next token.

    Args:
        logprobs: [C] in nats; NaN for a candidate that the engine did not name.
        bound: the smallest log probability that it named: that of a candidate with NaN is at most this.
        call: id of the call in the attempts table.
    """

    logprobs: Float32[np.ndarray, " C"]
    bound: float
    call: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "logprobs", frozen(self.logprobs, np.float32))


@final
@dataclass(frozen=True)
class Message:
    """One chat message; role is `system`, `user` or `assistant`."""

    role: str
    content: str


@final
@dataclass(frozen=True)
class Reply:
    """A chat model's answer, with what it cost.

    Args:
        text: the answer; never a partial stream.
        finish: `stop`, or `length` if it was cut.
        call: id of the call in the attempts table.
        model: the name that the server gave of itself.
        input_tokens: tokens read, `None` if the server did not say.
        output_tokens: tokens written, `None` if the server did not say.
    """

    text: str
    finish: Finish
    call: str
    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None


class Tokenizer(Protocol):
    """Text to ids and back; `pieces` is what alignment rests on."""

    @property
    def fingerprint(self) -> str:
        """Digest of vocabulary and rules."""
        ...

    @property
    def eos_id(self) -> int | None:
        """Id that ends a completion, `None` if the tokenizer names none."""
        ...

    def encode(self, text: str) -> Int32[np.ndarray, " T"]:
        """[T] ids of the text, without adding special tokens; special tokens in the text are recognised."""
        ...

    def pieces(self, ids: Sequence[int] | Int32[np.ndarray, " T"]) -> list[bytes]:
        """[T] the bytes each token stands for; joined and decoded as UTF-8 they are `decode(ids)`.

        Raises:
            EngineError: for an id outside the vocabulary.
        """
        ...

    def decode(self, ids: Sequence[int] | Int32[np.ndarray, " T"]) -> str:
        """Text of the ids, special tokens included, invalid bytes as U+FFFD."""
        ...


class Sampler(Protocol):
    """Writes completions, one request a call; the engine batches waiting requests."""

    @property
    def fingerprint(self) -> str:
        """Digest of the weights that would write now."""
        ...

    async def sample(self, prompt_ids: Int32[np.ndarray, " P"], sampling: Sampling, *, seed: int) -> Completion:
        """Write one completion.

        Equal seeds give equal draws; in a deterministic mode, equal completions however requests were grouped.

        Raises:
            EngineError: if the engine failed after its own retries; never a partial completion.
        """
        ...


class Scorer(Protocol):
    """Gives log probabilities of given tokens."""

    async def score(self, ids: Int32[np.ndarray, " X"], *, first: int) -> Float32[np.ndarray, " Y"]:
        """[X - first] log probability in nats of `ids[first:]`, each given all ids before it; `first >= 1`."""
        ...


class ChatModel(Protocol):
    """Answers chat messages, one request a call."""

    @property
    def fingerprint(self) -> str:
        """Model name, server and settings: part of every cache key."""
        ...

    async def complete(self, messages: Sequence[Message], *, max_tokens: int, temperature: float, seed: int) -> Reply:
        """One answer.

        Raises:
            EngineError: if no whole answer came within deadline and retries.
            BudgetError: if a limit on calls or cost is reached.
        """
        ...


class Writer(Protocol):
    """Goes on with a prompt that is given as token ids; for judges whose prompts are their own."""

    @property
    def fingerprint(self) -> str:
        """Model name, server and settings: part of every cache key."""
        ...

    async def write(self, prompt_ids: Int32[np.ndarray, " P"], writing: Writing, *, seed: int) -> Written:
        """Text that follows the prompt.

        Raises:
            EngineError: if no whole answer came within deadline and retries.
            BudgetError: if a limit on calls or cost is reached.
        """
        ...

    async def next_tokens(self, prompt_ids: Int32[np.ndarray, " P"], candidates: Int32[np.ndarray, " C"]) -> NextTokens:
        """Log probabilities of temperature 1 of the candidates after the prompt; raises as `write`."""
        ...


class Learner(Protocol):
    """The engine that is trained."""

    @property
    def fingerprint(self) -> str:
        """Digest of the current weights."""
        ...

    def logprobs(self, pack: Pack) -> Float32[np.ndarray, " X"]:
        """[X] log probability in nats of each trained token, NaN elsewhere; no gradient."""
        ...

    def update(self, pack: Pack) -> Update:
        """One optimiser step on the whole pack; splits it by its token budget, normalises over all of it."""
        ...

    def state(self) -> bytes:
        """Everything that `load` needs to go on bit-identically: weights, optimiser, counters, random states."""
        ...

    def load(self, state: bytes) -> None:
        """Go back to a state.

        Raises:
            EngineError: if the bytes are not a state of this learner's architecture.
        """
        ...


class Splitter(Protocol):
    """Cuts a checked rollout into steps."""

    @property
    def unit(self) -> str:
        """Name of the unit it cuts into."""
        ...

    def split(self, outcome: Outcome) -> Steps:
        """Partition the completion.

        Every token gets a step. A completion without tokens gives zero steps.
        """
        ...


class Checker(Protocol):
    """Compares a rollout's final answer with the reference."""

    @property
    def fingerprint(self) -> str:
        """Name and settings, part of the store's key."""
        ...

    async def check(self, rollout: Rollout) -> Outcome:
        """Right, wrong, or unscorable with a reason; never raises for what the rollout says."""
        ...


class Judge(Protocol):
    """Gives a verdict on every step of one rollout.

    Returns one verdict per step, in order. A step the judge cannot decide gets `Verdict(reason=...)`, never 0.0.
    """

    @property
    def fingerprint(self) -> str:
        """Name, model, prompt version and settings: part of every cache key."""
        ...

    @property
    def scale(self) -> Scale:
        """What the scores mean."""
        ...

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts on one rollout's steps.

        Raises:
            JudgeError: if the judge itself failed; carries the rollout id. Retries are the engine's.
        """
        ...


class GroupJudge(Protocol):
    """Compares the rollouts of one group (pairwise or listwise judges)."""

    @property
    def fingerprint(self) -> str:
        """Name, model, prompt version and settings."""
        ...

    async def compare(self, group: Group) -> Float32[np.ndarray, " N N"]:
        """[N, N] antisymmetric preferences, NaN where undecided."""
        ...


class TrainedJudge(Judge, Protocol):
    """A judge that learns inside the loop (PRIME, a critic)."""

    def fit(self, judgements: Sequence[Judgement]) -> float:
        """One pass over judged rollouts; returns the mean loss."""
        ...


@runtime_checkable
class TaskSet(Protocol):
    """A source of problems with its checker."""

    @property
    def name(self) -> str:
        """Name of the set, the problems' `source`."""
        ...

    def problems(self, count: int, *, seed: int) -> tuple[Problem, ...]:
        """`count` problems drawn with the seed; equal seeds give equal problems.

        Raises:
            UsageError: if the set is finite and smaller than `count`.
        """
        ...
