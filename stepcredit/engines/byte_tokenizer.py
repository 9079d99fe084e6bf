"""ByteTokenizer: every UTF-8 byte is a token, for walks that need spans but no model's vocabulary."""

from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.errors import EngineError, UsageError

_BYTES = tuple(bytes([value]) for value in range(256))


@final
class ByteTokenizer:
    """Text to its UTF-8 bytes and back; represents every text, exactly.

    Judging needs places in a text, not a policy's tokens; credit for tokens needs the policy's own tokenizer.

    Source: own. Differs: none.

    >>> tokenizer = ByteTokenizer()
    >>> tokenizer.encode("aé").tolist(), tokenizer.decode([97, 195, 169])
    ([97, 195, 169], 'aé')
    """

    fingerprint = "bytes/1"
    eos_id: int | None = None
    added_ids: frozenset[int] = frozenset()

    def encode(self, text: str) -> Int32[np.ndarray, " T"]:
        """[T] bytes of the text.

        Raises:
            UsageError: if the text holds lone surrogates.
        """
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"the text holds a lone surrogate at character {error.start}; replace what is invalid"
            ) from error
        return frozen(np.frombuffer(data, np.uint8), np.int32)

    def pieces(self, ids: Sequence[int] | Int32[np.ndarray, " T"]) -> list[bytes]:
        """[T] one byte a token.

        Raises:
            EngineError: for an id outside 0..255.
        """
        numbers = np.asarray(ids, np.int64)
        if len(numbers) and (numbers.min() < 0 or numbers.max() > 255):
            bad = int(numbers[(numbers < 0) | (numbers > 255)][0])
            raise EngineError(f"token id {bad} is outside the byte tokenizer's 0..255; is it a model's?")
        return [_BYTES[number] for number in numbers.tolist()]

    def decode(self, ids: Sequence[int] | Int32[np.ndarray, " T"]) -> str:
        """Text of the bytes, invalid ones as U+FFFD."""
        return b"".join(self.pieces(ids)).decode("utf-8", "replace")
