"""Lines of step-labelled files: one JSON object a line, plain, `.gz` or `.zst`; every error names file and line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from stepcredit.core.errors import UsageError
from stepcredit.tasks.jsonl import read_objects


@final
@dataclass(frozen=True)
class Line:
    """One object of a file, with readers that say what is wrong and where.

    Args:
        place: `file:line`.
        row: the object.
    """

    place: str
    row: Mapping[str, Any]

    def wrong(self, message: str) -> UsageError:
        """The error that names the line."""
        return UsageError(message, item=self.place)

    def text(self, *keys: str, default: str | None = None) -> str:
        """The text under the first of the keys that is there.

        Raises:
            UsageError: if none is there and there is no default, or it is not a text.
        """
        for key in keys:
            if self.row.get(key) is not None:
                if not isinstance(self.row[key], str):
                    raise self.wrong(f"`{key}` must be a text, got {_kind(self.row[key])}")
                return self.row[key]
        if default is None:
            raise self.wrong(f"no key {' or '.join(f'`{key}`' for key in keys)}; the keys are {', '.join(self.row)}")
        return default

    def texts(self, key: str, *, least: int = 0) -> tuple[str, ...]:
        """The list of texts under a key; an absent one is empty.

        Raises:
            UsageError: if it is no list of texts, or shorter than `least`.
        """
        value = self.row.get(key)
        items = [] if value is None else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items) or len(items) < least:
            raise self.wrong(f"`{key}` must be a list of at least {least} texts, got {_kind(value)}")
        return tuple(items)

    def objects(self, key: str) -> tuple["Line", ...]:
        """The list of objects under a key.

        Raises:
            UsageError: if it is no list of objects.
        """
        value = self.row.get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(f"`{key}` must be a list of objects, got {_kind(value)}")
        return tuple(Line(self.place, item) for item in value)

    def object(self, key: str) -> "Line":
        """The object under a key.

        Raises:
            UsageError: if it is none.
        """
        value = self.row.get(key)
        if not isinstance(value, dict):
            raise self.wrong(f"`{key}` must be an object, got {_kind(value)}")
        return Line(self.place, value)

    def whole(self, key: str) -> int | None:
        """The whole number under a key, `None` where it is absent or null.

        Raises:
            UsageError: if it is anything else.
        """
        value = self.row.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self.wrong(f"`{key}` must be a whole number, got {_kind(value)}")
        return value

    def truth(self, key: str) -> bool | None:
        """True, False, or `None` where the key is absent or null.

        Raises:
            UsageError: if it is anything else.
        """
        value = self.row.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(f"`{key}` must be true or false, got {_kind(value)}")
        return value


def lines(path: Path) -> Iterator[Line]:
    """The objects of a file, in order; blank lines are passed over.

    Raises:
        UsageError: if the file is not there, empty, cannot be unpacked, or a line is no JSON object.
        MachineError: if it may not be read.
    """
    for place, row in read_objects(path):
        yield Line(place, row)


def find_file(folder: Path, name: str) -> Path:
    """`NAME.jsonl` in a folder, plain or packed.

    Raises:
        UsageError: if there is none.
    """
    paths = [folder / f"{name}.jsonl{ending}" for ending in ("", ".gz", ".zst")]
    for path in paths:
        if path.is_file():
            return path
    raise UsageError(f"no {name}.jsonl, plain, .gz or .zst, in this folder", item=str(folder))


def unique(places: Sequence[tuple[str, str]]) -> None:
    """Refuses two lines of one id.

    Args:
        places: (id, `file:line`) of each.

    Raises:
        UsageError: if there are two.
    """
    seen: dict[str, str] = {}
    for name, place in places:
        if name in seen:
            raise UsageError(f"id `{name}` stands in {seen[name]} too; ids must differ", item=place)
        seen[name] = place


def _kind(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
