"""What the house rules look at: the parsed modules of the package, and the files that git tracks."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "stepcredit"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One parsed Python file."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def at(self, node: ast.AST) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 0)}"


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """Parsed modules below the folders, by default the package's."""
    return tuple(
        module(path) for folder in folders or ("stepcredit",) for path in sorted((ROOT / folder).rglob("*.py"))
    )


@cache
def module(path: Path) -> Module:
    """One file, parsed once for all rules."""
    return Module(path, text := path.read_text(encoding="utf-8"), ast.parse(text))


@cache
def tracked() -> tuple[Path, ...]:
    """Files that git tracks; where there is no git, all files of the known folders."""
    try:
        found = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        folders = ("stepcredit", "tests", "docs", "examples", "benchmarks", ".ci")
        return tuple(path for folder in folders for path in sorted((ROOT / folder).rglob("*")) if path.is_file())
    return tuple(path for name in found.stdout.split("\0") if name and (path := ROOT / name).is_file())


def is_public(name: str) -> bool:
    return not name.startswith("_")


def public_names(module: Module) -> Iterator[tuple[str, ast.AST]]:
    """Names a user can meet: modules' functions and classes, their public methods, fields and parameters."""
    for node in module.tree.body:
        if isinstance(node, Function | ast.ClassDef) and is_public(node.name):
            yield from _names_of(node)


def _names_of(node: Function | ast.ClassDef) -> Iterator[tuple[str, ast.AST]]:
    yield node.name, node
    if isinstance(node, ast.ClassDef):
        for inner in node.body:
            if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name) and is_public(inner.target.id):
                yield inner.target.id, inner
            elif isinstance(inner, Function) and (is_public(inner.name) or inner.name == "__init__"):
                yield from _names_of(inner)
        return
    arguments = node.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        yield argument.arg, argument
