"""Extras: what an optional part of the install is for, and the one line that installs it."""

from importlib.util import find_spec

from stepcredit.core.errors import MachineError

EXTRAS = {
    "math": ("math_verify", "pebble"),
    "sandbox": ("wasmtime", "componentize_py", "sympy"),
    "datasets": ("datasets",),
    "inspect": ("inspect_ai",),
    "trl": ("trl",),
    "train": ("torch", "transformers", "safetensors", "matplotlib"),
}
"""Extra of the install -> the modules it brings; pyproject.toml names the packages."""


def missing_modules(extra: str) -> tuple[str, ...]:
    """Modules of an extra that are not installed.

    >>> missing_modules("math") == () or missing_modules("math")[0] in EXTRAS["math"]
    True
    """
    return tuple(name for name in EXTRAS[extra] if find_spec(name) is None)


def require_extra(extra: str, *, job: str) -> None:
    """Stop before the work starts if an extra is not installed; loads nothing.

    Args:
        extra: name of the extra.
        job: what needs it, for the message.

    Raises:
        MachineError: names what is missing and the line that installs it.
    """
    missing = missing_modules(extra)
    if missing:
        raise MachineError(f"{job} needs {', '.join(missing)}; install with: pip install 'stepcredit[{extra}]'")
