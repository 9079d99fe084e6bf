"""The reason checker: a chat model says whether a judge's reason for the first wrong step is the true one.

For MR-Score: a person, or a model that is shown what a person wrote, compares two reasons. The words are our own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import ChatModel, Message

PROMPT_VERSION = 1
"""Raised when the wording changes; part of the fingerprint."""

_SHOWN = """A solution to a problem has a wrong step. Somebody who knows the matter wrote down what is wrong with it; \
a reader of the solution gave a reason too. Your task is to say whether the reader found the error.

<problem>
{problem}
</problem>

{steps}

The first wrong step is step {first}.

{known}

<given_reason>
{given}
</given_reason>

The given reason is right if it names the error that is known, in whatever words, and says nothing of that step that \
contradicts it. It is wrong if it names another error, only says that there is one, or explains the known one falsely.

Compare both in a few sentences, then end your reply with one word in a tag, right or wrong:

<grade>right</grade>"""

_TAG = re.compile(r"<(?=/?(?:step_[0-9]+|problem|known_reason|mended_step|given_reason|grade)\b)")
_GRADE = re.compile(r"<grade>([^<]*)</grade>")


@final
@dataclass(frozen=True)
class GivenReason:
    """A reason that a judge gave, and what it is compared with.

    Args:
        problem: what was asked.
        steps: [K] the solution.
        first_error: index of its first wrong step, as labelled.
        known: why it is wrong, in the words of those who labelled it; at least one.
        given: why, in the judge's words.
        mended: the step as those who labelled it would have it; may be empty.
    """

    problem: str
    steps: tuple[str, ...]
    first_error: int
    known: tuple[str, ...]
    given: str
    mended: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Grade:
    """What a checker says of a reason.

    Args:
        right: True if it is the true one, `None` if that is not known.
        why: why it is not known; empty if it is.
        calls: ids of the model calls.
    """

    right: bool | None
    why: str = ""
    calls: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class ReasonCheckerSettings:
    """How the checker is asked.

    Args:
        max_tokens: upper bound on the tokens of the reply.
        temperature: 0 for a greedy reply.
        seed: of the reply.

    Raises:
        UsageError: if max_tokens is below 1.

    Source: Zeng et al. 2024 (MR-Ben), arXiv:2406.13975 (greedy). Differs: max_tokens is ours.
    """

    max_tokens: int = 2048
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, got {self.max_tokens}")


@final
class ReasonChecker:
    """Compares a given reason with the known ones; a reply that was cut or cannot be read is unknown.

    Args:
        model: any chat model.
        settings: how it is asked.

    Source: Zeng et al. 2023 (MR-GSM8K), arXiv:2312.17080; Zeng et al. 2024 (MR-Ben), arXiv:2406.13975. Differs: own
    words and reply form; a grade that cannot be read is unknown, where the released scripts count it as wrong.
    """

    def __init__(self, model: ChatModel, settings: ReasonCheckerSettings | None = None) -> None:
        self._model, self._settings = model, settings or ReasonCheckerSettings()

    @property
    def fingerprint(self) -> str:
        """Prompt version, settings and the model's fingerprint."""
        return f"reason-checker:{digest(PROMPT_VERSION, self._settings, self._model.fingerprint)}"

    async def grade(self, asked: GivenReason) -> Grade:
        """The grade of one reason.

        Raises:
            UsageError: if there is no known reason, or no given one.
            EngineError: if the model gave no whole answer.
            BudgetError: if a limit on calls or cost is reached.
        """
        settings = self._settings
        reply = await self._model.complete(
            [Message("user", checker_prompt(asked))],
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
        )
        if reply.finish != "stop":
            return Grade(None, f"the checker's reply was cut at {settings.max_tokens} tokens", (reply.call,))
        return read_grade(reply.text, calls=(reply.call,))


def checker_prompt(asked: GivenReason) -> str:
    r"""The user message; tags of its own form inside the texts are broken up by a space.

    Raises:
        UsageError: if there is no known reason, or no given one.

    >>> text = checker_prompt(GivenReason("2 + 2?", ("It is 5.",), 0, ("2 + 2 is 4",), "so </given_reason>"))
    >>> "<step_0>\nIt is 5.\n</step_0>" in text, "so < /given_reason>" in text
    (True, True)
    """
    known = [text for text in asked.known if text.strip()]
    if not known or not asked.given.strip():
        raise UsageError("a checker compares a given reason with a known one, and one of them is empty")
    blocks = [*_blocks("known_reason", known), *_blocks("mended_step", [text for text in asked.mended if text.strip()])]
    steps = [f"<step_{k}>\n{_inert(text.strip())}\n</step_{k}>" for k, text in enumerate(asked.steps)]
    return _SHOWN.format(
        problem=_inert(asked.problem.strip()),
        steps="\n\n".join(steps),
        first=asked.first_error,
        known="\n\n".join(blocks),
        given=_inert(asked.given.strip()),
    )


def read_grade(text: str, *, calls: tuple[str, ...] = ()) -> Grade:
    """The grade in the last tag of a reply.

    >>> read_grade("Both name the sum. <grade>Right</grade>").right, read_grade("<grade>half</grade>").why
    (True, "the grade 'half' is neither right nor wrong")
    """
    tags = _GRADE.findall(text)
    if not tags:
        return Grade(None, "the checker's reply has no <grade> tag", calls)
    word = tags[-1].strip()
    if word.lower() not in ("right", "wrong"):
        return Grade(None, f"the grade {word[:40]!r} is neither right nor wrong", calls)
    return Grade(word.lower() == "right", calls=calls)


def _blocks(tag: str, texts: Sequence[str]) -> list[str]:
    return [f"<{tag}>\n{_inert(text.strip())}\n</{tag}>" for text in texts]


def _inert(text: str) -> str:
    return _TAG.sub("< ", text)
