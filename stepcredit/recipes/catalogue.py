"""`stepcredit recipes`: the recipes that ship with the package."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from stepcredit.core.errors import UsageError

_FOLDER = Path(__file__).parent


@final
@dataclass(frozen=True)
class ShippedRecipe:
    """A recipe file of the package.

    Args:
        name: what to call it.
        about: its first comment, one line.
        path: the file.
    """

    name: str
    about: str
    path: Path

    @property
    def text(self) -> str:
        """The whole TOML text, to copy and change."""
        return self.path.read_text(encoding="utf-8")


def shipped_recipes() -> tuple[ShippedRecipe, ...]:
    """All recipes of the package, by name.

    >>> "demo" in [recipe.name for recipe in shipped_recipes()]
    True
    """
    return tuple(ShippedRecipe(path.stem, _about(path), path) for path in sorted(_FOLDER.glob("*.toml")))


def shipped_recipe(name: str) -> ShippedRecipe:
    """One recipe.

    Raises:
        UsageError: if there is none of that name; names those that ship.
    """
    known = {recipe.name: recipe for recipe in shipped_recipes()}
    if name not in known:
        raise UsageError(f"no recipe {name!r}; these ship: {', '.join(known)}")
    return known[name]


def recipe_path(path: Path) -> Path:
    """The file of a recipe that was named by its file, or by the name of one that ships; a file goes first.

    >>> recipe_path(Path("demo")).name
    'demo.toml'
    """
    if path.is_file():
        return path
    return next((recipe.path for recipe in shipped_recipes() if str(path) == recipe.name), path)


def _about(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
