"""A code runner that runs nothing: it answers from a script, and keeps what it was given."""

from collections.abc import Callable, Sequence
from typing import final

from stepcredit.core.code import Executed
from stepcredit.core.errors import EngineError

Answer = str | Executed | Exception
"""What a block printed, or all that came of it; an exception is raised."""

RunnerScript = Callable[[str, str], Answer] | Sequence[Answer]
"""A function of code and session, or answers in the order of the calls."""


@final
class ScriptedRunner:
    """Answers blocks.

    Args:
        script: answers.
        name: becomes the fingerprint.

    >>> import asyncio
    >>> asyncio.run(ScriptedRunner(["5050"]).run("print(sum(range(101)))", session="s")).stdout
    '5050'
    """

    def __init__(self, script: RunnerScript = (), *, name: str = "scripted") -> None:
        self._script, self._name = script, name
        self.ran: list[tuple[str, str]] = []
        self.ended: list[str] = []

    @property
    def fingerprint(self) -> str:
        """The name."""
        return self._name

    async def run(self, code: str, *, session: str) -> Executed:
        """The next answer; session and code are kept in `ran`.

        Raises:
            EngineError: if the script has no answer left.
        """
        if callable(self._script):
            answer = self._script(code, session)
        elif len(self.ran) < len(self._script):
            answer = self._script[len(self.ran)]
        else:
            raise EngineError(f"the script has {len(self._script)} answers and was asked for one more")
        self.ran.append((session, code))
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Executed) else Executed("ok", answer)

    async def end(self, session: str) -> None:
        """The session is kept in `ended`."""
        self.ended.append(session)
