"""Texts with marked places as token ids: what a model wrote can neither move a place nor make a special token."""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import final

import numpy as np
from jaxtyping import Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import ChatRenderer, Message, Tokenizer
from stepcredit.judges.plain_text import PlainText

_HOLDER = re.compile("\ue000([0-9]+)\ue001")


@final
@dataclass(frozen=True)
class Part:
    """A piece of a prompt.

    Args:
        text: as it is read.
        ours: True for the format's own text, False for what people and models wrote.
        step: index of the step whose number is read at this part's end, `None` if it ends none.
    """

    text: str
    ours: bool = True
    step: int | None = None


@final
@dataclass(frozen=True)
class Marked:
    """A prompt as ids.

    Args:
        ids: [X] token ids.
        ends: [K] index of the last token of the mark that ends each step; -1 for a step that has none.
    """

    ids: Int32[np.ndarray, " X"]
    ends: Int32[np.ndarray, " K"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", frozen(self.ids, np.int32))
        object.__setattr__(self, "ends", frozen(self.ends, np.int32))


def marked(plain: PlainText, parts: Sequence[Part], *, steps: int, tokens: Iterable[int] = ()) -> Marked | None:
    """Ids of a prompt, with the places of its marks.

    The text is encoded as a whole, so that ordinary prompts get the ids that the model's own tools give them. Then
    special tokens in what people and models wrote are broken up into ordinary ones that decode to the same text.

    Args:
        plain: knows the special tokens of the model's own tokenizer.
        parts: the prompt, in order.
        steps: K.
        tokens: ids that only the format may write, beside the special ones; one that cannot be broken up stays.

    Returns:
        The prompt; `None` if the tokenizer does not give back the text that it read, so that no place can be told.
    """
    parts = tuple(part for part in parts if part.text)
    tokenizer, own = plain.tokenizer, {*tokens, *plain.markers}
    found = _encoded(tokenizer, parts, own)
    if found is None:
        parts = tuple(Part(unicodedata.normalize("NFC", part.text), part.ours, part.step) for part in parts)
        found = _encoded(tokenizer, parts, own)
    if found is None:
        return None
    ids, pieces = found
    marks = {end: part.step for part, (_, end) in zip(parts, _spans(parts), strict=True) if part.step is not None}
    ends = np.full(steps, -1, np.int32)
    for index, place in enumerate(accumulate(len(piece) for piece in pieces)):
        step = marks.get(place)
        if step is not None and ends[step] < 0:
            ends[step] = index
    return Marked(np.array(ids, np.int32), ends)


def skeleton(chat: ChatRenderer, turns: Sequence[Message], *, held: Sequence[str]) -> tuple[str | int, ...]:
    """The template's own text around the turns of `held` roles, and for each such turn its number.

    Raises:
        UsageError: if the template does not render each held turn once and in order.
    """
    numbers = iter(range(len(turns)))
    messages = [Message(turn.role, f"\ue000{next(numbers)}\ue001") if turn.role in held else turn for turn in turns]
    found = _HOLDER.split(chat.render(messages, add_generation_prompt=False))
    wanted = [str(number) for number in range(sum(turn.role in held for turn in turns))]
    if found[1::2] != wanted:
        roles = ", ".join(turn.role for turn in turns[:4]) + (" ..." if len(turns) > 4 else "")
        raise UsageError(f"the chat template does not render {roles} once each and in this order")
    return tuple(int(text) if k % 2 else text for k, text in enumerate(found))


def filled(frame: Sequence[str | int], said: Sequence[Sequence[Part]]) -> list[Part]:
    """A `skeleton` with what the held turns say."""
    parts: list[Part] = []
    for each in frame:
        parts += [Part(each)] if isinstance(each, str) else said[each]
    return parts


def tail_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text that does not stand at the beginning, where some tokenizers put a space."""
    return _tail(tokenizer, text)[0]


def _tail(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[bytes]]:
    head, whole = tokenizer.encode("\n").tolist(), tokenizer.encode("\n" + text).tolist()
    if whole[: len(head)] != head:
        whole = [*head, *tokenizer.encode(text).tolist()]
    return whole[len(head) :], tokenizer.pieces(whole)[len(head) :]


def _encoded(tokenizer: Tokenizer, parts: Sequence[Part], own: set[int]) -> tuple[list[int], list[bytes]] | None:
    """Ids and bytes of a prompt without foreign special tokens; `None` if the bytes are not those of the text."""
    text = "".join(part.text for part in parts).encode()
    ids = tokenizer.encode(text.decode()).tolist()
    pieces = tokenizer.pieces(ids)
    same = b"".join(pieces) == text
    cuts = _cuts(parts, ids, pieces, own) if same else _cuts_by_text(parts, ids, pieces, own)
    if cuts:
        bounds = [0, *cuts, len(text)]
        chunks = [text[a:b].decode() for a, b in pairwise(bounds)]
        ids = tokenizer.encode(chunks[0]).tolist()
        pieces = tokenizer.pieces(ids)
        for chunk in chunks[1:]:
            more = _tail(tokenizer, chunk)
            ids, pieces = [*ids, *more[0]], [*pieces, *more[1]]
        same = b"".join(pieces) == text
    return (ids, pieces) if same else None


def _cuts(parts: Sequence[Part], ids: Sequence[int], pieces: Sequence[bytes], own: set[int]) -> list[int]:
    """Bytes at which foreign special tokens are cut: behind their first letter or mark."""
    spans = _spans(parts)
    ends = [end for _, end in spans]
    cuts: list[int] = []
    place = 0
    for number, piece in zip(ids, pieces, strict=True):
        begin, place = place, place + len(piece)
        part = min(bisect_left(ends, place), len(parts) - 1)
        ours = parts[part].ours and begin >= spans[part][0]
        if not ours and number in own:
            text = piece.decode()
            first = len(text) - len(text.lstrip()) + 1
            cuts += [begin + len(text[:first].encode())] if first < len(text) else []
    return cuts


def _cuts_by_text(parts: Sequence[Part], ids: Sequence[int], pieces: Sequence[bytes], own: set[int]) -> list[int]:
    """The same where tokens cannot be placed: wherever a special token's text stands in a foreign part."""
    special = {piece.decode().strip() for n, piece in zip(ids, pieces, strict=True) if n in own}
    wanted = re.compile("|".join(re.escape(text) for text in sorted(special) if len(text) > 1) or "(?!)")
    cuts: list[int] = []
    for part, (begin, _) in zip(parts, _spans(parts), strict=True):
        if not part.ours:
            cuts += [begin + len(part.text[: found.start() + 1].encode()) for found in wanted.finditer(part.text)]
    return cuts


def _spans(parts: Sequence[Part]) -> list[tuple[int, int]]:
    """Half-open byte range of each part."""
    return [*pairwise([0, *accumulate(len(part.text.encode()) for part in parts)])]
