"""Writing one chain of ThinkPRM: rounds of critique, then the yes/no question, within its limits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Writer, Writing
from stepcredit.core.seeds import derive
from stepcredit.judges.loops import is_looping
from stepcredit.judges.pair import read_pair
from stepcredit.judges.thinkprm.labels import StepLabels, label_places, read_labels
from stepcredit.judges.thinkprm.prompt import PROFILES, PromptBuilder, Switches, stop_strings
from stepcredit.judges.thinkprm.signatures import Chain, Status, closed

_RESERVE = 20
"""Tokens kept free for the question and its answer."""


@final
@dataclass(frozen=True)
class ThinkPRMSettings:
    """How ThinkPRM is asked.

    Args:
        mode: what a step's score is, see `ThinkPRMJudge`.
        switches: how the prompt is written; `PROFILES` has the two named sets.
        votes: independent chains a question.
        rounds: rounds of critique in each chain.
        triggers: what round r + 1 begins with; one fewer than rounds, at least.
        max_tokens: tokens of one round.
        token_budget: tokens that all chains of one solution may write together, shared out evenly beforehand so that
            no order of arrival matters; `None` = no limit.
        context: tokens of the model's window, `None` = not watched.
        temperature: of the critique; `None` = 0 for one chain, 0.6 for several.
        decision_temperature: of the yes/no probability; fitted on held-out data, it calibrates.
        resample: True asks once more, at temperature 0.6 or above, where a critique gave no verdict.
        keep_contradicting: False takes no score from chains whose labels and final answer disagree.
        soft_labels: True scores a step by the probability of `correct` against `incorrect` in its box, in modes
            `labels` and `independent`: one more call a label.
        seed: the run's seed.

    Source: thinkprm.md 4.3, 4.4, 4.6, 4.7 and, for soft labels, 4.5. Differs: votes and rounds together; the
    budget's rule is our own; soft labels are a third-party extension, the rule for steps after the first error (0) is
    our own.
    """

    mode: Literal["labels", "prefixes", "independent"] = "labels"
    switches: Switches = PROFILES["trained"]
    votes: int = 1
    rounds: int = 1
    triggers: tuple[str, ...] = ("Let me double check", "Let's verify again", "Did I miss something?")
    max_tokens: int = 8172
    token_budget: int | None = None
    context: int | None = None
    temperature: float | None = None
    decision_temperature: float = 1.0
    resample: bool = True
    keep_contradicting: bool = True
    soft_labels: bool = False
    seed: int = 0

    @property
    def heat(self) -> float:
        """The critique's temperature."""
        if self.temperature is None:
            return 0.0 if self.votes == 1 else 0.6
        return self.temperature

    def check(self) -> None:
        """Refuse what cannot be asked.

        Raises:
            UsageError: if a number is out of range, triggers are too few, or several votes would be equal.
        """
        smallest = min(self.votes, self.rounds, self.max_tokens, self.token_budget or 1, self.context or 1)
        if smallest < 1 or self.token_budget == 0 or self.context == 0:
            raise UsageError("votes, rounds, max_tokens, token_budget and context must be at least 1")
        if len(self.triggers) < self.rounds - 1:
            raise UsageError(f"{self.rounds} rounds need {self.rounds - 1} triggers, got {len(self.triggers)}")
        if self.heat < 0 or not self.decision_temperature > 0:
            raise UsageError(
                f"temperature must be at least 0 and decision_temperature above 0, got {self.heat} and "
                f"{self.decision_temperature}"
            )
        if self.votes > 1 and self.heat == 0:
            raise UsageError(f"{self.votes} votes at temperature 0 are one vote; give a temperature such as 0.6")


@final
class ChainWriter:
    """Writes chains with one model.

    Args:
        writer: the served model.
        prompts: its prompts.
        settings: how it is asked.
    """

    def __init__(self, writer: Writer, prompts: PromptBuilder, settings: ThinkPRMSettings) -> None:
        self._writer, self._prompts, self._settings = writer, prompts, settings
        boxed = [prompts.token("correct"), prompts.token("incorrect")] if settings.soft_labels else []
        self._boxed: Int32[np.ndarray, " 2"] = frozen(boxed, np.int32)

    async def chain(self, problem: str, steps: Sequence[str], *, seed: int, budget: int | None) -> Chain:
        """One chain on the steps; a second one stands in for it where it has no verdict and `resample` is set.

        Args:
            problem: its text.
            steps: K texts, at least one.
            seed: of this chain.
            budget: tokens that it may write, a second try included.

        Raises:
            EngineError, BudgetError: as the writer.
        """
        settings = self._settings
        first = await self._written(problem, steps, settings.heat, seed=seed, budget=budget)
        left = None if budget is None else budget - first.tokens
        missing = first.status in (Status.NO_VERDICT, Status.STOPPED_EARLY)
        if not missing or not settings.resample or (left is not None and left < 1):
            return first
        heat = max(settings.heat, 0.6)
        second = await self._written(problem, steps, heat, seed=derive(seed, "resample"), budget=left)
        kept = first if second.labels is None or second.score is None else second
        tokens, calls = first.tokens + second.tokens, first.calls + second.calls
        return replace(kept, resampled=True, tokens=tokens, calls=calls)

    async def _written(
        self, problem: str, steps: Sequence[str], heat: float, *, seed: int, budget: int | None
    ) -> Chain:
        prompt = self._prompts.critique(problem, steps)
        chain = Chain(Status.OVER_LONG)
        for number in range(self._settings.rounds):
            before = chain.critique + (self._settings.triggers[number - 1] if number else "")
            ids = self._prompts.onward(prompt, before) if number else prompt
            room = self._room(len(ids), None if budget is None else budget - chain.tokens)
            if room < 1 and number:
                break
            if room < 1:
                return replace(chain, reason=f"no room for a critique after {len(ids)} tokens of prompt")
            writing = Writing(room, heat, stop=stop_strings(len(steps)))
            each = seed if number == 0 else derive(seed, "round", number)
            written = await self._writer.write(ids, writing, seed=each)
            text = written.text
            count = self._prompts.plain.count(text) if written.output_tokens is None else written.output_tokens
            tokens, calls = chain.tokens + count, (*chain.calls, *((written.call,) if written.call else ()))
            leaked = chain.leaked or self._prompts.plain.leaks(text)
            chain = replace(chain, critique=before + text, tokens=tokens, calls=calls, leaked=leaked)
            if written.finish != "stop":
                status = Status.LOOP if is_looping(text) else Status.OVER_LONG
                return replace(chain, status=status, labels=None, reason=f"the critique was cut at {room} tokens")
            found = read_labels(text, len(steps))
            if found is not None:
                chain = replace(chain, labels=found, labels_from=len(before))
            chain = replace(chain, partial=0 if chain.labels else len(label_places(text, len(steps))))
        return await self._answered(prompt, chain)

    async def _answered(self, prompt: Int32[np.ndarray, " P"], chain: Chain) -> Chain:
        asked = self._prompts.answer(prompt, chain.critique)
        following = await self._writer.next_tokens(asked, self._prompts.answers)
        found = read_pair(following)
        calls = (*chain.calls, *((following.call,) if following.call else ()))
        chain = replace(chain, calls=calls)
        if found is not None:
            score = found.share(self._settings.decision_temperature)
            chain = replace(chain, score=score, truncated=found.truncated)
        chain = closed(chain)
        if chain.labels is None or not self._settings.soft_labels:
            return chain
        return replace(chain, soft=await self._soft(prompt, chain.critique, chain.labels_from, chain.labels))

    async def _soft(
        self, prompt: Int32[np.ndarray, " P"], critique: str, start: int, labels: StepLabels
    ) -> tuple[float | None, ...]:
        """[L] probability of `correct` in each box that was read; a bound is not taken."""
        found: list[float | None] = []
        for place in label_places(critique[start:], len(labels.read)):
            ids = self._prompts.onward(prompt, critique[: start + place])
            box = read_pair(await self._writer.next_tokens(ids, self._boxed))
            found.append(None if box is None or box.truncated else box.share())
        return tuple(found)

    def _room(self, prompt_tokens: int, budget: int | None) -> int:
        context = self._settings.context
        limits = [self._settings.max_tokens]
        limits += [] if budget is None else [budget]
        limits += [] if context is None else [context - prompt_tokens - _RESERVE]
        return min(limits)
