"""inspect_ai evaluates its mock model on every task: the figures are those of `stepcredit evaluate`."""

import gc
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

inspect_ai = pytest.importorskip("inspect_ai")
pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = [
    {"id": "a", "problem": "p", "steps": ["says <1>", "b", "c"], "label": 1, "split": "one"},
    {"id": "b", "problem": "q", "steps": ["says <0>", "b", "c"], "label": 2, "split": "one"},
    {"id": "c", "problem": "r", "steps": ["says <-1>", "b"], "label": -1, "split": "one"},
    {"id": "d", "problem": "s", "steps": ["says nothing", "b"], "label": -1, "split": "one"},
    {"id": "e", "problem": "t", "steps": ["says <7>", "b"], "label": -1, "split": "two"},
    {"id": "f", "problem": "u", "steps": ["says <0>", "b"], "label": 0, "split": "two"},
]


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """inspect_ai leaves streams to the collector, which then warns: here, where warnings are let pass."""
    yield
    gc.collect()


def mock(script: Callable[[str], str], *, stop: str = "stop") -> Any:
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    def reply(messages: Any, *_: Any) -> Any:
        output = ModelOutput.from_content("mockllm/model", script(messages[-1].text), stop_reason=stop)
        # Without these counts inspect_ai downloads a tokenizer to count.
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    return get_model("mockllm/model", custom_outputs=reply, memoize=False)


def boxes(text: str) -> str:
    """Boxes what the solution says between its angle brackets."""
    found = re.search(r"says <(-?\d+)>", text)
    return f"So \\boxed{{{found.group(1)}}}" if found else "I cannot tell."


def tells(text: str) -> str:
    """The reply that the solution's first step asks for, in curly brackets."""
    found = re.search(r"\{(.*?)\}", text, re.DOTALL)
    return found[1].replace("[", "<").replace("]", ">") if found else ""


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def evaluated(task: Any, model: Any, folder: Path, **more: Any) -> tuple[dict[str, float], Any]:
    [log] = inspect_ai.eval(task, model=model, log_dir=str(folder / "logs"), display="none", **more)
    assert log.status == "success", log.error
    [score] = log.results.scores
    return {metric.name: metric.value for metric in score.metrics.values()}, log


def test_first_error_gives_the_official_figures(tmp_path: Path) -> None:
    from stepcredit.adapters.inspect_tasks import first_error

    figures, log = evaluated(first_error(str(write(tmp_path / "mine.jsonl", *ROWS))), mock(boxes), tmp_path)
    assert figures["f1_one"] == 0.5  # one of two errors named, one of two clean solutions cleared
    assert figures["f1_two"] == 0.0
    assert figures["f1"] == 0.25
    assert figures["unknown"] == 2
    by_id = {sample.id: sample.scores["first_wrong_step"] for sample in log.samples}
    assert [by_id[row["id"]].value for row in ROWS] == [1, 0, 1, 0, 0, 1]
    assert by_id["d"].explanation == "the reply has no \\boxed{} answer"
    assert "'7' is no paragraph index" in by_id["e"].explanation
    assert by_id["a"].answer == "1"
    assert "<paragraph_2>" in log.samples[0].input


def test_a_cut_reply_is_unknown_even_with_a_box(tmp_path: Path) -> None:
    from stepcredit.adapters.inspect_tasks import first_error

    cut = mock(boxes, stop="max_tokens")
    figures, _ = evaluated(first_error(str(write(tmp_path / "mine.jsonl", *ROWS))), cut, tmp_path)
    assert figures["unknown"] == 6
    assert figures["f1"] == 0.0


def test_the_set_is_spread_over_its_splits(tmp_path: Path) -> None:
    from stepcredit.adapters.inspect_tasks import first_error

    made = first_error(str(write(tmp_path / "mine.jsonl", *ROWS)), limit=3)
    assert [sample.metadata["split"] for sample in made.dataset] == ["one", "one", "two"]
    assert made.config.max_tokens == 8192


def test_processbench_is_the_mean_of_its_splits(tmp_path: Path) -> None:
    from stepcredit.adapters.inspect_tasks import processbench

    for split in ("gsm8k", "math", "olympiadbench", "omnimath"):
        rows = ROWS[:3] if split == "math" else [ROWS[0], ROWS[2]]
        write(tmp_path / "processbench" / f"{split}.jsonl", *({**row, "id": f"{split}-{row['id']}"} for row in rows))
    figures, _ = evaluated(processbench(str(tmp_path)), mock(boxes), tmp_path)
    assert (figures["f1_gsm8k"], figures["f1_math"]) == (1.0, pytest.approx(2 / 3))
    assert figures["f1"] == pytest.approx((3 + 2 / 3) / 4)


def test_bigbench_mistake_gives_the_accuracy_of_each_task(tmp_path: Path) -> None:
    from stepcredit.adapters.inspect_tasks import bigbench_mistake

    tasks = ("word_sorting", "dyck_languages", "logical_deduction", "multistep_arithmetic", "tracking_shuffled_objects")
    for name in tasks:
        rows = ROWS[:4] if name == "word_sorting" else [ROWS[0]]
        write(tmp_path / "bigbench_mistake" / f"{name}.jsonl", *({**row, "id": f"{name}-{row['id']}"} for row in rows))
    figures, _ = evaluated(bigbench_mistake(str(tmp_path)), mock(boxes), tmp_path)
    assert figures["accuracy_word_sorting"] == 0.5
    assert figures["accuracy"] == pytest.approx(6 / 8)
    assert (figures["with_mistake"], figures["without"]) == (pytest.approx(5 / 6), 0.5)
    assert figures["unknown"] == 1


def test_prmbench_asks_for_every_step_and_scores_by_class(tmp_path: Path) -> None:
    """Class `circular`: steps right, wrong, right; called right, wrong, unknown. F1 right 2/3, wrong 2/3: an unknown
    step is wrong in either class. Class `deception`: nothing can be read."""
    from stepcredit.adapters.inspect_tasks import prmbench

    said = "{[verdicts]\n0: yes\n1: no\n[/verdicts]}"
    edited = {"problem": "p", "error_steps": [1], "label": 1, "label_out_of_range": False, "reason": ""}
    rows = [
        {**edited, "id": "x", "classification": "circular", "steps": [said, "b", "c"]},
        {**edited, "id": "y", "classification": "deception", "steps": ["{hm}", "b"]},
    ]
    folder = tmp_path / "prmbench"
    write(folder / "perturbed.jsonl", *rows)
    write(folder / "originals.jsonl", {"id": "o", "problem": "p", "steps": ["a"], "label": -1, "part": ""})
    write(folder / "qwq_solutions.jsonl", {"id": "q", "problem": "p", "steps": ["{}"], "human_correct": False})
    figures, log = evaluated(prmbench(str(tmp_path)), mock(tells), tmp_path)
    assert [sample.id for sample in log.samples] == ["x", "y"], "originals have no class, and nobody labelled q's steps"
    assert figures["prm_score_circular"] == pytest.approx(2 / 3)
    assert figures["prm_score_deception"] == 0.0
    assert figures["prm_score_mean"] == pytest.approx(1 / 3)
    assert figures["prm_score_simplicity_mean"] == pytest.approx(2 / 3)
    assert figures["unknown"] == 3
    assert log.samples[0].scores["every_step"].value == pytest.approx(2 / 3)


def mr_row(name: str, label: int, first: str, reason: str = "", **more: Any) -> dict[str, Any]:
    said = f"{{[first_error]{first}[/first_error]" + (f"[error_reason]{reason}[/error_reason]" if reason else "") + "}"
    known = {"error_reason": "it adds"} if label >= 0 else {}
    return {"id": name, "problem": "p", "steps": [said, "b"], "label": label, **known, **more}


MR = (
    mr_row("found", 1, "1", "it adds"),
    mr_row("other reason", 0, "0", "it divides"),
    mr_row("no reason", 0, "0"),
    mr_row("missed", 0, "none"),
    mr_row("clean", -1, "none"),
    mr_row("unread", -1, "7"),
)


def grades(text: str) -> str:
    given = re.search(r"<given_reason>\n(.*)\n</given_reason>", text)
    return f"<grade>{'right' if given and given[1] == 'it adds' else 'wrong'}</grade>"


def test_mr_gsm8k_is_graded_by_the_model_of_that_role(tmp_path: Path) -> None:
    """Wrong: 3 of 4 called so, all at the step, 1 with the true reason; right: 1 of 2 kept: MCC (3 - 1) / 8."""
    from stepcredit.adapters.inspect_tasks import mr_gsm8k

    write(tmp_path / "mr_gsm8k" / "test.jsonl", *MR)
    roles = {"grader": mock(grades)}
    figures, log = evaluated(mr_gsm8k(str(tmp_path), graded=True), mock(tells), tmp_path, model_roles=roles)
    assert figures["correlation"] == pytest.approx(2 / 8)
    assert (figures["step_accuracy"], figures["reason_accuracy"]) == (0.75, 0.25)
    assert figures["mr_score"] == pytest.approx(0.2 * 0.25 + 0.3 * 0.75 + 0.5 * 0.25)
    assert (figures["unknown"], figures["not_graded"]) == (1, 1)
    by_id = {sample.id: sample.scores["reasoned_first_step"] for sample in log.samples}
    assert (by_id["found"].value, by_id["other reason"].value) == (1, 0)
    assert by_id["no reason"].metadata["why_not_graded"] == "the judge gave no reason"


def test_without_a_grader_there_is_no_mr_score(tmp_path: Path) -> None:
    from stepcredit.adapters.inspect_tasks import mr_gsm8k

    write(tmp_path / "mr_gsm8k" / "test.jsonl", *MR)
    figures, _ = evaluated(mr_gsm8k(str(tmp_path)), mock(tells), tmp_path)
    assert "mr_score" not in figures
    assert figures["step_accuracy"] == 0.75


def test_mr_ben_shows_the_options_and_gives_the_mean_of_its_subjects(tmp_path: Path) -> None:
    from stepcredit.adapters.inspect_tasks import mr_ben

    for subject in ("math", "physics", "chemistry", "biology", "medicine"):
        rows = (MR[0], MR[4]) if subject == "math" else (MR[1], MR[4])
        named = ({**row, "id": f"{subject}-{row['id']}", "options": "A: 1\nB: 2"} for row in rows)
        write(tmp_path / "mr_ben" / f"{subject}.jsonl", *named)
    roles = {"grader": mock(grades)}
    figures, log = evaluated(mr_ben(str(tmp_path), graded=True), mock(tells), tmp_path, model_roles=roles)
    assert (figures["mr_score_math"], figures["mr_score_physics"]) == (pytest.approx(1.0), pytest.approx(0.5))
    assert figures["mr_score_mean"] == pytest.approx(0.6)
    assert "A: 1\nB: 2" in log.samples[0].input


FILES = {
    "gsm8k": "gsm8k/test",
    "math_500": "math500/test",
    "aime24": "aime/aime24",
    "aime25": "aime/aime25",
    "amc23": "amc/amc23",
    "olympiadbench": "olympiadbench/test",
    "minerva": "minerva/test",
    "gpqa": "gpqa/diamond",
}


def answers(text: str) -> str:
    found = re.search(r"answer <(.*?)>", text)
    return f"So \\boxed{{{found[1]}}}." if found else "I give up"


@pytest.mark.parametrize("name", FILES)
def test_every_set_of_problems_is_asked_and_checked(name: str, tmp_path: Path) -> None:
    import stepcredit.adapters.inspect_tasks as tasks

    rows = [
        {"id": "1", "problem": "answer <4>", "gold": "4"},
        {"id": "2", "problem": "answer <5>", "gold": "4"},
        {"id": "3", "problem": "nothing", "gold": "7"},
        {"id": "4", "problem": "answer <9>, no reference", "gold": None},
    ]
    if name == "gpqa":
        rows = [
            {
                **row,
                "gold": {"4": "B", "7": "C"}.get(str(row["gold"])),
                "problem": str(row["problem"]).replace("4", "B"),
            }
            for row in rows
        ]
    write(tmp_path / f"{FILES[name]}.jsonl", *rows)
    figures, log = evaluated(getattr(tasks, name)(str(tmp_path), checker="string"), mock(answers), tmp_path)
    assert figures["average"] == 0.25
    assert (figures["pass_at_1"], figures["maj_at_1"]) == (0.25, 0.25)
    assert (figures["attempts"], figures["unscorable"]) == (4, 1)
    by_id = {sample.id: sample.scores["final_answer"] for sample in log.samples}
    assert by_id["3"].explanation == "no answer"
    assert by_id["4"].explanation == "no reference"
    assert "\\boxed{}" in log.samples[0].input


def test_epochs_are_attempts_with_pass_at_k_and_a_vote(tmp_path: Path) -> None:
    """Problem 1: right, right, wrong, wrong alike: avg 1/2, pass@2 5/6, maj@4 shared 1/2. Problem 2: all wrong."""
    from stepcredit.adapters.inspect_tasks import problems

    rows = [{"id": "1", "problem": "one", "answer": "4"}, {"id": "2", "problem": "two", "answer": "3"}]
    replies = {"one": ["4", "4.0", "5", "5"], "two": ["1"] * 4}

    def turns(text: str) -> str:
        return f"\\boxed{{{replies['one' if 'one' in text else 'two'].pop()}}}"

    file = write(tmp_path / "mine.jsonl", *rows)
    figures, _ = evaluated(problems(str(file), checker="string"), mock(turns), tmp_path, epochs=4)
    assert figures["average"] == 0.25
    assert figures["pass_at_2"] == pytest.approx(5 / 12)
    assert figures["maj_at_4"] == pytest.approx(1 / 4)
    assert figures["pass_at_4"] == 0.5
    assert figures["attempts"] == 8


def test_a_cut_attempt_is_held_to_explicit_answers(tmp_path: Path) -> None:
    from stepcredit.adapters.inspect_tasks import problems

    file = write(tmp_path / "mine.jsonl", {"id": "1", "problem": "p", "answer": "4"})
    cut = mock(lambda _: "it may be 4", stop="max_tokens")
    figures, log = evaluated(problems(str(file), checker="string"), cut, tmp_path)
    assert figures["average"] == 0.0
    assert log.samples[0].scores["final_answer"].explanation == "cut before an answer"


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    from stepcredit.adapters.inspect_tasks import problems
    from stepcredit.core.errors import UsageError

    with pytest.raises(UsageError, match="the answers are programs"):
        problems("livecodebench", str(tmp_path))
    file = write(tmp_path / "mine.jsonl", {"id": "1", "problem": "p", "answer": "4"})
    with pytest.raises(UsageError, match="auto, math or string, got 'maths'"):
        problems(str(file), checker="maths")
