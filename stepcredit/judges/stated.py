"""Verdicts stated in lines of words, as published critiques end: `Final Judgement: wrong`, `First Error Step: Step 2`.

For replies that others recorded; our own prompts ask for forms that can be read strictly.
"""

import re
from dataclasses import dataclass
from typing import final

_OPEN = r"^[\s#*>`\-]*(?:[0-9]{1,2}\.\s+)?[\s*]*(?:the\s+)?"
_END = r"[\s*.`]*$"
_JUDGED = re.compile(
    rf"{_OPEN}(?:final\s+judge?ment\s*[:*\s]+|(?:student(?:'s)?\s+)?solution\s+is\s+\**)"
    rf"(?P<word>correct|right|incorrect|wrong){_END}",
    re.IGNORECASE | re.MULTILINE,
)
_STEP = re.compile(
    rf"{_OPEN}first\s+error\s+step(?:\s+number)?\s*[:*\s]+(?:step\s+)?(?P<step>-?[0-9]{{1,9}}|n/?a|none){_END}",
    re.IGNORECASE | re.MULTILINE,
)
_REASON = re.compile(rf"{_OPEN}error\s+(?:analysis|reason)[*\s]*:[*\s]*(?P<text>.*)\Z", re.I | re.M | re.DOTALL)
_DECISION = re.compile(
    rf"{_OPEN}final\s+decision[*\s]*:[*\s\-]*(?P<word>correct|wrong|right|incorrect){_END}",
    re.IGNORECASE | re.MULTILINE,
)


@final
@dataclass(frozen=True)
class Stated:
    """What a reply states of a solution.

    Args:
        correct: True if every step is called right.
        first_error: 0-based index of the first wrong step, `None` if there is none.
    """

    correct: bool
    first_error: int | None


def read_stated(text: str, steps: int | None = None) -> Stated | None:
    r"""What the verdict lines of a reply say; they count steps from 1, and -1, 0, `N/A` or `none` is no step.

    Both lines must be there. Of several of a kind all must say the same; lines that hold something else than a verdict,
    such as the form repeated, are passed over.

    Args:
        text: the reply.
        steps: K, number of steps given, where it is known.

    Returns:
        `None` where a line is missing, lines contradict one another, or there is no such step.

    >>> read_stated("## Final Judgement: **wrong**\nFirst Error Step: Step 2\n", 3)
    Stated(correct=False, first_error=1)
    >>> read_stated("The solution is Correct.\nThe first error step number: -1")
    Stated(correct=True, first_error=None)
    >>> read_stated("Final Judgement: correct\nFirst Error Step: 2") is None
    True

    Source: own, after the replies recorded in MR-GSM8K and RealCritic. Differs: none.
    """
    words = {found["word"].lower() in ("correct", "right") for found in _JUDGED.finditer(text)}
    places = {_place(found["step"]) for found in _STEP.finditer(text)}
    if len(words) != 1 or len(places) != 1:
        return None
    (correct,), (first,) = words, places
    if correct != (first is None) or (first is not None and steps is not None and first >= steps):
        return None
    return Stated(correct, first)


def read_reason(text: str) -> str | None:
    r"""Why the first wrong step is wrong: all that follows the line `Error Analysis:` or `Error Reason:`.

    Returns:
        `None` if there is no such line, or nothing follows it.

    >>> read_reason("First Error Step: 2\nError Analysis: It adds\nwhere it should subtract.\n")
    'It adds\nwhere it should subtract.'

    Source: own, after the replies recorded in MR-GSM8K. Differs: none.
    """
    found = _REASON.search(text)
    return found["text"].strip() or None if found else None


def read_decision(text: str) -> bool | None:
    r"""What a grader of a reason decides: True for correct; all `Final Decision:` lines must say the same.

    Returns:
        `None` if there is none, or they contradict one another.

    >>> read_decision("3. Final Decision:\n- Correct"), read_decision("Final Decision: partly correct")
    (True, None)

    Source: own, after the grades recorded in MR-GSM8K. Differs: a decision of other words is unknown, where the
    released script takes any that holds the word `correct`.
    """
    words = {found["word"].lower() in ("correct", "right") for found in _DECISION.finditer(text)}
    return words.pop() if len(words) == 1 else None


def _place(word: str) -> int | None:
    number = int(word) if word.lstrip("-").isdigit() else 0
    return number - 1 if number > 0 else None
