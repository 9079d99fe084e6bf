"""Splitters that cut at places in the text: paragraph, line, sentence, numbered step, delimiter word."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import final

from stepcredit.core.errors import UsageError
from stepcredit.core.records import Outcome, Steps
from stepcredit.steps.blocks import check_form
from stepcredit.steps.partition import blocks_of, partition
from stepcredit.steps.sentences import formulas, in_formula, sentence_starts

_BLANK_LINES = re.compile(r"\n[^\S\n]*\n(?:[^\S\n]*\n)*")
_LINE_END = re.compile(r"\n(?:[^\S\n]*\n)*")
_SPACE = re.compile(r"\s(?=\S)")


@final
@dataclass(frozen=True)
class Paragraph:
    """Cuts at blank lines; short paragraphs join the next, long ones are cut at sentence ends.

    Args:
        short: a paragraph with fewer characters joins the next one of its block (the last one: the one before).
        long: a paragraph with more characters is cut, into parts as even as its sentence ends allow; where a sentence
            is too long itself, at line ends, else at white space; a longer word stays whole.
        lines: a block without any blank line is cut at its line ends, outside formulas.
        form: block format, see `find_blocks`.

    Source: tp_grpo.md 1.2. Differs: `lines`; the thresholds are that spec's choice, the paper names none.

    >>> Paragraph().unit
    'paragraph'
    """

    short: int = 40
    long: int = 1200
    lines: bool = True
    form: str = "auto"
    unit: str = field(default="paragraph", init=False)

    def __post_init__(self) -> None:
        check_form(self.form)
        if not 0 <= self.short <= self.long or self.long < 1:
            raise UsageError(f"paragraph needs 0 <= short <= long, got short {self.short}, long {self.long}")

    def split(self, outcome: Outcome) -> Steps:
        """Partition the completion into paragraphs."""
        blocks = blocks_of(outcome.rollout, self.form)
        text = outcome.rollout.text
        breaks = [match.end() for match in _BLANK_LINES.finditer(text)]
        cuts: list[int] = []
        for block in (blocks.think, blocks.answer):
            if block is not None:
                cuts += self._cuts(text, block, [cut for cut in breaks if block[0] < cut < block[1]])
        return partition(outcome, cuts, unit=self.unit, blocks=blocks)

    def _cuts(self, text: str, block: tuple[int, int], breaks: Sequence[int]) -> list[int]:
        if self.lines and not breaks:
            breaks = _lines(text, block)
        bounds = _merge_short(text, [block[0], *breaks, block[1]], self.short)
        cuts = bounds[1:-1]
        for start, end in pairwise(bounds):
            if end - start > self.long:
                cuts += _cut_long(text, start, end, short=self.short, long=self.long)
        return cuts


@final
@dataclass(frozen=True)
class Newline:
    """Cuts at line ends; blank lines go with the line before.

    Args:
        form: block format, see `find_blocks`.

    Source: PRL's ablation (credit.md). Differs: none known.
    """

    form: str = "auto"
    unit: str = field(default="line", init=False)

    def __post_init__(self) -> None:
        check_form(self.form)

    def split(self, outcome: Outcome) -> Steps:
        """Partition the completion into lines."""
        cuts = [match.end() for match in _LINE_END.finditer(outcome.rollout.text)]
        return partition(outcome, cuts, unit=self.unit, blocks=blocks_of(outcome.rollout, self.form))


@final
@dataclass(frozen=True)
class Sentence:
    """Cuts at sentence ends, never inside a formula (`sentence_starts`).

    Args:
        form: block format, see `find_blocks`.

    Source: VinePPO, arXiv:2410.01679. Differs: rules written anew.
    """

    form: str = "auto"
    unit: str = field(default="sentence", init=False)

    def __post_init__(self) -> None:
        check_form(self.form)

    def split(self, outcome: Outcome) -> Steps:
        """Partition the completion into sentences."""
        cuts = sentence_starts(outcome.rollout.text)
        return partition(outcome, cuts, unit=self.unit, blocks=blocks_of(outcome.rollout, self.form))


@final
@dataclass(frozen=True)
class Numbered:
    """Cuts before lines that open with `Step n:` (also bold, as a heading, or with a full stop).

    Text before the first such line is a step of its own.

    Args:
        word: the word before the number; case does not matter.
        form: block format, see `find_blocks`.

    Source: own. Differs: none.
    """

    word: str = "step"
    form: str = "auto"
    unit: str = field(default="numbered", init=False)

    def __post_init__(self) -> None:
        check_form(self.form)
        if not self.word.strip():
            raise UsageError("numbered needs the word that stands before the number, such as `step`")

    def split(self, outcome: Outcome) -> Steps:
        """Partition the completion at its numbered headings."""
        pattern = rf"^[ \t>*#_-]*{re.escape(self.word)}[ \t]*\d+[ \t*_]*[:.)—–-]"
        found = re.finditer(pattern, outcome.rollout.text, re.IGNORECASE | re.MULTILINE)
        cuts = [match.start() for match in found]
        return partition(outcome, cuts, unit=self.unit, blocks=blocks_of(outcome.rollout, self.form))


@final
@dataclass(frozen=True)
class Delimiter:
    """Cuts before each occurrence of a word that opens a unit, such as `;` in the embedded tasks.

    Args:
        word: stands between white space; the space before it goes with it, as in tokenizers.
        form: block format, see `find_blocks`.

    Source: embedded_world.md 8.1. Differs: none.
    """

    word: str = ";"
    form: str = "auto"
    unit: str = field(default="delimited", init=False)

    def __post_init__(self) -> None:
        check_form(self.form)
        if self.word.split() != [self.word]:
            raise UsageError(f"delimiter needs one word without white space, got {self.word!r}")

    def split(self, outcome: Outcome) -> Steps:
        """Partition the completion at the word."""
        found = re.finditer(rf"(?:^|\s){re.escape(self.word)}(?!\S)", outcome.rollout.text)
        cuts = [match.start() for match in found]
        return partition(outcome, cuts, unit=self.unit, blocks=blocks_of(outcome.rollout, self.form))


def _lines(text: str, block: tuple[int, int]) -> list[int]:
    """Line ends of a block, outside formulas."""
    ranges = formulas(text[block[0] : block[1]])
    found = _LINE_END.finditer(text, *block)
    return [match.end() for match in found if not in_formula(ranges, match.start() - block[0])]


def _merge_short(text: str, bounds: Sequence[int], short: int) -> list[int]:
    """Bounds left after each part with fewer than `short` characters has joined the next."""
    kept = [bounds[0]]
    for bound in bounds[1:-1]:
        if len(text[kept[-1] : bound].strip()) >= short:
            kept.append(bound)
    if len(kept) > 1 and len(text[kept[-1] : bounds[-1]].strip()) < short:
        kept.pop()
    return [*kept, bounds[-1]]


def _cut_long(text: str, start: int, end: int, *, short: int, long: int) -> list[int]:
    """Cuts that leave parts of at most `long` characters, at the best kind of place there is for each."""
    part = text[start:end]
    levels = (
        sentence_starts(part),
        [m.end() for m in _LINE_END.finditer(part)],
        [m.start() for m in _SPACE.finditer(part)],
    )
    cuts: list[int] = []
    at, size = 0, end - start
    while size - at > long:
        aim = at + (size - at) / -(-(size - at) // long)
        found = next(
            (cut for level in levels if (cut := _nearest(level, at + short, min(at + long, size - short), aim))), None
        )
        if found is None:  # one word: go on behind it
            found = next((cut for cut in levels[-1] if at + long < cut < size), None)
            if found is None:
                break
        cuts.append(start + found)
        at = found
    return cuts


def _nearest(places: Sequence[int], low: int, high: int, aim: float) -> int | None:
    """The place in (low, high] nearest to `aim`."""
    first, last = bisect_left(places, low + 1), bisect_left(places, high + 1)
    if first >= last:
        return None
    index = min(max(bisect_left(places, aim, first, last), first), last - 1)
    before = max(index - 1, first)
    return min(places[before], places[index], key=lambda place: abs(place - aim))
