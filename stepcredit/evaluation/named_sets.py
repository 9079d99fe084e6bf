"""Step-labelled sets by name: where their files lie, how they are read, which metric is theirs."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, final

from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.evaluation.judge_sets import (
    LabelledSolution,
    read_bigbench_mistake,
    read_labelled,
    read_mr_ben,
    read_mr_gsm8k,
    read_prm800k_records,
    read_prmbench,
    read_processbench,
)
from stepcredit.evaluation.labelled_lines import lines

Metric = Literal["first-error", "prm-score", "mr-score", "mistake"]
"""The official metric of a set: ProcessBench F1, PRMScore, MR-Score, or the accuracy of BIG-Bench Mistake."""


@final
@dataclass(frozen=True)
class NamedSet:
    """A published set.

    Args:
        folder: name of its folder inside `--data`.
        read: reads the folder.
        metric: its official metric.
    """

    folder: str
    read: Callable[[Path], tuple[LabelledSolution, ...]]
    metric: Metric


SETS: dict[str, NamedSet] = {
    "processbench": NamedSet("processbench", read_processbench, "first-error"),
    "prmbench": NamedSet("prmbench", read_prmbench, "prm-score"),
    "mr-gsm8k": NamedSet("mr_gsm8k", read_mr_gsm8k, "mr-score"),
    "mr-ben": NamedSet("mr_ben", read_mr_ben, "mr-score"),
    "bigbench-mistake": NamedSet("bigbench_mistake", read_bigbench_mistake, "mistake"),
}
"""Sets by name; anything else is a file of your own."""


@final
@dataclass(frozen=True)
class LabelledSet:
    """Solutions to judge.

    Args:
        name: of the set, or of the file.
        metric: its official metric.
        solutions: those with a label, in the order of the files; their ids are unique.
        left_out: number of solutions that are not scored, by reason.
    """

    name: str
    metric: Metric
    solutions: tuple[LabelledSolution, ...]
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def sha256(self) -> str:
        """Digest of the solutions with their labels."""
        return digest([(s.id, s.problem, s.options, s.steps, s.label, s.error_steps) for s in self.solutions])

    def split_of(self, solution: LabelledSolution) -> str:
        """What is scored by itself: the solution's split, the whole set where it has none."""
        return solution.split or self.name

    def limited(self, number: int | None) -> "LabelledSet":
        """So many of its solutions, spread evenly, so that every split has its share; `None` keeps all.

        >>> made = tuple(LabelledSolution(str(k), "p", ("s",), -1) for k in range(6))
        >>> [solution.id for solution in LabelledSet("s", "first-error", made).limited(3).solutions]
        ['0', '2', '4']
        """
        size = len(self.solutions)
        if number is None or number >= size:
            return self
        chosen = tuple(self.solutions[index * size // number] for index in range(number))
        return LabelledSet(self.name, self.metric, chosen, self.left_out)


def read_set(what: str, data: Path) -> LabelledSet:
    """A set by its name, or a file of your own.

    A file holds `problem`, `steps`, `label` (`read_labelled`), or records of PRM800K in their own format.

    Args:
        what: name of a set, or path of a file.
        data: folder that holds the set's folder, or the set's files themselves.

    Raises:
        UsageError: if there is no such set or file, a line cannot be used, or no solution has a label.
        MachineError: if a file may not be read.
    """
    if what in SETS:
        named = SETS[what]
        inner = data / named.folder
        return _scorable(what, named.metric, named.read(inner if inner.is_dir() else data))
    path = Path(what)
    if not path.exists():
        raise UsageError(f"no set and no file is called so; sets: {', '.join(SETS)}", item=what)
    reader = read_prm800k_records if _is_prm800k(path) else read_labelled
    return _scorable(path.name.split(".")[0], "first-error", reader(path))


def _scorable(name: str, metric: Metric, solutions: Sequence[LabelledSolution]) -> LabelledSet:
    reasons = [(solution, _not_scored(solution, metric)) for solution in solutions]
    kept = tuple(solution for solution, reason in reasons if not reason)
    if not kept:
        raise UsageError(f"none of the {len(solutions)} solutions has a label", item=name)
    return LabelledSet(name, metric, kept, dict(Counter(reason for _, reason in reasons if reason)))


def _not_scored(solution: LabelledSolution, metric: Metric) -> str:
    """Why a solution is not scored, empty if it is."""
    if solution.out_of_range:
        return "labels beyond the last step"
    if solution.label is None:
        return "no label"
    if metric == "mr-score" and solution.part == "from-eval-results":
        return "from records of judges that located the error, no part of the benchmark"
    return ""


def _is_prm800k(path: Path) -> bool:
    return path.is_file() and isinstance(next(iter(lines(path))).row.get("label"), dict)
