"""Step-labelled solutions from files: ProcessBench, PRMBench, Mr-GSM8K, MR-Ben, BIG-Bench Mistake, PRM800K, your own.

Steps are kept as they stand, empty ones included: the labels count them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from stepcredit.evaluation.first_error import CLEAN, step_labels
from stepcredit.evaluation.labelled_lines import Line, find_file, lines, unique

PROCESSBENCH = ("gsm8k", "math", "olympiadbench", "omnimath")
MR_BEN = ("math", "physics", "chemistry", "biology", "medicine")
BIGBENCH_MISTAKE = (
    "word_sorting",
    "dyck_languages",
    "logical_deduction",
    "tracking_shuffled_objects",
    "multistep_arithmetic",
)


@final
@dataclass(frozen=True)
class LabelledSolution:
    """A solution whose steps were labelled.

    Args:
        id: unique in its set.
        problem: what was asked; the choices of a multiple-choice problem stand in `options`.
        steps: [K] in order; a step may be empty.
        label: index of the first wrong step, -1 if every step is right, `None` if not known.
        error_steps: indices of all wrong steps, `None` if only the first is known.
        generator: model that wrote it, empty if not known.
        split: part of the set that is scored by itself: ProcessBench split, MR-Ben subject, BIG-Bench task.
        kind: finer class: PRMBench class, `POT` or `reversed` of Mr-GSM8K.
        part: where in its set it comes from, where the set says so.
        options: the choices of a multiple-choice problem.
        out_of_range: True if the set lists wrong steps beyond the last (upstream slips): leave it out of scores, as
            the steps that it does list may be shifted too.
        other_label: where two copies of the set disagree, the label of the other one.
        final_answer_right: outcome, `None` if not recorded.
        reasons: why the first wrong step is wrong, in the words of those who labelled it.
        reference: a right solution, empty if none is given.
        mended: the first wrong step as those who labelled it would have it.
    """

    id: str
    problem: str
    steps: tuple[str, ...]
    label: int | None
    error_steps: tuple[int, ...] | None = None
    generator: str = ""
    split: str = ""
    kind: str = ""
    part: str = ""
    options: str = ""
    out_of_range: bool = False
    other_label: int | None = None
    final_answer_right: bool | None = None
    reasons: tuple[str, ...] = ()
    reference: str = ""
    mended: tuple[str, ...] = ()

    @property
    def asked(self) -> str:
        """What was asked, with the choices where it has some."""
        return f"{self.problem}\n\n{self.options}" if self.options else self.problem

    @property
    def step_truth(self) -> tuple[bool | None, ...]:
        """[K] True = right, `None` = not labelled: all steps where `error_steps` is given, else up to the first error.

        >>> LabelledSolution("a", "p", ("x", "y", "z"), 1).step_truth
        (True, False, None)
        """
        if self.error_steps is not None:
            return tuple(index not in self.error_steps for index in range(len(self.steps)))
        if self.label is None:
            return (None,) * len(self.steps)
        return step_labels(self.label, len(self.steps))


@final
@dataclass(frozen=True)
class StepCandidates:
    """Several continuations of one solution at one step, each labelled; which one was gone on with is not recorded.

    Args:
        id: of the solution.
        problem: what was asked.
        position: index of the step, from 0.
        texts: the candidates.
        right: for each, True = rated good or neutral.
    """

    id: str
    problem: str
    position: int
    texts: tuple[str, ...]
    right: tuple[bool, ...]


def read_processbench(folder: Path, splits: Sequence[str] = PROCESSBENCH) -> tuple[LabelledSolution, ...]:
    """ProcessBench: `SPLIT.jsonl` of each split.

    Raises:
        UsageError: if a file is missing or a line cannot be used; names file and line.
        MachineError: if a file may not be read.

    Source: Zheng et al. 2024, arXiv:2412.06559; genprm.md 9.1. Differs: none.
    """
    return _read([(find_file(folder, split), split) for split in splits], _plain)


def read_prmbench(folder: Path) -> tuple[LabelledSolution, ...]:
    """PRMBench: edited solutions (class in `kind`), the originals (`original`), QwQ's solutions (`multi_solutions`).

    A solution whose first error lies beyond its steps has no label; a QwQ solution that a person called right counts
    as right in every step, one called wrong has no label.

    Raises:
        UsageError: if a file is missing or a line cannot be used; names file and line.
        MachineError: if a file may not be read.

    Source: Song et al. 2025, arXiv:2501.03124. Differs: none.
    """
    return (
        *_read([(find_file(folder, "perturbed"), "")], _perturbed),
        *_read([(find_file(folder, "originals"), "")], _original),
        *_read([(find_file(folder, "qwq_solutions"), "")], _multi_solutions),
    )


def read_mr_gsm8k(folder: Path) -> tuple[LabelledSolution, ...]:
    """Mr-GSM8K: `part` is `processed` or `from-eval-results`, `kind` is `original`, `reversed`, `POT` or empty.

    The second part holds wrong solutions only, found in records of judges that located their errors: a score over
    it is no score of the benchmark.

    Raises:
        UsageError: if the file is missing or a line cannot be used; names file and line.
        MachineError: if the file may not be read.

    Source: Zeng et al. 2023, arXiv:2312.17080. Differs: none.
    """
    return _read([(find_file(folder, "test"), "")], _plain)


def read_mr_ben(folder: Path, subjects: Sequence[str] = MR_BEN) -> tuple[LabelledSolution, ...]:
    """MR-Ben: `SUBJECT.jsonl` of each subject, with options and reasons.

    Raises:
        UsageError: if a file is missing or a line cannot be used; names file and line.
        MachineError: if a file may not be read.

    Source: Zeng et al. 2024, arXiv:2406.13975. Differs: none.
    """
    return _read([(find_file(folder, subject), subject) for subject in subjects], _plain)


def read_bigbench_mistake(folder: Path, tasks: Sequence[str] = BIGBENCH_MISTAKE) -> tuple[LabelledSolution, ...]:
    """BIG-Bench Mistake: `TASK.jsonl` of each task.

    Raises:
        UsageError: if a file is missing or a line cannot be used; names file and line.
        MachineError: if a file may not be read.

    Source: Tyen et al. 2023, arXiv:2311.08516. Differs: none.
    """
    return _read([(find_file(folder, task), task) for task in tasks], _plain)


def read_prm800k_records(path: Path) -> tuple[LabelledSolution, ...]:
    """PRM800K in its own format: the path that the labeller went, with the first step rated -1.

    A step is the chosen completion, else the human one (right), else the first. Without a bad step a solution is
    right only if the labeller ended at one (`finish_reason: solution`); otherwise it has no label.

    Raises:
        UsageError: if the file is missing or a line cannot be used; names file and line.
        MachineError: if the file may not be read.

    Source: Lightman et al. 2023, arXiv:2305.20050. Differs: none.
    """
    return _read([(path, "")], _record)


def read_step_candidates(path: Path) -> tuple[StepCandidates, ...]:
    """PRM800K candidates regrouped by step: `step_candidates` with `step` (from 1) and `candidates` (`text`, `label`).

    Raises:
        UsageError: if the file is missing or a line cannot be used; names file and line.
        MachineError: if the file may not be read.

    Source: Lightman et al. 2023, arXiv:2305.20050. Differs: none.
    """
    found: list[StepCandidates] = []
    for line in lines(path):
        name, problem = line.text("id"), line.text("problem")
        for step in line.objects("step_candidates"):
            position, candidates = step.whole("step"), step.objects("candidates")
            labels = [candidate.whole("label") for candidate in candidates]
            if position is None or position < 1 or not set(labels) <= {0, 1}:
                raise line.wrong(f"`step` counts from 1 and `label` is 0 or 1, got {position} and {labels}")
            texts = tuple(candidate.text("text") for candidate in candidates)
            found.append(StepCandidates(name, problem, position - 1, texts, tuple(label == 1 for label in labels)))
    return tuple(found)


def read_labelled(path: Path) -> tuple[LabelledSolution, ...]:
    """Your own file: `problem`, `steps`, `label` (null: not known), optional `id`, `error_steps`, `generator`, `split`.

    Raises:
        UsageError: if the file is missing or a line cannot be used; names file and line.
        MachineError: if the file may not be read.

    Source: own. Differs: none.
    """
    return _read([(path, "")], _plain)


def _read(
    files: Sequence[tuple[Path, str]], reader: Callable[[Line, str], LabelledSolution]
) -> tuple[LabelledSolution, ...]:
    found = [(reader(line, split), line.place) for path, split in files for line in lines(path)]
    unique([(solution.id, place) for solution, place in found])
    return tuple(solution for solution, _ in found)


def _plain(line: Line, split: str) -> LabelledSolution:
    steps = line.texts("steps", least=1)
    if "label" not in line.row:
        raise line.wrong(f"no key `label`; the keys are {', '.join(line.row)}; write null if it is not known")
    label = _label(line, "label", len(steps))
    return LabelledSolution(
        id=_identifier(line),
        problem=line.text("problem", "question"),
        steps=steps,
        label=label,
        error_steps=_error_steps(line, label, len(steps)),
        generator=line.text("generator", "model", default=""),
        split=split or line.text("split", default=""),
        kind=line.text("question_type", "classification", default=""),
        part=line.text("part", default=""),
        options=line.text("options", default=""),
        other_label=_label(line, "label_alt", len(steps)),
        final_answer_right=line.truth("final_answer_correct"),
        reasons=line.texts("error_reasons") or tuple(filter(None, [line.text("error_reason", default="")])),
        reference=line.text("reference_solution", default=""),
        mended=line.texts("rectified_step"),
    )


def _perturbed(line: Line, split: str) -> LabelledSolution:
    steps = line.texts("steps", least=1)
    listed = _whole_numbers(line, "error_steps")
    if not listed or min(listed) < 0:
        raise line.wrong(f"`error_steps` must list at least one step, from 0, got {list(listed)}")
    outside, slip = max(listed) >= len(steps), line.truth("label_out_of_range") is True
    if outside != slip:
        raise line.wrong(f"wrong steps {list(listed)} of {len(steps)}, but `label_out_of_range` is {slip}")
    if line.whole("label") != min(listed):
        raise line.wrong(f"`label` is {line.whole('label')}, the first of `error_steps` is {min(listed)}")
    inside = tuple(index for index in sorted(set(listed)) if index < len(steps))
    return LabelledSolution(
        id=_identifier(line),
        problem=line.text("problem"),
        steps=steps,
        label=min(listed) if min(listed) < len(steps) else None,
        error_steps=None if slip else inside,
        split=split,
        kind=line.text("classification"),
        part=line.text("part", default=""),
        out_of_range=slip,
        reasons=(line.text("reason", default=""),),
    )


def _original(line: Line, split: str) -> LabelledSolution:
    steps = line.texts("steps", least=1)
    label, part = _label(line, "label", len(steps)), line.text("part", default="")
    return LabelledSolution(
        _identifier(line), line.text("problem"), steps, label, _error_steps(line, label, len(steps)), "", split,
        kind="original", part=part,
    )  # fmt: skip


def _multi_solutions(line: Line, split: str) -> LabelledSolution:
    steps, right = line.texts("steps", least=1), line.truth("human_correct")
    clean = right is True
    return LabelledSolution(
        _identifier(line), line.text("problem"), steps, CLEAN if clean else None, () if clean else None, "QwQ", split,
        kind="multi_solutions",
    )  # fmt: skip


def _record(line: Line, split: str) -> LabelledSolution:
    texts: list[str] = []
    ratings: list[int | None] = []
    label = line.object("label")
    for step in label.objects("steps"):
        chosen, human = step.whole("chosen_completion"), step.row.get("human_completion")
        completions = step.objects("completions") if step.row.get("completions") else ()
        if chosen is None and human is not None:
            texts.append(human if isinstance(human, str) else step.object("human_completion").text("text"))
            ratings.append(1)
        elif not 0 <= (chosen or 0) < len(completions):
            raise line.wrong(f"step {len(texts) + 1} has {len(completions)} completions, `chosen_completion` {chosen}")
        else:
            texts.append(completions[chosen or 0].text("text"))
            ratings.append(completions[chosen or 0].whole("rating"))
    if not texts or not set(ratings) <= {-1, 0, 1, None}:
        raise line.wrong(f"a record needs steps rated -1, 0 or 1, got {ratings}")
    first = ratings.index(-1) if -1 in ratings else None
    done = label.text("finish_reason", default="") == "solution"
    whole = CLEAN if done and None not in ratings else None
    known = first if first is not None and None not in ratings[:first] else None
    found = known if first is not None else whole
    problem = line.object("question").text("problem")
    return LabelledSolution(_identifier(line), problem, tuple(texts), found, None, "", split)


def _identifier(line: Line) -> str:
    name = line.row.get("id")
    return line.place.replace("\\", "/").rsplit("/", 1)[-1] if name is None else str(name)


def _label(line: Line, key: str, steps: int) -> int | None:
    label = line.whole(key)
    if label is not None and not CLEAN <= label < steps:
        raise line.wrong(f"`{key}` must be {CLEAN} or the index of one of the {steps} steps, got {label}")
    return label


def _error_steps(line: Line, label: int | None, steps: int) -> tuple[int, ...] | None:
    if label == CLEAN and "error_steps" not in line.row:
        return ()
    if line.row.get("error_steps") is None:
        return None
    listed = tuple(sorted(set(_whole_numbers(line, "error_steps"))))
    if any(not 0 <= index < steps for index in listed) or (listed[0] if listed else CLEAN) != label:
        raise line.wrong(f"`error_steps` {list(listed)} do not fit label {label} of {steps} steps")
    return listed


def _whole_numbers(line: Line, key: str) -> tuple[int, ...]:
    value = line.row.get(key)
    if not isinstance(value, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        raise line.wrong(f"`{key}` must be a list of whole numbers, got {str(value)[:40]}")
    return tuple(value)
