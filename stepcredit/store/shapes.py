"""Shape of the manifests that a run reads of another: what is not as a run writes it is damage, and no bug of ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepcredit.core.errors import StoreError
from stepcredit.store.run_folder import read_manifest

Shape = Mapping[str, tuple[type, ...]]
"""Dotted keys, and the types that their values may have."""

JUDGED: Shape = {
    "input.name": (str,),
    "input.sha256": (str,),
    "judge.name": (str,),
    "judge.version": (str, type(None)),
    "checker": (str,),
    "steps": (str,),
}
"""Of a run of `judge` or `run`."""

EVALUATED: Shape = {"input.name": (str,), "input.sha256": (str,), "judge.name": (str,)}
"""Of a run of `evaluate`."""

ARM: Shape = {
    "arm": (str,),
    "seed": (int,),
    "recipe.world": (dict,),
    "settings.judge": (str,),
    "settings.splitter": (str,),
    "settings.split": (dict,),
}
"""Of an arm of a run of `demo` or `train`."""

ARMS: Shape = {"arms": (list,)}
"""Of such a run."""


def read_shaped(path: Path, shape: Shape) -> dict[str, Any]:
    """Manifest of a run folder.

    Args:
        path: the folder.
        shape: keys that are read.

    Raises:
        UsageError: if the folder holds no run.
        StoreError: if a key is not there, or holds something else.
    """
    manifest = read_manifest(path)
    for key, types in shape.items():
        found: Any = manifest
        for name in key.split("."):
            found = found.get(name, ...) if isinstance(found, dict) else ...
        if not isinstance(found, types):
            got = "nothing" if found is ... else f"{type(found).__name__} {str(found)[:40]!r}"
            wrong = f"the manifest is damaged: under {key} it has {got}, no {types[0].__name__}"
            raise StoreError(f"{wrong}; copy it back, or make the run again", item=str(path / "manifest.json"))
    return manifest
