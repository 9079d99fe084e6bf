"""The step critic: a chat model looks once at a solution and says of every step whether it is right, or which is not.

Three variants. `each` asks for yes or no on every step; `index` for the first wrong step alone; `reason` for that step
and what is wrong with it. The words and the reply forms are our own; `critic` holds the ProcessBench protocol.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, JudgeError, UsageError
from stepcredit.core.protocols import ChatModel, Message, Scale
from stepcredit.core.rationales import Passage, Rationale, tell
from stepcredit.core.records import Steps, Verdict
from stepcredit.judges.critic import verdicts_of
from stepcredit.judges.verdicts import unknown

Variant = Literal["each", "index", "reason"]

PROMPT_VERSION = 1
"""Raised when the wording changes; part of the fingerprint."""

_SHOWN = """Here are a problem and the steps of a solution to it. Each step stands in a tag with its number, from 0 on.

<problem>
{problem}
</problem>

{steps}

"""

_TASKS: dict[Variant, str] = {
    "each": """Check all {count} steps, one after the other. A step is right if what it states is true and follows from
the problem and the steps before it; take the results of earlier steps as given, even where you found them wrong.

End your reply with one line a step, `number: yes` if the step is right or `number: no` if it is not, in a block:

<verdicts>
0: yes
...
</verdicts>""",
    "index": """Check the steps in order. A step is wrong if what it states is false or does not follow from the problem
and the steps before it. Stop at the first wrong step.

End your reply with the number of that step, or the word none if all steps are right, in a tag:

<first_error>none</first_error>""",
    "reason": """Check the steps in order. A step is wrong if what it states is false or does not follow from the
problem and the steps before it. Stop at the first wrong step.

End your reply with the number of that step, or the word none if all steps are right, in a tag. If there is such a step,
say behind it, in a second tag and in one to three sentences, what is wrong with that step and what would be right:

<first_error>none</first_error>
<error_reason>...</error_reason>""",
}

_TAG = re.compile(r"<(?=/?(?:step_[0-9]+|problem|verdicts|first_error|error_reason)\b)")
_VERDICTS = re.compile(r"<verdicts>((?:(?!<verdicts>).)*?)</verdicts>", re.DOTALL)
_FIRST = re.compile(r"<first_error>([^<]*)</first_error>")
_REASON = re.compile(r"<error_reason>((?:(?!</?error_reason>).)*)</error_reason>", re.DOTALL)
_LINE = re.compile(r"(?:step\s+)?([0-9]{1,9})\s*:\s*(yes|no)\.?", re.IGNORECASE)


@final
@dataclass(frozen=True)
class StepCriticSettings:
    """How the step critic is asked.

    Args:
        variant: `each` gives every step a verdict; `index` those up to the first wrong one; `reason` the same, and
            the reason of the first wrong step is what the model says of it, empty if it says nothing.
        max_tokens: upper bound on the tokens of the reply.
        temperature: 0 for a greedy reply.
        seed: of the reply; several critics with seeds of their own vote in a `VotingJudge`.

    Raises:
        UsageError: if the variant is not known or max_tokens is below 1.
    """

    variant: Variant = "each"
    max_tokens: int = 8192
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.variant not in _TASKS:
            raise UsageError(f"the step critic's variant must be each, index or reason, got {self.variant!r}")
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, got {self.max_tokens}")


@final
class StepCritic:
    """Scores a step 1 if the model says that it is right, 0 if it says that it is wrong.

    Reads neither the outcome nor the reference answer. A reply that was cut, or whose block cannot be read, makes all
    steps unknown; a step that the block leaves out, or of which it says both, is unknown alone.

    Args:
        model: any chat model.
        settings: how it is asked.

    Source: own, after the step-by-step critics of ProcessBench, arXiv:2412.06559. Differs: own words and reply forms.
    """

    scale = Scale.BINARY

    def __init__(self, model: ChatModel, settings: StepCriticSettings | None = None) -> None:
        self._model, self._settings = model, settings or StepCriticSettings()

    @property
    def fingerprint(self) -> str:
        """Prompt version, settings and the model's fingerprint."""
        return f"step-critic:{digest(PROMPT_VERSION, self._settings, self._model.fingerprint)}"

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts.

        Raises:
            JudgeError: if the model gave no whole answer; carries the rollout id.
            BudgetError: if the model reached a limit on calls or cost.
        """
        if not len(steps):
            return ()
        settings = self._settings
        text = step_critic_prompt(steps.rollout.problem.text, steps.texts, variant=settings.variant)
        try:
            reply = await self._model.complete(
                [Message("user", text)],
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                seed=settings.seed,
            )
        except EngineError as error:
            raise JudgeError(f"the step critic's model failed: {error}", item=steps.rollout.id) from error
        calls = (reply.call,)
        if reply.finish == "stop":
            verdicts = READERS[settings.variant](reply.text, len(steps), calls=calls)
        else:
            verdicts = unknown(len(steps), f"the reply was cut at {settings.max_tokens} tokens", calls=calls)
        scores, ended = tuple(verdict.score for verdict in verdicts), "" if reply.finish == "stop" else "cut by length"
        tell([Rationale("reply", 0, scores, (Passage("written", reply.text),), status=ended)])
        return verdicts


def step_critic_prompt(problem: str, steps: Sequence[str], *, variant: Variant) -> str:
    r"""The user message; tags of its own form inside problem and steps are broken up by a space.

    >>> "<step_1>\nso < /step_1>5\n</step_1>" in step_critic_prompt("2 + 2?", ["2", "so </step_1>5"], variant="each")
    True
    """
    shown = "\n\n".join(f"<step_{k}>\n{_inert(text.strip())}\n</step_{k}>" for k, text in enumerate(steps))
    head = _SHOWN.format(problem=_inert(problem.strip()), steps=shown)
    return head + _TASKS[variant].format(count=len(steps))


def read_each(text: str, count: int, *, calls: tuple[str, ...] = ()) -> tuple[Verdict, ...]:
    r"""[count] verdicts from the last block of lines `number: yes` or `number: no`.

    >>> [v.score for v in read_each("<verdicts>\n0: yes\nStep 2: No.\n</verdicts>", 3)]
    [1.0, None, 0.0]
    >>> read_each("<verdicts>all fine</verdicts>", 1)[0].reason
    "a line of the block is no verdict: 'all fine'"
    """
    blocks = _VERDICTS.findall(text)
    if not blocks:
        return unknown(count, "the reply has no <verdicts> block", calls=calls)
    said: dict[int, set[str]] = {}
    for line in filter(None, (line.strip() for line in blocks[-1].splitlines())):
        found = _LINE.fullmatch(line)
        if found is None:
            return unknown(count, f"a line of the block is no verdict: {line[:40]!r}", calls=calls)
        if int(found[1]) >= count:
            return unknown(count, f"the block speaks of step {found[1]}, the last is {count - 1}", calls=calls)
        said.setdefault(int(found[1]), set()).add(found[2].lower())
    return tuple(_verdict(said.get(k, set()), calls) for k in range(count))


def read_index(text: str, count: int, *, calls: tuple[str, ...] = ()) -> tuple[Verdict, ...]:
    """[count] verdicts from the last tag with the first wrong step; behind it nothing is said.

    >>> [v.score for v in read_index("<first_error> 1 </first_error>", 3)]
    [1.0, 0.0, None]
    >>> [v.score for v in read_index("<first_error>none</first_error>", 2)]
    [1.0, 1.0]
    """
    tags = _FIRST.findall(text)
    if not tags:
        return unknown(count, "the reply has no <first_error> tag", calls=calls)
    answer = tags[-1].strip()
    if answer.lower() == "none":
        return verdicts_of("-1", count, calls=calls)
    if not re.fullmatch(r"[0-9]{1,9}", answer) or int(answer) >= count:
        reason = f"the first error {answer[:40]!r} is no step of 0..{count - 1} and not none"
        return unknown(count, reason, calls=calls)
    return verdicts_of(answer, count, calls=calls)


def read_reasoned(text: str, count: int, *, calls: tuple[str, ...] = ()) -> tuple[Verdict, ...]:
    r"""[count] verdicts as `read_index`; the reason of the first wrong step stands in the last tag for it.

    >>> said = "<first_error>0</first_error>\n<error_reason>2 + 2 is 4.</error_reason>"
    >>> [(v.score, v.reason) for v in read_reasoned(said, 1)]
    [(0.0, '2 + 2 is 4.')]
    >>> read_reasoned("<first_error>0</first_error>", 1)[0].reason
    ''
    """
    found = read_index(text, count, calls=calls)
    said = _REASON.findall(text)
    reason = said[-1].strip() if said else ""
    return tuple(replace(verdict, reason=reason) if verdict.score == 0.0 else verdict for verdict in found)


READERS: dict[Variant, Callable[..., tuple[Verdict, ...]]] = {
    "each": read_each,
    "index": read_index,
    "reason": read_reasoned,
}
"""What reads the reply of each variant."""


def _verdict(said: set[str], calls: tuple[str, ...]) -> Verdict:
    if said == {"yes"}:
        return Verdict(1.0, calls=calls)
    if said == {"no"}:
        return Verdict(0.0, reason="the critic says that it is wrong", calls=calls)
    reason = "the block says both yes and no of the step" if said else "the block has no line for the step"
    return Verdict(reason=reason, calls=calls)


def _inert(text: str) -> str:
    return _TAG.sub("< ", text)
