"""Think-RM: judges that think at length, then compare two solutions or score one.

The words are our own; whoever serves a checkpoint gives it the words that it was trained on (`PairWords`).
"""

import re
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, final

import numpy as np
from jaxtyping import Float32

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, JudgeError, UsageError
from stepcredit.core.protocols import ChatModel, Message, Reply
from stepcredit.core.records import Group, Verdict
from stepcredit.core.seeds import derive
from stepcredit.judges.outcome.solutions import answer_block, filled, inert, problem_of
from stepcredit.judges.together import together

PROMPT_VERSION = 1
"""Raised when the wording changes; part of the fingerprint."""

PairScale = Literal["binary", "graded"]

_SYSTEM = """You compare two solutions of one problem. Look at whether they are correct, complete and clear, and whether
they do what was asked. Think it through first. """
_BINARY = """Then write the letter of the better solution, A or B, in a tag: <answer>A</answer>."""
_GRADED = """Then write one whole number in a tag, such as <answer>-2</answer>: -3, -2 or -1 if solution A is much
better, better or slightly better, 0 if neither is, and 1, 2 or 3 if solution B is slightly better, better or much
better."""
_USER = """<problem>
{problem}
</problem>

<solution_A>
{first}
</solution_A>

<solution_B>
{second}
</solution_B>"""
_POINT_SYSTEM = """You judge a solution of a problem. Look at whether it is correct, complete and clear, and whether it
does what was asked. Think it through first. Then write one whole number from {low} to {high} in a tag, such as
<answer>{high}</answer>; {high} is best."""
_POINT_USER = """<problem>
{problem}
</problem>

<solution>
{solution}
</solution>"""
_TAGS = "problem|solution|solution_[AB]|answer|think"


@final
@dataclass(frozen=True)
class PairWords:
    """What the pairwise judge is told.

    Args:
        system: the system turn; empty sends none.
        user: the user turn, with the fields `{problem}`, `{first}` and `{second}`.

    Raises:
        UsageError: if the user turn lacks a field.
    """

    system: str
    user: str = _USER

    def __post_init__(self) -> None:
        missing = [name for name in ("problem", "first", "second") if f"{{{name}}}" not in self.user]
        if missing:
            raise UsageError(f"the pairwise judge's user turn lacks the field {{{missing[0]}}}")


PAIR_WORDS: dict[PairScale, PairWords] = {
    "binary": PairWords(_SYSTEM + _BINARY),
    "graded": PairWords(_SYSTEM + _GRADED),
}
"""Our words for each scale."""


@final
@dataclass(frozen=True)
class ThinkRMPairSettings:
    """How the pairwise judge is asked.

    Args:
        scale: `binary` reads A or B; `graded` a whole number of -3..3, above 0 if B is better.
        words: what is said; `None` takes ours for the scale.
        max_tokens: upper bound on the tokens of a reply, thoughts included.
        temperature: of the replies.
        seed: of the replies.
        both_orders: True asks every pair in both orders and takes half the difference, which cancels a leaning to a
            place; it doubles the calls.

    Raises:
        UsageError: if the scale is not known or max_tokens is below 1.

    Source: Think-RM, arXiv:2505.16265, credit.md 2.7 (4,096 tokens; the released code asks one order, at 0.6).
    Differs: none.
    """

    scale: PairScale = "graded"
    words: PairWords | None = None
    max_tokens: int = 4096
    temperature: float = 0.6
    seed: int = 0
    both_orders: bool = False

    def __post_init__(self) -> None:
        if self.scale not in PAIR_WORDS:
            raise UsageError(f"the pairwise judge's scale must be binary or graded, got {self.scale!r}")
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, got {self.max_tokens}")


@final
@dataclass(frozen=True)
class Comparison:
    """What was said of one pair.

    Args:
        first, second: indices into the group's outcomes, first < second.
        preference: above 0 if the first is better, `None` if it is not known.
        reason: why it is not known.
        calls: ids of the calls.
    """

    first: int
    second: int
    preference: float | None
    reason: str = ""
    calls: tuple[str, ...] = field(default=())


@final
class ThinkRMPairJudge:
    """Implements `core.protocols.GroupJudge`: compares every two solutions of a group, G(G - 1)/2 replies.

    Reads neither the outcomes nor the reference answer.

    Args:
        model: any chat model; best one that was trained as Think-RM.
        settings: how it is asked.

    Source: Think-RM, arXiv:2505.16265, credit.md 2.7. Differs: a pair whose reply cannot be read is NaN, not 0; the
    answer must be the number alone, where the released code takes the last number inside the tag.
    """

    def __init__(self, model: ChatModel, settings: ThinkRMPairSettings | None = None) -> None:
        self._model, self._settings = model, settings or ThinkRMPairSettings()
        self._words = self._settings.words or PAIR_WORDS[self._settings.scale]

    @property
    def fingerprint(self) -> str:
        """Prompt version, words, settings and the model's fingerprint."""
        return f"think-rm-pair:{digest(PROMPT_VERSION, self._words, self._settings, self._model.fingerprint)}"

    async def compare(self, group: Group) -> Float32[np.ndarray, "N N"]:
        """[N, N] preferences d, antisymmetric; d[i, j] > 0 if i is better than j, NaN where undecided, 0 on i = j.

        Raises:
            JudgeError: if the model gave no whole answer, or the group has several problems; carries the group id.
            BudgetError: if the model reached a limit on calls or cost.
        """
        size = len(group.outcomes)
        found = np.zeros((size, size), np.float32)
        for each in await self.examine(group):
            value = np.nan if each.preference is None else each.preference
            found[each.first, each.second], found[each.second, each.first] = value, -value
        return found

    async def examine(self, group: Group) -> tuple[Comparison, ...]:
        """All pairs, with the reasons of those that are not known; raises as `compare`."""
        if len(group.outcomes) < 2:
            return ()
        problem = problem_of(group)
        pairs = list(combinations(range(len(group.outcomes)), 2))
        try:
            return tuple(await together(self._pair(group, problem, i, j) for i, j in pairs))
        except EngineError as error:
            raise JudgeError(f"the pairwise judge's model failed: {error}", item=group.id) from error

    async def _pair(self, group: Group, problem: str, first: int, second: int) -> Comparison:
        orders = [(first, second), (second, first)] if self._settings.both_orders else [(first, second)]
        replies = await together(self._ask(group, problem, a, b) for a, b in orders)
        calls = tuple(reply.call for reply in replies)
        values: list[float] = []
        for reply, (a, _) in zip(replies, orders, strict=True):
            value, reason = read_preference(reply, scale=self._settings.scale)
            if value is None:
                return Comparison(first, second, None, reason, calls)
            values.append(value if a == first else -value)
        return Comparison(first, second, sum(values) / len(values), "", calls)

    async def _ask(self, group: Group, problem: str, first: int, second: int) -> Reply:
        shown = [inert(group.outcomes[k].rollout.text, _TAGS) for k in (first, second)]
        fields = {"problem": inert(problem, _TAGS), "first": shown[0], "second": shown[1]}
        system = [Message("system", self._words.system)] if self._words.system else []
        settings = self._settings
        return await self._model.complete(
            [*system, Message("user", filled(self._words.user, fields))],
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=derive(settings.seed, "think-rm", group.id, first, second),
        )


def read_preference(reply: Reply, *, scale: PairScale) -> tuple[float | None, str]:
    """How far solution A is better than B, by one reply; and why that is not known.

    Args:
        reply: the whole reply.
        scale: `binary` gives 1 or -1; `graded` minus the number said, so -3..3.

    >>> read_preference(Reply("<answer>-2</answer>", "stop", "", ""), scale="graded")
    (2.0, '')
    >>> read_preference(Reply("<answer>A, I think</answer>", "stop", "", ""), scale="binary")
    (None, "the answer 'A, I think' is neither A nor B")
    """
    if reply.finish != "stop":
        return None, "the reply was cut by its length"
    answer, reason = answer_block(reply.text)
    if reason:
        return None, reason
    if scale == "binary":
        known = {"A": 1.0, "B": -1.0}
        return (known[answer], "") if answer in known else (None, f"the answer {answer[:40]!r} is neither A nor B")
    if not re.fullmatch(r"[+-]?[0-3]", answer):
        return None, f"the answer {answer[:40]!r} is no whole number of -3..3"
    return 0.0 - int(answer), ""


@final
@dataclass(frozen=True)
class ThinkRMPointSettings:
    """How the pointwise judge is asked.

    Args:
        low, high: the smallest and the largest score.
        max_tokens: upper bound on the tokens of a reply, thoughts included.
        temperature: of the replies.
        seed: of the replies.

    Raises:
        UsageError: if low is not below high, or max_tokens is below 1.
    """

    low: int = 1
    high: int = 10
    max_tokens: int = 4096
    temperature: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.low >= self.high or self.max_tokens < 1:
            raise UsageError(f"the pointwise judge needs low < high and max_tokens of at least 1, got {self}")


@final
class ThinkRMPointJudge:
    """Implements `core.judge_parts.OutcomeJudge`: scores every solution of a group by itself, one reply each.

    Reads neither the outcomes nor the reference answer; scores are whole numbers of low..high.

    Args:
        model: any chat model.
        settings: how it is asked.

    Source: own, beside Think-RM, arXiv:2505.16265, whose notes give no pointwise form. Differs: the scale is ours.
    """

    def __init__(self, model: ChatModel, settings: ThinkRMPointSettings | None = None) -> None:
        self._model, self._settings = model, settings or ThinkRMPointSettings()

    @property
    def fingerprint(self) -> str:
        """Prompt version, settings and the model's fingerprint."""
        return f"think-rm-point:{digest(PROMPT_VERSION, self._settings, self._model.fingerprint)}"

    async def rate(self, group: Group) -> tuple[Verdict, ...]:
        """[N] scores.

        Raises:
            JudgeError: if the model gave no whole answer, or the group has several problems; carries the group id.
            BudgetError: if the model reached a limit on calls or cost.
        """
        if not group.outcomes:
            return ()
        problem = problem_of(group)
        try:
            found = [self._one(group.id, problem, o.rollout.text, o.rollout.sample) for o in group.outcomes]
            return tuple(await together(found))
        except EngineError as error:
            raise JudgeError(f"the pointwise judge's model failed: {error}", item=group.id) from error

    async def _one(self, group: str, problem: str, solution: str, sample: int) -> Verdict:
        settings = self._settings
        bounds = {"low": str(settings.low), "high": str(settings.high)}
        fields = {"problem": inert(problem, _TAGS), "solution": inert(solution, _TAGS)}
        reply = await self._model.complete(
            [Message("system", filled(_POINT_SYSTEM, bounds)), Message("user", filled(_POINT_USER, fields))],
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=derive(settings.seed, "think-rm", group, sample),
        )
        return read_score(reply, low=settings.low, high=settings.high)


def read_score(reply: Reply, *, low: int, high: int) -> Verdict:
    """The score of one reply: a whole number of low..high alone in the last answer block.

    >>> read_score(Reply("<answer>7</answer>", "stop", "c", ""), low=1, high=10)
    Verdict(score=7.0, label=None, reason='', calls=('c',))
    >>> read_score(Reply("<answer>11</answer>", "stop", "c", ""), low=1, high=10).reason
    "the answer '11' is no whole number of 1..10"
    """
    calls = (reply.call,)
    if reply.finish != "stop":
        return Verdict(reason="the reply was cut by its length", calls=calls)
    answer, reason = answer_block(reply.text)
    if reason:
        return Verdict(reason=reason, calls=calls)
    number = int(answer) if re.fullmatch(r"[+-]?[0-9]{1,9}", answer) else None
    if number is None or not low <= number <= high:
        return Verdict(reason=f"the answer {answer[:40]!r} is no whole number of {low}..{high}", calls=calls)
    return Verdict(float(number), calls=calls)
