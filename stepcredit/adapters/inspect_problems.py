"""Problems in inspect_ai: samples, the checker as a scorer, avg@n, pass@k and maj@k over its epochs."""

# pyright: reportMissingImports=false, reportUnknownParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false
# Where the extra is not installed its types are unknown.

import atexit
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from inspect_ai.dataset import Sample
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, Value, metric, score_reducer, scorer
from inspect_ai.solver import TaskState

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.majority import maj_at_k
from stepcredit.evaluation.policy import mean_interval, pass_at_k
from stepcredit.evaluation.problem_sets import PROBLEM_SETS, read_problem_set
from stepcredit.evaluation.votes import RIGHT, powers, votes_of
from stepcredit.tasks.checking import MathChecker

_ASKED = """{problem}

Think it through, then give the final answer{what} in \\boxed{{}}, at the end of your reply."""

_SEED = 0


def problem_samples(problem_set: str, data: Path, limit: int | None) -> list[Sample]:
    """One sample a problem.

    Args:
        problem_set: name of a set, or a file of `problem` and `answer`.
        data: folder that holds the set's folder, or its file.
        limit: so many problems, spread evenly; `None` takes all.

    Raises:
        UsageError: if there is no such set, its answers are programs, or a line cannot be used.
    """
    if problem_set in PROBLEM_SETS and PROBLEM_SETS[problem_set].answers == "code":
        mend = "record attempts and give them to `stepcredit evaluate --responses`, which runs them in a sandbox"
        raise UsageError(f"the answers are programs; {mend}", item=problem_set)
    found = [tested.problem for tested in read_problem_set(problem_set, data)]
    if limit is not None and limit < len(found):
        found = [found[index * len(found) // limit] for index in range(limit)]
    return [
        Sample(
            problem_prompt(one.text, letters=_is_letter(one.answer)),
            target=one.answer or "",
            id=one.id,
            metadata={"known": one.answer is not None},
        )
        for one in found
    ]


def problem_prompt(problem: str, *, letters: bool = False) -> str:
    r"""The user message.

    >>> problem_prompt("2 + 2?").splitlines()[-1]
    'Think it through, then give the final answer in \\boxed{}, at the end of your reply.'
    """
    return _ASKED.format(problem=problem.strip(), what=", the letter of the right choice alone," if letters else "")


@score_reducer(name="all_attempts")
def all_attempts() -> Any:
    """Keeps every attempt at a problem for the metric; the value is the share that is right."""

    def reduce(scores: list[Score]) -> Score:
        attempts = [attempt for score in scores for attempt in (score.metadata or {})["attempts"]]
        share = sum(attempt["status"] == "right" for attempt in attempts) / len(attempts)
        return Score(value=share, metadata={"attempts": attempts})

    return reduce


@metric
def policy_figures() -> Metric:
    """avg@n, unbiased pass@k and maj@k, k = 1, 2, 4 ... up to the fewest attempts; and what could not be checked.

    Source: Chen et al. 2021, arXiv:2107.03374; Wang et al. 2022, arXiv:2203.11171. Differs: an attempt that could not
    be checked is not right; ties are shared.
    """

    def figures(scores: list[SampleScore]) -> Value:
        rows = [(one.score.metadata or {}).get("attempts") for one in scores]
        if not rows or any(row is None for row in rows):
            raise UsageError("the attempts at a problem were reduced to one; leave the task's epochs reducer as it is")
        attempts = [[(one["status"] == "right", one["answer"]) for one in row] for row in rows if row]
        right = [np.array([[hit for hit, _ in row]]) for row in attempts]
        told = {"average": mean_interval(np.array([one.mean() for one in right]), seed=_SEED).value}
        votes = [votes_of(row) for row in attempts]
        for k in powers(min(len(row) for row in attempts)):
            told[f"pass_at_{k}"] = float(np.mean([pass_at_k(one, k)[0] for one in right]))
            told[f"maj_at_{k}"] = maj_at_k(votes, [RIGHT] * len(votes), k, seed=_SEED).share.value
        unscorable = sum(one["status"] == "unscorable" for row in rows for one in row or ())
        return {**told, "attempts": sum(map(len, attempts)), "unscorable": unscorable}

    return figures


@scorer(metrics=[policy_figures()])
def final_answer(checker: str = "auto") -> Scorer:
    """1 where the final answer is right, 0 where it is not or cannot be checked; the explanation says which.

    Args:
        checker: `auto`, `math` or `string`, as in `problems`.

    Raises:
        UsageError: for another checker.
        MachineError: if math-verify is asked for and not installed.

    Source: engines.md 6. Differs: none.
    """
    if checker not in ("auto", "math", "string"):
        raise UsageError(f"the checker is auto, math or string, got {checker!r}")
    auto = "math" if find_spec("math_verify") and find_spec("pebble") else "string"
    mode = auto if checker == "auto" else "math" if checker == "math" else "string"
    found = MathChecker(mode=mode)
    atexit.register(found.close)

    async def score(state: TaskState, target: Target) -> Score:
        finish = "length" if state.output.stop_reason in ("max_tokens", "model_length") else "stop"
        reference = target.text if state.metadata["known"] else None
        grade = await found.grade(state.output.completion, reference, finish=finish)
        attempt = {"status": grade.status, "answer": grade.answer}
        why = grade.reason or grade.status
        value = int(grade.status == "right")
        return Score(value=value, answer=grade.answer, explanation=why, metadata={"attempts": [attempt]})

    return score


def _is_letter(answer: str | None) -> bool:
    return answer is not None and len(answer) == 1 and answer in "ABCDEFGHIJ"
