"""stepcredit: judge every step of a solution, turn verdicts into per-token credit, train on it.

`stepcredit.judge(...)` is the facade; everything else is imported from its part. Importing this loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepcredit.api import JudgedSolution, JudgedStep, judge

__all__ = ["JudgedSolution", "JudgedStep", "judge"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'stepcredit' has no attribute {name!r}")
    return getattr(import_module("stepcredit.api"), name)
