"""Step-labelled files: what is read, what is refused with file and line, and the counts of the shared sets."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from stepcredit.core.errors import UsageError
from stepcredit.evaluation.judge_sets import (
    read_bigbench_mistake,
    read_labelled,
    read_mr_ben,
    read_mr_gsm8k,
    read_prm800k_records,
    read_prmbench,
    read_processbench,
    read_step_candidates,
)

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
ROW = {"id": "a", "problem": "1 + 1?", "steps": ["one", "", "two"], "label": 2}


def write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def needs(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"needs ../shared/data/{name}")
    return DATA / name


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    rows = [ROW, {"problem": "p", "steps": ["x"], "label": None}, {"question": "p", "steps": ["x"], "label": -1}]
    first, second, third = read_labelled(write(tmp_path / "mine.jsonl", *rows))
    assert (first.steps, first.label, first.step_truth) == (("one", "", "two"), 2, (True, True, False))
    assert (second.id, second.label, second.step_truth) == ("mine.jsonl:2", None, (None,))
    assert (third.problem, third.error_steps, third.step_truth) == ("p", (), (True,))


def test_all_wrong_steps_where_they_are_given(tmp_path: Path) -> None:
    row = ROW | {"label": 0, "error_steps": [2, 0]}
    (solution,) = read_labelled(write(tmp_path / "mine.jsonl", row))
    assert (solution.error_steps, solution.step_truth) == ((0, 2), (False, True, False))


def test_packed_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "gsm8k.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(ROW | {"generator": "m"}).encode()))
    (solution,) = read_processbench(tmp_path, ["gsm8k"])
    assert (solution.split, solution.generator) == ("gsm8k", "m")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW | {"label": 3}, "`label` must be -1 or the index of one of the 3 steps, got 3"),
        (ROW | {"label": -2}, "got -2"),
        (ROW | {"label": True}, "`label` must be a whole number, got bool"),
        (ROW | {"label": "2"}, "`label` must be a whole number, got str"),
        ({"problem": "p", "steps": ["x"]}, "no key `label`"),
        (ROW | {"steps": []}, "at least 1 texts"),
        (ROW | {"steps": ["x", 1, "y"]}, "`steps` must be a list"),
        (ROW | {"problem": 3}, "`problem` must be a text, got int"),
        ({"steps": ["x"], "label": 0}, "no key `problem` or `question`"),
        (ROW | {"error_steps": [0]}, r"`error_steps` \[0\] do not fit label 2"),
        ("[1]", "a list, wanted one JSON object a line"),
        ("{", "not JSON"),
        (ROW, "id `a` stands in"),
    ],
)
def test_a_bad_line_is_refused_with_file_and_line(tmp_path: Path, row: object, message: str) -> None:
    path = write(tmp_path / "mine.jsonl", ROW, "", row)
    with pytest.raises(UsageError, match=message) as caught:
        read_labelled(path)
    assert caught.value.item == f"{path}:3"


def test_a_missing_empty_or_wrongly_named_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_labelled(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match=r"no gsm8k\.jsonl"):
        read_processbench(tmp_path)
    with pytest.raises(UsageError, match="is empty"):
        read_labelled(write(tmp_path / "empty.jsonl"))
    with pytest.raises(UsageError, match="cannot be unpacked"):
        read_labelled(write(tmp_path / "plain.jsonl.gz", ROW))


def test_prmbench_lines_must_agree_with_themselves(tmp_path: Path) -> None:
    write(tmp_path / "originals.jsonl", ROW | {"label": -1})
    write(tmp_path / "qwq_solutions.jsonl", {"id": "q", "problem": "p", "steps": ["x"], "human_correct": False})
    good = ROW | {"classification": "circular", "error_steps": [2]}
    write(tmp_path / "perturbed.jsonl", good, good | {"id": "b", "error_steps": [2, 3], "label_out_of_range": True})
    edited, slip, original, solved = read_prmbench(tmp_path)
    assert (edited.label, edited.error_steps, edited.kind) == (2, (2,), "circular")
    assert (slip.label, slip.error_steps, slip.out_of_range) == (2, None, True)
    assert (original.kind, original.label, solved.label) == ("original", -1, None)
    write(tmp_path / "perturbed.jsonl", good | {"error_steps": [2, 3]})
    with pytest.raises(UsageError, match="`label_out_of_range` is False"):
        read_prmbench(tmp_path)


def test_prm800k_records_follow_the_labeller(tmp_path: Path) -> None:
    def step(ratings: list[int | None], chosen: int | None, human: str | None = None) -> dict[str, object]:
        completions = [{"text": f"t{i}", "rating": rating} for i, rating in enumerate(ratings)]
        return {"completions": completions, "chosen_completion": chosen, "human_completion": human}

    def record(*steps: object, reason: str = "solution") -> dict[str, object]:
        return {"question": {"problem": "p"}, "label": {"steps": list(steps), "finish_reason": reason}}

    rows = [
        record(step([1], 0), step([-1, 1], 1), step([0], 0)),
        record(step([1], 0), step([-1, -1], None, "mine"), step([-1], None), reason="found_error"),
        record(step([1], 0), reason="give_up"),
        record(step([None], 0), step([-1], 0)),
    ]
    right, wrong, gave_up, unrated = read_prm800k_records(write(tmp_path / "r.jsonl", *rows))
    assert (right.label, right.steps) == (-1, ("t0", "t1", "t0"))
    assert (wrong.label, wrong.steps) == (2, ("t0", "mine", "t0"))
    assert gave_up.label is None
    assert unrated.label is None
    with pytest.raises(UsageError, match="`chosen_completion` 3"):
        read_prm800k_records(write(tmp_path / "r.jsonl", record(step([1], 3))))


def test_processbench_has_the_counts_that_its_table_gives() -> None:
    found = read_processbench(needs("processbench"))
    errors = Counter(solution.split for solution in found if solution.label != -1)
    clean = Counter(solution.split for solution in found if solution.label == -1)
    assert errors == {"gsm8k": 97, "math": 291, "olympiadbench": 358, "omnimath": 372}
    assert clean == {"gsm8k": 97, "math": 216, "olympiadbench": 175, "omnimath": 119}
    assert all(solution.generator for solution in found)


def test_prmbench_has_the_counts_that_its_table_gives() -> None:
    found = read_prmbench(needs("prmbench"))
    edited = [solution for solution in found if solution.kind not in ("original", "multi_solutions")]
    assert (len(edited), len({solution.kind for solution in edited})) == (3010, 8)
    assert sum(solution.out_of_range for solution in edited) == 46
    assert sum(solution.label is None for solution in edited) == 10
    assert Counter(solution.kind for solution in found)["original"] == 377
    assert [s.label for s in found if s.kind == "multi_solutions"].count(-1) == 90


def test_mr_gsm8k_keeps_parts_kinds_and_the_label_in_doubt() -> None:
    found = read_mr_gsm8k(needs("mr_gsm8k"))
    assert Counter(solution.part for solution in found) == {"processed": 710, "from-eval-results": 123}
    assert Counter(solution.kind for solution in found) == {"": 549, "original": 161, "reversed": 91, "POT": 32}
    assert all(solution.label != -1 for solution in found if solution.part == "from-eval-results")
    assert [(s.label, s.other_label) for s in found if s.other_label is not None] == [(3, 2)]


def test_mr_ben_and_bigbench_mistake_have_the_counts_that_their_tables_give() -> None:
    ben = read_mr_ben(needs("mr_ben"))
    sizes = {"math": 429, "physics": 352, "chemistry": 402, "biology": 524, "medicine": 411}
    assert Counter(solution.split for solution in ben) == sizes
    assert all(solution.options for solution in ben)
    big = read_bigbench_mistake(needs("bigbench_mistake"))
    assert Counter(s.split for s in big if s.label == -1) == {
        "word_sorting": 15,
        "dyck_languages": 163,
        "logical_deduction": 3,
        "tracking_shuffled_objects": 18,
        "multistep_arithmetic": 36,
    }
    assert sum("" in solution.steps for solution in big) == 1


def test_prm800k_sample_has_the_counts_that_its_table_gives() -> None:
    folder = needs("prm800k_sample")
    candidates = read_step_candidates(folder / "phase1_test_candidates.jsonl")
    assert len({step.id for step in candidates}) == 57
    assert sum(len(step.texts) for step in candidates) == 2759
    assert sum(not right for step in candidates for right in step.right) == 919
    assert [solution.label for solution in read_prm800k_records(folder / "raw_records.jsonl")][1] == -1
