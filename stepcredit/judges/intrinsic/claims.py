"""Reads claims and remarks for the witnesses: by the grammar of the embedded worlds, or as equations in a text."""

import re
from collections.abc import Sequence

from stepcredit.judges.intrinsic.text_features import features
from stepcredit.judges.intrinsic.text_markers import TextGrammar
from stepcredit.judges.witness import Claim, Remark

_GIVEN = re.compile(r"Q (\d+)")
_ASKED = re.compile(r"Step(\d+) ([+*/]\d+)")
_STEP = re.compile(r"; Step(\d+) (\d+) ([+*/]\d+) (?:= )?(\d+)(?: </think>.*)?")
_CHECK = re.compile(r"; check \d+ [+*/]\d+ \d+ (no-wait|ok)(?: </think>.*)?")
_WAIT = re.compile(r"; wait,(?: </think>.*)?")


def world_claims(problem: str, steps: Sequence[str]) -> tuple[Claim | Remark | None, ...]:
    """Claims of the embedded worlds: operand and operator are the subject; a check and a `wait,` are remarks.

    A claim is grounded if its operand is the value last claimed for the step before, or the given one, and its operator
    the one asked for. A check of anything but the step before it is no remark.

    Args:
        problem: text of the problem.
        steps: texts of the think steps.

    >>> texts = ("; Step1 14 /15 4", "; check 4 *15 9 no-wait", "; Step1 14 /15 10", "; Step2 4 *2 8")
    >>> said = world_claims("Q 14 ; Step1 /15 ; Step2 *2 ?", texts)
    >>> said[0], said[1]
    (Claim(subject='14 /15', value='4', grounded=True), Remark(about=0, denies=True))
    >>> said[3].grounded
    False
    """
    given = _GIVEN.match(problem)
    found: list[Claim | Remark | None] = []
    asked, reached = dict(_ASKED.findall(problem)), {0: given[1] if given else ""}
    for k, text in enumerate(steps):
        words = " ".join(text.split())
        step, check = _STEP.fullmatch(words), _CHECK.fullmatch(words)
        follows = k > 0 and isinstance(found[-1], Claim)
        if step:
            number, operand, operator, value = step.groups()
            grounded = asked.get(number) == operator and reached.get(int(number) - 1) == operand
            found.append(Claim(f"{operand} {operator}", value, grounded))
            reached[int(number)] = value
        elif follows and (check or _WAIT.fullmatch(words)):
            found.append(Remark(k - 1, denies=check is None or check[1] == "no-wait"))
        else:
            found.append(None)
    return tuple(found)


def text_claims(problem: str, steps: Sequence[str]) -> tuple[Claim | Remark | None, ...]:
    """Claims of written reasoning: the equation of a step that holds exactly one; an admitted error is a remark.

    A step that admits an error and holds an equation is read as the equation: to say another value of a subject takes
    the first one back as well. A claim is grounded if every number of its left side stands in the problem or in an
    earlier step.

    Args:
        problem: text of the problem.
        steps: texts of the think steps.

    >>> text_claims("7 bags of 8", ("So 7 * 8 = 54 apples.", "Wait, that's not right.", "And 6 × 8 = 48."))[::2]
    (Claim(subject='7*8', value='54', grounded=True), Claim(subject='6*8', value='48', grounded=False))
    >>> text_claims("7 bags of 8", ("So 7 * 8 = 54 apples.", "No, that's wrong."))[1]
    Remark(about=0, denies=True)
    """
    grammar = TextGrammar()
    found: list[Claim | Remark | None] = [None] * len(steps)
    known = set(features(problem).numbers)
    for k, text in enumerate(steps):
        read = features(text)
        if len(read.equations) == 1:
            left, value = next(iter(read.equations))
            found[k] = Claim(left, value, features(left).numbers <= known)
        known |= read.numbers
    for reflection in grammar.reflections(steps):
        if reflection.kind == "error" and found[reflection.step] is None:
            source = grammar.trace(problem, steps[: reflection.step + 1]).source
            if source is not None:
                found[reflection.step] = Remark(source, denies=True)
    return tuple(found)
