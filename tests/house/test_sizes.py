"""Sizes (STYLE.md 4): module 400 lines, function 60, 8 parameters, 24 modules a folder."""

import ast

from house_source import PACKAGE, ROOT, Function, Module, modules

MODULE, FUNCTION, PARAMETERS, FOLDER = 400, 60, 8, 24
CODE = ("stepcredit", "tests", "benchmarks")


def test_modules_have_at_most_400_lines() -> None:
    assert [m.name for m in modules(*CODE) if len(m.text.splitlines()) > MODULE] == []
    scripts = sorted((PACKAGE / "report" / "page").iterdir())
    assert [path.name for path in scripts if len(path.read_text(encoding="utf-8").splitlines()) > MODULE] == []


def test_functions_have_at_most_60_lines_beside_their_docstring() -> None:
    found = [(m.at(f), f.name) for m in modules(*CODE) for f in m.functions() if lines_of(f) > FUNCTION]
    assert found == []


def test_functions_have_at_most_8_parameters() -> None:
    found = [
        (m.at(f), f.name) for m in modules() for f in m.functions() if not is_verb(m) and parameters(f) > PARAMETERS
    ]
    assert found == []


def test_folders_have_at_most_24_modules() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    found = [
        str(f.relative_to(ROOT)) for f in folders if len([p for p in f.glob("*.py") if p.stem != "__init__"]) > FOLDER
    ]
    assert found == []


def is_verb(module: Module) -> bool:
    """A command's parameters are its flags: they are fields, which STYLE.md does not count."""
    return module.name.startswith("stepcredit/cli/")


def parameters(function: Function) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([argument for argument in named if argument.arg not in ("self", "cls")])


def lines_of(function: Function) -> int:
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total
