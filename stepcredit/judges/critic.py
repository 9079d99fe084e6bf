r"""The critic: any chat model names the first wrong paragraph of a solution (the ProcessBench critic protocol).

One user message shows the problem and the solution in tagged paragraphs, numbered from 0; the reply ends with the
index of the first wrong paragraph, or -1, in \boxed{}. The wording is our own.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, JudgeError, UsageError
from stepcredit.core.protocols import ChatModel, Message, Reply, Scale
from stepcredit.core.rationales import Passage, Rationale, tell
from stepcredit.core.records import Steps, Verdict
from stepcredit.core.seeds import derive
from stepcredit.judges.together import together
from stepcredit.judges.verdicts import unknown

PROMPT_VERSION = 1
"""Raised when the wording changes; part of the fingerprint."""

_BOXED = re.compile(r"\\boxed\{([^}]*)\}")

_PROMPT = """Below are a math problem and a solution to it. The solution is cut into paragraphs; each stands in a tag \
with its number, counted from 0.

[Math Problem]

{problem}

[Solution]

{paragraphs}

Go through the paragraphs in order and examine each: is what it states true, and does it follow from the problem and \
the paragraphs before it? As soon as you meet an error, stop: the number of that paragraph is the answer. If no \
paragraph has an error, the answer is -1.

End your reply with the answer alone in \\boxed{{}}, for example \\boxed{{-1}}."""


@final
@dataclass(frozen=True)
class CriticSettings:
    """How the critic is asked.

    Args:
        max_tokens: upper bound on the tokens of one reply.
        temperature: 0 for one greedy reply; above 0 for votes.
        seed: seed of the replies.
        votes: replies asked; the most frequent boxed text wins, of equals the first.

    Source: ProcessBench, arXiv:2412.06559; genprm.md 9.3-9.4 (greedy, seed 42, 8,192 tokens; n = 8 at temperature 1).
    Differs: votes take seeds of their own; the top-p of 0.9 that goes with n = 8 is the chat model's to send.
    """

    max_tokens: int = 8192
    temperature: float = 0.0
    seed: int = 42
    votes: int = 1


def critic_prompt(problem: str, steps: Sequence[str]) -> str:
    r"""The user message.

    >>> "<paragraph_1>\nso 5\n</paragraph_1>" in critic_prompt("2 + 2?", ["2 + 2", "so 5"])
    True
    """
    paragraphs = "\n\n".join(f"<paragraph_{k}>\n{text.strip()}\n</paragraph_{k}>" for k, text in enumerate(steps))
    return _PROMPT.format(problem=problem.strip(), paragraphs=paragraphs)


def last_boxed(text: str) -> str | None:
    r"""Stripped text of the last `\boxed{...}` of a reply, `None` if it has none.

    >>> last_boxed(r"not \boxed{2} but \boxed{ 3 }."), last_boxed("paragraph 3")
    ('3', None)
    """
    found = _BOXED.findall(text)
    return found[-1].strip() if found else None


def vote_boxed(answers: Sequence[str | None]) -> str | None:
    """Most frequent boxed text, missing ones left out; of equals the first.

    >>> vote_boxed(["3", "-1", None, "-1", "3"])
    '3'
    """
    counts = Counter(answer for answer in answers if answer is not None).most_common(1)
    return counts[0][0] if counts else None


@final
class CriticJudge:
    """Scores steps 1 before the first error, 0 at it; after it nothing is said.

    Reads neither the outcome nor the reference answer. A reply without a box, with something else in it than an
    index of this solution, or cut by length makes all steps unknown.

    Args:
        model: any chat model.
        settings: how it is asked.

    Raises:
        UsageError: if votes or max_tokens is below 1.

    Source: ProcessBench, arXiv:2412.06559, genprm.md 9.3. Differs: own wording; a reply that was cut by length is
    unknown even if a box stands in it.
    """

    scale = Scale.BINARY

    def __init__(self, model: ChatModel, settings: CriticSettings | None = None) -> None:
        self._model = model
        self._settings = settings or CriticSettings()
        if self._settings.votes < 1 or self._settings.max_tokens < 1:
            raise UsageError(f"the critic needs votes and max_tokens of at least 1, got {self._settings}")

    @property
    def fingerprint(self) -> str:
        """Prompt version, settings and the model's fingerprint."""
        return f"critic:{digest(PROMPT_VERSION, self._settings, self._model.fingerprint)}"

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts.

        Raises:
            JudgeError: if the model gave no whole answer; carries the rollout id.
            BudgetError: if the model reached a limit on calls or cost.
        """
        if not len(steps):
            return ()
        message = Message("user", critic_prompt(steps.rollout.problem.text, steps.texts))
        try:
            replies = await together(self._reply(message, k) for k in range(self._settings.votes))
        except EngineError as error:
            raise JudgeError(f"the critic's model failed: {error}", item=steps.rollout.id) from error
        tell(_rationale(reply, len(steps), number=k) for k, reply in enumerate(replies))
        calls = tuple(reply.call for reply in replies)
        whole = [reply for reply in replies if reply.finish == "stop"]
        if not whole:
            return unknown(len(steps), f"the reply was cut at {self._settings.max_tokens} tokens", calls=calls)
        answer = vote_boxed([last_boxed(reply.text) for reply in whole])
        if answer is None:
            return unknown(len(steps), "the reply has no \\boxed{} answer", calls=calls)
        return verdicts_of(answer, len(steps), calls=calls)

    async def _reply(self, message: Message, index: int) -> Reply:
        settings = self._settings
        seed = settings.seed if settings.votes == 1 else derive(settings.seed, "critic", index)
        return await self._model.complete(
            [message], max_tokens=settings.max_tokens, temperature=settings.temperature, seed=seed
        )


def _rationale(reply: Reply, count: int, *, number: int) -> Rationale:
    """A reply as one vote, with the scores that it would give alone."""
    answer = last_boxed(reply.text) if reply.finish == "stop" else None
    alone = () if answer is None else verdicts_of(answer, count)
    scores = tuple(verdict.score for verdict in alone) or (None,) * count
    ended = "cut by length" if reply.finish != "stop" else "no boxed answer" if answer is None else ""
    said = "" if answer is None else f"boxed {answer[:40]}"
    return Rationale(f"reply {number + 1}", 0, scores, (Passage("written", reply.text),), said, ended)


def verdicts_of(answer: str, count: int, *, calls: tuple[str, ...] = ()) -> tuple[Verdict, ...]:
    """Verdicts from the boxed answer: an index of 0..count-1 or -1; anything else makes all unknown.

    >>> [v.score for v in verdicts_of("1", 3)], [v.score for v in verdicts_of("-1", 2)]
    ([1.0, 0.0, None], [1.0, 1.0])
    >>> verdicts_of("the second", 2)[0].reason
    "the boxed answer 'the second' is no paragraph index of 0..1 and not -1"
    """
    first = int(answer) if re.fullmatch(r"-1|[0-9]{1,9}", answer) else None
    if first is None or first >= count:
        reason = f"the boxed answer {answer[:40]!r} is no paragraph index of 0..{count - 1} and not -1"
        return unknown(count, reason, calls=calls)
    if first < 0:
        return (Verdict(1.0, calls=calls),) * count
    after = Verdict(reason=f"after the first error, which the critic sees in step {first}", calls=calls)
    return (
        *((Verdict(1.0, calls=calls),) * first),
        Verdict(0.0, reason="first error", calls=calls),
        *((after,) * (count - first - 1)),
    )
