"""Rows of data sets on the Hugging Face hub, by the `datasets` package (extra `datasets`)."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from stepcredit.core.errors import MachineError


def hub_rows(
    name: str, *, config: str | None = None, split: str, revision: str | None = None
) -> Iterator[Mapping[str, Any]]:
    """The rows of one split, in order.

    Args:
        name: id on the hub, or a folder of data files that `datasets` can read.
        config: configuration of the set, `None` for its only one.
        split: name of the split.
        revision: commit or tag; `None` takes the newest.

    Raises:
        MachineError: if `datasets` is not installed, or the set cannot be loaded (no network, no access).

    Source: own. Differs: none.
    """
    if find_spec("datasets") is None:
        raise MachineError("sets on the hub need datasets; install with: pip install 'stepcredit[datasets]'")
    datasets: Any = import_module("datasets")
    try:
        loaded = datasets.load_dataset(name, config, split=split, revision=revision)
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        mend = "give the problems as a file with --data, or log in where the set asks for it"
        raise MachineError(f"the set cannot be loaded ({type(error).__name__}: {why}); {mend}", item=name) from error
    yield from loaded
