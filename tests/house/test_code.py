"""Code (STYLE.md 4 and 6, reliability.md B4): what no module may do."""

import ast
from collections import Counter

from house_source import Function, Module, is_public, modules

WRITERS = {"write_text", "write_bytes", "save", "savez", "savez_compressed", "savetxt", "tofile", "dump"}
WRITING_MODES = set("wax+")
THE_WRITER = "stepcredit/store/files.py"


def test_only_the_store_opens_files_for_writing() -> None:
    found = [m.at(call) for m in modules() for call in calls(m) if m.name != THE_WRITER and writes(call)]
    assert found == [], "write through stepcredit.store.files.FileWriter"


def test_no_assert_in_package_code() -> None:
    """Asserts vanish under -O; errors say what was got and wanted."""
    assert [m.at(node) for m in modules() for node in m.nodes(ast.Assert)] == []


def test_no_bare_except() -> None:
    bare = [
        m.at(n)
        for m in modules()
        for n in m.nodes(ast.ExceptHandler)
        if isinstance(n, ast.ExceptHandler) and n.type is None
    ]
    assert bare == []


def test_no_registry_has_a_repeated_key() -> None:
    found = []
    for module in modules():
        for node in module.nodes(ast.Dict):
            keys = Counter(ast.unparse(key) for key in getattr(node, "keys", []) if key is not None)
            found += [f"{module.at(node)}: {key}" for key, count in keys.items() if count > 1]
    assert found == []


def test_credit_rules_and_losses_name_their_source() -> None:
    """Docstrings: `Source:` names paper or section, `Differs:` says where we leave it (STYLE.md 3)."""
    found = []
    for module in modules("stepcredit/credit", "stepcredit/losses"):
        for node in module.tree.body:
            if isinstance(node, Function) and is_public(node.name) and computes(module, node):
                text = ast.get_docstring(node) or ""
                found += [
                    f"{module.at(node)}: {node.name}: {word}" for word in ("Source:", "Differs:") if word not in text
                ]
    assert found == []


def test_modules_say_what_they_hold() -> None:
    assert [m.name for m in modules() if not ast.get_docstring(m.tree)] == []


def computes(module: Module, function: Function) -> bool:
    """True for rules, losses and what they are made of; checks of settings and look-ups rest on no paper."""
    returns = "None" if function.returns is None else ast.unparse(function.returns)
    return module.path.name not in ("__init__.py", "choices.py") and returns not in ("None", "str", "bool")


def writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "open":
        return any(isinstance(m, str) and WRITING_MODES & set(m) for m in modes(call))
    if name not in WRITERS or is_run_folders(call):
        return False
    if name in ("save", "dump", "savez", "savez_compressed", "savetxt"):
        owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        return owner in ("np", "numpy", "json", "pickle") and "buffer" not in [ast.unparse(a) for a in call.args]
    return True


def is_run_folders(call: ast.Call) -> bool:
    """True for `RunFolder.write_text(name, text)`, which the store writes; a path's own takes the text alone."""
    given = call.args
    return len(given) == 2 and not (isinstance(given[1], ast.Constant) and given[1].value == "utf-8")


def calls(module: Module) -> list[ast.Call]:
    return [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]


def modes(call: ast.Call) -> list[object]:
    """Constants that may be the mode: the first two arguments, and `mode=`; paths hold no lone mode letters."""
    given = [*call.args[:2], *(k.value for k in call.keywords if k.arg == "mode")]
    values = [a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return [value for value in values if len(value) <= 3]
