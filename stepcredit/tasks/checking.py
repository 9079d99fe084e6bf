"""The outcome checker for mathematics in text: reads the final answer and compares it with the reference."""

import asyncio
import re
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Literal, Self, final

from stepcredit.core.errors import MachineError
from stepcredit.core.records import Finish, Outcome, OutcomeStatus, Rollout
from stepcredit.tasks.answers import read_answer
from stepcredit.tasks.equivalence import is_choice, same, tidy
from stepcredit.tasks.math_pool import Match, MathPool, failure_of

Mode = Literal["math", "string"]

UNREADABLE = "answer not readable"
"""Reason of a wrong answer that is neither text, number, letter nor formula."""

_NO_INK = re.compile(r"[\s?!.,;:_*#~'\"…-]*")


@final
@dataclass(frozen=True)
class Grade:
    """What the checker says of a text: as in `Outcome`, without the rollout."""

    status: OutcomeStatus
    answer: str | None = None
    reason: str = ""


@final
class MathChecker:
    """Right, wrong, or unscorable with a reason.

    Text, choice letters and plain numbers are compared first; only what these leave open goes to math-verify (reference
    first, since it is not symmetric), in processes that can be killed.

    - A finished text without a readable answer is `wrong` (reason `no answer`): the attempt failed, not the checker.
    - An answer that nobody can read is `wrong` too (reason `answer not readable`), as the field has it: in both modes
      one of nothing but punctuation, in math mode also one that math-verify cannot read.
    - A text cut at the token limit is held to explicit answers only (box, mark, statement), never to its last number;
      without one it is `wrong` (reason `cut before an answer`), or `unscorable` with `cut="unscorable"`.
    - `unscorable` is what we could not decide: no reference, open completion, timeout, memory limit, a reference that
      math-verify cannot read, or, in string mode, answers that are neither text, number nor letter.

    Args:
        pool: the processes to use; `None` starts some at need, and `close` stops them. A given pool is left running.
        mode: `math`, or `string` for no math-verify at all.
        cut: what a text is that was cut before an answer.

    Raises:
        MachineError: in math mode, if the extra `stepcredit[math]` is not installed.

    Source: engines.md 6. Differs: none.
    """

    def __init__(
        self, pool: MathPool | None = None, *, mode: Mode = "math", cut: Literal["wrong", "unscorable"] = "wrong"
    ) -> None:
        self._owned = pool is None
        self._pool = (pool or MathPool()) if mode == "math" else None
        self._mode: Mode = mode
        self._cut: Literal["wrong", "unscorable"] = cut

    @property
    def fingerprint(self) -> str:
        """Name and settings."""
        limit = f"/{self._pool.timeout_s:g}s" if self._pool else ""
        return f"math-checker/2/{self._mode}{limit}/cut-{self._cut}"

    async def check(self, rollout: Rollout) -> Outcome:
        """Check one rollout; many may wait at once, the pool bounds what runs."""
        grade = await self.grade(rollout.text, rollout.problem.answer, finish=rollout.finish)
        return Outcome(rollout, grade.status, grade.answer, grade.reason)

    async def grade(self, text: str, reference: str | None, *, finish: Finish = "stop") -> Grade:
        """Check a solution text against a reference answer."""
        first = self._without_math(text, reference, finish)
        if isinstance(first, Grade):
            return first
        future = asyncio.wrap_future(self._submit(reference, first))
        (result,) = await asyncio.gather(future, return_exceptions=True)
        return _grade(first, result)

    def grade_now(self, text: str, reference: str | None, *, finish: Finish = "stop") -> Grade:
        """`grade`, waiting; for scripts."""
        first = self._without_math(text, reference, finish)
        if isinstance(first, Grade):
            return first
        future = self._submit(reference, first)
        wait([future])
        return _grade(first, future.exception() or future.result())

    def close(self) -> None:
        """Stop the processes that this checker started."""
        if self._owned and self._pool is not None:
            self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _without_math(self, text: str, reference: str | None, finish: Finish) -> Grade | str:
        """The grade, or the answer that needs math-verify."""
        if reference is None:
            return Grade("unscorable", reason="no reference")
        if finish == "open":
            return Grade("unscorable", reason="open completion")
        answer = read_answer(text, letters=is_choice(reference))
        if finish == "length" and (answer is None or not answer.explicit):
            return Grade(self._cut, reason="cut before an answer")
        if answer is None:
            return Grade("wrong", reason="no answer")
        verdict = same(reference, answer.text)
        if verdict is not None:
            return Grade("right" if verdict else "wrong", answer.text)
        if _NO_INK.fullmatch(tidy(answer.text)):
            return Grade("wrong", answer.text, UNREADABLE)
        if self._mode == "string":
            return Grade("unscorable", answer.text, "text and numbers cannot decide; math mode can")
        return answer.text

    def _submit(self, reference: str | None, answer: str) -> "Future[Match]":
        if self._pool is None or reference is None:
            raise MachineError("no processes to compare in")
        return self._pool.submit(tidy(reference), tidy(answer))


def _grade(answer: str, result: Match | BaseException) -> Grade:
    if isinstance(result, BaseException):
        return Grade("unscorable", answer, failure_of(result))
    if result == "reference not readable":
        return Grade("unscorable", answer, "math-verify cannot read the reference")
    if result == "answer not readable":
        return Grade("wrong", answer, UNREADABLE)
    return Grade("right" if result == "equal" else "wrong", answer)
