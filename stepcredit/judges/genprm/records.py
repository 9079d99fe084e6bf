"""What GenPRM leaves of every step: its numbers, its text, its code with what came of it, and what went wrong."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, final

from stepcredit.judges.genprm.execution import CodeBlock
from stepcredit.judges.genprm.reward import Answer
from stepcredit.judges.tallies import NEAR


class Status(StrEnum):
    """What went wrong, or was done about it, on one step of one pass."""

    NO_VERDICT = "no_verdict"
    """No verdict could be read, after one fallback where there is one."""
    LOOP = "loop"
    """A text was cut by length while it repeated itself."""
    OVER_LONG = "over_long"
    """A text was cut by length."""
    STOPPED_EARLY = "stopped_early"
    """A text ended by itself before its closing tag."""
    CONTRADICTS = "contradicts"
    """The verdict that the model wrote and the probabilities at its place say different things."""
    LEAKS = "leaks"
    """A text holds special tokens of the chat, spelt out."""
    TRUNCATED = "truncated"
    """Yes or No was not named by the engine: its probability is only a bound."""
    HISTORY_TRUNCATED = "history_truncated"
    """Code outputs or critiques of earlier steps were dropped to fit the context."""
    CODE_DROPPED = "code_dropped"
    """The fallback: the verdict was given without the code part."""
    NO_ROOM = "no_room"
    """The context is full even without the history."""
    SANDBOX_UNAVAILABLE = "sandbox_unavailable"
    """No engine of the sandbox has what the code imports: nothing true could be told of its run."""
    NO_TEXT = "no_text"
    """The step holds only white space; the model was not asked."""
    NOT_JUDGED = "not_judged"
    """Left out, because an earlier step was found wrong."""


REASONS: dict[Status, str] = {
    Status.NO_VERDICT: "no verdict could be read",
    Status.NO_ROOM: "the context is full",
    Status.SANDBOX_UNAVAILABLE: "sandbox-unavailable: no engine has what the code imports",
    Status.NO_TEXT: "the step has no text",
    Status.NOT_JUDGED: "not judged: an earlier step was found wrong",
}
"""Why a step is unknown."""


@final
@dataclass(frozen=True)
class Part:
    """A stretch of a critique: what we wrote, what the model wrote, or what a program printed."""

    kind: Literal["forced", "written", "feedback"]
    text: str


@final
@dataclass(frozen=True)
class StepRecord:
    """One step in one pass.

    Args:
        index: of the step in the solution, from 0.
        reward: by the reward source, `None` = unknown.
        p_yes_raw: raw probability of Yes at the verdict, `None` if it was not asked, a bound if `truncated`.
        p_no_raw: of No.
        verdict: the word that was written, or the likelier one where it was forced.
        statuses: what went wrong, in the order of `Status`.
        parts: the whole critique.
        dropped: what it lost: code by the fallback, and a verdict that could not be read or was forced instead.
        analysis: what the model wrote of the analysis.
        blocks: its code, in order, dropped code included.
        input_tokens: tokens read, `None` if a call did not say.
        output_tokens: tokens written, `None` if a call did not say.
        seeds: of the written texts, in order.
        calls: ids of the model calls.
    """

    index: int
    reward: float | None = None
    p_yes_raw: float | None = None
    p_no_raw: float | None = None
    verdict: Answer | None = None
    statuses: tuple[Status, ...] = ()
    parts: tuple[Part, ...] = ()
    dropped: tuple[Part, ...] = ()
    analysis: str = ""
    blocks: tuple[CodeBlock, ...] = ()
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    seeds: tuple[int, ...] = ()
    calls: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole critique as one text."""
        return "".join(part.text for part in self.parts)

    @property
    def reason(self) -> str:
        """Why the step is unknown, empty if it is not."""
        if self.reward is not None:
            return ""
        refused = next((block.feedback for block in self.blocks if block.status == "refused"), "")
        return refused or next(REASONS[status] for status in (*self.statuses, Status.NO_VERDICT) if status in REASONS)


def skipped(index: int, status: Status) -> StepRecord:
    """The record of a step that the model was not asked about."""
    return StepRecord(index, statuses=(status,))


@final
class GenPrmStatistics:
    """Counts over everything that a judge was asked.

    `steps` counts records, one a step and pass; `statuses` those with each status; `blocks` blocks of code by how they
    ended; `scores` rewards that come from probabilities, `at_zero` and `at_one` those within 0.01 of the ends; the rest
    are sums. `unmetered` counts records with a call that did not say its tokens.
    """

    def __init__(self) -> None:
        self.steps = self.judged = self.input_tokens = self.output_tokens = self.unmetered = 0
        self.scores = self.at_zero = self.at_one = 0
        self.statuses: Counter[str] = Counter()
        self.blocks: Counter[str] = Counter()

    def add(self, records: Sequence[StepRecord]) -> None:
        """Count the records of one pass."""
        for record in records:
            self.steps += 1
            self.judged += record.reward is not None
            self.statuses.update(status.value for status in record.statuses)
            self.blocks.update(block.status for block in record.blocks)
            self.unmetered += record.input_tokens is None or record.output_tokens is None
            self.input_tokens += record.input_tokens or 0
            self.output_tokens += record.output_tokens or 0
            if record.reward is not None and record.p_yes_raw is not None:
                self.scores += 1
                self.at_zero += record.reward < NEAR
                self.at_one += record.reward > 1 - NEAR

    def tally(self) -> Mapping[str, int]:
        """The counts by name: `steps`, `judged`, every status, `code_` and how a block ended, `scores` and the rest.

        >>> found = GenPrmStatistics()
        >>> found.add([StepRecord(0, statuses=(Status.LOOP,))])
        >>> [(name, count) for name, count in found.tally().items() if count]
        [('steps', 1), ('loop', 1)]
        """
        return {
            "steps": self.steps,
            "judged": self.judged,
            **{status.value: self.statuses[status.value] for status in Status},
            **{f"code_{ended}": count for ended, count in sorted(self.blocks.items())},
            "scores": self.scores,
            "at_zero": self.at_zero,
            "at_one": self.at_one,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }
