"""Tasks for inspect_ai (extra `inspect`): any model it can ask, as a judge on step-labelled solutions or on problems.

    inspect eval stepcredit/processbench -T data=DATA --model openai/NAME
    inspect eval stepcredit/math_500 -T data=DATA --model openai/NAME --epochs 8

Files, prompts, reading, checking and metrics are those of `stepcredit evaluate`; inspect_ai asks, retries and logs.
"""

# pyright: reportMissingImports=false, reportUnknownParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false
# Where the extra is not installed its types are unknown.

from dataclasses import replace
from pathlib import Path

from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.solver import generate

from stepcredit.adapters.inspect_problems import all_attempts, final_answer, problem_samples
from stepcredit.adapters.inspect_steps import every_step, first_mistake, first_wrong_step, judging, reasoned_first_step
from stepcredit.evaluation.named_sets import read_set
from stepcredit.evaluation.prmscore import PRMBENCH_GROUPS


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
def prmbench(data: str = "data", limit: int | None = None) -> Task:
    """PRMBench: say of every step whether it is right; PRMScore of each class, of the groups and over all steps.

    Args:
        data: as in `processbench`.
        limit: as in `processbench`.

    Raises:
        UsageError: as in `processbench`.

    Source: Song et al. 2025, arXiv:2501.03124. Differs: the prompt is in our words.
    """
    found = read_set("prmbench", Path(data))
    classes = {name for members in PRMBENCH_GROUPS.values() for name in members}
    mine = tuple(one for one in found.solutions if one.kind in classes and one.error_steps is not None)
    return judging(replace(found, solutions=mine), "each", every_step(), limit)


@task
def mr_gsm8k(data: str = "data", limit: int | None = None, *, graded: bool = False) -> Task:
    """MR-GSM8K: name the first wrong step and say what is wrong with it; MR-Score and its parts.

    Args:
        data: as in `processbench`.
        limit: as in `processbench`.
        graded: ask the model of the role `grader` (`--model-role grader=NAME`) whether the reason is the true one;
            without it there is no MR-Score.

    Raises:
        UsageError: as in `processbench`.

    Source: Zeng et al. 2023, arXiv:2312.17080. Differs: the prompts are in our words.
    """
    return judging(read_set("mr-gsm8k", Path(data)), "reason", reasoned_first_step(graded=graded), limit)


@task
def mr_ben(data: str = "data", limit: int | None = None, *, graded: bool = False) -> Task:
    """MR-Ben: as `mr_gsm8k`, by subject, and the mean of the subjects.

    Args:
        data: as in `processbench`.
        limit: as in `processbench`.
        graded: as in `mr_gsm8k`.

    Raises:
        UsageError: as in `processbench`.

    Source: Zeng et al. 2024, arXiv:2406.13975. Differs: the prompts are in our words.
    """
    return judging(read_set("mr-ben", Path(data)), "reason", reasoned_first_step(graded=graded), limit)


@task
def bigbench_mistake(data: str = "data", limit: int | None = None) -> Task:
    """BIG-Bench Mistake: name the first mistake of each trace, or its absence; accuracy by task.

    Args:
        data: as in `processbench`.
        limit: as in `processbench`.

    Raises:
        UsageError: as in `processbench`.

    Source: Tyen et al. 2023, arXiv:2311.08516. Differs: the prompt is in our words.
    """
    return judging(read_set("bigbench-mistake", Path(data)), "critic", first_mistake(), limit)


@task
def first_error(labelled: str, data: str = "data", limit: int | None = None) -> Task:
    """The first wrong step, on any step-labelled set.

    Args:
        labelled: name of a set (`evaluation.named_sets`), or a file of `problem`, `steps`, `label`.
        data: folder that holds the set's folder, or its files.
        limit: so many solutions, spread evenly; `None` takes all.

    Raises:
        UsageError: if there is no such set, or a line cannot be used.
    """
    return judging(read_set(labelled, Path(data)), "critic", first_wrong_step(), limit)


@task
def problems(problem_set: str, data: str = "data", limit: int | None = None, checker: str = "auto") -> Task:
    """A set of problems, answered and checked; `--epochs N` gives N attempts at each.

    Args:
        problem_set: name of a set whose answers are no programs (`evaluation.problem_sets`), or a file of `problem`
            and `answer`.
        data: folder that holds the set's folder, or its file.
        limit: so many problems, spread evenly; `None` takes all.
        checker: `math` compares formulas with math-verify, `string` text, letters and numbers alone, `auto` the first
            where math-verify is installed.

    Raises:
        UsageError: if there is no such set, its answers are programs, or a line cannot be used.
        MachineError: if math-verify is asked for and not installed.

    Source: credit.md 1.5 (avg@k, pass@k). Differs: what asks for the boxed answer is in our words.
    """
    samples = problem_samples(problem_set, Path(data), limit)
    name = Path(problem_set).name.split(".")[0]
    return Task(
        dataset=MemoryDataset(samples, name=name),
        solver=generate(),
        scorer=final_answer(checker),
        epochs=Epochs(1, all_attempts()),
    )


@task
def gsm8k(data: str = "data", limit: int | None = None, checker: str = "auto") -> Task:
    """GSM8K, test split; parameters as in `problems`."""
    return problems("gsm8k", data, limit, checker)


@task
def math_500(data: str = "data", limit: int | None = None, checker: str = "auto") -> Task:
    """MATH-500; parameters as in `problems`."""
    return problems("math-500", data, limit, checker)


@task
def aime24(data: str = "data", limit: int | None = None, checker: str = "auto") -> Task:
    """AIME 2024; parameters as in `problems`."""
    return problems("aime24", data, limit, checker)


@task
def aime25(data: str = "data", limit: int | None = None, checker: str = "auto") -> Task:
    """AIME 2025; parameters as in `problems`."""
    return problems("aime25", data, limit, checker)


@task
def amc23(data: str = "data", limit: int | None = None, checker: str = "auto") -> Task:
    """AMC 2023; parameters as in `problems`."""
    return problems("amc23", data, limit, checker)


@task
def olympiadbench(data: str = "data", limit: int | None = None, checker: str = "auto") -> Task:
    """OlympiadBench; parameters as in `problems`."""
    return problems("olympiadbench", data, limit, checker)


@task
def minerva(data: str = "data", limit: int | None = None, checker: str = "auto") -> Task:
    """Minerva; parameters as in `problems`."""
    return problems("minerva", data, limit, checker)


@task
def gpqa(data: str = "data", limit: int | None = None, checker: str = "auto") -> Task:
    """GPQA diamond; parameters as in `problems`."""
    return problems("gpqa", data, limit, checker)
