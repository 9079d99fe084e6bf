"""The file of recorded solutions, read as a stream: once to check and group it, then as often as it is walked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import file_digest
from pathlib import Path
from typing import final

from stepcredit.recipes.recorded.rollouts import Grouping, grouped
from stepcredit.recipes.recorded.settings import GroupBy
from stepcredit.tasks.jsonl import RecordedResponse, SkippedLine, stream_responses


@final
@dataclass(frozen=True)
class RecordedInput:
    """A file that was read through once.

    Args:
        file: the file.
        sha256: digest of its bytes.
        number: solutions in it.
        characters: of all their texts.
        models: models in the order of their first solution.
        grouping: groups of all solutions.
        skipped: lines that cannot be used.
        skip_bad: such lines are skipped, else there are none.
        whole: solutions are judged as a whole, so steps that lines bring are not looked at.
    """

    file: Path
    sha256: str
    number: int
    characters: int
    models: tuple[str, ...]
    grouping: Grouping
    skipped: tuple[SkippedLine, ...]
    skip_bad: bool
    whole: bool = False

    def items(self) -> Iterator[tuple[int, RecordedResponse]]:
        """Solutions with their places, from 0, as the file is read again."""
        found = stream_responses(self.file, skipped=[] if self.skip_bad else None)
        return enumerate(replace(item, steps=None) if self.whole else item for item in found)

    def turn(self, turns: Mapping[int, str], turn: str) -> Iterator[tuple[int, RecordedResponse]]:
        """Solutions whose turn it is; `turns` names it by place, all others are tried `beside` one another."""
        return (placed for placed in self.items() if turns.get(placed[0], "beside") == turn)


def read_input(file: Path, *, group_by: GroupBy, skip_bad: bool, whole: bool = False) -> RecordedInput:
    """Read a file through: every line is checked, none is held.

    Args:
        file: JSONL, plain or packed.
        group_by: which solutions are compared.
        skip_bad: leave out lines that cannot be used, instead of refusing the file.
        whole: solutions are judged as a whole.

    Raises:
        UsageError: for a file or line that cannot be used.
        MachineError: if the file may not be read.
    """
    skipped: list[SkippedLine] = []
    models: dict[str, None] = {}
    characters = 0

    def counted() -> Iterator[RecordedResponse]:
        nonlocal characters
        for item in stream_responses(file, skipped=skipped if skip_bad else None):
            models.setdefault(item.model)
            characters += len(item.response)
            yield item

    grouping = grouped(counted(), group_by)
    with file.open("rb") as opened:
        checksum = file_digest(opened, "sha256").hexdigest()
    number = len(grouping.names)
    return RecordedInput(file, checksum, number, characters, tuple(models), grouping, tuple(skipped), skip_bad, whole)
