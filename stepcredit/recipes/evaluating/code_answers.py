"""Answers that are programs: cut out of the completion, run on the problem's tests, apart from this process."""

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, final

from stepcredit.core.digests import digest
from stepcredit.core.errors import MachineError
from stepcredit.core.records import Outcome, Rollout
from stepcredit.evaluation.problem_sets import CodeTest
from stepcredit.judges.genprm.execution import CodeRunner
from stepcredit.tasks.answers import answer_block

NO_RUNNER = (
    "answers that are programs are checked by running them, and no code runner was given;"
    " they are never run in this process"
)

_BLOCK = re.compile(r"```[ \t]*(?:python3?|py)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_MARK = "stepcredit-result:"


@final
class CodeChecker:
    """Right if the last program of the answer passes every test; implements `Checker`.

    Args:
        tests: by problem id.
        runner: runs the programs; `None` is refused.

    Raises:
        MachineError: without a runner.

    Source: Jain et al. 2024 (LiveCodeBench), arXiv:2403.07974. Differs: printed values are compared token by token,
    numbers by value; the time limit is the runner's.
    """

    def __init__(self, tests: Mapping[str, Sequence[CodeTest]], runner: CodeRunner | None) -> None:
        if runner is None:
            raise MachineError(NO_RUNNER)
        self._tests, self._runner = tests, runner

    @property
    def fingerprint(self) -> str:
        """Version, tests and runner."""
        parts = [
            (name, [(t.given, t.wanted, t.function) for t in tests]) for name, tests in sorted(self._tests.items())
        ]
        return f"code-checker/1/{digest(parts)}/{self._runner.fingerprint}"

    async def check(self, rollout: Rollout) -> Outcome:
        """Right, wrong with the first test that failed, or unscorable where there are no tests."""
        tests = self._tests.get(rollout.problem.id, ())
        if not tests:
            return Outcome(rollout, "unscorable", None, "the problem has no tests")
        code = last_program(rollout.text)
        if code is None:
            return Outcome(rollout, "wrong", None, "no program")
        for number, test in enumerate(tests, 1):
            why = await self._failed(code, test, session=f"{rollout.id}/{number}")
            if why:
                return Outcome(rollout, "wrong", None, f"test {number} of {len(tests)}: {why}")
        return Outcome(rollout, "right", None, f"passes {len(tests)} tests")

    async def _failed(self, code: str, test: CodeTest, *, session: str) -> str:
        """Why a test failed, empty if it did not."""
        try:
            done = await self._runner.run(program_of(code, test), session=session)
        finally:
            await self._runner.end(session)
        if done.status != "ok":
            return (
                done.status if done.status != "error" else done.error.splitlines()[-1][:80] if done.error else "error"
            )
        if test.function is None:
            return "" if same_output(done.stdout, test.wanted) else "another output"
        marked = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
        if not marked:
            return "no result"
        return "" if _same_value(marked[-1].removeprefix(_MARK), test.wanted) else "another result"


def last_program(text: str) -> str | None:
    r"""Code of the last fenced block behind the think block, `None` without one.

    >>> last_program("<think>```python\nx\n```</think>So:\n```python\nprint(1)\n```\n")
    'print(1)\n'
    """
    found = _BLOCK.findall(answer_block(text))
    return found[-1] if found else None


def program_of(code: str, test: CodeTest) -> str:
    """The program that runs a test: the answer's code in a namespace of its own, with its input; it says the result."""
    head = f"import io, json, sys\n_space = {{'__name__': '__main__'}}\n_code = {code!r}\n"
    if test.function is None:
        return (
            f"{head}sys.stdin = io.TextIOWrapper(io.BytesIO({test.given.encode()!r}), encoding='utf-8')\n"
            "try:\n    exec(compile(_code, 'answer.py', 'exec'), _space)\n"
            "except SystemExit as _end:\n"
            "    if _end.code not in (None, 0):\n        raise RuntimeError('exit') from None\n"
        )
    return (
        f"{head}_space['__name__'] = 'answer'\n_lines = {test.given!r}.splitlines()\n"
        "exec('from typing import *\\nimport collections, heapq, math, itertools, functools, bisect, re', _space)\n"
        "exec(compile(_code, 'answer.py', 'exec'), _space)\n"
        f"_owner = _space.get('Solution')\n_name = {test.function!r}\n"
        "_called = getattr(_owner(), _name) if _owner is not None else _space[_name]\n"
        "_result = _called(*[json.loads(_line) for _line in _lines if _line.strip()])\n"
        f"print()\nprint({_MARK!r} + json.dumps(_result, default=list))\n"
    )


def same_output(printed: str, wanted: str) -> bool:
    r"""True if both have the same words in the same lines; numbers are compared by value.

    >>> same_output("1 2.50\n\n", "1 2.5"), same_output("Yes", "YES"), same_output("1\n2", "1 2")
    (True, False, False)
    """
    one, two = ([line.split() for line in text.strip().splitlines() if line.strip()] for text in (printed, wanted))
    return len(one) == len(two) and all(
        len(a) == len(b) and all(_same_word(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(one, two, strict=True)
    )


def _same_word(one: str, two: str) -> bool:
    if one == two:
        return True
    try:
        return Decimal(one) == Decimal(two)
    except InvalidOperation:
        return False


def _same_value(printed: str, wanted: str) -> bool:
    try:
        one, two = json.loads(printed), json.loads(wanted)
    except json.JSONDecodeError:
        return False
    return _equal(one, two)


def _equal(one: Any, two: Any) -> bool:
    """Equal values; true is not 1."""
    return one == two and isinstance(one, bool) == isinstance(two, bool)
