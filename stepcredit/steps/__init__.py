"""Steps: cut a checked rollout into steps, align them with tokens, merge them into thoughts (Outcome -> Steps)."""

from collections.abc import Callable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Splitter
from stepcredit.steps.alignment import align, retokenise
from stepcredit.steps.blocks import Blocks, find_blocks
from stepcredit.steps.merge import merge, thoughts
from stepcredit.steps.proposed import apply_ranges
from stepcredit.steps.text_splitters import Delimiter, Newline, Numbered, Paragraph, Sentence
from stepcredit.steps.token_splitters import Fixed, Token, Whole

__all__ = [
    "SPLITTERS",
    "Blocks",
    "Delimiter",
    "Fixed",
    "Newline",
    "Numbered",
    "Paragraph",
    "Sentence",
    "Token",
    "Whole",
    "align",
    "apply_ranges",
    "find_blocks",
    "merge",
    "retokenise",
    "splitter",
    "thoughts",
]

SPLITTERS: dict[str, Callable[..., Splitter]] = {
    "delimiter": Delimiter,
    "fixed": Fixed,
    "newline": Newline,
    "numbered": Numbered,
    "paragraph": Paragraph,
    "sentence": Sentence,
    "token": Token,
    "whole": Whole,
}
"""Splitters by name."""


def splitter(name: str, **settings: Any) -> Splitter:
    """A splitter by name.

    Args:
        name: a key of `SPLITTERS`.
        **settings: its fields.

    Raises:
        UsageError: for an unknown name or setting, naming the nearest known one; or a value out of range.

    >>> splitter("fixed", size=64)
    Fixed(size=64, form='auto', unit='fixed')
    """
    if name not in SPLITTERS:
        raise UsageError(f"unknown splitter {name!r}{_nearest(name, [*SPLITTERS])}")
    made: Any = SPLITTERS[name]
    known = [field.name for field in fields(made) if field.init]
    for key in settings:
        if key not in known:
            raise UsageError(f"splitter {name!r} has no setting {key!r}{_nearest(key, known)}")
    return SPLITTERS[name](**settings)


def _nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
