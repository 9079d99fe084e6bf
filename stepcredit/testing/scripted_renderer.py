"""A chat template without Jinja: roles as tags."""

from collections.abc import Sequence
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.protocols import Message


@final
class ScriptedRenderer:
    """Implements `core.protocols.ChatRenderer`: `<role>content`, and the end token behind what the assistant said.

    Args:
        bos: text of the begin-of-sequence token, empty for none.
        eos: text of the end-of-sequence token, empty for none.

    >>> ScriptedRenderer("^").render([Message("user", "1 + 1?")], add_generation_prompt=True)
    '^<user>1 + 1?<assistant>'
    """

    def __init__(self, bos: str = "", eos: str = "<eos>") -> None:
        self.bos, self.eos = bos, eos

    @property
    def fingerprint(self) -> str:
        """Digest of the tokens."""
        return digest("ScriptedRenderer", self.bos, self.eos)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """The text of the messages."""
        said = [f"<{each.role}>{each.content}{self.eos * (each.role == 'assistant')}" for each in messages]
        return self.bos + "".join(said) + "<assistant>" * add_generation_prompt
