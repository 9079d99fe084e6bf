"""Step-labelled solutions in inspect_ai: samples, scorers and metrics of the judging tasks."""

# pyright: reportMissingImports=false, reportUnknownParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false
# Where the extra is not installed its types are unknown.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, Value, metric, scorer
from inspect_ai.solver import TaskState, generate

from stepcredit.core.errors import UsageError
from stepcredit.core.records import Verdict
from stepcredit.evaluation.first_error import CLEAN, first_below, first_error_splits
from stepcredit.evaluation.intervals import Interval
from stepcredit.evaluation.judge_sets import LabelledSolution
from stepcredit.evaluation.mistake import mistake_accuracy
from stepcredit.evaluation.mr_score import mr_score
from stepcredit.evaluation.named_sets import LabelledSet
from stepcredit.evaluation.prmscore import prm_scores
from stepcredit.judges.critic import CriticSettings, critic_prompt, last_boxed, verdicts_of
from stepcredit.judges.reason_checker import GivenReason, Grade, ReasonCheckerSettings, checker_prompt, read_grade
from stepcredit.judges.step_critic import READERS, StepCriticSettings, step_critic_prompt
from stepcredit.judges.verdicts import unknown

Asking = Literal["critic", "each", "reason"]
"""The ProcessBench critic, and two variants of the step critic: a yes or no to every step, the first error with why."""

_SEED = 0


@final
@dataclass(frozen=True)
class Heard:
    """What a reply says of a solution.

    Args:
        verdicts: [K] one a step.
        predicted: index of the first wrong step, -1 for none, `None` where that is not known.
        why: the reply, or why it says nothing.
    """

    verdicts: tuple[Verdict, ...]
    predicted: int | None
    why: str


def judging(found: LabelledSet, asking: Asking, asked_by: Scorer, limit: int | None) -> Task:
    """A task on a step-labelled set.

    Args:
        found: the set.
        asking: how a model is asked.
        asked_by: the scorer that reads such replies.
        limit: so many solutions, spread evenly over the splits; `None` takes all.
    """
    chosen = found.limited(limit)
    asked = CriticSettings() if asking == "critic" else StepCriticSettings()
    return Task(
        dataset=MemoryDataset([_sample(one, found.split_of(one), asking) for one in chosen.solutions], name=found.name),
        solver=generate(),
        scorer=asked_by,
        config=GenerateConfig(temperature=asked.temperature, max_tokens=asked.max_tokens, seed=asked.seed),
    )


def _sample(solution: LabelledSolution, split: str, asking: Asking) -> Sample:
    text = solution.asked
    if asking == "critic":
        prompt = critic_prompt(text, solution.steps)
    else:
        prompt = step_critic_prompt(text, solution.steps, variant=asking)
    known: dict[str, Any] = {"steps": len(solution.steps), "split": split, "generator": solution.generator}
    if asking == "each":
        known |= {"truth": list(solution.step_truth), "class": solution.kind}
    if asking == "reason":
        known |= {
            "problem": text,
            "texts": list(solution.steps),
            "reasons": list(solution.reasons),
            "mended": list(solution.mended),
        }
    return Sample(prompt, target=str(solution.label), id=solution.id, metadata=known)


def _hear(state: TaskState, asking: Asking) -> Heard:
    steps, reply = int(state.metadata["steps"]), state.output.completion
    if state.output.stop_reason in ("max_tokens", "model_length"):
        return Heard(unknown(steps, "the reply was cut"), None, "the reply was cut")
    answer = last_boxed(reply) if asking == "critic" else ""
    if answer is None:
        why = "the reply has no \\boxed{} answer"
        return Heard(unknown(steps, why), None, why)
    verdicts = verdicts_of(answer, steps) if asking == "critic" else READERS[asking](reply, steps)
    predicted = first_below([verdict.score for verdict in verdicts])
    return Heard(verdicts, predicted, verdicts[0].reason if verdicts[0].score is None else reply)


def _score(state: TaskState, target: Target, heard: Heard, value: float, **more: Any) -> Score:
    known = {"label": int(target.text), "predicted": heard.predicted, "split": state.metadata["split"], **more}
    answer = None if heard.predicted is None else str(heard.predicted)
    return Score(value=value, answer=answer, explanation=heard.why, metadata=known)


def _rows(scores: Sequence[SampleScore]) -> list[dict[str, Any]]:
    """What each scorer kept of its solution.

    Raises:
        UsageError: if several replies to one solution were reduced to one.
    """
    rows = [one.score.metadata or {} for one in scores]
    if any("label" not in row for row in rows):
        raise UsageError("a judging task reads one reply a solution; leave --epochs at 1")
    return rows


def _grouped(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["split"], []).append(row)
    return groups


def _columns(rows: Sequence[dict[str, Any]]) -> tuple[list[int], list[int | None]]:
    return [row["label"] for row in rows], [row["predicted"] for row in rows]


def _values(**named: Interval | None) -> dict[str, float]:
    """Figures that are defined."""
    return {name: interval.value for name, interval in named.items() if interval is not None}


@metric
def first_error_figures() -> Metric:
    """The official F1 of each split and their mean, and the solutions without an answer; shares in [0, 1].

    Source: Zheng et al. 2024, arXiv:2412.06559; genprm.md 9.2. Differs: none.
    """

    def figures(scores: list[SampleScore]) -> Value:
        columns = {name: _columns(mine) for name, mine in _grouped(_rows(scores)).items()}
        labels = {name: known for name, (known, _) in columns.items()}
        said = {name: predicted for name, (_, predicted) in columns.items()}
        found = first_error_splits(labels, said, seed=_SEED, resamples=1)
        named = {f"f1_{name}": score.f1 for name, score in found.splits.items()}  # a split that lacks a class has none
        missing = sum(score.coverage.unknown for score in found.splits.values())
        return {**_values(f1=found.average, **named), "unknown": missing}

    return figures


@metric
def mistake_figures() -> Metric:
    """Accuracy of the first mistake over all traces and by task, and the traces without an answer.

    Source: Tyen et al. 2023, arXiv:2311.08516. Differs: none.
    """

    def figures(scores: list[SampleScore]) -> Value:
        rows = _rows(scores)
        whole = mistake_accuracy(*_columns(rows), seed=_SEED, resamples=1)
        named = {
            f"accuracy_{name}": mistake_accuracy(*_columns(mine), seed=_SEED, resamples=1).accuracy
            for name, mine in _grouped(rows).items()
        }
        parts = _values(with_mistake=whole.with_mistake, without=whole.without)
        return {"accuracy": whole.accuracy.value, **parts, **_values(**named), "unknown": whole.coverage.unknown}

    return figures


@metric
def prm_figures() -> Metric:
    """PRMScore over all steps, the mean of the classes, each class, and the steps without a verdict.

    Source: Song et al. 2025, arXiv:2501.03124. Differs: pooled and mean both stand, under their names.
    """

    def figures(scores: list[SampleScore]) -> Value:
        rows = _rows(scores)
        columns = ([row[name] for row in rows] for name in ("class", "truth", "called"))
        found = prm_scores(*columns, seed=_SEED, resamples=1)
        named = {f"prm_score_{name}": score.score for name, score in found.classes.items()}
        mean = {} if found.mean is None else {"prm_score_mean": found.mean}
        groups = {f"prm_score_{name}_mean": value for name, value in found.groups.items()}
        pooled = _values(prm_score=found.pooled.score, **named)
        return {**pooled, **mean, **groups, "unknown": found.pooled.coverage.unknown}

    return figures


@metric
def mr_figures() -> Metric:
    """MR-Score where reasons were graded, its parts, and what is missing; by split too, and the mean of the splits.

    Source: Zeng et al. 2023, arXiv:2312.17080; Zeng et al. 2024, arXiv:2406.13975. Differs: none.
    """

    def figures(scores: list[SampleScore]) -> Value:
        rows, parts = _rows(scores), dict[str, float]()
        groups = {name: mine for name, mine in _grouped(rows).items() if any(row["label"] != CLEAN for row in mine)}
        if not groups:  # inspect_ai asks after the first solutions already
            return {"unknown": sum(row["predicted"] is None for row in rows)}
        whole = _mr(rows)
        parts |= _values(mr_score=whole.score, correlation=whole.correlation, step_accuracy=whole.step_accuracy)
        parts |= _values(reason_accuracy=whole.reason_accuracy)
        if len(groups) > 1:
            by_split = {f"mr_score_{name}": _mr(mine).score for name, mine in groups.items()}
            named = _values(**by_split)
            parts |= named | ({"mr_score_mean": sum(named.values()) / len(named)} if len(named) == len(groups) else {})
        return {**parts, "unknown": whole.coverage.unknown, "not_graded": whole.reasons.unknown}

    def _mr(rows: Sequence[dict[str, Any]]) -> Any:
        graded = [row["reason_right"] for row in rows] if any(row["graded"] for row in rows) else None
        return mr_score(*_columns(rows), graded, seed=_SEED, resamples=1)

    return figures


@scorer(metrics=[first_error_figures()])
def first_wrong_step() -> Scorer:
    """1 where the boxed index is the label, 0 where it is not or nothing can be read; the reason says which.

    Source: genprm.md 9.3. Differs: a reply that was cut by length is unknown even if a box stands in it.
    """
    return _boxed


@scorer(metrics=[mistake_figures()])
def first_mistake() -> Scorer:
    """As `first_wrong_step`, with the metric of BIG-Bench Mistake."""
    return _boxed


async def _boxed(state: TaskState, target: Target) -> Score:
    heard = _hear(state, "critic")
    return _score(state, target, heard, float(heard.predicted == int(target.text)))


@scorer(metrics=[prm_figures()])
def every_step() -> Scorer:
    """The share of the solution's steps that were called as they are labelled."""

    async def score(state: TaskState, target: Target) -> Score:
        heard, truth = _hear(state, "each"), state.metadata["truth"]
        called = [None if verdict.score is None else verdict.score >= 0.5 for verdict in heard.verdicts]
        share = sum(a == b for a, b in zip(truth, called, strict=True)) / len(truth)
        more = {"truth": truth, "called": called, "class": state.metadata["class"]}
        return _score(state, target, heard, share, **more)

    return score


@scorer(metrics=[mr_figures()])
def reasoned_first_step(*, graded: bool = False) -> Scorer:
    """1 where the first wrong step, or that there is none, was named, and the reason is not called wrong.

    Args:
        graded: ask the model of the role `grader` whether the reason is the true one.
    """

    async def score(state: TaskState, target: Target) -> Score:
        heard, label = _hear(state, "reason"), int(target.text)
        named = heard.predicted == label
        grade = Grade(None, "nobody was asked")
        if graded and named and label != CLEAN:
            grade = await _graded(state, heard.verdicts[label].reason, label)
        more = {"graded": graded, "reason_right": grade.right, "why_not_graded": grade.why}
        return _score(state, target, heard, float(named and grade.right is not False), **more)

    return score


async def _graded(state: TaskState, said: str, label: int) -> Grade:
    known = state.metadata
    if not said.strip():
        return Grade(None, "the judge gave no reason")
    if not any(text.strip() for text in known["reasons"]):
        return Grade(None, "the set records no reason")
    texts = (tuple(known[name]) for name in ("texts", "reasons", "mended"))
    steps, reasons, mended = texts
    how = ReasonCheckerSettings()
    output = await get_model(role="grader", required=True).generate(
        checker_prompt(GivenReason(known["problem"], steps, label, reasons, said, mended)),
        config=GenerateConfig(temperature=how.temperature, max_tokens=how.max_tokens, seed=how.seed),
    )
    if output.stop_reason in ("max_tokens", "model_length"):
        return Grade(None, "the checker's reply was cut")
    return read_grade(output.completion)
