"""Runs model-written Python, apart from this process (reliability.md A).

`Sandbox` is the runner; its engines are `wasm` (portable: the standard library and sympy), `bwrap` (Linux: native
packages too) and, by consent only, `rlimit`, which confines nothing.
"""

from stepcredit.sandbox.limits import Limits
from stepcredit.sandbox.sandbox import ENGINES, SAFE, UNAVAILABLE, Engine, Sandbox, SandboxSettings

__all__ = ["ENGINES", "SAFE", "UNAVAILABLE", "Engine", "Limits", "Sandbox", "SandboxSettings"]
