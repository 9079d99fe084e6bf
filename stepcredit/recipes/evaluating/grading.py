"""The reasons part of MR-Score: is the reason that a judge gave the true one? A chat model or a file says so."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, UsageError
from stepcredit.evaluation.first_error import CLEAN
from stepcredit.evaluation.judge_sets import LabelledSolution
from stepcredit.evaluation.labelled_lines import lines, unique
from stepcredit.evaluation.named_sets import LabelledSet
from stepcredit.judges.reason_checker import GivenReason, Grade, ReasonChecker, ReasonCheckerSettings
from stepcredit.recipes.evaluating.reading import Reading
from stepcredit.recipes.evaluating.settings import EvaluateRecipe, ReasonsPart
from stepcredit.recipes.recorded.judges import CallLog, server_settings
from stepcredit.recipes.recorded.reading import RequestFields
from stepcredit.recipes.recorded.settings import ServerPart, given
from stepcredit.recipes.recorded.tally import ranked
from stepcredit.report.progress import Progress, Task
from stepcredit.store.ledger import Ledger

STAGE = "grade"
"""Stage of the ledger: grades of reasons, by checker and all that it was shown."""


FAILED = "the checker failed"


@final
@dataclass(frozen=True)
class Graded:
    """What became of a judge's reasons.

    Args:
        checker: the model, or the file, that says whether they are right; empty if nothing does.
        grades: by id, of the wrong solutions whose first wrong step the judge named; `None` says nothing of the others.
        failed: how many the checker failed on; asked again by the same command.
    """

    checker: str = ""
    grades: Mapping[str, Grade] = field(default_factory=dict[str, Grade])
    failed: int = 0

    @property
    def right(self) -> dict[str, bool | None] | None:
        """By id, whether the reason is the true one; `None` if nobody was asked."""
        return {name: grade.right for name, grade in self.grades.items()} if self.checker else None

    @property
    def summary(self) -> dict[str, Any] | None:
        """Counts, and why grades are unknown, the most frequent first; `None` if nobody was asked."""
        if not self.checker:
            return None
        counts = Counter(grade.right for grade in self.grades.values())
        whys = Counter(grade.why for grade in self.grades.values() if grade.right is None)
        told = {"checker": self.checker, "asked": len(self.grades), "right": counts[True], "wrong": counts[False]}
        return {**told, "unknown": counts[None], "unknown_reasons": ranked(whys)}


def check_reasons(part: ReasonsPart, labelled: LabelledSet, *, reasons: bool) -> None:
    """Refuse a checker that has nothing to grade, before any work.

    Args:
        part: `[reasons]`.
        labelled: the set.
        reasons: the judge gives reasons.

    Raises:
        UsageError: naming the mend, or the line of the file of grades that cannot be used.
        MachineError: if that file may not be read.
    """
    asks = part.server is not None or part.model is not None
    if not given(part):
        return
    if labelled.metric != "mr-score":
        raise UsageError(f"[reasons] grades reasons for MR-Score, which {labelled.name} does not have; leave it out")
    if part.labels is not None and asks:
        raise UsageError("reasons.labels holds grades, and reasons.server makes them; leave one of them out")
    if part.labels is None and (part.server is None or part.model is None):
        mend = "set reasons.server and reasons.model, or reasons.labels"
        raise UsageError(f"[reasons] needs a chat model with its server, or a file of grades; {mend}")
    if asks and not reasons:
        mend = "give --judge step-critic --set judge.variant=reason, or grades made elsewhere with reasons.labels"
        raise UsageError(f"a checker reads the reasons that a judge gives, and this one gives none; {mend}")
    if part.labels is not None:
        read_grades(Path(part.labels), {solution.id for solution in labelled.solutions})


async def grade_reasons(
    recipe: EvaluateRecipe,
    labelled: LabelledSet,
    readings: Sequence[Reading],
    *,
    threshold: float,
    calls: CallLog,
    ledger: Ledger,
    screen: Progress,
) -> Graded:
    """Grades of the reasons for first wrong steps that the judge named.

    Args:
        recipe: `[reasons]` and `[server]` are read.
        labelled: the set.
        readings: [n] what the judge said.
        threshold: a step whose score is below it is called wrong.
        calls: counts requests and keeps their records.
        ledger: keeps grades that could be read; they are not asked again.
        screen: who is told.

    Raises:
        BudgetError: if a limit on calls or cost is reached.
    """
    part, pairs = recipe.reasons, zip(labelled.solutions, readings, strict=True)
    named = {s.id: (s, r) for s, r in pairs if s.label != CLEAN and r.first_wrong(threshold) == s.label}
    if part.labels is not None:
        known = read_grades(Path(part.labels), {solution.id for solution in labelled.solutions})
        none = Grade(None, "the file of grades does not say")
        return Graded(Path(part.labels).name, {name: known.get(name, none) for name in named})
    shown = {name: given_reason(solution, reading) for name, (solution, reading) in named.items()}
    asked = {name: one for name, one in shown.items() if isinstance(one, GivenReason)}
    task = screen.start("grade reasons", total=len(asked), unit="reasons")
    try:
        async with _opened(part, recipe.server, calls) as checker:
            work = (_kept(checker, one, ledger, task) for one in asked.values())
            grades = await asyncio.gather(*work, return_exceptions=True)
    finally:
        task.finish()
    found = {name: one for name, one in shown.items() if isinstance(one, Grade)}
    for name, grade in zip(asked, grades, strict=True):
        if isinstance(grade, BaseException) and not isinstance(grade, EngineError):
            raise grade
        found[name] = Grade(None, FAILED) if isinstance(grade, BaseException) else grade
    failed = sum(isinstance(grade, EngineError) for grade in grades)
    return Graded(part.model or "", {name: found[name] for name in named}, failed)


def given_reason(solution: LabelledSolution, reading: Reading) -> GivenReason | Grade:
    """What a checker is shown of a wrong solution whose first wrong step was named, or why it can be shown nothing."""
    first = CLEAN if solution.label is None else solution.label
    said = reading.reasons[first] if reading.reasons else ""
    if not said.strip():
        return Grade(None, "the judge gave no reason")
    if not any(text.strip() for text in solution.reasons):
        return Grade(None, "the set records no reason")
    return GivenReason(solution.asked, solution.steps, first, solution.reasons, said, solution.mended)


def read_grades(path: Path, ids: set[str]) -> dict[str, Grade]:
    """Grades of a file: `id` and `reason_right` (true, false, or null: not known) a line.

    Raises:
        UsageError: if a line cannot be used, its id is not in the set, or two lines share one.
        MachineError: if the file may not be read.
    """
    found: dict[str, Grade] = {}
    places: list[tuple[str, str]] = []
    for line in lines(path):
        name = line.text("id")
        if name not in ids:
            raise line.wrong(f"no solution of the set has the id {name!r}")
        if "reason_right" not in line.row:
            raise line.wrong(
                f"no key `reason_right`; the keys are {', '.join(line.row)}; write null if it is not known"
            )
        right = line.truth("reason_right")
        found[name] = Grade(right, "the file of grades says that it is not known" if right is None else "")
        places.append((name, line.place))
    unique(places)
    return found


@asynccontextmanager
async def _opened(part: ReasonsPart, waits: ServerPart, calls: CallLog) -> AsyncGenerator[ReasonChecker]:
    from stepcredit.engines.server.client import ServerClient  # noqa: PLC0415 -- loads the HTTP client

    settings = server_settings(waits, part.server or "", part.model, RequestFields())
    async with ServerClient(settings, budget=calls.budget, on_attempt=calls.take) as client:
        yield ReasonChecker(client, ReasonCheckerSettings(**given(part, "max_tokens", "temperature", "seed")))


async def _kept(checker: ReasonChecker, asked: GivenReason, ledger: Ledger, task: Task) -> Grade:
    """The grade, from the ledger if it is there; one that could not be read is not kept, and asked for again."""
    key = digest(checker.fingerprint, asked)
    kept = ledger.get(STAGE, key)
    grade = Grade(kept["right"], calls=tuple(kept["calls"])) if kept is not None else await checker.grade(asked)
    task.advance(unknown=grade.right is None)
    if kept is None and grade.right is not None:
        ledger.put(STAGE, key, {"right": grade.right, "calls": list(grade.calls)})
    return grade
