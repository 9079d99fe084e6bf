"""Small files for the credit X-ray: solutions that bring their steps, and the log of a group."""

from pathlib import Path
from typing import Any

from recorded_cases import write_rows

from stepcredit.recipes.xray.run import CreditXray, XraySettings, run_xray

QUICK = ("checker.mode=string",)
ANSWER = "So it is \\boxed{2}."
GOOD, BAD = ["1 + 1 = 2. ", ANSWER], ["1 + 1 = 3. ", "No. ", "So it is \\boxed{3}."]


def xray(path: Path, *compare: str, quick: bool = True, **changes: Any) -> CreditXray:
    """`quick` for text whose answers are checked now, with a checker that starts no processes."""
    overrides = (*(QUICK if quick else ()), *changes.pop("overrides", ()))
    return run_xray(path, XraySettings(compare=compare, overrides=overrides, **changes))


def log_rows(*rewards: float | None, **more: Any) -> list[dict[str, Any]]:
    """A group of TRL's log."""
    return [
        {"step": 1, "prompt": "2 + 2?", "completion": f"it is {k}", "right": reward, "advantage": 0.0, **more}
        for k, reward in enumerate(rewards)
    ]


def lines(folder: Path, good: dict[str, Any] | None = None, bad: dict[str, Any] | None = None) -> Path:
    """One problem, a right and a wrong solution that bring their steps."""
    asked = {"problem": "1 + 1?", "answer": "2"}
    return write_rows(
        folder / "two.jsonl",
        {**asked, "id": "good", "steps": GOOD, "completion": "".join(GOOD), **(good or {})},
        {**asked, "id": "bad", "steps": BAD, "completion": "".join(BAD), **(bad or {})},
    )
