"""Reads claims and remarks for the witnesses: by the grammar of the embedded worlds, or as equations in a text."""

import re
from collections.abc import Sequence

from stepcredit.judges.intrinsic.text_features import features
from stepcredit.judges.intrinsic.text_markers import TextGrammar
from stepcredit.judges.witness import Claim, Remark

_STEP = re.compile(r"; Step\d+ (\d+ [+*/]\d+) (?:= )?(\d+)(?: </think>.*)?")
_CHECK = re.compile(r"; check \d+ [+*/]\d+ \d+ (no-wait|ok)(?: </think>.*)?")
_WAIT = re.compile(r"; wait,(?: </think>.*)?")


def world_claims(steps: Sequence[str]) -> tuple[Claim | Remark | None, ...]:
    """Claims of the embedded worlds: operand and operator are the subject; a check and a `wait,` are remarks.

    Args:
        steps: texts of the think steps. A check of anything but the step before it is no remark.

    >>> said = world_claims(("; Step1 14 /15 4", "; check 4 *15 9 no-wait", "; Step1 14 /15 10"))
    >>> said[0], said[1]
    (Claim(subject='14 /15', value='4'), Remark(about=0, denies=True))
    """
    found: list[Claim | Remark | None] = []
    for k, text in enumerate(steps):
        words = " ".join(text.split())
        step, check = _STEP.fullmatch(words), _CHECK.fullmatch(words)
        follows = k > 0 and isinstance(found[-1], Claim)
        if step:
            found.append(Claim(step[1], step[2]))
        elif follows and (check or _WAIT.fullmatch(words)):
            found.append(Remark(k - 1, denies=check is None or check[1] == "no-wait"))
        else:
            found.append(None)
    return tuple(found)


def text_claims(steps: Sequence[str]) -> tuple[Claim | Remark | None, ...]:
    """Claims of written reasoning: the equation of a step that holds exactly one; an admitted error is a remark.

    A step that admits an error and holds an equation is read as the equation: to say another value of a subject takes
    the first one back as well.

    Args:
        steps: texts of the think steps.

    >>> text_claims(("So 7 * 8 = 54 apples.", "Wait, that's not right.", "Again, 7 × 8 = 56."))[::2]
    (Claim(subject='7*8', value='54'), Claim(subject='7*8', value='56'))
    >>> text_claims(("So 7 * 8 = 54 apples.", "No, that's wrong."))[1]
    Remark(about=0, denies=True)
    """
    grammar = TextGrammar()
    found: list[Claim | Remark | None] = [None] * len(steps)
    for k, text in enumerate(steps):
        equations = features(text).equations
        if len(equations) == 1:
            found[k] = Claim(*next(iter(equations)))
    for reflection in grammar.reflections(steps):
        if reflection.kind == "error" and found[reflection.step] is None:
            source = grammar.trace("", steps[: reflection.step + 1]).source
            if source is not None:
                found[reflection.step] = Remark(source, denies=True)
    return tuple(found)
