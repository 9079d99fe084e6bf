"""The taught judge: a small generative model that works a step out again before its verdict; taught with true labels.

It sees one step at a time, never the reference answer. Unlike the intrinsic judge it knows what is right, because it
was taught with true step labels; arms that use it say so, and the number of labels is reported beside them.

    <judge> 14 /15 4 ? -> 9 wrong <eos>      a guessed quotient: multiplied back, 4 * 15 = 9, which is not 14
    <judge> 4 *15 9 ? -> 9 right <eos>       a product: worked out again
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, JudgeError, UsageError
from stepcredit.core.protocols import Sampler, Sampling, Scale, Tokenizer
from stepcredit.core.records import Label, Steps, Verdict
from stepcredit.judges.verdicts import UNSCORABLE, labelled

JUDGE, ARROW = "<judge>", "->"
MAX_REPLY = 4

_STEP = re.compile(r"Step\d+ (\d+) ([+*/]\d+) (\d+)")
_CHECK = re.compile(r"check (\d+) (\*\d+) (\d+) (no-wait|ok)")
_REPLY = re.compile(r"\d+ (right|wrong)")
_MARKS = ("</think>", "<eos>", ";", "answer")


@final
@dataclass(frozen=True)
class Claim:
    """What one unit claims: `value` is what `operator` makes of `operand`."""

    operand: int
    operator: str
    value: int

    @property
    def prompt(self) -> str:
        """The claim as the judge model reads it.

        >>> Claim(14, "/15", 4).prompt
        '<judge> 14 /15 4 ? ->'
        """
        return f"{JUDGE} {self.operand} {self.operator} {self.value} ? {ARROW}"


def taught_words(words: Sequence[str]) -> tuple[str, ...]:
    """Vocabulary of the judge: the policy's words and its own five.

    >>> taught_words(("<pad>", "<eos>"))
    ('<pad>', '<eos>', '<judge>', '->', 'right', 'wrong')
    """
    return (*words, JUDGE, ARROW, "right", "wrong")


def claim_of(text: str) -> Claim | None:
    """Claim of a step or check, `None` for units that claim no arithmetic.

    >>> claim_of(" ; check 4 *15 9 no-wait")
    Claim(operand=4, operator='*15', value=9)
    """
    words = _words(text)
    found = _STEP.fullmatch(words) or _CHECK.fullmatch(words)
    return Claim(int(found[1]), found[2], int(found[3])) if found else None


@final
class TaughtJudge:
    """Verdicts from a small model taught with true step labels.

    A step or check is wrong if the model says so, a check also if its verdict does not follow from its own product
    (that needs no truth). A right solution's steps are `correct` or `incorrect`; in a wrong solution wrong steps are
    `matched` (blamed) and right ones `mismatched` (freed); the answer block is `correct` or `matched`, as for the
    intrinsic judge. Scores are 1 for right steps and 0 for wrong ones, in all solutions. Units without arithmetic go
    with the step before them.

    Args:
        sampler: the judge model.
        tokenizer: over `taught_words`.

    Source: embedded_world.md 4, 8.2 and 8.4. Differs: none.
    """

    scale = Scale.BINARY

    def __init__(self, sampler: Sampler, tokenizer: Tokenizer) -> None:
        if tokenizer.eos_id is None:
            raise UsageError("the judge's tokenizer names no end of sequence; save it with one")
        self._sampler, self._tokenizer = sampler, tokenizer
        self._sampling = Sampling(MAX_REPLY, temperature=0.0, stop_ids=(tokenizer.eos_id,))
        self._said: dict[Claim, str] = {}
        self._asked: dict[Claim, asyncio.Task[str]] = {}
        self.calls, self.tokens = 0, 0

    @property
    def fingerprint(self) -> str:
        """Digest of the judge's weights and vocabulary."""
        return f"taught-2:{digest(self._sampler.fingerprint, self._tokenizer.fingerprint)}"

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts; a step whose reply cannot be read is unknown.

        Raises:
            JudgeError: if the engine broke; carries the rollout id.
        """
        solved = steps.outcome.status == "right"
        if steps.outcome.status == "unscorable":
            return (Verdict(reason=f"{UNSCORABLE}: {steps.outcome.reason or 'no reason given'}"),) * len(steps)
        claims = [None if answer else claim_of(text) for text, answer in zip(steps.texts, steps.in_answer, strict=True)]
        try:
            replies = await asyncio.gather(*(self._ask(claim) for claim in claims))
        except EngineError as error:
            raise JudgeError(f"the judge's engine broke: {error}", item=steps.rollout.id) from error
        verdicts: list[Verdict] = []
        previous: Claim | None = None
        wrong = False
        for text, answer, claim, reply in zip(steps.texts, steps.in_answer, claims, replies, strict=True):
            if answer:
                verdicts.append(labelled(Label.CORRECT if solved else Label.MATCHED))
                continue
            if claim is not None:
                read = _REPLY.fullmatch(reply)
                if read is None:
                    verdicts.append(Verdict(reason=f"unreadable reply {reply!r}"))
                    continue
                wrong = read[1] == "wrong" or not _verdict_follows(_words(text), previous)
                previous = claim
            verdicts.append(_label(wrong=wrong, solved=solved))
        return tuple(verdicts)

    async def _ask(self, claim: Claim | None) -> str:
        """The model's reply to a claim; the same claim is asked once, or again if that failed."""
        if claim is None:
            return ""
        if claim in self._said:
            return self._said[claim]
        if claim not in self._asked:
            self._asked[claim] = asyncio.ensure_future(self._sample(claim))
            self._asked[claim].add_done_callback(lambda _: self._asked.pop(claim))
        return await asyncio.shield(self._asked[claim])

    async def _sample(self, claim: Claim) -> str:
        prompt_ids = self._tokenizer.encode(claim.prompt)
        completion = await self._sampler.sample(prompt_ids, self._sampling, seed=0)
        self.calls += 1
        self.tokens += len(prompt_ids) + len(completion.ids)
        stop = self._sampling.stop_ids
        self._said[claim] = self._tokenizer.decode([token for token in completion.ids.tolist() if token not in stop])
        return self._said[claim]


def _label(*, wrong: bool, solved: bool) -> Verdict:
    if solved:
        return labelled(Label.INCORRECT if wrong else Label.CORRECT)
    return Verdict(float(not wrong), Label.MATCHED if wrong else Label.MISMATCHED)  # freed because it is right


def _verdict_follows(words: str, previous: Claim | None) -> bool:
    """True unless a check's verdict contradicts its own product: `ok` if and only if it gives the operand back."""
    check = _CHECK.fullmatch(words)
    if check is None or previous is None:
        return True
    return (check[4] == "ok") == (int(check[3]) == previous.operand)


def _words(text: str) -> str:
    return " ".join(word for word in text.split() if word not in _MARKS)
