"""Small files of step-labelled solutions, and a scripted critic that reads the answer to give in them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepcredit.core.protocols import Message
from stepcredit.recipes.evaluating import EvaluateSettings

FEW = ("metrics.resamples=40",)


def solution(name: str, label: int | None, *, steps: int = 3, said: str | None = None, **more: Any) -> dict[str, Any]:
    """A line with `steps` steps; the critic of this module answers what its first step says."""
    answer = str(label) if said is None else said
    texts = [f"{name} step {k}, answer <{answer}>" for k in range(steps)]
    return {"id": name, "problem": f"the problem of {name}", "steps": texts, "label": label, **more}


def write_set(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def critic(messages: Sequence[Message]) -> str:
    """Boxes what the solution says between its angle brackets; without any nothing is boxed."""
    found = re.search(r"answer <(-?\d+)>", messages[-1].content)
    return f"I see. \\boxed{{{found.group(1)}}}" if found else "I cannot tell."


def asked(out: Path, judge: str = "perfect", *more: str, **changes: Any) -> EvaluateSettings:
    return EvaluateSettings(out, judge, overrides=(*FEW, *more), **changes)
