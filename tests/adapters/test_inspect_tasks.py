"""inspect_ai evaluates its mock model as a critic: the figures are those of `stepcredit evaluate`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

inspect_ai = pytest.importorskip("inspect_ai")

ROWS = [
    {"id": "a", "problem": "p", "steps": ["says <1>", "b", "c"], "label": 1, "split": "one"},
    {"id": "b", "problem": "q", "steps": ["says <0>", "b", "c"], "label": 2, "split": "one"},
    {"id": "c", "problem": "r", "steps": ["says <-1>", "b"], "label": -1, "split": "one"},
    {"id": "d", "problem": "s", "steps": ["says nothing", "b"], "label": -1, "split": "one"},
    {"id": "e", "problem": "t", "steps": ["says <7>", "b"], "label": -1, "split": "two"},
    {"id": "f", "problem": "u", "steps": ["says <0>", "b"], "label": 0, "split": "two"},
]


def reply(messages: Any, *_: Any) -> Any:
    from inspect_ai.model import ModelOutput, ModelUsage

    found = re.search(r"says <(-?\d+)>", messages[-1].text)
    said = f"So \\boxed{{{found.group(1)}}}" if found else "I cannot tell."
    output = ModelOutput.from_content("mockllm/model", said)
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else it downloads a tokenizer to count
    return output


@pytest.mark.filterwarnings("ignore")
def test_an_inspect_eval_gives_the_official_figures(tmp_path: Path) -> None:
    from inspect_ai.model import get_model

    from stepcredit.adapters.inspect_tasks import first_error

    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    model = get_model("mockllm/model", custom_outputs=reply)
    [log] = inspect_ai.eval(first_error(str(file)), model=model, log_dir=str(tmp_path / "logs"), display="none")
    assert log.status == "success"
    figures = {metric.name: metric.value for metric in log.results.scores[0].metrics.values()}
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


def test_the_set_is_spread_over_its_splits(tmp_path: Path) -> None:
    from stepcredit.adapters.inspect_tasks import first_error

    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    made = first_error(str(file), limit=3)
    assert [sample.metadata["split"] for sample in made.dataset] == ["one", "one", "two"]
    assert made.config.max_tokens == 8192
