"""The facade: `stepcredit.judge(...)`, one synchronous call for scripts and notebooks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final, get_args

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Judge
from stepcredit.core.rationales import Rationale
from stepcredit.core.records import Judgement, OutcomeStatus
from stepcredit.engines.byte_tokenizer import ByteTokenizer
from stepcredit.recipes.blocking import wait_for
from stepcredit.recipes.recorded.judges import checker_of, opened_judge, refuse_whole
from stepcredit.recipes.recorded.rollouts import RolloutMaker, grouped
from stepcredit.recipes.recorded.run import splitter_of
from stepcredit.recipes.recorded.settings import FileJudge, RecordedRecipe, check_judge, load_recorded
from stepcredit.recipes.recorded.walk import Walked, WalkParts, walk
from stepcredit.report.progress import SilentTask
from stepcredit.tasks.jsonl import RecordedResponse, read_responses, responses_of

_NAME = "solutions"
_OF_A_JUDGE = ("fingerprint", "scale", "judge")

Solutions = str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A JSONL file by path, one solution, or several: mappings with the keys of a file's lines."""


@final
@dataclass(frozen=True)
class JudgedStep:
    """One step and what the judge says of it.

    Args:
        text: the step; the texts of all steps joined are the solution.
        label: `correct`, `incorrect`, `matched` or `mismatched`; `None` if the judge gives none.
        score: the judge's number, `None` if it has none.
        reason: why the step is unknown, or a rationale.
    """

    text: str
    label: str | None
    score: float | None
    reason: str


@final
@dataclass(frozen=True)
class JudgedSolution:
    """One solution, checked, cut and judged.

    Args:
        id: `id` of the mapping or line, else its place.
        outcome: `right`, `wrong` or `unscorable`.
        answer: the answer that was read, `None` if there was none.
        reason: why the outcome is so, in a few words.
        steps: its steps in order.
        judgement: the record, for `stepcredit.credit`; its tokens are bytes.
        failed: why the judge itself failed, empty if it did not.
        rationales: what the judge wrote, one a vote; empty for judges that write nothing.
    """

    id: str
    outcome: OutcomeStatus
    answer: str | None
    reason: str
    steps: tuple[JudgedStep, ...]
    judgement: Judgement
    failed: str = ""
    rationales: tuple[Rationale, ...] = ()


@final
@dataclass(frozen=True)
class _Where:
    """Where a judge's model is, and its tokenizer."""

    server: str | None
    model: str | None
    tokenizer: str | None


def judge(
    solutions: Solutions,
    *,
    judge: FileJudge | Judge = "markers",
    server: str | None = None,
    model: str | None = None,
    tokenizer: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> tuple[JudgedSolution, ...]:
    r"""Give a verdict on every step of solutions; nothing is written to disk.

    Works in scripts and in notebooks, where an event loop is running already. `judge_file` and `stepcredit judge` do
    the same over a run folder, with resuming and a report.

    Args:
        solutions: mappings with `problem`, `answer` (or `gold`; `None`: none known) and `completion` (or `response`, or
            `steps`), or a path to a JSONL file of such.
        judge: `markers` needs no model, `critic`, `step-critic` and `intrinsic` ask the chat server, `thinkprm` and
            `genprm` such a checkpoint behind vLLM, `discriminative` a reward model, here or behind vLLM; or any
            `core.protocols.Judge`.
        server: address of an OpenAI-style server.
        model: name of the model there; `None` takes the only one.
        tokenizer: folder or hub id of the model there, for judges that send token ids.
        overrides: `section.key=value` of `recorded.toml`, such as `checker.mode=string`.

    Returns:
        One a solution, in order. A step the judge could not decide has neither label nor score, and a reason.

    Raises:
        UsageError: for a mapping, line, key or choice that cannot be used; names its place.
        MachineError: if there is no server, or, in a script, math-verify's processes could not start because the call
            does not stand under `if __name__ == "__main__":` (`checker.mode=string` needs none).

    Source: own. Differs: none.

    >>> [solution] = judge({"problem": "2 + 3?", "answer": "5", "completion": "2 + 3 = 5.\n\nThe answer is 5."})
    >>> solution.outcome, [step.label for step in solution.steps]
    ('right', ['correct', 'correct'])
    """
    recipe = load_recorded(_texts(overrides))
    if recipe.budget.tokens is not None:
        raise UsageError("budget.tokens holds a run over its sessions; give it to judge_file, which has a folder")
    source, recorded = _read(solutions)
    named = None if tokenizer is None else str(tokenizer)
    if isinstance(judge, str):
        refuse_whole(judge)
        check_judge(judge, server, model, named)
    elif not all(hasattr(judge, name) for name in _OF_A_JUDGE):
        names = ", ".join(f"`{name}`" for name in get_args(FileJudge))
        wanted = f"{names}, or an object with {', '.join(_OF_A_JUDGE)} (core.protocols.Judge)"
        raise UsageError(f"judge must be {wanted}, got {_kind(judge)}")
    where = _Where(server, model, named)
    walked = wait_for(lambda: _walk(recorded, source, judge=judge, recipe=recipe, where=where))
    return tuple(_shown(item) for item in walked)


def _read(solutions: object) -> tuple[str, tuple[RecordedResponse, ...]]:
    if isinstance(solutions, str | Path):
        return str(solutions), read_responses(Path(solutions))
    if not isinstance(solutions, Iterable):
        raise UsageError(f"solutions must be a path, a mapping or several of these, got {_kind(solutions)}")
    rows: list[object] = [solutions] if isinstance(solutions, Mapping) else list(solutions)
    return _NAME, responses_of([_row(row, number) for number, row in enumerate(rows, 1)], _NAME)


def _row(row: object, number: int) -> Mapping[str, Any]:
    """One solution as a line of a file holds it: a tuple is as good as a list."""
    if not isinstance(row, Mapping):
        wanted = "a mapping with `problem`, `answer` and `completion`"
        raise UsageError(f"a solution must be {wanted}, got {_kind(row)}", item=f"{_NAME}:{number}")
    found = cast("Mapping[str, Any]", row)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def _texts(overrides: object) -> tuple[str, ...]:
    given: list[object] = [None] if isinstance(overrides, str) or not isinstance(overrides, Iterable) else [*overrides]
    texts = tuple(text for text in given if isinstance(text, str))
    if len(texts) < len(given):
        wanted = 'a list of texts, such as ["checker.mode=string"]'
        raise UsageError(f"overrides must be {wanted}, got {_kind(overrides)}")
    return texts


def _kind(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"


async def _walk(
    recorded: tuple[RecordedResponse, ...],
    source: str,
    *,
    judge: FileJudge | Judge,
    recipe: RecordedRecipe,
    where: "_Where",
) -> tuple[Walked, ...]:
    if isinstance(judge, str):
        server, model, tokenizer = where.server, where.model, where.tokenizer
        async with opened_judge(judge, recipe, server=server, model=model, tokenizer=tokenizer) as (opened, _):
            return await _walk(recorded, source, judge=opened, recipe=recipe, where=where)
    checker, pool = checker_of(recipe.checker)
    try:
        maker = RolloutMaker(ByteTokenizer(), source)
        parts = WalkParts(maker, checker, splitter_of(recipe.steps), judge, ledger=None, source=source)
        return await walk(parts, recorded, grouping=grouped(recorded, "problem-and-model"), task=SilentTask())
    finally:
        if pool is not None:
            pool.close()


def _shown(item: Walked) -> JudgedSolution:
    judgement, outcome = item.judgement, item.outcome
    verdicts = () if judgement is None else judgement.verdicts
    steps = tuple(
        JudgedStep(text, None if verdict.label is None else verdict.label.value, verdict.score, verdict.reason)
        for text, verdict in zip(item.steps.texts, verdicts, strict=True)
    )
    shown = judgement or Judgement(item.steps, (), "")
    read = outcome.answer, outcome.reason
    return JudgedSolution(item.rollout.id, outcome.status, *read, steps, shown, item.failed, item.rationales)
