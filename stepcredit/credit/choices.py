"""Checks of settings that every rule shares: one of a few words, a number in a range."""

import math
from difflib import get_close_matches
from typing import Any, get_args

from stepcredit.core.errors import UsageError


def nearest(name: str, known: tuple[str, ...]) -> str:
    """End of an error message about an unknown name: the nearest known one, or all of them.

    >>> nearest("tpgrpo", ("grpo", "tp_grpo"))
    "did you mean 'tp_grpo'?"
    """
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"


def check_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a word that is not one of the choices.

    Args:
        name: the setting, as the reader would write it.
        value: what was given.
        choices: the `Literal` type that lists what is allowed.

    Raises:
        UsageError: naming the nearest choice.
    """
    known = get_args(choices)
    if value not in known:
        raise UsageError(f"{name} = {value!r} is unknown; {nearest(str(value), known)}")


def check_number(name: str, value: float) -> None:
    """Refuse a number that is negative, infinite or NaN.

    Raises:
        UsageError: naming the setting.
    """
    if not (math.isfinite(value) and value >= 0.0):
        raise UsageError(f"{name} must be a finite number of at least 0, got {value}")
