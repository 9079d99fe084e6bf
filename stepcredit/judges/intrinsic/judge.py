"""The intrinsic judge of TP-GRPO: reflection tracing in right solutions, answer matching in wrong ones.

It never asks whether a step is right: it asks what the writer took back, and what the answer block uses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar, final

from stepcredit.core.digests import digest
from stepcredit.core.errors import BudgetError, EngineError, JudgeError, UsageError
from stepcredit.core.protocols import Scale
from stepcredit.core.rationales import hearing, tell
from stepcredit.core.records import Label, Steps, Verdict
from stepcredit.judges.intrinsic.parser import (
    parse_match,
    parse_reflect,
    parse_split,
    parse_trace,
    parse_trace_verify,
    parse_verify,
)
from stepcredit.judges.intrinsic.rationales import in_order, reply_to
from stepcredit.judges.intrinsic.replies import Reject, RejectReason, TracedVerification
from stepcredit.judges.intrinsic.statistics import ParseStatistics, RejectedReply, SolutionKind
from stepcredit.judges.intrinsic.tasks import (
    MatchTask,
    Reader,
    ReflectTask,
    SplitTask,
    Task,
    TraceTask,
    TraceVerifyTask,
    VerifyTask,
)
from stepcredit.judges.intrinsic.voting import (
    vote_matches,
    vote_trace,
    vote_traced_verification,
    vote_verification,
)
from stepcredit.judges.together import together
from stepcredit.judges.verdicts import UNMATCHABLE, UNSCORABLE, labelled, unknown

AskedT = TypeVar("AskedT", bound=Task)
AnswerT = TypeVar("AnswerT")
ResultT = TypeVar("ResultT")

PROTOCOL_VERSION = 1
"""Raised when labels for equal replies change; part of the fingerprint."""

UNTRACEABLE = "admits an error whose source cannot be traced"
"""Reason at the step of a reflection that takes no step back because none is its source."""

TIED = "votes on whether the answer block uses it tie"
"""Reason at a step of a wrong solution of which as many replies say one thing as the other."""


@final
@dataclass(frozen=True)
class IntrinsicSettings:
    """How the intrinsic judge asks.

    Args:
        merged: True asks P2 and P3 in one call a reflection, False in two.
        retries: further tries after a rejected reply, each told what was wrong.
        votes: replies asked to each of P2, P3 and P4, on which `voting` decides; the reader must draw them at random.
        include_reflection: True blames the reflection too, not only what it takes back. An exhibit, not the paper: a
            policy trained so stops admitting mistakes (embedded_world.md 8.4).
    """

    merged: bool = True
    retries: int = 2
    include_reflection: bool = False
    votes: int = 1


@final
@dataclass(frozen=True)
class _Blame:
    """Steps that one reflection takes back, and what it rests on; not `traced` if no step is its source."""

    reflection: int
    steps: tuple[int, ...]
    evidence: str
    calls: tuple[str, ...]
    traced: bool = True


class _UnreadableError(Exception):
    """A task had no readable reply within the retries."""

    def __init__(self, task: Task, attempts: int, error: str, calls: tuple[str, ...]) -> None:
        super().__init__(f"{task.name} unreadable after {attempts} replies: {error}")
        self.calls = calls


@final
class IntrinsicJudge:
    """Labels the steps of a solution from what the solution says of itself.

    Right solution: P1 finds the reflections that admit an error; for each, P2 and P3 give the interval
    [source, reflection - 1] and which of its steps are wrong; these are `incorrect`, all other steps `correct`, the
    reflection and the answer block included. Intervals may overlap: a step that any of them confirms is `incorrect`.
    A reflection that only confirms changes nothing; neither does one whose source cannot be traced, which is counted
    (`untraceable`) and said in its own step's reason.
    Wrong solution: P4 compares each think step with the answer block: `matched` or `mismatched`; the answer block is
    `matched`. Without a closed think block or an answer block, evaluation has failed.

    A failed evaluation gives unknown verdicts on all steps, with the reason; what is done about it is the credit
    rule's business. Scores are binary: 1 `correct`, 0 `incorrect` and `matched`, none for `mismatched`.

    Args:
        reader: answers the reading tasks.
        settings: how to ask.
        statistics: collector for F3; one of its own if `None`.

    Raises:
        UsageError: if `retries` is negative, or `votes` below 1.

    Source: TP-GRPO, arXiv:2507.23317; tp_grpo.md 1.3, 1.4, 1.9. Differs: prompts and reply form are ours.
    """

    scale = Scale.BINARY

    def __init__(
        self, reader: Reader, settings: IntrinsicSettings | None = None, *, statistics: ParseStatistics | None = None
    ) -> None:
        self._reader = reader
        self._settings = settings or IntrinsicSettings()
        if self._settings.retries < 0:
            raise UsageError(f"retries must be at least 0, got {self._settings.retries}")
        if self._settings.votes < 1:
            raise UsageError(f"votes must be at least 1, got {self._settings.votes}")
        self.statistics = statistics or ParseStatistics()

    @property
    def fingerprint(self) -> str:
        """Protocol version, settings and the reader's fingerprint."""
        return f"intrinsic:{digest(PROTOCOL_VERSION, self._settings, self._reader.fingerprint)}"

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts on one rollout's steps; all unknown with one reason where evaluation failed.

        Raises:
            JudgeError: if the reader broke; carries the rollout id.
            BudgetError: if the reader reached a limit on calls or cost.
        """
        with hearing() as said:
            verdicts = await self._judged(steps)
        tell(in_order(said))
        return verdicts

    async def _judged(self, steps: Steps) -> tuple[Verdict, ...]:
        if steps.outcome.status == "unscorable":
            self.statistics.solution("unscorable")
            reason = steps.outcome.reason or "no reason given"
            return unknown(len(steps), f"{UNSCORABLE}: {reason}")
        try:
            return await (self._right(steps) if steps.outcome.status == "right" else self._wrong(steps))
        except _UnreadableError as error:
            self.statistics.solution("failed")
            return unknown(len(steps), str(error), calls=error.calls)
        except EngineError as error:
            self.statistics.solution("broken")
            raise JudgeError(f"the reader broke: {error}", item=steps.rollout.id) from error
        except BudgetError:
            self.statistics.solution("broken")
            raise

    async def propose(self, steps: Steps) -> tuple[tuple[int, int], ...] | None:
        """P0: ranges of semantic steps over the think block's steps, which serve as paragraphs.

        A think block of one paragraph or none is not asked about.

        Returns:
            Half-open ranges that tile the think block's steps, as `steps.apply_ranges` takes them, or `None` if no
            reply could be read. In the reply itself both ends are inclusive.

        Raises:
            JudgeError: if the reader broke.
        """
        think, _ = _blocks(steps)
        if len(think) < 2:
            return tuple((k, k + 1) for k in think)
        task = SplitTask(steps.rollout.problem.text, tuple(steps.texts[k] for k in think))
        kind: SolutionKind = "right" if steps.outcome.status == "right" else "wrong"
        try:
            tiling, _ = await self._ask(task, parse_split, kind=kind, rollout=steps.rollout.id)
        except _UnreadableError:
            return None
        except EngineError as error:
            raise JudgeError(f"the reader broke: {error}", item=steps.rollout.id) from error
        return tuple((first, last + 1) for first, last in tiling.ranges)

    async def _right(self, steps: Steps) -> tuple[Verdict, ...]:
        think, _ = _blocks(steps)
        verdicts = [labelled(Label.CORRECT)] * len(steps)
        if not think:
            self.statistics.solution("judged")
            return tuple(verdicts)
        texts = tuple(steps.texts[k] for k in think)
        problem, rollout = steps.rollout.problem.text, steps.rollout.id
        found, calls = await self._ask(ReflectTask(problem, texts), parse_reflect, kind="right", rollout=rollout)
        for k in think:
            verdicts[k] = labelled(Label.CORRECT, calls=calls)
        blames = await together(self._blame(problem, texts[: at + 1], rollout) for at in found.errors)
        for blame in blames:
            if not blame.traced:
                k = think[blame.reflection]
                verdicts[k] = labelled(Label.CORRECT, reason=UNTRACEABLE, calls=(*calls, *blame.calls))
        for blame in reversed(blames):
            for j in blame.steps:
                reason = f"taken back at step {think[blame.reflection]}: {blame.evidence}"
                verdicts[think[j]] = labelled(Label.INCORRECT, reason=reason, calls=(*calls, *blame.calls))
        self.statistics.solution("judged")
        return tuple(verdicts)

    async def _wrong(self, steps: Steps) -> tuple[Verdict, ...]:
        think, block = _blocks(steps)
        if not steps.closed or not block:
            self.statistics.solution("unmatchable")
            return unknown(len(steps), _why_unmatchable(steps))
        verdicts = [labelled(Label.MATCHED)] * len(steps)
        if think:
            texts = tuple(steps.texts[k] for k in think)
            task = MatchTask(steps.rollout.problem.text, texts, tuple(steps.texts[k] for k in block))
            replies, calls = await self._poll(task, parse_match, kind="wrong", rollout=steps.rollout.id)
            for k, matched in zip(think, vote_matches(replies), strict=True):
                label = Label.MATCHED if matched else Label.MISMATCHED
                verdicts[k] = Verdict(reason=TIED, calls=calls) if matched is None else labelled(label, calls=calls)
        self.statistics.solution("judged")
        return tuple(verdicts)

    async def _blame(self, problem: str, shown: tuple[str, ...], rollout: str) -> _Blame:
        reflection = len(shown) - 1
        if not reflection:  # nothing stands before it
            self.statistics.untraceable(self._trace_task)
            return _Blame(0, (), "", (), traced=False)
        traced, calls = await self._trace(problem, shown, rollout)
        if traced.source is None:
            self.statistics.untraceable(self._trace_task)
            return _Blame(reflection, (), "", calls, traced=False)
        wrong = tuple(traced.source + i for i, is_wrong in enumerate(traced.wrong) if is_wrong)
        if wrong and self._settings.include_reflection:
            wrong = (*wrong, reflection)
        return _Blame(reflection, wrong, traced.evidence, calls)

    @property
    def _trace_task(self) -> str:
        return TraceVerifyTask.name if self._settings.merged else TraceTask.name

    async def _trace(
        self, problem: str, shown: tuple[str, ...], rollout: str
    ) -> tuple[TracedVerification, tuple[str, ...]]:
        if self._settings.merged:
            both, calls = await self._poll(
                TraceVerifyTask(problem, shown), parse_trace_verify, kind="right", rollout=rollout
            )
            return vote_traced_verification(both), calls
        traces, calls = await self._poll(TraceTask(problem, shown), parse_trace, kind="right", rollout=rollout)
        trace = vote_trace(traces)
        if trace.source is None:
            return TracedVerification(None, trace.evidence, ()), calls
        verify = VerifyTask(problem, shown, trace.source, trace.evidence)
        verified, more = await self._poll(verify, parse_verify, kind="right", rollout=rollout)
        wrong = vote_verification(verified).wrong
        return TracedVerification(trace.source, trace.evidence, wrong), (*calls, *more)

    async def _poll(
        self, task: AskedT, parse: Callable[[AskedT, str], AnswerT | Reject], *, kind: SolutionKind, rollout: str
    ) -> tuple[list[AnswerT], tuple[str, ...]]:
        """The answers that could be read, at least one, and the calls of all.

        Raises:
            _UnreadableError: if none could.
        """

        async def one(vote: int) -> tuple[AnswerT, tuple[str, ...]] | _UnreadableError:
            try:
                return await self._ask(task, parse, kind=kind, rollout=rollout, vote=vote)
            except _UnreadableError as error:
                return error

        ballots = await together(one(vote) for vote in range(self._settings.votes))
        calls = tuple(c for ballot in ballots for c in (ballot[1] if isinstance(ballot, tuple) else ballot.calls))
        answers = [ballot[0] for ballot in ballots if isinstance(ballot, tuple)]
        for ballot in ballots:
            if not answers and isinstance(ballot, _UnreadableError):
                ballot.calls = calls
                raise ballot
        return answers, calls

    async def _ask(
        self,
        task: AskedT,
        parse: Callable[[AskedT, str], AnswerT | Reject],
        *,
        kind: SolutionKind,
        rollout: str,
        vote: int = 0,
    ) -> tuple[AnswerT, tuple[str, ...]]:
        calls: tuple[str, ...] = ()
        error = ""
        tries = self._settings.retries + 1
        for attempt in range(tries):
            started = monotonic()
            try:
                reply = await self._reader.answer(task, attempt=vote * tries + attempt, error=error)
            except (EngineError, BudgetError):
                self.statistics.end(task.name, kind, "broken")
                raise
            self.statistics.call(task.name, kind, reply, latency_s=monotonic() - started)
            calls = (*calls, reply.call) if reply.call else calls
            result = reply.fault or parse(task, reply.text)
            if reply.call:
                rejected = str(result) if isinstance(result, Reject) else ""
                tell([reply_to(task, reply, vote=vote, attempt=attempt, rejected=rejected)])
            if not isinstance(result, Reject):
                self.statistics.end(task.name, kind, "after_retry" if attempt else "first_try")
                return result, calls
            self.statistics.reject(kind, RejectedReply(rollout, task.name, attempt, result, reply.text, reply.call))
            error = str(result)
            if result.reason is RejectReason.TOO_LONG:  # it would be as long again
                tries = attempt + 1
                break
        self.statistics.end(task.name, kind, "failed")
        raise _UnreadableError(task, tries, error, calls)


def _blocks(steps: Steps) -> tuple[list[int], list[int]]:
    """Indices of the think block's steps and of the answer block's steps."""
    inside = steps.in_answer.tolist()
    return [k for k, yes in enumerate(inside) if not yes], [k for k, yes in enumerate(inside) if yes]


def _why_unmatchable(steps: Steps) -> str:
    if steps.closed:
        return UNMATCHABLE
    if steps.rollout.finish == "length":
        return f"cut by length: {UNMATCHABLE}"
    if steps.form == "none":
        return f"no think tags, and no ending that states the answer: {UNMATCHABLE}"
    return f"think block never closed: {UNMATCHABLE}"
