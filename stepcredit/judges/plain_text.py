"""Text that people and models wrote, as ids in which no special token stands: it cannot open or close a chat turn."""

import re
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.protocols import Tokenizer

_ROLE = re.compile(r"<[|｜][^\s<>|｜]{1,40}[|｜]>")
_MARKER = re.compile(r"\s*[^\w\s].*\w.*[^\w\s]\s*", re.DOTALL)


@final
class PlainText:
    """Encodes texts of one tokenizer so that the special tokens in them do nothing.

    Special is a token that the tokenizer reads by its text wherever it stands (`Tokenizer.added_ids`), and that begins
    and ends with a mark and holds a letter or digit between: roles, tags, ends. Runs of white space and other texts
    that tokenizers read whole stay as they are, and so does every text without a special token.

    Args:
        tokenizer: the served model's.

    Source: thinkprm.md 9, item 5; genprm.md 7 (prompt injection). Differs: the rule is our own; the special token's
    text is cut after its first character and the parts are encoded on their own.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        """The served model's."""
        return self._tokenizer

    @cached_property
    def markers(self) -> dict[int, str]:
        """Text of every special token, by id."""
        texts = {number: self._tokenizer.decode([number]) for number in sorted(self._tokenizer.added_ids)}
        return {number: text for number, text in texts.items() if len(text) > 2 and _MARKER.fullmatch(text)}

    def ids(self, text: str) -> Int32[np.ndarray, " X"]:
        """[X] ids of the text, without special tokens; they decode to the text that the tokenizer reads."""
        found = self._tokenizer.encode(text)
        special = {self.markers[number] for number in set(found.tolist()) & self.markers.keys()}
        if not special:
            return found
        cut = "|".join(f"(?<={re.escape(each[0])})(?={re.escape(each[1:])})" for each in sorted(special))
        parts = re.split(cut, text)
        if len(parts) == 1:  # the tokenizer's normalisation made the special token: then character by character
            return _joined([self._tokenizer.encode(character) for character in text])
        return _joined([self.ids(part) for part in parts])

    def count(self, text: str) -> int:
        """Tokens of the text."""
        return len(self.ids(text))

    def leaks(self, text: str) -> bool:
        """True if a model's text spells out a special token, its own or what looks like another model's role token."""
        return any(each in text for each in self.markers.values()) or _ROLE.search(text) is not None


def _joined(parts: list[Int32[np.ndarray, " X"]]) -> Int32[np.ndarray, " X"]:
    return frozen(np.concatenate(parts), np.int32)
