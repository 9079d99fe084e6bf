"""Reads reasoning written in words and formulas by markers: admissions, doubts, confirmations, repeated numbers.

A reflection is a sentence that admits an error ("that's not right", "I forgot ...") or halts ("wait", "hold on") and
is not answered by a confirmation. Its source is the earlier step that shares most with what follows the marker, a
rarer number or expression counting more, and an equation that is given another result most of all. A later step is
wrong with its source if it uses a number that a wrong step brought in. A think step matches the answer block if most
of what it says, by weight, is said there too.

Source: own, after the words of tp_grpo.md 1.3, 1.4 and 3 (back end without a model). Differs: n/a.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from stepcredit.judges.intrinsic.replies import Reflection, Trace
from stepcredit.judges.intrinsic.text_features import Features, features, overlap, rarity

WINDOW = 24
"""Steps that tracing looks back over."""

MATCH_SHARE = 0.5
"""Share of a step's weight that must be in the answer block for a match."""

_CONFLICT = 4.0
_DECAY = 0.97
_EVIDENCE = 160

_ADMIT = re.compile(
    r"\b(?:that|this|it|which|mine)(?:'s|’s| is| was| can(?:'|’)?t be| cannot be| seems| looks)? "
    r"(?:not (?:right|correct|true|possible|what)|wrong|incorrect|a mistake|an error|impossible)\b"
    r"|\b(?:that|this|it|which) (?:can(?:'|’)t|cannot) be\b"
    r"|\b(?:doesn|don|didn|isn|wasn|won)(?:'|’)t (?:make sense|add up|match|work|seem right|look right|hold|right)\b"
    r"|\bI (?:made|had made|must have made|have made) (?:a|an|some|the) (?:\w+ )?(?:mistakes?|errors?)\b"
    r"|\bI (?:was|am|were) (?:wrong|mistaken|incorrect|confus\w+|mixing|missing|forgetting|overlooking)\b"
    r"|\bI (?:mis\w{3,}|forgot|overlooked|confused|mixed|messed|missed)\b"
    r"|\bmy (?:mistake|bad|(?:\w+ ){1,2}(?:is|was|were) (?:wrong|incorrect|off))\b"
    r"|\b(?:oops|scratch that|correction|contradict\w*|wait,? no|no,? wait|actually,? no|no,? that)\b"
    r"|\blet me (?:correct|fix|redo|re-?do|re-?calculate|re-?compute|start over|rephrase|re-?think|re-?evaluate)\b",
    re.IGNORECASE,
)
_HALT = re.compile(r"\b(?:wait|hold on|hang on|hmm+,? but|but hmm)\b", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:if|whether|might|maybe|perhaps|could|any|unless|someone|did I|did we|to (?:make|be) sure|in case|avoid|"
    r"no (?:mistake|error)|n['’]t (?:think|see|believe|find))\b",
    re.IGNORECASE,
)
_CHECK = re.compile(
    r"\b(?:double|re)[- ]?check\w*|\bverify\b|\bconfirm\b|\bmake sure\b|\b(?:let me|let's|let’s|I(?:'|’)ll|to) check\b"
    r"|\b(?:is|are|was|does) (?:that|this|it|there) [^.!?]{0,40}\?",
    re.IGNORECASE,
)
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

    fingerprint = "text-1"

    def reflections(self, steps: Sequence[str]) -> tuple[Reflection, ...]:
        """Admissions and unanswered halts are errors; halts and re-checks that end in a confirmation confirm."""
        found: list[Reflection] = []
        for k, text in enumerate(steps):
            notice = _notice(text)
            if notice is None:
                continue
            answered = notice.kind == "open" and k + 1 < len(steps) and _opens_with_confirmation(steps[k + 1])
            kind = "confirm" if answered or notice.kind == "confirm" else "error"
            found.append(Reflection(k, kind))
        return tuple(found)

    def trace(self, problem: str, steps: Sequence[str]) -> Trace:
        """The step of the last `WINDOW` that shares most with the reflection's words from its marker on.

        None if nothing is shared, or if the reflection shares more with what its own step said before the marker.
        """
        del problem
        own = steps[-1]
        notice = _notice(own)
        at = notice.at if notice else 0
        said, before = features(own[at:]), features(own[:at])
        first = max(0, len(steps) - 1 - WINDOW)
        shown = [features(text) for text in steps[first:-1]]
        weights = rarity([*shown, said])
        best, best_score = -1, overlap(said.weights, before, weights) + _CONFLICT * _conflicts(before, said)
        for distance, earlier in enumerate(reversed(shown)):
            score = overlap(said.weights, earlier, weights) + _CONFLICT * _conflicts(earlier, said)
            if score * _DECAY**distance > best_score:
                best, best_score = len(steps) - 2 - distance, score * _DECAY**distance
        if best < 0:
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
        """Steps of whose weight at least `MATCH_SHARE` is in the answer block; a step that says nothing is no match."""
        del problem
        block = features("\n".join(answer))
        read = [features(text) for text in steps]
        weights = rarity(read)
        return tuple(_share(step, block, weights) >= MATCH_SHARE for step in read)


def _notice(text: str) -> _Notice | None:
    if not (_HALT.search(text) or _ADMIT.search(text) or _CHECK.search(text)):
        return None
    kind: Literal["error", "open", "confirm"] | None = None
    at = 0
    for match in _SENTENCE.finditer(text):
        sentence = match.group()
        confirms = _CONFIRM.search(sentence) is not None
        admits = _ADMIT.search(sentence) is not None and _HEDGE.search(sentence) is None
        if admits and "?" not in sentence:
            at = match.start() if kind in (None, "confirm") else at
            kind = "error"
        elif _HALT.search(sentence):
            if kind != "error":
                at = match.start() if kind is None else at
                kind = "confirm" if confirms else "open"
        elif _CHECK.search(sentence):
            at = match.start() if kind is None else at
            kind = kind or "confirm"
        elif confirms and kind == "open":
            kind = "confirm"
    return None if kind is None else _Notice(kind, at)


def _opens_with_confirmation(text: str) -> bool:
    first = _SENTENCE.search(text)
    return first is not None and _CONFIRM.search(first.group()) is not None


def _conflicts(earlier: Features, later: Features) -> int:
    results = dict(earlier.equations)
    return sum(side in results and results[side] != result for side, result in later.equations)


def _quote(text: str, said: Features, weights: dict[str, float]) -> str:
    sentences = [sentence for match in _SENTENCE.finditer(text) if (sentence := match.group().strip())]
    best = max(sentences, key=lambda sentence: overlap(said.weights, features(sentence), weights), default=text.strip())
    return best[:_EVIDENCE]


def _share(step: Features, block: Features, weights: dict[str, float]) -> float:
    total = sum(weights[item] for item in step.weights)
    return overlap(step.weights, block, weights) / total if total else 0.0
