"""Code that the model writes: where it stands, and what the model is told of the run."""

import re
from dataclasses import dataclass
from typing import final

from stepcredit.core.code import CodeRunner, ExecStatus, Executed
from stepcredit.core.errors import MachineError

__all__ = ["CodeBlock", "CodeRunner", "ExecStatus", "Executed", "all_code", "feedback", "last_code"]

_BLOCK = re.compile(r"```python(.*?)```", re.DOTALL)
_CUT = "\n... [cut] ...\n"


@final
@dataclass(frozen=True)
class CodeBlock:
    """One block of a critique.

    Args:
        code: as written.
        feedback: what the model was told; empty where it was imagined, and why where it was refused.
        status: how it ended.
        seconds: wall-clock time of the run.
    """

    code: str
    feedback: str
    status: ExecStatus
    seconds: float


def last_code(text: str) -> str | None:
    r"""Code of the last fenced python block, `None` without one.

    >>> last_code("```python\na = 1\n```\nthen\n```python\nprint(a)\n```\n")
    'print(a)'

    Source: genprm.md 4.3. Differs: none.
    """
    found = all_code(text)
    return found[-1] if found else None


def code_places(text: str) -> list[tuple[int, int]]:
    r"""Where the fenced python blocks stand, fences included, as half-open ranges.

    >>> code_places("so\n```python\na = 1\n```\nthen")
    [(3, 22)]
    """
    return [match.span() for match in _BLOCK.finditer(text)]


def all_code(text: str) -> list[str]:
    """Code of every fenced python block, in order."""
    return [code.strip("\n") for code in _BLOCK.findall(text)]


def feedback(done: Executed, *, limit: int = 2000) -> str:
    r"""What the model reads after `[Code Output]`.

    Args:
        done: how the block ended.
        limit: characters shown; of more, the head and the tail.

    >>> feedback(Executed("ok", " 5050\n")), feedback(Executed("error", "lost", "NameError: name 'x' is not defined"))
    ('5050', "Code execute Error: NameError: name 'x' is not defined")
    >>> feedback(Executed("no_code"))
    'Code format error: No code found.'

    Raises:
        MachineError: if the block was refused; there is nothing true to tell.

    Source: genprm.md 4.3. Differs: the bound on what is shown; `killed`, which ended the reference's own process,
    reads as an exception.
    """
    match done.status:
        case "refused":
            raise MachineError(done.error)
        case "no_code":
            text = "Code format error: No code found."
        case "timeout":
            text = "Code execute time out: Code execution timed out"
        case "error" | "killed":
            text = f"Code execute Error: {done.error}"
        case _:
            text = done.stdout.strip()
    if len(text) <= limit:
        return text
    half = max((limit - len(_CUT)) // 2, 1)
    return text[:half] + _CUT + text[-half:]
