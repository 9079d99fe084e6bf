r"""SPCT: several replies, each with principles, a critique and scores of all solutions; their scores are summed.

A meta reward model may choose which replies count. The words and the reply form are our own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, JudgeError, UsageError
from stepcredit.core.judge_parts import CritiqueRater
from stepcredit.core.protocols import ChatModel, Message
from stepcredit.core.records import Group, Verdict
from stepcredit.core.seeds import derive
from stepcredit.judges.outcome.solutions import after_thoughts, filled, inert, problem_of
from stepcredit.judges.together import together

PROMPT_VERSION = 1
"""Raised when the wording changes; part of the fingerprint."""

_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_TAGS = "problem|solution_[0-9]+|think"
_USER = r"""Here are a problem and {count} to it.

<problem>
{problem}
</problem>

{solutions}

First write down the principles by which solutions of this problem should be judged, each with its weight in percent.
Then examine every solution by these principles. Last give each solution a whole number from {low} to {high}, {high}
being best, in the order of the solutions and separated by commas, in \boxed{}, for example {example}."""


@final
@dataclass(frozen=True)
class SpctSettings:
    """How the judge is asked.

    Args:
        votes: k, replies asked; each sees the solutions in an order of its own.
        kept: replies that count if a meta reward model chooses; `None` is half of the votes.
        low, high: the smallest and the largest score.
        max_tokens: upper bound on the tokens of a reply.
        temperature: of the replies.
        seed: of replies and orders.

    Raises:
        UsageError: if votes is below 1, kept is not in 1..votes, low is not below high, or max_tokens is below 1.

    Source: SPCT, arXiv:2504.02495, credit.md 2.8 (scores 1..10, temperature 0.5, the best k/2). Differs: k = 8 of the
    published 1 to 32; max_tokens is ours.
    """

    votes: int = 8
    kept: int | None = None
    low: int = 1
    high: int = 10
    max_tokens: int = 4096
    temperature: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.votes < 1 or self.max_tokens < 1 or self.low >= self.high:
            raise UsageError(f"SPCT needs votes and max_tokens of at least 1 and low < high, got {self}")
        if self.kept is not None and not 1 <= self.kept <= self.votes:
            raise UsageError(f"SPCT keeps 1..{self.votes} of {self.votes} votes, got {self.kept}")


@final
@dataclass(frozen=True)
class Vote:
    """One reply.

    Args:
        order: [N] indices of the solutions as they were shown.
        scores: [N] score of each solution, in the group's order; empty if they could not be read.
        reason: why there are none.
        text: the whole reply.
        call: id of the call.
        trust: the meta reward model's verdict on it, `None` where nobody was asked.
    """

    order: tuple[int, ...]
    scores: tuple[int, ...]
    reason: str
    text: str
    call: str
    trust: Verdict | None = None


@final
class SpctJudge:
    """Implements `core.judge_parts.OutcomeJudge`: S[i] = sum over replies j of the score that j gives to solution i.

    Reads neither the outcomes nor the reference answer. Replies that cannot be read do not count; each reply scores
    all solutions, so scores of one group stay comparable. With a meta reward model the `kept` best rated replies are
    summed; one that it does not rate is not among them.

    Args:
        model: any chat model; best one that was trained as DeepSeek-GRM.
        settings: how it is asked.
        meta: rates replies.

    Source: SPCT, arXiv:2504.02495, credit.md 2.8. Differs: own words; scores outside low..high make a reply unread.
    """

    def __init__(
        self, model: ChatModel, settings: SpctSettings | None = None, *, meta: CritiqueRater | None = None
    ) -> None:
        self._model, self._settings, self._meta = model, settings or SpctSettings(), meta

    @property
    def fingerprint(self) -> str:
        """Prompt version, settings and fingerprints of the models."""
        meta = None if self._meta is None else self._meta.fingerprint
        return f"spct:{digest(PROMPT_VERSION, self._settings, self._model.fingerprint, meta)}"

    async def rate(self, group: Group) -> tuple[Verdict, ...]:
        """[N] sums; the reason says of how many replies.

        Raises:
            JudgeError: if a model gave no whole answer, or the group has several problems; carries the group id.
            BudgetError: if a limit on calls or cost is reached.
        """
        return combined(await self.examine(group), len(group.outcomes), kept=self._kept)

    async def examine(self, group: Group) -> tuple[Vote, ...]:
        """[k] all replies, in the order of their seeds; raises as `rate`."""
        if not group.outcomes:
            return ()
        problem = problem_of(group)
        texts = [outcome.rollout.text for outcome in group.outcomes]
        try:
            votes = [self._vote(group.id, problem, texts, k) for k in range(self._settings.votes)]
            return tuple(await together(votes))
        except EngineError as error:
            raise JudgeError(f"an SPCT model failed: {error}", item=group.id) from error

    @property
    def _kept(self) -> int | None:
        if self._meta is None:
            return None
        return self._settings.kept or max(1, self._settings.votes // 2)

    async def _vote(self, group: str, problem: str, texts: Sequence[str], index: int) -> Vote:
        settings = self._settings
        order = [*range(len(texts))]
        Random(derive(settings.seed, "spct-order", group, index)).shuffle(order)
        shown = [texts[k] for k in order]
        reply = await self._model.complete(
            [Message("user", spct_prompt(problem, shown, low=settings.low, high=settings.high))],
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=derive(settings.seed, "spct", group, index),
        )
        cut = "the reply was cut by its length" if reply.finish != "stop" else ""
        found, reason = ((), cut) if cut else read_scores(reply.text, len(texts), low=settings.low, high=settings.high)
        scores = tuple(found[order.index(k)] for k in range(len(texts))) if found else ()
        trust = None
        if self._meta is not None and scores:
            trust = await self._meta.rate_critique(problem, shown, reply.text)
        return Vote(tuple(order), scores, reason, reply.text, reply.call, trust)


def spct_prompt(problem: str, solutions: Sequence[str], *, low: int, high: int) -> str:
    r"""The user message; tags of its own form inside problem and solutions are broken up by a space.

    >>> "for example \\boxed{10, 9}" in spct_prompt("1 + 1?", ["2", "3"], low=1, high=10)
    True
    """
    shown = [f"<solution_{k}>\n{inert(text, _TAGS)}\n</solution_{k}>" for k, text in enumerate(solutions, 1)]
    example = ", ".join(str(max(low, high - k)) for k in range(len(solutions)))
    fields = {
        "count": "a solution" if len(solutions) == 1 else f"{len(solutions)} solutions",
        "problem": inert(problem, _TAGS),
        "solutions": "\n\n".join(shown),
        "low": str(low),
        "high": str(high),
        "example": rf"\boxed{{{example}}}",
    }
    return filled(_USER, fields)


def read_scores(text: str, count: int, *, low: int, high: int) -> tuple[tuple[int, ...], str]:
    r"""Scores in the order shown, from the last box behind the thoughts; and why there are none.

    Args:
        text: the reply.
        count: N, number of solutions.
        low: smallest score.
        high: largest score.

    >>> read_scores(r"so \boxed{7, 10}", 2, low=1, high=10)
    ((7, 10), '')
    >>> read_scores(r"so \boxed{7}", 2, low=1, high=10)
    ((), "the box holds 1 of 2 scores: '7'")
    """
    said = after_thoughts(text)
    if said is None:
        return (), "the think block is not closed"
    boxes = _BOXED.findall(said)
    if not boxes:
        return (), "the reply has no \\boxed{} scores"
    entries = [entry.strip() for entry in boxes[-1].split(",")]
    if len(entries) != count:
        return (), f"the box holds {len(entries)} of {count} scores: {boxes[-1][:40]!r}"
    wrong = next((e for e in entries if not re.fullmatch(r"[0-9]{1,9}", e) or not low <= int(e) <= high), None)
    if wrong is not None:
        return (), f"the score {wrong[:40]!r} is no whole number of {low}..{high}"
    return tuple(int(entry) for entry in entries), ""


def combined(votes: Sequence[Vote], count: int, *, kept: int | None) -> tuple[Verdict, ...]:
    """[count] sums of the votes that count.

    Args:
        votes: [k] replies.
        count: N, number of solutions.
        kept: votes that count, best rated first, of equals the first; `None` counts all that could be read.

    >>> votes = [Vote((0, 1), (7, 3), "", "", "a"), Vote((1, 0), (), "cut", "", "b"), Vote((1, 0), (6, 6), "", "", "c")]
    >>> [(v.score, v.reason) for v in combined(votes, 2, kept=None)]
    [(13.0, 'sum of 2 of 3 replies'), (9.0, 'sum of 2 of 3 replies')]
    """
    calls = tuple(vote.call for vote in votes if vote.call)
    read = [vote for vote in votes if vote.scores]
    chosen = read if kept is None else _trusted(read, kept)
    if not chosen:
        reasons = [vote.reason or "a reply was not rated" for vote in votes] or ["no reply was asked"]
        return (Verdict(reason=reasons[0], calls=calls),) * count
    reason = f"sum of {len(chosen)} of {len(votes)} replies"
    return tuple(Verdict(float(sum(v.scores[k] for v in chosen)), reason=reason, calls=calls) for k in range(count))


def _trusted(votes: Sequence[Vote], kept: int) -> list[Vote]:
    rated = [(vote.trust.score, vote) for vote in votes if vote.trust is not None and vote.trust.score is not None]
    return [vote for _, vote in sorted(rated, key=lambda each: -each[0])[:kept]]
