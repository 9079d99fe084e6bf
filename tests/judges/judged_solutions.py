"""Solutions for judge tests: one token a step unless the test says otherwise."""

from collections.abc import Sequence

import numpy as np

from stepcredit.core.records import Outcome, OutcomeStatus, Problem, Rollout, Steps
from stepcredit.judges.intrinsic.tasks import ReaderReply, Task


def solution(
    think: Sequence[str],
    answer: Sequence[str] = (),
    *,
    status: OutcomeStatus = "right",
    closed: bool | None = None,
    name: str = "r0",
    problem: str = "How many?",
) -> Steps:
    """A cut and checked rollout whose steps have the given texts."""
    texts = [*think, *answer]
    starts = np.cumsum([0, *(len(text) for text in texts)])[:-1]
    ids = np.arange(len(texts))
    rollout = Rollout(name, Problem("p0", problem, "1"), "g0", 0, "".join(texts), np.zeros(1), ids, starts)
    inside = np.array([False] * len(think) + [True] * len(answer))
    outcome = Outcome(rollout, status, reason="no answer found" if status == "unscorable" else "")
    return Steps(outcome, ids, "paragraph", inside, bool(answer) if closed is None else closed)


class ScriptedReader:
    """A reader that answers from a list of texts for each task name, and keeps what it was asked."""

    def __init__(self, **answers: Sequence[str | Exception]) -> None:
        self._answers = {name: list(texts) for name, texts in answers.items()}
        self.asked: list[tuple[Task, int, str]] = []

    @property
    def fingerprint(self) -> str:
        return "scripted-reader"

    async def answer(self, task: Task, *, attempt: int, error: str) -> ReaderReply:
        self.asked.append((task, attempt, error))
        answer = self._answers[task.name].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return ReaderReply(answer, f"call-{len(self.asked)}", 10, 3)
