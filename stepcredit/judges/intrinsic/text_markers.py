"""Reads reasoning written in words and formulas by markers: admissions, doubts, confirmations, repeated numbers.

A reflection is a sentence that admits an error ("that's not right", "I forgot ...") or halts ("wait", "hold on") and
is not answered, by a confirmation there or at the start of the next step or by coming back to the same number. Its
source is the earlier step that shares most with what follows the marker, a rarer number or expression counting more,
and an equation that is given another result most of all. A later step is wrong with its source if it uses a number
that a wrong step brought in. A think step matches the answer block if most of what the briefer of the two says, by
weight, is said in the other.

Source: own, after the words of tp_grpo.md 1.3, 1.4 and 3 (back end without a model). Differs: n/a.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, final

from stepcredit.judges.intrinsic.replies import Reflection, Trace
from stepcredit.judges.intrinsic.text_features import Features, concludes_alike, conflicts, features, overlap, rarity

WINDOW = 24
"""Steps that tracing looks back over."""

MATCH_SHARE = 0.5
"""Share of the weight of a step, or of the answer block if that says less, that must be common for a match."""

_CONFLICT = 4.0
_DECAY = 0.9
_GIVEN = 0.3
_EVIDENCE = 160

_ADMIT = re.compile(
    r"\b(?:that|this|it|which|mine)(?:'s|’s| is| was| can(?:'|’)?t be| cannot be| seems| looks)? "
    r"(?:not (?:right|correct|true|what|how)|wrong|incorrect|a mistake|an error|off)\b"
    r"|\b(?:that|this|it|which) (?:can(?:'|’)t|cannot) be\b"
    r"|\b(?:doesn|don|didn|isn|wasn|won)(?:'|’)t (?:make sense|add up|match|work|seem right|look right|hold|right)\b"
    r"|\bI (?:made|had made|must have made|have made) (?:a|an|some|the) (?:\w+ )?(?:mistakes?|errors?)\b"
    r"|\bI (?:was|am|were) (?:wrong|mistaken|incorrect|confus\w+|mixing|missing|forgetting|overlooking)\b"
    r"|\bI (?:mis\w{3,}|forgot|overlooked|confused|mixed|messed|missed)\b"
    r"|\bmy (?:mistake|bad|(?:\w+ ){1,2}(?:is|was|were) (?:wrong|incorrect|off))\b"
    r"|\b(?:oops|scratch that|correction|wait,? no|no,? wait|actually,? no|no,? that)\b"
    r"|\blet me (?:correct|fix|redo|re-?do|re-?calculate|re-?compute|start over|rephrase|re-?think|re-?evaluate)\b",
    re.IGNORECASE,
)
_HALT = re.compile(
    r"\b(?:wait|hold on|hang on|hmm+,? but|but hmm)\b"
    r"|\b(?:seems?|sounds?|looks?) (?:a (?:bit|little) )?"
    r"(?:off|odd|strange|weird|contradictory|confusing|inconsistent|too)\b"
    r"|^\s*(?:but|however),? (?:then|that|this|the (?:problem|question)|if) ",
    re.IGNORECASE,
)
_HEDGE = re.compile(
    r"\b(?:if|whether|might|maybe|perhaps|could|any|unless|someone|did I|did we|to (?:make|be) sure|in case|avoid|"
    r"no (?:mistake|error))\b|n['’]t (?:think|see|believe|find|made?)\b",
    re.IGNORECASE,
)
_CHECK = re.compile(
    r"\b(?:again|once more|thorough|another way|step by step)\b|\b(?:double|re)[- ]?(?:check|read|verify)\w*|\bverify\b"
    r"|\bconfirm\b|\b(?:make|be) (?:absolutely )?(?:sure|certain)\b|\b(?:let me|let['’]s|I['’]ll|to) (?:just )?check\b",
    re.IGNORECASE,
)
_ASKED = re.compile(r"\b(?:is|are|was|does) (?:that|this|it) [^.!?]{0,40}\?", re.IGNORECASE)
_CONFIRM = re.compile(
    r"\b(?:that|this|it|which|everything|all|calculations?|answers?|results?)"
    r"(?:'s|’s| is| are| was| seems?| looks?| sounds?| does)?(?: to be| indeed| also| all| actually| still)* "
    r"(?:right|correct|okay|ok|fine|good|consistent|makes? sense|checks? out|adds? up|works?|holds?|match(?:es)?)\b"
    r"|\b(?:yes|yep|yeah|indeed|exactly)\b|\bright\.|\bcorrect\."
    r"|\bsame (?:answer|result|thing|value|conclusion|number)\b"
    r"|\bmatches\b|\bconfirms?\b|\b(?:I was|we were|I am|I'm|we are) (?:right|correct)\b"
    r"|\b(?:still|also) (?:gives?|get)\b"
    r"|\bstill the same\b|\bso (?:that|it)(?:'s|’s| is) (?:right|correct|fine|okay)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?](?=\d)[^.!?\n]*)*[.!?]*")


@final
@dataclass(frozen=True)
class _Notice:
    """How a step reflects (`open`: a halt that nothing in the step answers) and where the marker's sentence starts."""

    kind: Literal["error", "open", "confirm"]
    at: int


@final
class TextGrammar:
    """Grammar of written reasoning; every answer is linear in the text it reads.

    >>> steps = ("7 * 8 = 54, so 54 apples.", "Half of 54 is 27.", "Wait, that's not right. 7 * 8 = 56.", "So 28.")
    >>> TextGrammar().reflections(steps)
    (Reflection(step=2, kind='error'),)
    >>> TextGrammar().trace("", steps[:3])
    Trace(source=0, evidence='7 * 8 = 54, so 54 apples.')
    >>> TextGrammar().wrong("", steps[:3], source=0)
    (True, True)
    """

    fingerprint = "text-2"

    def reflections(self, steps: Sequence[str]) -> tuple[Reflection, ...]:
        """Admissions and unanswered halts are errors; halts and re-checks that end in a confirmation confirm."""
        found: list[Reflection] = []
        for k, text in enumerate(steps):
            notice = _notice(text)
            if notice is None:
                continue
            before = "\n".join((*steps[max(0, k - 1) : k], text[: notice.at]))
            answered = notice.kind == "open" and (
                (k + 1 < len(steps) and _agrees(steps[k + 1])) or concludes_alike(before, text[notice.at :])
            )
            kind = "confirm" if answered or notice.kind == "confirm" else "error"
            found.append(Reflection(k, kind))
        return tuple(found)

    def trace(self, problem: str, steps: Sequence[str]) -> Trace:
        """The step of the last `WINDOW` that shares most with the reflection's words from its marker on.

        What the problem itself says counts little. None if nothing is shared, or if the reflection shares more with
        what its own step said before the marker. An admission that opens its step and repeats nothing ("no, that's
        wrong") speaks of the step before it.
        """
        own = steps[-1]
        notice = _notice(own)
        at = notice.at if notice else 0
        said, before = features(own[at:]), features(own[:at])
        first = max(0, len(steps) - 1 - WINDOW)
        shown = [features(text) for text in steps[first:-1]]
        weights = rarity([*shown, said])
        weights |= {item: _GIVEN * weights[item] for item in features(problem).weights if item in weights}
        best, best_score = -1, overlap(said.weights, before, weights) + _CONFLICT * conflicts(before, said)
        for distance, earlier in enumerate(reversed(shown)):
            score = overlap(said.weights, earlier, weights) + _CONFLICT * conflicts(earlier, said)
            if score * _DECAY**distance > best_score:
                best, best_score = len(steps) - 2 - distance, score * _DECAY**distance
        if best < 0 and notice and notice.kind == "error" and not before.weights and len(steps) > 1:
            best = len(steps) - 2
        if best < 0 or not steps[best].strip():
            return Trace(None, "")
        return Trace(best, _quote(steps[best], said, weights))

    def wrong(self, problem: str, steps: Sequence[str], *, source: int) -> tuple[bool, ...]:
        """The source, and each later step that uses a number which a wrong step brought in."""
        first = max(0, source - WINDOW)
        known = set(features(problem).numbers).union(*(features(text).numbers for text in steps[first:source]))
        tainted = features(steps[source]).numbers - known
        verdicts = [True]
        for text in steps[source + 1 : -1]:
            numbers = features(text).numbers
            depends = not tainted.isdisjoint(numbers)
            if depends:
                tainted = tainted | (numbers - known)
            else:
                known |= numbers
            verdicts.append(depends)
        return tuple(verdicts)

    def matched(self, problem: str, steps: Sequence[str], *, answer: Sequence[str]) -> tuple[bool, ...]:
        """Steps that share at least `MATCH_SHARE` of their weight, or of the answer block's, with the answer block."""
        del problem
        block = features("\n".join(answer))
        read = [features(text) for text in steps]
        weights = rarity(read)
        return tuple(_share(step, block, weights) >= MATCH_SHARE for step in read)


def _notice(text: str) -> _Notice | None:
    if not (_HALT.search(text) or _ADMIT.search(text) or _CHECK.search(text) or _ASKED.search(text)):
        return None
    kind: Literal["error", "open", "confirm"] | None = None
    at = 0
    for match in _SENTENCE.finditer(text):
        start, said = match.start(), _said(match.group())
        if said == "error" or (said == "open" and kind != "error"):
            at = start if kind in (None, "confirm") else at
            kind = said
        elif said in ("check", "settled") and kind is None:
            at, kind = start, "confirm"
        elif said in ("agree", "settled") and kind == "open":
            kind = "confirm"
    return None if kind is None else _Notice(kind, at)


def _said(sentence: str) -> Literal["error", "open", "check", "agree", "settled"] | None:
    """What one sentence does: admits an error, halts, re-checks, agrees, halts and agrees at once, or none of these."""
    if _ADMIT.search(sentence) and not _HEDGE.search(sentence) and "?" not in sentence:
        return "error"
    halts = _HALT.search(sentence) is not None
    if _CONFIRM.search(sentence) and "?" not in sentence:
        return "settled" if halts else "agree"
    if halts:
        return "open"
    return "check" if _CHECK.search(sentence) or _ASKED.search(sentence) else None


def _agrees(text: str) -> bool:
    """True if the first sentence that confirms, halts or admits an error confirms, and is one of the first two."""
    said = [_said(match.group()) for match in islice(_SENTENCE.finditer(text), 2)]
    return next((word for word in said if word not in (None, "check")), None) in ("agree", "settled")


def _quote(text: str, said: Features, weights: dict[str, float]) -> str:
    sentences = [sentence for match in _SENTENCE.finditer(text) if (sentence := match.group().strip())]
    best = max(sentences, key=lambda sentence: overlap(said.weights, features(sentence), weights), default=text.strip())
    return best[:_EVIDENCE]


def _share(step: Features, block: Features, weights: dict[str, float]) -> float:
    """Shared weight over that of the text that says less, so that a bare final number can be matched too."""
    known = [item for item in block.weights if item in weights]
    less = min(sum(weights[item] for item in step.weights), sum(weights[item] for item in known))
    return overlap(step.weights, block, weights) / less if less else 0.0
