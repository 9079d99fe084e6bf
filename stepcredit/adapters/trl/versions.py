"""Which versions of TRL the adapter works with; the tests run on the oldest and the newest of them."""

import re
from importlib.metadata import PackageNotFoundError, version

from stepcredit.core.errors import MachineError

OLDEST = (0, 29, 1)
"""Below it nothing is proven: 0.26.2 does not import beside transformers 5 (engines.md 1.2)."""

NEWEST = (1, 16)
"""The hook is private (`_generate_and_score_completions`): a newer minor version is refused until it was tried."""

_MEND = "install with: pip install 'stepcredit[trl]'"


def check_trl() -> str:
    """The version of TRL that is installed.

    Raises:
        MachineError: if there is none, or it is not one that the adapter is tested with; names the mend.
    """
    try:
        found = version("trl")
    except PackageNotFoundError:
        raise MachineError(f"the adapter for TRL needs trl; {_MEND}") from None
    check_version(found)
    return found


def check_version(found: str) -> None:
    """Refuse a version of TRL that the adapter is not tested with.

    Raises:
        MachineError: naming the supported range and the mend.

    >>> check_version("0.29.1"), check_version("1.16.3")
    (None, None)
    """
    numbers = tuple(int(part) for part in re.findall(r"\d+", found.split("+", maxsplit=1)[0])[:3])
    if numbers < OLDEST or numbers[:2] > NEWEST:
        oldest = ".".join(map(str, OLDEST))
        newest = ".".join(map(str, NEWEST))
        raise MachineError(f"TRL {found} is not supported: the adapter is tested with {oldest} to {newest}; {_MEND}")
