"""What the credit X-ray refuses before it looks: options of other inputs, damaged folders, results of others."""

import json
from pathlib import Path
from typing import Any

import pytest
from recorded_cases import write_rows
from xray_cases import QUICK, lines, log_rows, xray

from stepcredit.core.errors import StoreError, UsageError
from stepcredit.recipes.xray.recorded import TextSettings


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"text": TextSettings(outcome="score")}, "outcome"),
        ({"text": TextSettings(group_size=2)}, "group-size"),
        ({"text": TextSettings(right_above=0.0)}, "right-above"),
        ({"text": TextSettings(input=Path("other.jsonl"))}, "input"),
        ({"seed": 0}, "seed"),
        ({"round": 0}, "round"),
    ],
)
def test_options_of_other_inputs_are_refused_for_a_file(tmp_path: Path, changes: dict[str, Any], option: str) -> None:
    with pytest.raises(UsageError, match=rf"two\.jsonl: --{option} is of .*, and this is a JSONL file of solutions"):
        xray(lines(tmp_path), "grpo", **changes)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"overrides": QUICK}, r"set checker\.KEY"),
        ({"text": TextSettings(overrides=QUICK)}, r"set checker\.KEY"),
        ({"text": TextSettings(group_by="problem")}, "group-by"),
        ({"text": TextSettings(input=Path("other.jsonl"))}, "input"),
        ({"arm": "grpo"}, "arm"),
    ],
)
def test_options_of_other_inputs_are_refused_for_a_log(tmp_path: Path, changes: dict[str, Any], option: str) -> None:
    log = write_rows(tmp_path / "log.jsonl", *log_rows(1.0, 0.0))
    with pytest.raises(UsageError, match=rf"--{option} is of .*, and this is a log of TRL or verl; leave it out"):
        xray(log, "grpo", quick=False, **changes)


@pytest.mark.parametrize(
    "manifest",
    [
        [1],
        {"verb": "judge"},
        {"verb": "judge", "judge": {"name": "markers"}, "input": 5, "checker": "c", "steps": "s"},
        {"verb": "demo", "arms": "grpo"},
        {"arm": "grpo", "recipe": {}, "settings": {}},
    ],
)
def test_a_damaged_manifest_is_told(tmp_path: Path, manifest: object) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(StoreError, match=r"manifest\.json: .*damaged: "):
        xray(tmp_path, "grpo", quick=False)


def test_a_folder_holds_the_xray_of_one_input(tmp_path: Path) -> None:
    out = tmp_path / "out"
    xray(lines(tmp_path), "grpo", out=out)
    before = (out / "xray.json").read_bytes()
    log = write_rows(tmp_path / "two.log.jsonl", *log_rows(1.0, 0.0))
    with pytest.raises(
        UsageError, match=r"out: the folder holds the X-ray of .*two\.jsonl; give --out a folder of its"
    ):
        xray(log, "grpo", quick=False, out=out)
    assert (out / "xray.json").read_bytes() == before
    (out / "xray.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="the folder holds the X-ray of another input"):
        xray(lines(tmp_path), "grpo", out=out)


def test_values_of_an_earlier_xray_do_not_stay_beside_a_new_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    file = lines(tmp_path)
    xray(file, "grpo", out=out)
    kept = out / "values.jsonl"
    kept.write_text('{"id": "good", "values": [0, 0.5]}\n', encoding="utf-8")
    xray(file, "grpo,vineppo", out=out, values=kept)
    assert kept.exists()  # these were read
    xray(file, "grpo", out=out)
    assert not kept.exists()
