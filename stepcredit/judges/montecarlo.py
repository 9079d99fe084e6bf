"""Monte-Carlo values: the policy continues the prefixes of a solution, and the mean reward of the ends is the value."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final
from weakref import WeakValueDictionary

import numpy as np
from jaxtyping import Float64, Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, JudgeError, UsageError
from stepcredit.core.protocols import Checker, Completion, Sampler, Sampling, Tokenizer
from stepcredit.core.records import Prefix, Rollout, Steps
from stepcredit.core.seeds import derive
from stepcredit.judges.together import together

Align = Callable[[Int32[np.ndarray, " T"], Tokenizer], tuple[str, Int32[np.ndarray, " T"]]]
"""Text of ids and the character that each token starts at: `stepcredit.steps.align`."""


@final
@dataclass(frozen=True)
class MonteCarloSettings:
    """How prefixes are continued.

    Args:
        sampling: as the policy was sampled; its `max_tokens` bounds prefix and continuation together.
        completions: K, continuations of each prefix.
        min_scorable: a node of which fewer continuations can be scored is unknown.
        root: False leaves the value of the prompt unknown (NaN), for rules that take it from the group.
        seed: of the continuations.

    Raises:
        UsageError: if a count is out of range.

    Source: Kazemnejad et al. 2024, arXiv:2410.01679 (K = 9; temperature 0.6, top-p 0.9); credit.md 2.1. Differs: the
    sampling is the caller's, and the cap on evaluated steps is left out.
    """

    sampling: Sampling
    completions: int = 9
    min_scorable: int = 1
    root: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.min_scorable <= self.completions:
            got = f"{self.min_scorable} and {self.completions}"
            raise UsageError(f"min_scorable must be at least 1 and at most completions, got {got}")


@final
@dataclass
class MonteCarloSpending:
    """What values cost so far; prefixes that were shared are counted once.

    Args:
        prefixes: prefixes continued.
        shared: times that a prefix was asked for again.
        continuations: continuations written.
        unscorable: those that the checker could not score.
        tokens: tokens written.
    """

    prefixes: int = 0
    shared: int = 0
    continuations: int = 0
    unscorable: int = 0
    tokens: int = 0


@final
class MonteCarloValues:
    """Values of the nodes of a solution: before each step, and at its end.

    V[j] = mean reward of K continuations of the first j steps;  V[end] = the solution's own reward

    Equal prefixes are continued once, whichever rollouts hold them and whenever they are asked for, as long as the
    sampler's weights stay; their draws depend on the prefix and the seed alone. Values of old weights are forgotten.

    Args:
        sampler: the policy that is being trained, with its current weights.
        tokenizer: the policy's.
        checker: scores each continuation as a whole solution; one that is cut is what the checker says of it.
        settings: how prefixes are continued.
        align: makes the text of a continuation from its ids.

    Source: Kazemnejad et al. 2024, arXiv:2410.01679; credit.md 2.1. Differs: the released code scores a continuation
    that is cut 0, whatever it holds; here it is worth what a rollout of the same text is, so that values are those of
    the reward that is trained on.
    """

    def __init__(
        self, sampler: Sampler, tokenizer: Tokenizer, checker: Checker, settings: MonteCarloSettings, *, align: Align
    ) -> None:
        self._sampler, self._tokenizer, self._checker = sampler, tokenizer, checker
        self._settings, self._align = settings, align
        self._policy = ""
        self._known: dict[str, float] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.spending = MonteCarloSpending()

    @property
    def fingerprint(self) -> str:
        """Settings, checker, and the weights that would continue now."""
        return f"montecarlo:{digest(self._settings, self._checker.fingerprint, self._sampler.fingerprint)}"

    async def values(self, steps: Steps) -> Float64[np.ndarray, " K+1"]:
        """[K + 1] value before each step, then the solution's own reward; in [-1, 1], NaN where unknown.

        A solution without steps has its end alone.

        Raises:
            JudgeError: if the sampler failed, or changed its weights on the way; carries the rollout id.
            UsageError: if the solution is longer than the sampling allows.
        """
        rollout = steps.rollout
        if len(rollout.completion_ids) > self._settings.sampling.max_tokens:
            got, cap = len(rollout.completion_ids), self._settings.sampling.max_tokens
            message = (
                f"the completion has {got} tokens and max_tokens is {cap}: continue with the policy's own sampling"
            )
            raise UsageError(message, item=rollout.id)
        lengths = [int(start) for start in steps.starts]
        reward = steps.outcome.reward
        try:
            found = await together(self._node(rollout, length) for length in lengths)
        except EngineError as error:
            raise JudgeError(f"the sampler failed: {error}", item=rollout.id) from error
        return frozen([*found, np.nan if reward is None else reward], np.float64)

    async def _node(self, rollout: Rollout, length: int) -> float:
        """Mean reward of continuations of the first `length` completion tokens."""
        if length == 0 and not self._settings.root:
            return float("nan")
        policy = self._sampler.fingerprint
        if policy != self._policy:
            self._policy, self._known = policy, {}
        prompt = np.concatenate([rollout.prompt_ids, rollout.completion_ids[:length]])
        key = digest(rollout.problem.id, len(rollout.prompt_ids), prompt)
        lock = self._locks.setdefault(policy + key, asyncio.Lock())
        async with lock:
            if policy == self._policy and key in self._known:
                self.spending.shared += 1
                return self._known[key]
            value = await self._continued(rollout, length, prompt=prompt, key=key)
            if policy == self._policy:
                self._known[key] = value
            return value

    async def _continued(self, rollout: Rollout, length: int, *, prompt: Int32[np.ndarray, " P"], key: str) -> float:
        """Mean reward of K fresh continuations, NaN if too few can be scored."""
        settings = self._settings
        rest = replace(settings.sampling, max_tokens=settings.sampling.max_tokens - length)
        policy = self._sampler.fingerprint

        async def one(index: int) -> Completion:
            return await self._sampler.sample(prompt, rest, seed=derive(settings.seed, "continuation", key, index))

        written = await together(one(index) for index in range(settings.completions))
        self.spending.prefixes += 1
        self.spending.continuations += len(written)
        self.spending.tokens += sum(len(completion.ids) for completion in written)
        if any(completion.policy != policy for completion in written):
            raise JudgeError("the sampler changed its weights while values were taken", item=rollout.id)
        found = await self._rewards(rollout, length, written)
        known = [reward for reward in found if reward is not None]
        self.spending.unscorable += len(found) - len(known)
        return sum(known) / len(known) if len(known) >= settings.min_scorable else float("nan")

    async def _rewards(self, rollout: Rollout, length: int, written: Sequence[Completion]) -> list[float | None]:
        """Reward of each continuation, `None` for one that cannot be scored.

        One after the other: prefixes are checked side by side, and a task a check would cost more than most checks.
        """
        found: list[float | None] = []
        for index, completion in enumerate(written):
            outcome = await self._checker.check(self._solution(rollout, length, index, completion))
            found.append(outcome.reward)
        return found

    def _solution(self, rollout: Rollout, length: int, index: int, completion: Completion) -> Rollout:
        """Prefix and continuation as one solution, for the checker; `prefix` says that it is a continuation."""
        ids = np.concatenate([rollout.completion_ids[:length], completion.ids])
        text, char_starts = self._align(ids, self._tokenizer)
        return Rollout(
            id=f"{rollout.id}@{length}.{index}",
            problem=rollout.problem,
            group=rollout.group,
            sample=index,
            text=text,
            prompt_ids=rollout.prompt_ids,
            completion_ids=ids,
            char_starts=char_starts,
            finish=completion.finish,
            policy=completion.policy,
            prefix=Prefix(rollout.id, length),
        )
