"""The checker behind tests/shape: checks what is annotated as an array, and nothing else.

Left alone are other annotations (tests pass wrong words on purpose, to read the message), the constructors of
records, which take any integer array and convert it to the type that the field names, and sizes such as `N+1` where
no argument says what N is.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, get_args

from beartype import beartype
from jaxtyping import AbstractArray

F = TypeVar("F", bound=Callable[..., Any])
NAME = re.compile(r"[A-Za-z]\w*")


def check_arrays(function: F) -> F:
    """Check the annotated arrays among a function's arguments and results."""
    if function.__name__ == "__init__":
        return function
    hints = {name: hint for name, hint in function.__annotations__.items() if any(arrays_in(hint))}
    bound = {
        axis for hint in hints.values() for array in arrays_in(hint) for axis in axes_of(array) if NAME.fullmatch(axis)
    }
    function.__annotations__ = {name: hint for name, hint in hints.items() if axes_known(hint, bound)}
    return beartype(function)


def arrays_in(hint: object) -> Iterator[Any]:
    """The array types in `Float[np.ndarray, " T"]`, and in unions, tuples and sequences of such."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        yield hint
    for part in get_args(hint):
        yield from arrays_in(part)


def axes_of(array: Any) -> list[str]:
    """The words of an array type's shape."""
    return str(array.dim_str).split()


def axes_known(hint: object, bound: set[str]) -> bool:
    """True if every name in a computed size stands alone somewhere, so that it has a value."""
    computed = [axis for array in arrays_in(hint) for axis in axes_of(array) if not NAME.fullmatch(axis)]
    return all(name in bound for axis in computed for name in NAME.findall(axis))
