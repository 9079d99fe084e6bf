"""Groups of solutions for tests of outcome judges, and a chat model that finds them in its prompt."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from stepcredit.core.protocols import Message
from stepcredit.core.records import Group, Outcome, Problem, Rollout


def group(*texts: str, problem: str = "What is 2 + 3?", name: str = "g0") -> Group:
    """Solutions with the given texts; even ones are right."""
    outcomes = []
    for k, text in enumerate(texts):
        rollout = Rollout(f"r{k}", Problem("p0", problem, "5"), name, k, text, np.zeros(1), np.zeros(1), np.zeros(1))
        outcomes.append(Outcome(rollout, "wrong" if k % 2 else "right"))
    return Group(name, tuple(outcomes))


def scoring(quality: Callable[[str], int]) -> Callable[[Sequence[Message]], str]:
    """Replies in SPCT's form: each shown solution's quality, in the order shown."""

    def reply(messages: Sequence[Message]) -> str:
        shown = re.findall(r"<solution_[0-9]+>\n(.*?)\n</solution_", messages[-1].content, re.DOTALL)
        return "Principles. Critique. \\boxed{" + ", ".join(str(quality(text)) for text in shown) + "}"

    return reply
