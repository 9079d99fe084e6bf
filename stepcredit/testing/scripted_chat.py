"""A chat model that answers from a script."""

from collections.abc import Callable, Sequence
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError
from stepcredit.core.protocols import Message, Reply

Script = Callable[[Sequence[Message]], str] | Sequence[str | Exception]
"""A function of the messages, or answers in the order of the calls; an exception in the list is raised."""


@final
class ScriptedChat:
    """Implements `core.protocols.ChatModel` from a script, and keeps what it was asked in `asked`.

    Args:
        script: see `Script`.
        name: the model name it gives of itself; part of the fingerprint.

    Lengths are counted in words: an answer longer than `max_tokens` words is cut, with finish `length`.
    """

    def __init__(self, script: Script, *, name: str = "scripted") -> None:
        self._script, self._name = script, name
        self.asked: list[tuple[Message, ...]] = []

    @property
    def fingerprint(self) -> str:
        """Digest of the name."""
        return digest("ScriptedChat", self._name)

    async def complete(self, messages: Sequence[Message], *, max_tokens: int, temperature: float, seed: int) -> Reply:
        """The script's next answer.

        Raises:
            EngineError: if the script has no more answers, or holds an EngineError here.
        """
        number = len(self.asked)
        self.asked.append(tuple(messages))
        if callable(self._script):
            answer = self._script(messages)
        elif number < len(self._script):
            answer = self._script[number]
        else:
            raise EngineError(f"the script has {len(self._script)} answers, this is call {number + 1}")
        if isinstance(answer, Exception):
            raise answer
        words = answer.split()
        cut = len(words) > max_tokens
        call = digest(self.fingerprint, [(m.role, m.content) for m in messages], max_tokens, temperature, seed)
        read = sum(len(message.content.split()) for message in messages)
        text = " ".join(words[:max_tokens]) if cut else answer
        return Reply(text, "length" if cut else "stop", call[:16], self._name, read, min(len(words), max_tokens))
