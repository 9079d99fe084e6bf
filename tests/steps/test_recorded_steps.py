"""Recorded responses: one in fifteen here, all of them in benchmarks/steps_speed.py."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stepcredit.core.records import Outcome
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.steps import SPLITTERS, splitter

OutcomeOf = Callable[..., Outcome]
FILES = ["long_cot_mip/*.gz", "long_cot_skyt1/*.gz", "short_cot/*.gz", "gsm8k_model_solutions/*.gz"]
SHORT = 20_000

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def sample(data: Path, outcome_of: OutcomeOf) -> list[tuple[str, Outcome]]:
    """Every fifteenth response of each file, with its file and model."""
    tokenizer = FileTokenizer.load(data / "tokenizer_gpt2")
    found: list[tuple[str, Outcome]] = []
    for file in sorted(file for pattern in FILES for file in data.glob(pattern)):
        lines = gzip.decompress(file.read_bytes()).splitlines()
        rows = [json.loads(line) for line in lines[:: 60 if "gsm8k" in file.parent.name else 15]]
        rows = [row for row in rows if len(row["response"]) < SHORT]
        found += [(f"{file.parent.name} {row['model']}", outcome_of(row["response"], tokenizer)) for row in rows]
    return found


@pytest.mark.parametrize("name", SPLITTERS)
def test_every_response_is_partitioned(sample: list[tuple[str, Outcome]], name: str):
    for _, outcome in sample:
        steps = splitter(name).split(outcome)
        assert "".join(steps.texts) == outcome.rollout.text
        assert name == "whole" or steps.closed == bool(steps.in_answer.any())


def test_forms_are_recognised(sample: list[tuple[str, Outcome]]):
    expected = {"DeepSeek-R1": "r1", "QwQ": "r1", "s1.1": "s1", "LIMO": "none"}
    for source, outcome in sample:
        form = splitter("paragraph").split(outcome).form
        folder, model = source.split(" ", 1)
        if folder == "long_cot_mip":
            assert form in {want for key, want in expected.items() if model.startswith(key)}
        if folder in ("short_cot", "gsm8k_model_solutions"):
            assert form == "none"


def test_paragraphs_keep_to_the_limits(sample: list[tuple[str, Outcome]]):
    for _, outcome in sample:
        steps = splitter("paragraph").split(outcome)
        assert all(len(text) <= 1210 for text in steps.texts if " " in text.strip())
