"""The reader without a model: a grammar of markers reads the steps, and its answers are written as reply text.

What it writes goes through the same parser as a model's replies; nothing here is learned and nothing asks whether a
step is right. It is the floor that a reading model should beat, and it makes every test run without one.
"""

from collections.abc import Sequence
from typing import Protocol, final

from stepcredit.judges.intrinsic.replies import (
    Matches,
    Reflection,
    Reflections,
    Tiling,
    Trace,
    TracedVerification,
    Verification,
)
from stepcredit.judges.intrinsic.tasks import (
    MatchTask,
    ReaderReply,
    ReflectTask,
    SplitTask,
    Task,
    TraceTask,
    TraceVerifyTask,
    VerifyTask,
)
from stepcredit.judges.intrinsic.text_markers import TextGrammar
from stepcredit.judges.intrinsic.world_markers import WorldGrammar


class Grammar(Protocol):
    """What a marker reader must be able to read in indexed step texts; pure and deterministic."""

    @property
    def fingerprint(self) -> str:
        """Name and version: part of every cache key."""
        ...

    def reflections(self, steps: Sequence[str]) -> tuple[Reflection, ...]:
        """Steps that admit an error or confirm, in order."""
        ...

    def trace(self, problem: str, steps: Sequence[str]) -> Trace:
        """Source of the error that the last step notices; `Trace(None, "")` if there is none to see."""
        ...

    def wrong(self, problem: str, steps: Sequence[str], *, source: int) -> tuple[bool, ...]:
        """For each of steps[source : -1] whether it is wrong, given that `source` is."""
        ...

    def matched(self, problem: str, steps: Sequence[str], *, answer: Sequence[str]) -> tuple[bool, ...]:
        """For each step whether the answer block uses it."""
        ...


@final
class MarkerReader:
    """Answers reading tasks by a grammar.

    Args:
        grammar: `WorldGrammar()` for the embedded worlds, `TextGrammar()` for written reasoning.
    """

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar

    @property
    def fingerprint(self) -> str:
        """`markers:` and the grammar's name and version."""
        return f"markers:{self._grammar.fingerprint}"

    async def answer(self, task: Task, *, attempt: int, error: str) -> ReaderReply:
        """The reply text; the same for every attempt, since the grammar has nothing else to say."""
        del attempt, error
        return ReaderReply(self._write(task))

    def _write(self, task: Task) -> str:
        grammar = self._grammar
        match task:
            case SplitTask():
                return Tiling(tuple((k, k) for k in range(len(task.paragraphs)))).write()
            case ReflectTask():
                return Reflections(grammar.reflections(task.steps)).write()
            case TraceTask():
                return grammar.trace(task.problem, task.steps).write()
            case VerifyTask():
                return Verification(grammar.wrong(task.problem, task.steps, source=task.source)).write()
            case TraceVerifyTask():
                trace = grammar.trace(task.problem, task.steps)
                source = trace.source
                wrong = () if source is None else grammar.wrong(task.problem, task.steps, source=source)
                return TracedVerification(source, trace.evidence, wrong).write()
            case MatchTask():
                return Matches(grammar.matched(task.problem, task.steps, answer=task.answer)).write()


def world_markers() -> MarkerReader:
    """The reader of the embedded worlds' texts."""
    return MarkerReader(WorldGrammar())


def text_markers() -> MarkerReader:
    """The reader of reasoning written in words and formulas."""
    return MarkerReader(TextGrammar())
