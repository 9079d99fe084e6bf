"""Parse statistics of the intrinsic judge: how often each task was read, at which try, and why not (F3).

For every task and kind of solution: asked = first_try + after_retry + failed + broken, and
calls = first_try + after_retry + all rejects.
For solutions: every one is judged, failed, unscorable, unmatchable or broken. Each rejected reply is kept as written.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal, final

from stepcredit.judges.intrinsic.replies import Reject
from stepcredit.judges.intrinsic.tasks import ReaderReply

SolutionKind = Literal["right", "wrong"]
Ending = Literal["first_try", "after_retry", "failed", "broken"]
"""How one asked task ended: read at once, read after a retry, never readable, or the reader itself broke."""

Fate = Literal["judged", "failed", "unscorable", "unmatchable", "broken"]
"""What became of one solution; `unmatchable`: wrong and without a closed think block or an answer block."""


@final
@dataclass(frozen=True)
class TaskCounts:
    """Counts of one task on one kind of solution.

    Args:
        asked: tasks asked.
        calls: replies received, those of retries included.
        first_try: read at the first call.
        after_retry: read at a later call.
        failed: no call gave a readable reply.
        broken: the reader raised.
        rejects: rejected replies by reason, those that a retry mended included.
        input_tokens: tokens read, over the calls that report them.
        output_tokens: tokens written, over the calls that report them.
        unmetered: calls that reported no token counts.
        latency_s: seconds waited, summed over calls.
        untraceable: reflections that admit an error without a step that it came from; nothing is taken back for them.
    """

    asked: int = 0
    calls: int = 0
    first_try: int = 0
    after_retry: int = 0
    failed: int = 0
    broken: int = 0
    rejects: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    input_tokens: int = 0
    output_tokens: int = 0
    unmetered: int = 0
    latency_s: float = 0.0
    untraceable: int = 0

    def plus(self, other: "TaskCounts", *, times: int = 1) -> "TaskCounts":
        """These counts and another's; with `times = -1` those that came since the other was taken.

        >>> TaskCounts(calls=3, rejects={"not JSON": 2}).plus(TaskCounts(calls=1, rejects={"not JSON": 2}), times=-1)
        TaskCounts(asked=0, calls=2, first_try=0, after_retry=0, failed=0, broken=0, rejects={}, input_tokens=0,
        output_tokens=0, unmetered=0, latency_s=0.0, untraceable=0)
        """
        names = [each.name for each in fields(self) if each.name != "rejects"]
        sums: dict[str, Any] = {name: getattr(self, name) + times * getattr(other, name) for name in names}
        reasons = sorted({*self.rejects, *other.rejects})
        rejects = {name: self.rejects.get(name, 0) + times * other.rejects.get(name, 0) for name in reasons}
        return TaskCounts(**sums, rejects={name: count for name, count in rejects.items() if count})

    def as_payload(self) -> dict[str, Any]:
        """The counts as JSON-able mapping; `TaskCounts(**payload)` gives equal ones."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"rejects": dict(self.rejects)}

    @property
    def parse_rate(self) -> float | None:
        """Share of the asked tasks that were read, `None` if none was asked."""
        return (self.first_try + self.after_retry) / self.asked if self.asked else None


@final
@dataclass(frozen=True)
class RejectedReply:
    """One reply that could not be read, as it was written."""

    rollout: str
    task: str
    attempt: int
    reject: Reject
    raw: str
    call: str


@final
class ParseStatistics:
    """Collects F3 while a judge works; one collector may serve several judges.

    >>> statistics = ParseStatistics()
    >>> statistics.call("P1", "right", ReaderReply("{}"), latency_s=0.5)
    >>> statistics.end("P1", "right", "first_try")
    >>> statistics.counts[("P1", "right")].parse_rate
    1.0
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, SolutionKind], TaskCounts] = {}
        self._rejected: list[RejectedReply] = []
        self._solutions: Counter[Fate] = Counter()

    @property
    def counts(self) -> Mapping[tuple[str, SolutionKind], TaskCounts]:
        """Counts by task name and kind of solution."""
        return MappingProxyType(dict(sorted(self._counts.items())))

    @property
    def rejected(self) -> tuple[RejectedReply, ...]:
        """Every rejected reply, in order of arrival."""
        return tuple(self._rejected)

    @property
    def solutions(self) -> Mapping[Fate, int]:
        """Solutions by what became of them; they add up to the solutions judged with this collector."""
        return MappingProxyType(dict(self._solutions))

    @property
    def parse_rate(self) -> float | None:
        """Share of the solutions that the reader was given that were judged end to end, `None` if there were none."""
        tried = sum(self._solutions[fate] for fate in ("judged", "failed", "broken"))
        return self._solutions["judged"] / tried if tried else None

    def below(self, bound: float) -> tuple[str, ...]:
        """The alarm: names of the tasks whose parse rate is below the bound, `P4 (wrong)` and the like."""
        rates = ((f"{task} ({kind})", counts.parse_rate) for (task, kind), counts in self.counts.items())
        return tuple(name for name, rate in rates if rate is not None and rate < bound)

    def call(self, task: str, kind: SolutionKind, reply: ReaderReply, *, latency_s: float) -> None:
        """Count one reader call that came back."""
        old = self._of(task, kind)
        metered = reply.input_tokens is not None and reply.output_tokens is not None
        self._counts[task, kind] = replace(
            old,
            calls=old.calls + 1,
            input_tokens=old.input_tokens + (reply.input_tokens or 0),
            output_tokens=old.output_tokens + (reply.output_tokens or 0),
            unmetered=old.unmetered + (not metered),
            latency_s=old.latency_s + latency_s,
        )

    def reject(self, kind: SolutionKind, reply: RejectedReply) -> None:
        """Count and keep one rejected reply."""
        old = self._of(reply.task, kind)
        reason = str(reply.reject.reason)
        rejects = {**old.rejects, reason: old.rejects.get(reason, 0) + 1}
        self._counts[reply.task, kind] = replace(old, rejects=MappingProxyType(dict(sorted(rejects.items()))))
        self._rejected.append(reply)

    def untraceable(self, task: str) -> None:
        """Count one reflection of a right solution that admits an error without a step that it came from."""
        old = self._of(task, "right")
        self._counts[task, "right"] = replace(old, untraceable=old.untraceable + 1)

    def end(self, task: str, kind: SolutionKind, ending: Ending) -> None:
        """Count one asked task as ended."""
        old = self._of(task, kind)
        self._counts[task, kind] = replace(
            old,
            asked=old.asked + 1,
            first_try=old.first_try + (ending == "first_try"),
            after_retry=old.after_retry + (ending == "after_retry"),
            failed=old.failed + (ending == "failed"),
            broken=old.broken + (ending == "broken"),
        )

    def solution(self, fate: Fate) -> None:
        """Count one solution."""
        self._solutions[fate] += 1

    def _of(self, task: str, kind: SolutionKind) -> TaskCounts:
        return self._counts.get((task, kind), TaskCounts())
