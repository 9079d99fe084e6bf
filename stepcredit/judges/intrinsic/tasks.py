"""The reading tasks P0-P4 that the intrinsic judge asks, and the Reader that answers them with text.

Every task asks for reading and matching only; none holds the reference answer. Steps are named by their index in
the tuple shown; index ranges are inclusive at both ends, as in the replies.

Source: tp_grpo.md 3 (prompt structure). Differs: `P23` is the merged, cheaper form of P2 and P3.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, final

from stepcredit.judges.intrinsic.replies import Reject


@final
@dataclass(frozen=True)
class SplitTask:
    """P0: group indexed paragraphs into semantic steps.

    Args:
        problem: problem text.
        paragraphs: [N] paragraph texts in order.
    """

    name: ClassVar[str] = "P0"
    problem: str
    paragraphs: tuple[str, ...]


@final
@dataclass(frozen=True)
class ReflectTask:
    """P1: name the steps where the writer says something went wrong, or re-checks and confirms.

    Args:
        problem: problem text.
        steps: [K] texts of the think block's steps.
    """

    name: ClassVar[str] = "P1"
    problem: str
    steps: tuple[str, ...]


@final
@dataclass(frozen=True)
class TraceTask:
    """P2: name the earliest step that the error noticed in a reflection came from.

    Args:
        problem: problem text.
        steps: [reflection + 1] step texts up to the reflection, which is the last.
    """

    name: ClassVar[str] = "P2"
    problem: str
    steps: tuple[str, ...]

    @property
    def reflection(self) -> int:
        """Index of the reflection: the last step shown."""
        return len(self.steps) - 1


@final
@dataclass(frozen=True)
class VerifyTask:
    """P3: say of each step of [source, reflection - 1] whether it is wrong; what rests on a wrong step is wrong too.

    Args:
        problem: problem text.
        steps: [reflection + 1] step texts up to the reflection, which is the last.
        source: first step of the interval.
        cause: the evidence quoted when the source was traced.
    """

    name: ClassVar[str] = "P3"
    problem: str
    steps: tuple[str, ...]
    source: int
    cause: str

    @property
    def reflection(self) -> int:
        """Index of the reflection: the last step shown."""
        return len(self.steps) - 1


@final
@dataclass(frozen=True)
class TraceVerifyTask:
    """P2 and P3 in one: trace the source, then judge each step of [source, reflection - 1].

    Args:
        problem: problem text.
        steps: [reflection + 1] step texts up to the reflection, which is the last.
    """

    name: ClassVar[str] = "P23"
    problem: str
    steps: tuple[str, ...]

    @property
    def reflection(self) -> int:
        """Index of the reflection: the last step shown."""
        return len(self.steps) - 1


@final
@dataclass(frozen=True)
class MatchTask:
    """P4: say of each think step whether the answer block uses what it says.

    Args:
        problem: problem text.
        steps: [K] texts of the think block's steps.
        answer: [M] texts of the answer block's steps, at least one.
    """

    name: ClassVar[str] = "P4"
    problem: str
    steps: tuple[str, ...]
    answer: tuple[str, ...]


Task = SplitTask | ReflectTask | TraceTask | VerifyTask | TraceVerifyTask | MatchTask


@final
@dataclass(frozen=True)
class ReaderReply:
    """A reader's answer to one task.

    Args:
        text: the reply as written; read by `parser` alone.
        call: id of the model call, empty if there was none.
        input_tokens: tokens read, `None` if not reported.
        output_tokens: tokens written, `None` if not reported.
        fault: why the text is not worth reading (cut, wrapped, never written); `None` leaves it to the parser.
    """

    text: str
    call: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    fault: Reject | None = None


class Reader(Protocol):
    """A back end of the intrinsic judge: marker rules, a small embedded model, a server."""

    @property
    def fingerprint(self) -> str:
        """Name, model, prompt version, seed and settings: part of every cache key."""
        ...

    async def answer(self, task: Task, *, attempt: int, error: str) -> ReaderReply:
        """Answer one task with text in the task's JSON form.

        Args:
            task: what to read.
            attempt: 0 for the first try; a model takes a new seed for every attempt. Where replies are voted on,
                further votes go on counting, and their first tries come without an error.
            error: why the previous attempt was rejected, empty at first; a model is shown it.

        Raises:
            EngineError: if no whole answer came. What the answer says is never an error.
        """
        ...
