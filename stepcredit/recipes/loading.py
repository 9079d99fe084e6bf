"""Reading a recipe: TOML file plus `--set section.key=value`, checked against a schema, errors name place and mend."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from stepcredit.core.errors import UsageError
from stepcredit.recipes.catalogue import recipe_path

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


class Section(BaseModel):
    """Base of all recipe sections: frozen, an unknown key is an error, and so is a number that is not finite.

    TOML tells whole numbers, numbers, words and true or false apart, and so do we: `true` is no 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        wanted = _kinds(cls.model_fields[info.field_name or ""].annotation)
        for place, leaf in _leaves(value):
            if wanted is not None and isinstance(leaf, bool | int | float | str) and type(leaf) not in wanted:
                named = wanted - {int} if float in wanted else wanted
                known = " or ".join(name for kind, name in _KINDS.items() if kind in named)
                raise ValueError(f"wants {known}{f' at {place}, got {leaf!r}' if place else ''}")
        return value


R = TypeVar("R", bound=Section)


def load_recipe(path: Path, schema: type[R], *, overrides: Sequence[str] = ()) -> R:
    """Read a recipe file and apply `section.key=value` overrides.

    Args:
        path: a TOML file, or the name of a recipe that ships.
        schema: what it must look like.
        overrides: later ones win; values are read as TOML, and as a string where that fails.

    Raises:
        UsageError: for a missing or broken file, an unknown key (names the nearest one) or a value out of range.
    """
    path = recipe_path(path)
    try:
        with path.open("rb") as stream:
            data = tomllib.load(stream)
    except FileNotFoundError:
        raise UsageError("no such recipe; `stepcredit recipes` lists those that ship", item=str(path)) from None
    except (IsADirectoryError, NotADirectoryError):
        mend = "name a TOML file, or a recipe that `stepcredit recipes` lists"
        raise UsageError(f"a recipe is one file; {mend}", item=str(path)) from None
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
        raise UsageError(_explain(error, schema, data), item=name) from None


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


def _explain(error: ValidationError, schema: type[Section], data: Mapping[str, Any]) -> str:
    errors = error.errors()
    other = _other_kind(errors, schema)
    if other:
        return other
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key {place}{nearest_key(_first_key(place, first['input']), _keys(schema, '', data))}{more}"
    if first["type"] == "missing":
        return f"{place} is missing{more}"
    told = first["msg"].removeprefix("Value error, ")
    told = told[:1].lower() + told[1:]
    got = f", got {first['input']!r}" if isinstance(first["input"], bool | int | float | str) else ""
    return f"{f'{place}: ' if place else ''}{told}{got}{more}"


def nearest_key(key: str, known: Sequence[str]) -> str:
    """End of an error message about an unknown key: the nearest known one; empty if none is near.

    >>> nearest_key("chekcer.mode", ["checker.cut", "checker.mode"]), nearest_key("zzz", ["checker.mode"])
    ('; did you mean checker.mode?', '')
    """
    close = get_close_matches(key, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _other_kind(errors: Sequence[Any], schema: type[Section]) -> str:
    """That the file is a recipe for something else: it has other sections, and not those that are wanted."""
    outer = [error for error in errors if len(error["loc"]) == 1]
    strange = [str(error["loc"][0]) for error in outer if error["type"] == "extra_forbidden"]
    absent = [str(error["loc"][0]) for error in outer if error["type"] == "missing"]
    if not (strange and absent):
        return ""
    wanted = ", ".join(f"[{name}]" for name in schema.model_fields)
    has, lacks = (", ".join(f"[{name}]" for name in names) for names in (strange, absent))
    return f"a recipe for something else: it has {has} and lacks {lacks}; the sections are {wanted}"


def _first_key(place: str, value: Any) -> str:
    """The whole dotted key of an unknown section's first entry: `chekcer.mode`, not `chekcer` alone."""
    while isinstance(value, Mapping) and value:
        name, value = next(iter(value.items()))
        place = f"{place}.{name}"
    return place


def _keys(schema: type[BaseModel], prefix: str, data: Mapping[str, Any]) -> list[str]:
    """All keys that the schema knows; sections whose names are free, such as `[arms.NAME]`, by the names in use."""
    found: list[str] = []
    for name, field in schema.model_fields.items():
        inner: Any = data.get(name)
        inner = inner if isinstance(inner, Mapping) else {}
        kind: Any = field.annotation
        free: Any = get_args(kind)[1] if get_origin(kind) is Mapping else None
        if _is_section(kind):
            found.extend(_keys(kind, f"{prefix}{name}.", inner))
        elif _is_section(free):
            for chosen, part in inner.items():
                found.extend(_keys(free, f"{prefix}{name}.{chosen}.", part if isinstance(part, Mapping) else {}))
        else:
            found.append(prefix + name)
    return found


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kinds(annotation: Any) -> set[type] | None:
    """Kinds of the values that a field takes; `None` where sections stand, which look at their own."""
    if get_origin(annotation) is Literal:
        return {type(value) for value in get_args(annotation)}
    inner = get_args(annotation)
    if get_origin(annotation) is Mapping:
        inner = inner[1:]
    if not inner:
        return None if _is_section(annotation) else {annotation, int} if annotation is float else {annotation}
    found: set[type] = set()
    for each in inner:
        kinds = set[type]() if each is Ellipsis else _kinds(each)
        if kinds is None:
            return None
        found |= kinds
    return found


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Where each single value stands inside a field's value, and the value."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list | tuple):
        pairs = list(enumerate(value))
    else:
        yield place, value
        return
    for name, inner in pairs:
        yield from _leaves(inner, f"{place}.{name}" if place else str(name))
