"""Tasks for inspect_ai (extra `inspect`): any model it can ask, as a critic on step-labelled solutions.

    inspect eval stepcredit/processbench -T data=DATA --model openai/NAME

Prompt, reading and metric are those of `stepcredit evaluate --judge critic`; inspect_ai asks, retries and logs.
"""

# pyright: reportMissingImports=false, reportUnknownParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false
# Where the extra is not installed its types are unknown.

from collections.abc import Sequence
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, Value, metric, scorer
from inspect_ai.solver import TaskState, generate

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.first_error import first_below, first_error_splits
from stepcredit.evaluation.judge_sets import LabelledSolution
from stepcredit.evaluation.named_sets import LabelledSet, read_set
from stepcredit.judges.critic import CriticSettings, critic_prompt, last_boxed, verdicts_of

_SEED = 0


@task
def processbench(data: str = "data", limit: int | None = None) -> Task:
    """ProcessBench: name the first wrong step of each solution.

    Args:
        data: folder that holds the set's folder, or its files.
        limit: so many solutions, spread evenly over the splits; `None` takes all.

    Raises:
        UsageError: if a file is missing or a line cannot be used.

    Source: Zheng et al. 2024, arXiv:2412.06559; genprm.md 9. Differs: the prompt is in our words.
    """
    return first_error("processbench", data, limit)


@task
def first_error(labelled: str, data: str = "data", limit: int | None = None) -> Task:
    """The same on any step-labelled set.

    Args:
        labelled: name of a set (`evaluation.named_sets`), or a file of `problem`, `steps`, `label`.
        data: folder that holds the set's folder, or its files.
        limit: so many solutions, spread evenly; `None` takes all.

    Raises:
        UsageError: if there is no such set, or a line cannot be used.
    """
    found = read_set(labelled, Path(data)).limited(limit)
    asked = CriticSettings()
    return Task(
        dataset=MemoryDataset([_sample(solution, found) for solution in found.solutions], name=found.name),
        solver=generate(),
        scorer=first_wrong_step(),
        config=GenerateConfig(temperature=asked.temperature, max_tokens=asked.max_tokens, seed=asked.seed),
    )


def _sample(solution: LabelledSolution, found: LabelledSet) -> Sample:
    problem = f"{solution.problem}\n\n{solution.options}" if solution.options else solution.problem
    known = {"steps": len(solution.steps), "split": found.split_of(solution), "generator": solution.generator}
    return Sample(critic_prompt(problem, solution.steps), target=str(solution.label), id=solution.id, metadata=known)


@metric
def first_error_figures() -> Metric:
    """The official F1 of each split and their mean, and the solutions without an answer; shares in [0, 1].

    Source: Zheng et al. 2024, arXiv:2412.06559; genprm.md 9.2. Differs: none.
    """

    def figures(scores: list[SampleScore]) -> Value:
        labels: dict[str, list[int]] = {}
        said: dict[str, list[int | None]] = {}
        for one in scores:
            known = one.score.metadata or {}
            if not {"split", "label", "predicted"} <= known.keys():
                raise UsageError("first_error reads one reply a solution; leave --epochs at 1")
            labels.setdefault(known["split"], []).append(known["label"])
            said.setdefault(known["split"], []).append(known["predicted"])
        found = first_error_splits(labels, said, seed=_SEED, resamples=1)
        unknown = sum(score.coverage.unknown for score in found.splits.values())
        named = {
            f"f1_{name}": score.f1.value for name, score in found.splits.items() if score.f1 is not None
        }  # a split that lacks a class has none
        mean = {} if found.average is None else {"f1": found.average.value}
        return {**mean, **named, "unknown": unknown}

    return figures


@scorer(metrics=[first_error_figures()])
def first_wrong_step() -> Scorer:
    """1 where the boxed index is the label, 0 where it is not or nothing can be read; the reason says which.

    Source: genprm.md 9.3. Differs: a reply that was cut by length is unknown even if a box stands in it.
    """

    async def score(state: TaskState, target: Target) -> Score:
        label, steps = int(target.text), int(state.metadata["steps"])
        predicted, why = _read(state.output.completion, steps, cut=state.output.stop_reason == "max_tokens")
        known = {"label": label, "predicted": predicted, "split": state.metadata["split"]}
        answer = None if predicted is None else str(predicted)
        return Score(value=int(predicted == label), answer=answer, explanation=why, metadata=known)

    return score


def _read(reply: str, steps: int, *, cut: bool) -> tuple[int | None, str]:
    """Index of the first wrong step, -1 for none, `None` with the reason."""
    answer = last_boxed(reply)
    if cut:
        return None, "the reply was cut"
    if answer is None:
        return None, "the reply has no \\boxed{} answer"
    verdicts = verdicts_of(answer, steps)
    scores: Sequence[float | None] = [verdict.score for verdict in verdicts]
    return first_below(scores), verdicts[0].reason if verdicts[0].score is None else reply


__all__ = ["first_error", "first_error_figures", "first_wrong_step", "processbench"]
