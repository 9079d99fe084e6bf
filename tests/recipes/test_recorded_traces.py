"""Real traces of every file, a sample here, along the path to credit; all of them in benchmarks/recorded.py."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from stepcredit.recipes.recorded import RecordedResult, run_recorded
from stepcredit.recipes.recorded.settings import RecordedSettings
from stepcredit.store.shards import read_shard

pytestmark = pytest.mark.data

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TAKEN = {
    "long_cot_mip/gsm8k": 40,
    "long_cot_mip/math": 12,
    "long_cot_mip/math_ill_posed": 6,
    "long_cot_skyt1/aime24": 12,
    "long_cot_skyt1/amc23": 12,
    "long_cot_skyt1/math500": 24,
    "short_cot/short_math500": 40,
    "short_cot/short_aime24": 28,
    "gsm8k_model_solutions/test": 80,
}
"""Responses of each file; the Sky-T1 files hold up to 20 of one problem side by side."""


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for name, taken in TAKEN.items():
        path = DATA / f"{name}.jsonl.gz"
        if not path.exists():
            pytest.skip(f"needs ../shared/data/{name}.jsonl.gz")
        found += [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()[:taken]]
    return found


@pytest.fixture(scope="module")
def result(rows: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> RecordedResult:
    folder = tmp_path_factory.mktemp("traces")
    file = folder / "traces.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    settings = RecordedSettings(folder / "run", tokenizer=DATA / "tokenizer_qwen2_5", group_by="problem")
    return run_recorded(file, settings)


def test_every_response_is_accounted_for(rows: list[dict[str, object]], result: RecordedResult) -> None:
    told = result.summary
    assert told["responses"] == told["judged"] + told["unknown"] == sum(told["checker"].values()) == len(rows)
    assert sum(told["unknown_reasons"].values()) == told["unknown"]
    assert [j.steps.rollout.id for j in result.judgements] == [row["id"] for row in rows]
    assert told["unscorable_reasons"] == {"no reference": TAKEN["long_cot_mip/math_ill_posed"]}


def test_steps_partition_every_completion(result: RecordedResult) -> None:
    for judgement in result.judgements:
        steps = judgement.steps
        assert "".join(steps.texts) == steps.rollout.text
        assert len(steps) == 0 or (steps.spans[0][0] == 0 and steps.spans[-1][1] == len(steps.rollout.completion_ids))
        assert all(a[1] == b[0] for a, b in zip(steps.spans[:-1], steps.spans[1:], strict=True))


def test_what_is_finished_closed_and_checkable_is_judged(result: RecordedResult) -> None:
    assert result.summary["finished_closed_checkable"] >= 150
    assert result.summary["judged_share"] >= 0.95
    assert result.summary["varied_share"] >= 0.4


def test_the_checker_agrees_with_the_recorded_grades(rows: list[dict[str, object]], result: RecordedResult) -> None:
    table: Counter[tuple[object, str]] = Counter()
    for row, judgement in zip(rows, result.judgements, strict=True):
        derived = str(row.get("correct_source", "")).startswith("derived")
        if row.get("correct") is not None and not derived and judgement.steps.rollout.finish == "stop":
            table[row["correct"], judgement.steps.outcome.status] += 1
    assert table[True, "right"] + table[False, "wrong"] >= 0.97 * sum(table.values())


def test_only_solutions_in_groups_of_two_scorable_have_advantages(result: RecordedResult) -> None:
    assert result.credited is not None
    found = read_shard(result.folder / "shards", result.credited.shard)
    owner = found["rollout_of_step"][found["step_of_token"]]
    lengths = np.bincount(owner, minlength=len(found["rollout_id"]))
    scorable = Counter(found["group_id"][np.isfinite(found["reward"])].tolist())
    for rollout, group in enumerate(found["group_id"].tolist()):
        known = np.isfinite(found["advantage"][owner == rollout])
        assert known.all() or not known.any()
        assert not known.any() or scorable[group] >= 2
    assert len(found["token_id"]) == result.summary["tokens"] == int(lengths.sum())
    assert result.summary["credit"]["short_groups"] == sum(
        scorable[group] < 2 for group in set(found["group_id"].tolist())
    )
    assert result.summary["credit"]["kept"] > 20
