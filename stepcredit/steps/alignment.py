"""Alignment: sampled ids to text and to the character at which each token starts; no re-encoding, no offsets."""

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from stepcredit.core.arrays import frozen
from stepcredit.core.protocols import Tokenizer


def align(ids: Int32[np.ndarray, " T"], tokenizer: Tokenizer) -> tuple[str, Int32[np.ndarray, " T"]]:
    """Text of sampled ids, and the character of the text that holds each token's first byte.

    Equals decoding token by token. A token that begins inside a multi-byte character gets that character; bytes that
    are no UTF-8 are U+FFFD, one for each maximal invalid part, as Python's `replace` has it.

    Args:
        ids: [T] completion tokens as they were sampled.
        tokenizer: whose ids they are.

    Returns:
        The text, and [T] character indices, never falling; `len(text)` for a token without bytes at the end.

    Raises:
        EngineError: for an id outside the vocabulary.

    Source: tp_grpo.md 1.2. Differs: bytes of the sampled ids take the place of a re-tokenisation's offsets.
    """
    return characters(tokenizer.pieces(ids))


def characters(pieces: list[bytes]) -> tuple[str, Int32[np.ndarray, " T"]]:
    r"""`align` on the tokens' bytes.

    Args:
        pieces: [T] bytes of each token.

    Returns:
        As `align`.

    Source: own; the Unicode standard 3.9, table 3-7, for invalid bytes. Differs: none.

    >>> characters([b"a", b"\xc3", b"\xa9b", b"\xff"])
    ('aéb�', array([0, 1, 1, 3], dtype=int32))
    """
    joined = b"".join(pieces)
    if joined.isascii():  # a byte a character, three times as fast
        sizes = np.fromiter(map(len, pieces), np.int32, len(pieces))
        return joined.decode("ascii"), frozen(np.cumsum(sizes, dtype=np.int32) - sizes, np.int32)
    data = np.frombuffer(joined, np.uint8)
    try:
        text, starts = joined.decode("utf-8"), (data & 0xC0) != 0x80
    except UnicodeDecodeError:
        text, starts = joined.decode("utf-8", "replace"), _character_starts(joined, data)
    character_of_byte = np.append(np.cumsum(starts, dtype=np.int32) - 1, np.int32(len(text)))
    sizes = np.fromiter(map(len, pieces), np.int64, len(pieces))
    return text, frozen(character_of_byte[np.cumsum(sizes) - sizes], np.int32)


def retokenise(text: str, tokenizer: Tokenizer) -> tuple[Int32[np.ndarray, " T"], str, Int32[np.ndarray, " T"]]:
    """Ids of a recorded text, for text that nobody kept the ids of.

    Such ids are not the sampled ones: mark the rollout `retokenised`, training refuses it.

    Args:
        text: what was recorded.
        tokenizer: a tokenizer for it.

    Returns:
        [T] ids, the text they stand for (it can differ from `text`: Qwen's tokenizer normalises to NFC, a word-level
        one collapses white space), and [T] the character each token starts at in that text.

    Raises:
        UsageError: if the tokenizer cannot encode the text.

    Source: own. Differs: none.
    """
    ids = tokenizer.encode(text)
    return ids, *align(ids, tokenizer)


def _character_starts(joined: bytes, data: UInt8[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """[n] True where a byte opens a character of `joined.decode("utf-8", "replace")`."""
    escaped = joined.decode("utf-8", "surrogateescape").encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(escaped, np.uint32)
    invalid = (codes >= 0xDC80) & (codes <= 0xDCFF)
    widths = np.where(invalid, 1, 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000))
    starts = np.zeros(len(data), np.bool_)
    starts[np.cumsum(widths) - widths] = True
    bad = np.zeros(len(data), np.bool_)
    bad[np.cumsum(widths) - widths] = invalid
    second, third = _truncated(data, bad)
    return starts & ~second & ~third


def _truncated(
    data: UInt8[np.ndarray, " n"], bad: Bool[np.ndarray, " n"]
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Invalid bytes that are the second or third byte of a character cut short: they share its one U+FFFD."""
    lead, byte = data[:-1], data[1:]
    low = np.select([lead == 0xE0, lead == 0xF0], [0xA0, 0x90], 0x80)
    high = np.select([lead == 0xED, lead == 0xF4], [0x9F, 0x8F], 0xBF)
    second = np.zeros(len(data), np.bool_)
    second[1:] = bad[:-1] & bad[1:] & (lead >= 0xE0) & (lead <= 0xF4) & (byte >= low) & (byte <= high)
    third = np.zeros(len(data), np.bool_)
    third[2:] = second[1:-1] & bad[2:] & (data[:-2] >= 0xF0) & ((data[2:] & 0xC0) == 0x80)
    return second, third
