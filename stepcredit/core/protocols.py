"""Protocols: what every implementation of a part or an engine owes, above all on failure."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32

from stepcredit.core.exchange import Completion, Message, NextTokens, Reply, Sampling, Writing, Written
from stepcredit.core.pack import Pack
from stepcredit.core.records import Group, Judgement, Outcome, Problem, Rollout, Steps, Update, Verdict


class Scale(StrEnum):
    """What a judge's scores mean; a rating is higher where better, and compares solutions of one problem alone."""

    PROBABILITY = "probability"
    SIGNED = "signed"
    LOG_RATIO = "log-ratio"
    BINARY = "binary"
    RATING = "rating"


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

    @property
    def added_ids(self) -> frozenset[int]:
        """Ids of tokens that are read by their text, whatever stands around it: roles, ends, tags."""
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


class ChatRenderer(Protocol):
    """A model's own chat template: from messages to the text that its tokenizer reads."""

    @property
    def bos(self) -> str:
        """Text of the begin-of-sequence token, empty if there is none."""
        ...

    @property
    def eos(self) -> str:
        """Text of the end-of-sequence token, empty if there is none."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of the template and its tokens."""
        ...

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Text of the messages, special tokens as text.

        Raises:
            UsageError: if the template refuses the messages.
        """
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
