"""Kill -9 at random moments of sample, evaluate and train: nothing lost, nothing doubled, the same bits at the end.

Inside each session the sampler and the judge refuse what an earlier session recorded, so a rollout that was sampled
again would fail the test (`kill_cases`).
"""

from pathlib import Path

import orjson
import pytest
import zstandard
from kill_cases import rounds
from killing import KILLS, files_of, in_a_zygote, rows_of, show

FIFTY = pytest.param(50, marks=pytest.mark.slow)
ROLLOUTS = 3 * 8 * 6
PAUSE_S = 0.001
SPREAD_S = {"sample": (0.0, 0.15), "evaluate": (0.0, 0.12), "train": (0.0, 0.08)}


def contents(folder: Path) -> dict[str, object]:
    """All that a run leaves, without wall times and without checkpoints that no row needs any more."""
    found: dict[str, object] = dict(rows_of(folder, "rollout", "judgement", "columns"))
    for key, payload in rows_of(folder, "round").items():
        body = orjson.loads(zstandard.ZstdDecompressor().decompress(payload))
        body["row"]["seconds"] = {}
        found[key] = body
    lines = [orjson.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    found["metrics"] = [{name: value for name, value in line.items() if name != "seconds"} for line in lines]
    return found | files_of(folder, "shards/*", "checkpoints/learner-0003.bin")


@pytest.mark.parametrize("kills", [KILLS, FIFTY])
@pytest.mark.parametrize("engine", ["tabular", "embedded"])
def test_kills_in_each_stage_change_nothing(engine: str, kills: int, tmp_path: Path) -> None:
    """`embedded` samples in the deterministic mode and trains with torch: its checkpoints are equal bit for bit."""
    rounds(engine, 0.0)(tmp_path / "whole", lambda _line: None)
    want = contents(tmp_path / "whole")
    assert len(rows_of(tmp_path / "whole", "rollout")) == len(rows_of(tmp_path / "whole", "judgement")) == ROLLOUTS
    found = in_a_zygote(engine, tmp_path, stages=SPREAD_S, kills=kills, pause_s=PAUSE_S)
    assert list(found) == ["sample", "evaluate", "train"]
    for stage, told in found.items():
        assert told.failures == []
        assert told.kills[stage] >= kills
        for run in map(Path, told.runs):
            assert contents(run) == want
            assert list(run.rglob("*.part")) == []
        # What a kill cost: requests that were under way or not yet committed, asked once more.
        repeated = len(told.lines) - ROLLOUTS * 2 * len(told.runs)
        show(f"{engine} {stage}: {sum(told.kills.values())} kills, {len(told.runs)} runs, {repeated} requests repeated")
        assert 0 <= repeated <= 64 * sum(told.kills.values())
