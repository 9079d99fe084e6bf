"""Judges that can be measured, by name: one table, in which a judge is one line."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final, get_args

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Judge
from stepcredit.core.records import Steps
from stepcredit.credit.choices import nearest
from stepcredit.engines.server.budget import Budget
from stepcredit.evaluation.judge_sets import LabelledSolution
from stepcredit.evaluation.reference_judges import ReferenceJudge, ReferenceKind
from stepcredit.recipes.evaluating.settings import EvaluateRecipe
from stepcredit.recipes.recorded.code_running import check_sandbox
from stepcredit.recipes.recorded.judges import CallLog, judge_settings, opened_judge, refuse_whole
from stepcredit.recipes.recorded.settings import FileJudge, RecordedRecipe, check_judge, load_recorded, refuse_others


@final
@dataclass(frozen=True)
class JudgeRequest:
    """All that a judge may be made of.

    Args:
        recipe: sections `[judge]`, `[server]` and `[metrics]` are read.
        solutions: by id; reference judges read their labels.
        server: address of the model's server.
        model: its model; `None` takes the only one.
        max_calls: goes before the recipe's.
        max_cost: goes before the recipe's.
        tokenizer: folder or hub id of its tokenizer, for judges that send token ids.
    """

    recipe: EvaluateRecipe
    solutions: Mapping[str, LabelledSolution]
    server: str | None = None
    model: str | None = None
    max_calls: int | None = None
    max_cost: float | None = None
    tokenizer: str | None = None


@final
@dataclass(frozen=True)
class NamedJudge:
    """How a judge is opened.

    Args:
        opened: gives the judge and the log of its calls, for as long as it is asked.
        settings: all of its settings, for the manifest; refuses keys of `[judge]` that it does not have.
        asks: True if it asks a model on a server.
        what: one line for lists and help.
        reasons: True if, with these settings, it says why the first wrong step is wrong.
    """

    opened: Callable[[JudgeRequest], AbstractAsyncContextManager[tuple[Judge, CallLog]]]
    settings: Callable[[EvaluateRecipe], dict[str, Any]]
    asks: bool
    what: str
    reasons: Callable[[EvaluateRecipe], bool] = lambda _: False


def _of_files(name: FileJudge, *, asks: bool, what: str, reasons: bool = False) -> NamedJudge:
    """A judge that `stepcredit judge` has too; it reads the sections that both recipes have."""

    def opened(request: JudgeRequest) -> AbstractAsyncContextManager[tuple[Judge, CallLog]]:
        return opened_judge(
            name,
            _as_recorded(request.recipe),
            server=request.server,
            model=request.model,
            max_calls=request.max_calls,
            max_cost=request.max_cost,
            tokenizer=request.tokenizer,
            ask=False,
        )

    def states(recipe: EvaluateRecipe) -> bool:
        return reasons and recipe.judge.variant == "reason"

    return NamedJudge(opened, lambda recipe: judge_settings(name, _as_recorded(recipe)), asks, what, states)


def _as_recorded(recipe: EvaluateRecipe) -> RecordedRecipe:
    """The recipe as `stepcredit judge` would have it: what both have is taken from this one."""
    both = EvaluateRecipe.model_fields.keys() & RecordedRecipe.model_fields.keys()
    return load_recorded().model_copy(update={name: getattr(recipe, name) for name in both})


def _reference(kind: ReferenceKind, *, what: str) -> NamedJudge:
    """A judge of which theory knows what it must score."""

    @asynccontextmanager
    async def opened(request: JudgeRequest) -> AsyncGenerator[tuple[Judge, CallLog]]:
        truth = partial(_truth, request.solutions)
        yield ReferenceJudge(kind, truth, seed=request.recipe.metrics.seed), CallLog(Budget())

    def settings(recipe: EvaluateRecipe) -> dict[str, Any]:
        refuse_others(recipe.judge, (), section="judge", of=kind)
        check_sandbox(kind, recipe.sandbox)
        if recipe.calibration.file is not None:
            raise UsageError(f"judge {kind} is a reference, whose scores are not corrected; leave --calibration out")
        return {"seed": recipe.metrics.seed} if kind == "random" else {}

    return NamedJudge(opened, settings, asks=False, what=what)


def _truth(solutions: Mapping[str, LabelledSolution], steps: Steps) -> Sequence[bool | None]:
    return solutions[steps.rollout.id].step_truth


JUDGES: dict[str, NamedJudge] = {
    "markers": _of_files("markers", asks=False, what="reads what a solution says of itself; needs the outcome"),
    "critic": _of_files("critic", asks=True, what="asks any chat model for the first wrong step"),
    "step-critic": _of_files(
        "step-critic", asks=True, what="asks any chat model for a yes or no to every step", reasons=True
    ),
    "intrinsic": _of_files("intrinsic", asks=True, what="a chat model reads what a solution says of itself"),
    "thinkprm": _of_files("thinkprm", asks=True, what="a ThinkPRM checkpoint on vLLM"),
    "genprm": _of_files("genprm", asks=True, what="a GenPRM checkpoint on vLLM"),
    "discriminative": _of_files("discriminative", asks=True, what="a reward model, in this process or on vLLM"),
    "perfect": _reference("perfect", what="repeats the labels"),
    "constant-right": _reference("constant-right", what="calls every step right"),
    "constant-wrong": _reference("constant-wrong", what="calls every step wrong"),
    "random": _reference("random", what="draws a probability for each step"),
}
"""Judges by name; those below `discriminative` are references, for evaluation only."""


def judge_named(name: str, *, server: str | None, model: str | None, tokenizer: str | None = None) -> NamedJudge:
    """The judge of a name.

    Raises:
        UsageError: for an unknown name, a judge that asks without a server, or a server for one that asks nobody.
    """
    refuse_whole(name)
    if name not in JUDGES:
        raise UsageError(f"unknown judge {name!r}; {nearest(name, tuple(JUDGES))}")
    found = JUDGES[name]
    if name in get_args(FileJudge) and found.asks:
        check_judge(name, server, model, tokenizer)
    elif tokenizer is not None:
        raise UsageError(f"judge {name} takes no tokenizer; leave it out")
    if not found.asks and (server is not None or model is not None):
        flag = "--model" if server is None else "--server"
        asking = " or ".join(other for other, entry in JUDGES.items() if entry.asks)
        raise UsageError(f"{flag} names a model, and judge {name} asks none; give --judge {asking}, or leave it out")
    return found
