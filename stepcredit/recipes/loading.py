"""Reading a recipe: TOML file plus `--set section.key=value`, checked against a schema, errors name place and mend."""

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from stepcredit.core.errors import UsageError


class Section(BaseModel):
    """Base of all recipe sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


R = TypeVar("R", bound=Section)


def load_recipe(path: Path, schema: type[R], *, overrides: Sequence[str] = ()) -> R:
    """Read a recipe file and apply `section.key=value` overrides.

    Args:
        path: a TOML file.
        schema: what it must look like.
        overrides: later ones win; values are read as TOML, and as a string where that fails.

    Raises:
        UsageError: for a missing or broken file, an unknown key (names the nearest one) or a value out of range.
    """
    try:
        with path.open("rb") as stream:
            data = tomllib.load(stream)
    except FileNotFoundError:
        raise UsageError("no such recipe; `stepcredit recipes` lists those that ship", item=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"not TOML: {error}", item=str(path)) from error
    for override in overrides:
        _apply(data, override)
    return parse_recipe(data, schema, name=path.name)


def parse_recipe(data: Mapping[str, Any], schema: type[R], *, name: str) -> R:
    """Check a recipe's mapping against its schema; `name` stands in the error."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise UsageError(_explain(error, schema), item=name) from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise UsageError(f"--set takes section.key=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.strip().split(".")
    place = data
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise UsageError(f"--set {key}: {section} is a value, not a section")
    place[last] = value


def _explain(error: ValidationError, schema: type[Section]) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] != "extra_forbidden":
        return f"{place}: {first['msg'].lower()}, got {first['input']!r}{more}"
    known = sorted(_keys(schema, ""))
    close = get_close_matches(place, known, n=1, cutoff=0.0)
    nearest = f"; did you mean {close[0]}?" if close else ""
    return f"unknown key {place}{nearest}{more}"


def _keys(schema: type[BaseModel], prefix: str) -> list[str]:
    found: list[str] = []
    for name, field in schema.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.extend(_keys(kind, f"{prefix}{name}."))
        else:
            found.append(prefix + name)
    return found
