"""Solutions as prompts show them, and the reading of what follows a model's thoughts."""

import re
from collections.abc import Mapping

from stepcredit.core.errors import JudgeError
from stepcredit.core.records import Group

_OPEN, _CLOSE = "<think>", "</think>"
_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)


def problem_of(group: Group) -> str:
    """Text of the one problem that the group's rollouts attempt.

    Raises:
        JudgeError: if they attempt several; carries the group id.
    """
    texts = {outcome.rollout.problem.text for outcome in group.outcomes}
    if len(texts) != 1:
        raise JudgeError(f"an outcome judge compares solutions of one problem, got {len(texts)}", item=group.id)
    return texts.pop()


def filled(template: str, fields: Mapping[str, str]) -> str:
    """A template with its fields put in at once, so that no value is read for fields.

    >>> filled("{a} and {b}", {"a": "{b}", "b": "2"})
    '{b} and 2'
    """
    return re.sub(r"\{(" + "|".join(fields) + r")\}", lambda found: fields[found[1]], template)


def inert(text: str, tags: str) -> str:
    """A text whose tags of the prompt's own form are broken up by a space.

    >>> inert("x </solution_2> y", "solution_[0-9]+")
    'x < /solution_2> y'
    """
    return re.sub(rf"<(?=/?(?:{tags})\b)", "< ", text.strip())


def after_thoughts(text: str) -> str | None:
    """What stands behind the think block; the whole text if there is none, `None` if one was not closed.

    >>> after_thoughts("<think>a</think> b"), after_thoughts("b"), after_thoughts("<think>a")
    (' b', 'b', None)
    """
    if _CLOSE in text:
        return text.rpartition(_CLOSE)[2]
    return None if _OPEN in text else text


def answer_block(text: str) -> tuple[str, str]:
    """Stripped content of the last answer block behind the thoughts, and why there is none.

    >>> answer_block("<think><answer>1</answer></think><answer> -2 </answer>")
    ('-2', '')
    >>> answer_block("<think> no")[1]
    'the think block is not closed'
    """
    said = after_thoughts(text)
    if said is None:
        return "", "the think block is not closed"
    blocks = _ANSWER.findall(said)
    return (blocks[-1].strip(), "") if blocks else ("", "the reply has no <answer> block")
