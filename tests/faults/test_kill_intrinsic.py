"""Kill -9 at random moments of `judge FILE --judge intrinsic`: the same steps, verdicts and counts at the end."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intrinsic_cases import reads_like_markers, shown, task_of
from killing import KILLS, in_a_zygote, rows_of
from recorded_cases import RIGHT, WRONG, row, write_rows

from stepcredit.core.protocols import Message
from stepcredit.store.run_folder import read_json
from stepcredit.testing import Manners, ScriptedServer

ITEMS = 60


def reads_badly_at_first(messages: Sequence[Message]) -> str:
    """Pairs of paragraphs are steps; some solutions cannot be cut, others are matched only when asked again."""
    said = messages[0].content
    number = int(said.partition("Problem: ")[2].partition("(")[2].partition(")")[0])
    if task_of(said) == "P0":
        count = len(shown(said))
        ranges = [[k, min(k + 1, count - 1)] for k in range(0, count, 2)]
        return json.dumps({"steps": ranges}) if number % 13 else "[]"
    again = "An earlier reply" in said
    return "not yet" if number % 5 == 0 and not again else reads_like_markers(messages)


def contents(folder: Path) -> dict[str, Any]:
    """Steps, verdicts and reading counts, without wall times."""
    summary = read_json(folder, "summary.json") or {}
    tasks = {name: {**task, "latency_s": 0} for name, task in summary["reading"]["tasks"].items()}
    told = {"tasks": tasks, "solutions": summary["reading"]["solutions"], "coverage": summary["coverage"]}
    return {**rows_of(folder, "outcome", "proposal", "judgement"), **told}


def test_a_killed_walk_ends_with_the_same_steps_verdicts_and_counts(tmp_path: Path) -> None:
    rows = [row(RIGHT if k % 2 else WRONG, name=f"s{k}") | {"problem": f"Apples ({k})?"} for k in range(ITEMS)]
    file = write_rows(tmp_path / "x.jsonl", *rows)
    more = ["server.max_in_flight=8", "checker.mode=string", "limits.stop_unknown=1", "limits.deaths=1000"]
    words = [
        "judge",
        str(file),
        "--judge",
        "intrinsic",
        "--model",
        "scripted",
        *(w for m in more for w in ("--set", m)),
    ]
    with ScriptedServer(reply=reads_badly_at_first, manners=Manners(delay_s=0.003)) as server:
        words += ["--server", server.url]
        whole = in_a_zygote("walk", tmp_path / "w", stages={"walk": (9, 9)}, kills=0, words=words)["walk"]
        told = in_a_zygote("walk", tmp_path, stages={"walk": (0.05, 0.35)}, kills=KILLS, words=words)["walk"]
    assert whole.failures == told.failures == []
    assert told.kills["walk"] >= KILLS
    want = contents(Path(whole.runs[0]))
    assert want["coverage"]["unknown"] == len(range(0, ITEMS, 13))
    assert want["tasks"]["P4 (wrong)"]["after_retry"] > 0
    for run in told.runs:
        assert contents(Path(run)) == want
