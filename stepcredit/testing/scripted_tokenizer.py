"""A word tokenizer: text is words joined by single spaces, one token a word."""

from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError


@final
class ScriptedTokenizer:
    """Implements `core.protocols.Tokenizer` over a fixed list of words.

    Args:
        words: the vocabulary, distinct, without spaces; the id of a word is its index.
        eos: the word that ends a completion; must be in `words`.

    >>> tokenizer = ScriptedTokenizer(["<eos>", "copy", "a"])
    >>> tokenizer.encode("copy a <eos>").tolist(), tokenizer.pieces([1, 2])
    ([1, 2, 0], [b'copy', b' a'])
    """

    def __init__(self, words: Sequence[str], *, eos: str = "<eos>") -> None:
        self._words = tuple(words)
        self._ids = {word: index for index, word in enumerate(self._words)}
        bad = [word for word in self._words if not word or " " in word]
        if bad or len(self._ids) != len(self._words) or eos not in self._ids:
            raise EngineError(f"words must be distinct, without spaces, and hold {eos}; got {bad or 'a repeated word'}")
        self._eos = eos

    @property
    def fingerprint(self) -> str:
        """Digest of the vocabulary."""
        return digest("ScriptedTokenizer", self._words, self._eos)

    @property
    def eos_id(self) -> int | None:
        """Id of the end word."""
        return self._ids[self._eos]

    @property
    def added_ids(self) -> frozenset[int]:
        """None: every word is read the same way."""
        return frozenset()

    @property
    def size(self) -> int:
        """V, number of words."""
        return len(self._words)

    def encode(self, text: str) -> Int32[np.ndarray, " T"]:
        """[T] ids of the words.

        Raises:
            EngineError: for a word outside the vocabulary.
        """
        unknown = [word for word in text.split() if word not in self._ids]
        if unknown:
            raise EngineError(f"the word {unknown[0]!r} is not in the vocabulary of {self.size} words")
        return np.array([self._ids[word] for word in text.split()], np.int32)

    def pieces(self, ids: Sequence[int] | Int32[np.ndarray, " T"]) -> list[bytes]:
        """[T] bytes of each token: the first as the word, later ones after a space.

        Raises:
            EngineError: for an id outside the vocabulary.
        """
        wrong = [int(i) for i in ids if not 0 <= int(i) < self.size]
        if wrong:
            raise EngineError(f"id {wrong[0]} is outside the vocabulary of {self.size} words")
        return [f"{' ' if place else ''}{self._words[int(i)]}".encode() for place, i in enumerate(ids)]

    def decode(self, ids: Sequence[int] | Int32[np.ndarray, " T"]) -> str:
        """The words joined by spaces."""
        return b"".join(self.pieces(ids)).decode()
