"""Bytes under content keys, kept in the run's ledger: what a judge or model said once need not be asked again."""

from collections.abc import Mapping
from typing import final

from stepcredit.store.ledger import Ledger


@final
class VerdictCache:
    """A cache of bytes in a ledger; what is there is never changed.

    Args:
        ledger: where the bytes are kept.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def get(self, key: str) -> bytes | None:
        """The bytes under the key, `None` if it was never put."""
        return self._ledger.cache_get(key)

    def put_all(self, entries: Mapping[str, bytes]) -> None:
        """Keep the bytes under each key, all or none should the process end."""
        with self._ledger.together():
            for key, value in entries.items():
                self.put(key, value)

    def put(self, key: str, value: bytes) -> None:
        """Keep the bytes under the key; if the key is there already, what is there stays."""
        self._ledger.cache_put(key, value)
