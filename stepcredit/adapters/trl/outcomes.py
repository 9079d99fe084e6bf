"""The reward function that TRL calls: completions to rollouts (ids as sampled), and what came of them."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Int32

from stepcredit.adapters.loop import Loop
from stepcredit.adapters.trl.settings import StepCredit
from stepcredit.core.digests import digest
from stepcredit.core.errors import StepcreditError, UsageError
from stepcredit.core.records import Finish, Outcome, Problem, Rollout
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.steps import align

OUTCOME = "stepcredit_outcome"
"""Name under which TRL logs the outcome where a checker gives it."""


@final
@dataclass(frozen=True)
class Place:
    """Where this process's completions stand in the batch of all processes.

    Args:
        batch: name of the sampling call in this training.
        first: index of this process's first completion, over all processes.
        group_size: completions of each prompt; groups are neighbours in that order, and may straddle processes.
    """

    batch: str
    first: int
    group_size: int

    def of(self, index: int) -> tuple[str, int]:
        """Group and sample of this process's completion number `index`: by place, never by prompt text.

        >>> Place("b3", first=2, group_size=4).of(1), Place("b3", first=2, group_size=4).of(2)
        (('b3-g0', 3), ('b3-g1', 0))
        """
        group, sample = divmod(self.first + index, self.group_size)
        return f"{self.batch}-g{group}", sample


@final
@dataclass(frozen=True)
class Policy:
    """What is known of the writer of completions.

    Args:
        tokenizer: whose ids they are.
        eos_ids: ids that end a completion.
        pad_id: id that stands for nothing; completions that ended may carry it. `None` for none.
    """

    tokenizer: FileTokenizer
    eos_ids: frozenset[int]
    pad_id: int | None = None

    def finish(self, ids: Sequence[int]) -> Finish:
        """`length` if something cut the completion, whichever limit it was: it has no end token, as TRL counts it."""
        cut = len(ids) > 0 and ids[-1] not in self.eos_ids and ids[-1] != self.pad_id
        return "length" if cut else "stop"

    def text(self, ids: Int32[np.ndarray, " T"]) -> tuple[str, Int32[np.ndarray, " T"]]:
        """Text and the character at which each token starts (`steps.align`); an end token at the end has no text.

        Nor has an id that the tokenizer does not know: a model's table of embeddings may be longer than its vocabulary.
        """
        ended = len(ids) > 0 and int(ids[-1]) in self.eos_ids
        known = np.asarray(ids) < self.tokenizer.size
        known[len(ids) - ended :] = False
        text, own = align(ids[known], self.tokenizer)
        starts = np.full(len(ids), len(text), np.int32)
        following = np.cumsum(known[::-1])[::-1]  # known ids from each place on
        inside = following > 0
        starts[inside] = own[len(own) - following[inside]]
        return text, starts


@final
class OutcomeReward:
    """The reward function of the outcome: gives TRL its numbers and keeps the records for the credit rule.

    Args:
        credit: says who gives the outcome.
        loop: where checkers and async reward functions run.
    """

    def __init__(self, credit: StepCredit, loop: Loop) -> None:
        self._credit, self._loop = credit, loop
        function: Any = credit.outcome
        self.__name__ = OUTCOME if credit.checker else getattr(function, "__name__", type(function).__name__)
        self.policy: Policy | None = None
        self.place: Place | None = None
        self._kept: tuple[Outcome, ...] | None = None
        self._error: Exception | None = None

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        """One number a completion, `None` where the outcome is unscorable.

        An error is kept for `take`, where all processes hear of it; raised here, the others would wait for ever.
        """
        self._kept, self._error = None, None
        try:
            rollouts = self._rollouts(prompts, completion_ids, columns)
            if self._credit.checker is not None:
                outcomes = self._loop.run(self._checked(rollouts))
                rewards = [outcome.reward for outcome in outcomes]
            else:
                rewards = self._asked(prompts, completions, completion_ids, columns)
                outcomes = [self._outcome(*pair) for pair in zip(rollouts, rewards, strict=True)]
            self._kept = tuple(outcomes)
        except Exception as error:  # noqa: BLE001 -- raised again by every process
            self._error = error
            return [None] * len(prompts)
        return rewards

    def take(self) -> tuple[Outcome, ...]:
        """The outcomes of the last call, in this process's order; once.

        Raises:
            UsageError: if the reward function failed, or TRL did not call it.
        """
        kept, error = self._kept, self._error
        self._kept, self._error = None, None
        if kept is not None:
            return kept
        if error is None:
            raise UsageError("no outcomes: TRL did not call the reward function of the outcome")
        told = str(error) if isinstance(error, StepcreditError) else f"{type(error).__name__}: {error}"
        raise UsageError(f"no outcomes: {told}") from error

    async def _checked(self, rollouts: Sequence[Rollout]) -> list[Outcome]:
        checker = self._credit.checker
        if checker is None:
            raise UsageError("no checker")
        return [await checker.check(rollout) for rollout in rollouts]

    def _asked(
        self, prompts: Sequence[Any], completions: Sequence[Any], ids: Sequence[Any], columns: Mapping[str, Any]
    ) -> list[float | None]:
        function: Callable[..., Any] = self._credit.outcome  # pyright: ignore[reportAssignmentType]
        said = function(prompts=prompts, completions=completions, completion_ids=ids, **columns)
        if inspect.iscoroutine(said):
            said = self._loop.run(said)
        rewards = [None if value is None or math.isnan(value) else float(value) for value in said]
        if len(rewards) != len(prompts):
            raise UsageError(
                f"reward function {self.__name__} gave {len(rewards)} numbers for {len(prompts)} completions"
            )
        return rewards

    def _outcome(self, rollout: Rollout, reward: float | None) -> Outcome:
        if reward is None:
            return Outcome(rollout, "unscorable", reason=f"{self.__name__} gave no number")
        return Outcome(rollout, "right" if reward > self._credit.right_above else "wrong", reason=f"reward {reward:g}")

    def _rollouts(self, prompts: Sequence[Any], ids: Sequence[Any], columns: Mapping[str, Any]) -> list[Rollout]:
        policy, place = self.policy, self.place
        if policy is None or place is None:
            raise UsageError("the trainer has not begun a batch")
        problems = self._problems(prompts, columns)
        made: list[Rollout] = []
        for index, (problem, completion) in enumerate(zip(problems, ids, strict=True)):
            written = np.asarray(completion, np.int32)
            text, char_starts = policy.text(written)
            group, sample = place.of(index)
            made.append(
                Rollout(
                    f"{group}-s{sample}",
                    problem,
                    group,
                    sample,
                    text,
                    np.zeros(0, np.int32),
                    written,
                    char_starts,
                    finish=policy.finish(written.tolist()),
                )
            )
        return made

    def _problems(self, prompts: Sequence[Any], columns: Mapping[str, Any]) -> list[Problem]:
        credit = self._credit
        if credit.checker is not None and credit.answer_column not in columns:
            known = ", ".join(sorted(name for name, value in columns.items() if isinstance(value, list)))
            mend = "name it as StepCredit.answer_column (there are: " + (known or "none") + ")"
            raise UsageError(f"the data set has no column {credit.answer_column!r} with reference answers; {mend}")
        if credit.problem_column is not None and credit.problem_column not in columns:
            raise UsageError(f"the data set has no column {credit.problem_column!r} (StepCredit.problem_column)")
        texts = prompts if credit.problem_column is None else columns[credit.problem_column]
        answers = columns.get(credit.answer_column, [None] * len(prompts))
        return [_problem(prompt_text(text), answer) for text, answer in zip(texts, answers, strict=True)]


def prompt_text(prompt: Any) -> str:
    """A prompt as a judge should read it: the text, or the last user message of a conversation.

    >>> prompt_text([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}])
    '1+1?'
    """
    if isinstance(prompt, str):
        return prompt
    asked: list[Any] = [message["content"] for message in prompt if message["role"] == "user"]
    last: Any = asked[-1] if asked else prompt[-1]["content"]
    if isinstance(last, str):
        return last
    return "".join(str(part.get("text", "")) for part in last)


def _problem(text: str, answer: Any) -> Problem:
    reference = None if answer is None else str(answer)
    return Problem(digest(text, reference)[:12], text, reference, "trl")
