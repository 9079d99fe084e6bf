"""The intrinsic judge over a served chat model: its fields of requests, the steps it proposes, its parse statistics."""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, final

from stepcredit.core.digests import digest
from stepcredit.core.errors import BudgetError, JudgeError
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Steps, Verdict
from stepcredit.judges.intrinsic.judge import IntrinsicJudge, IntrinsicSettings
from stepcredit.judges.intrinsic.statistics import ParseStatistics, TaskCounts
from stepcredit.judges.intrinsic.tasks import Reader
from stepcredit.store.ledger import Ledger

READING = "reading"
"""Stage of the ledger: parse statistics of one judging of one solution, with every rejected reply as it was written."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@final
class RequestFields(Mapping[str, Any]):
    """Further fields of the chat request that the present task is about to make; see `ServerSettings.extra`.

    A client reads its `extra` at each request, so these may differ from one request to the next: a schema belongs to
    one question. Tasks that run side by side do not see one another's.

    >>> fields = RequestFields()
    >>> with fields.set({"response_format": {"type": "json_object"}}):
    ...     list(fields)
    ['response_format']
    >>> dict(fields)
    {}
    """

    def __init__(self) -> None:
        self._now: ContextVar[Mapping[str, Any]] = ContextVar("request fields", default=_NOTHING)

    @contextmanager
    def set(self, fields: Mapping[str, Any]) -> Generator[None]:
        """Requests made inside the block carry the fields."""
        token = self._now.set(fields)
        try:
            yield
        finally:
            self._now.reset(token)

    def __getitem__(self, name: str) -> Any:
        return self._now.get()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now.get())

    def __len__(self) -> int:
        return len(self._now.get())


@final
@dataclass(frozen=True)
class Proposal:
    """How the judge cuts the steps that it is to judge.

    Args:
        ranges: half-open ranges of step indices, as `steps.apply_ranges` takes them; one a step where the judge was not
            asked, or could not be read.
        unread: why no reply could be read, empty if one could.
        calls: of the replies that could not be read.
    """

    ranges: tuple[tuple[int, int], ...]
    unread: str = ""
    calls: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class ReadingCounts:
    """Parse statistics of a run, over all its sessions (F3).

    Args:
        tasks: counts by task and kind of solution, such as `P4 (wrong)`.
        solutions: times a solution was judged, by what became of it; one whose judge broke is asked and counted again.
    """

    tasks: Mapping[str, TaskCounts] = field(default_factory=dict[str, TaskCounts])
    solutions: Mapping[str, int] = field(default_factory=dict[str, int])

    def as_payload(self) -> dict[str, Any] | None:
        """What `summary.json` holds, `None` if nothing was read."""
        if not self.tasks and not self.solutions:
            return None
        tasks = {name: {**counts.as_payload(), "parse_rate": counts.parse_rate} for name, counts in self.tasks.items()}
        return {"tasks": tasks, "solutions": dict(self.solutions)}

    def below(self, bound: float) -> tuple[str, ...]:
        """One line for each task of which too few were read, with the most frequent reason."""
        told: list[str] = []
        for name, counts in self.tasks.items():
            rate = counts.parse_rate
            if rate is None or rate >= bound or not counts.rejects:
                continue
            reason, times = max(counts.rejects.items(), key=lambda pair: pair[1])
            read = counts.first_try + counts.after_retry
            told.append(f"{read} of {counts.asked} tasks {name} could be read; {times} replies: {reason}")
        return tuple(told)


@final
class ReadingLog:
    """Keeps the parse statistics of each judging in the ledger, once there is one; without it nothing is kept."""

    def __init__(self) -> None:
        self._ledger: Ledger | None = None

    def open(self, ledger: Ledger) -> None:
        """From now on statistics go to the ledger."""
        self._ledger = ledger

    @contextmanager
    def of(self, rollout: str, judge: str) -> Generator[ParseStatistics]:
        """Statistics of what is asked inside the block; kept at its end, also if it fails.

        Args:
            rollout: id of the solution.
            judge: fingerprint of the judge.
        """
        statistics = ParseStatistics()
        try:
            yield statistics
        except Exception:
            self._keep(f"{rollout}/{judge}", statistics)
            raise
        self._keep(f"{rollout}/{judge}", statistics)

    def counts(self) -> ReadingCounts:
        """Sums over all sessions of the run."""
        tasks: dict[str, TaskCounts] = {}
        solutions: Counter[str] = Counter()
        for _, payload in () if self._ledger is None else self._ledger.items(READING):
            for name, counts in payload["tasks"].items():
                tasks[name] = tasks.get(name, TaskCounts()).plus(TaskCounts(**counts))
            solutions.update(payload["solutions"])
        return ReadingCounts(dict(sorted(tasks.items())), dict(sorted(solutions.items())))

    def _keep(self, name: str, statistics: ParseStatistics) -> None:
        if self._ledger is None or not (statistics.counts or statistics.solutions):
            return
        rejected = [
            {
                "task": reply.task,
                "attempt": reply.attempt,
                "reason": reply.reject.reason.value,
                "detail": reply.reject.detail,
                "raw": reply.raw,
                "call": reply.call,
            }
            for reply in statistics.rejected
        ]
        payload = {
            "tasks": {f"{task} ({kind})": counts.as_payload() for (task, kind), counts in statistics.counts.items()},
            "solutions": dict(statistics.solutions),
            "rejected": rejected,
        }
        if "broken" not in statistics.solutions:  # after a kill the same is asked again: it counts once
            self._ledger.put(READING, f"{name}/whole", payload)
            return
        number = 0
        while not self._ledger.put(READING, f"{name}/broken/{number}", payload):
            number += 1


@final
class ReadingJudge:
    """The intrinsic judge over a reader, one solution at a time; also cuts the steps that it then judges (P0).

    Args:
        reader: answers the reading tasks.
        settings: how it is asked.
        decompose: True cuts the think block anew, into steps that the reader proposes.
        log: where parse statistics go.

    Source: TP-GRPO, arXiv:2507.23317; tp_grpo.md 1.2-1.4, 1.9. Differs: steps are ranges of the splitter's steps.
    """

    scale = Scale.BINARY

    def __init__(self, reader: Reader, settings: IntrinsicSettings, *, decompose: bool, log: ReadingLog) -> None:
        self._reader, self._settings, self._log = reader, settings, log
        self.decompose = decompose
        self._judge(ParseStatistics())  # settings are refused before anything is asked

    @property
    def fingerprint(self) -> str:
        """That of the intrinsic judge, and whether it cuts the steps."""
        inner = self._judge(ParseStatistics()).fingerprint
        return f"reading:{digest(inner, 'decomposed')}" if self.decompose else inner

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts.

        Raises:
            JudgeError: if the reader broke; carries the rollout id.
            BudgetError: if a limit on calls or cost is reached.
        """
        with self._log.of(steps.rollout.id, self.fingerprint) as statistics:
            return await self._judge(statistics).judge(steps)

    async def propose(self, steps: Steps, given: bool = False) -> Proposal:  # noqa: FBT001, FBT002 -- a walk's `Propose`
        """The steps that the reader proposes.

        It is not asked about solutions that could not be judged anyway, nor where steps are `given`: these keep theirs.

        Raises:
            JudgeError: if the reader broke.
            BudgetError: if a limit on calls or cost is reached.
        """
        same = Proposal(each(len(steps)))
        if given or not _can_be_judged(steps):
            return same
        with self._log.of(f"{steps.rollout.id}/P0", self.fingerprint) as statistics:
            try:
                ranges = await self._judge(statistics).propose(steps)
            except (BudgetError, JudgeError):
                statistics.solution("broken")
                raise
            if ranges is not None:
                return Proposal(ranges)
            statistics.solution("failed")
            last = statistics.rejected[-1]
            unread = f"{last.task} unreadable after {last.attempt + 1} replies: {last.reject}"
            return replace(same, unread=unread, calls=tuple(reply.call for reply in statistics.rejected if reply.call))

    def _judge(self, statistics: ParseStatistics) -> IntrinsicJudge:
        return IntrinsicJudge(self._reader, self._settings, statistics=statistics)


def each(count: int) -> tuple[tuple[int, int], ...]:
    """Ranges that leave steps as they are, under the unit of proposed ones: a batch has one unit.

    >>> each(2)
    ((0, 1), (1, 2))
    """
    return tuple((k, k + 1) for k in range(count))


def _can_be_judged(steps: Steps) -> bool:
    status = steps.outcome.status
    return status == "right" or (status == "wrong" and steps.closed and bool(steps.in_answer.any()))
