"""The ledger: one SQLite file a run, unique content keys, group commit; the truth on every stage of the path.

A record is durable when its group was committed: after 64 records, 100 ms, or `flush()`, whichever comes first.
"""

import atexit
import sqlite3
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, Literal, final

import orjson
import zstandard

from stepcredit.core.errors import StoreError
from stepcredit.store.attempts import AttemptRecord, AttemptTotals

Journal = Literal["wal", "delete"]
"""`wal` on local disks; `delete` (rollback journal) on network file systems, where WAL does not work."""

SCHEMA_VERSION = 1
_PAGE = 256
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY, stage TEXT NOT NULL, key TEXT NOT NULL, payload BLOB NOT NULL, UNIQUE (stage, key));
CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY, call TEXT NOT NULL, route TEXT NOT NULL, number INTEGER NOT NULL, status INTEGER,
    seconds REAL NOT NULL, input_tokens INTEGER, output_tokens INTEGER, cost REAL, error TEXT NOT NULL,
    time_s REAL NOT NULL);
"""
_ATTEMPT_COLUMNS = ", ".join(f.name for f in fields(AttemptRecord))
_ATTEMPT_MARKS = ", ".join("?" for _ in fields(AttemptRecord))
_COUNT_CALLS = "SELECT COUNT(DISTINCT call), COUNT(*), TOTAL(error <> ''), TOTAL(seconds), "
_TOTALS = _COUNT_CALLS + "SUM(input_tokens), SUM(output_tokens), SUM(cost) FROM attempts"


@final
class Ledger:
    """Records of a run by stage and content key; safe to use from threads and from async code.

    Args:
        path: the SQLite file; made if absent.
        group_size: records that force a commit.
        group_seconds: age of the oldest uncommitted record that forces a commit.
        busy_seconds: how long to wait for another process's transaction.
        journal: see `Journal`; `None` leaves a ledger as it is, for those who only look.

    Raises:
        StoreError: if the file is not a ledger, is damaged, or was made by a newer version of stepcredit.

    Source: reliability.md B2. Differs: none.
    """

    def __init__(
        self,
        path: Path,
        *,
        group_size: int = 64,
        group_seconds: float = 0.1,
        busy_seconds: float = 30.0,
        journal: Journal | None = "wal",
    ) -> None:
        self._path = path
        self._group_size, self._group_seconds = group_size, group_seconds
        self._wake = threading.Condition(threading.RLock())
        self._pending, self._deadline, self._held = 0, 0.0, 0
        self._closed = False
        self._failure: str | None = None
        self._packer = zstandard.ZstdCompressor(level=3, write_checksum=True)
        self._unpacker = zstandard.ZstdDecompressor()
        try:
            # Autocommit: transactions are opened and closed by this class alone.
            self._db = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise StoreError(f"cannot open the ledger: {error}", item=str(path)) from error
        try:
            self._prepare(journal)
        except BaseException:
            self._db.close()
            raise
        self._committer = threading.Thread(target=self._commit_late, name="ledger-commit", daemon=True)
        self._committer.start()
        atexit.register(self.close)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, stage: str, key: str, payload: Mapping[str, Any]) -> bool:
        """Store a record unless the stage has the key already.

        Args:
            stage: name of the stage.
            key: content key, from `core.digests.digest` over all that the record depends on.
            payload: JSON-able mapping; floats that are not finite are stored as null (unknown).

        Returns:
            True if the record is new; False if the key was there, and what was there stays.

        Raises:
            StoreError: if the payload is not JSON-able or the file cannot be written.
        """
        try:
            data = orjson.dumps(dict(payload), option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError as error:
            raise StoreError(f"record {stage}/{key} cannot be written as JSON: {error}") from error
        with self._guard(f"cannot store {stage}/{key}"):
            row = (stage, key, self._packer.compress(data))
            return self._insert("INSERT OR IGNORE INTO records (stage, key, payload) VALUES (?, ?, ?)", row)

    def get(self, stage: str, key: str) -> dict[str, Any] | None:
        """The record's payload, or `None` if the stage has no such key.

        Raises:
            StoreError: if the stored bytes are damaged.
        """
        with self._guard(f"cannot read {stage}/{key}"):
            query = "SELECT payload FROM records WHERE stage = ? AND key = ?"
            row = self._db.execute(query, (stage, key)).fetchone()
            return None if row is None else self._unpack(row[0], f"{stage}/{key}")

    def has(self, stage: str, key: str) -> bool:
        """True if the stage has the key."""
        with self._guard(f"cannot read {stage}/{key}"):
            query = "SELECT 1 FROM records WHERE stage = ? AND key = ?"
            return self._db.execute(query, (stage, key)).fetchone() is not None

    def items(self, stage: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Keys and payloads of a stage in the order they were put; holds a page of rows in memory, not the stage."""
        query = "SELECT id, key, payload FROM records WHERE stage = ? AND id > ? ORDER BY id LIMIT ?"
        last, page = 0, _PAGE
        while page == _PAGE:
            with self._guard(f"cannot read stage {stage}"):
                rows = self._db.execute(query, (stage, last, _PAGE)).fetchall()
                found = [(row[1], self._unpack(row[2], f"{stage}/{row[1]}")) for row in rows]
            page = len(rows)
            last = rows[-1][0] if rows else last
            yield from found

    def count(self, stage: str) -> int:
        """Number of records of the stage."""
        with self._guard(f"cannot read stage {stage}"):
            return int(self._db.execute("SELECT COUNT(*) FROM records WHERE stage = ?", (stage,)).fetchone()[0])

    def stages(self) -> dict[str, int]:
        """Number of records of each stage that has any, by name."""
        with self._guard("cannot read the stages"):
            query = "SELECT stage, COUNT(*) FROM records GROUP BY stage ORDER BY stage"
            return {str(stage): int(count) for stage, count in self._db.execute(query)}

    def cache_put(self, key: str, value: bytes) -> bool:
        """Store bytes under a content key; True if the key is new."""
        with self._guard(f"cannot store {key}"):
            row = (key, self._packer.compress(value))
            return self._insert("INSERT OR IGNORE INTO cache (key, value) VALUES (?, ?)", row)

    def cache_get(self, key: str) -> bytes | None:
        """The bytes under the content key, or `None`."""
        with self._guard(f"cannot read {key}"):
            row = self._db.execute("SELECT value FROM cache WHERE key = ?", (key,)).fetchone()
            return None if row is None else self._inflate(row[0], key)

    def attempt(self, record: AttemptRecord) -> None:
        """Append one row to the attempts table."""
        with self._guard(f"cannot store an attempt of {record.call}"):
            query = f"INSERT INTO attempts ({_ATTEMPT_COLUMNS}) VALUES ({_ATTEMPT_MARKS})"  # noqa: S608 -- own names
            self._insert(query, astuple(record))

    def attempts(self) -> Iterator[AttemptRecord]:
        """All attempts in the order they were recorded."""
        query = f"SELECT id, {_ATTEMPT_COLUMNS} FROM attempts WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 -- own names
        last, page = 0, _PAGE
        while page == _PAGE:
            with self._guard("cannot read the attempts"):
                rows = self._db.execute(query, (last, _PAGE)).fetchall()
            page = len(rows)
            last = rows[-1][0] if rows else last
            yield from (AttemptRecord(*row[1:]) for row in rows)

    def attempt_totals(self) -> AttemptTotals:
        """Sums over all attempts."""
        with self._guard("cannot read the attempts"):
            calls, attempts, failed, seconds, *known = self._db.execute(_TOTALS).fetchone()
            query = "SELECT error, COUNT(*) FROM attempts WHERE error <> '' GROUP BY error ORDER BY error"
            errors = {str(name): int(count) for name, count in self._db.execute(query)}
        return AttemptTotals(calls, attempts, int(failed), seconds, known[0], known[1], known[2], errors)

    def flush(self) -> None:
        """Commit what is pending; when this returns, all that was put is on disk."""
        with self._guard("cannot commit"):
            self._commit()

    @contextmanager
    def together(self) -> Generator[None]:
        """What is put in this block is kept all or none, whenever the process ends.

        Other threads wait meanwhile: keep the block short, and await nothing in it.
        """
        with self._wake:
            self._held += 1
            try:
                yield
            finally:
                self._held -= 1

    def check(self) -> None:
        """Read every page.

        Raises:
            StoreError: if SQLite finds damage.
        """
        with self._guard("cannot check"):
            found = str(self._db.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if found != "ok":
            raise StoreError(f"the ledger is damaged ({found}); restore it from a copy", item=str(self._path))

    def close(self) -> None:
        """Commit and close; closing twice is harmless."""
        with self._wake:
            if self._closed:
                return
            self._closed = True
            self._wake.notify()
            try:
                if self._failure is None:
                    self._commit()
            except sqlite3.Error as error:
                raise self._broken("cannot commit", error) from error
            finally:
                self._db.close()
                atexit.unregister(self.close)
        self._committer.join()

    def _prepare(self, journal: Journal | None) -> None:
        try:
            if journal is not None:
                self._db.execute(f"PRAGMA journal_mode={journal}")
            self._db.execute("PRAGMA synchronous=FULL")
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if version == 0:
                self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        except sqlite3.Error as error:
            raise StoreError(f"cannot use the ledger: {error}", item=str(self._path)) from error
        if version > SCHEMA_VERSION:
            wrong = f"the ledger has schema {version}, this stepcredit reads up to {SCHEMA_VERSION}; upgrade stepcredit"
            raise StoreError(wrong, item=str(self._path))

    def _insert(self, query: str, row: tuple[Any, ...]) -> bool:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        new = self._db.execute(query, row).rowcount == 1
        self._pending += 1
        if self._pending == 1:
            self._deadline = time.monotonic() + self._group_seconds
            self._wake.notify()
        if self._pending >= self._group_size and not self._held:
            self._commit()
        return new

    def _commit(self) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._pending = 0

    def _commit_late(self) -> None:
        with self._wake:
            while not self._closed:
                left = self._deadline - time.monotonic()
                if not self._pending or self._failure is not None:
                    self._wake.wait()
                elif left > 0:
                    self._wake.wait(left)
                else:
                    try:
                        self._commit()
                    except sqlite3.Error as error:
                        self._broken("cannot commit", error)  # raised by the next call

    @contextmanager
    def _guard(self, doing: str) -> Generator[None]:
        with self._wake:
            if self._failure is not None:
                raise StoreError(self._failure, item=str(self._path))
            if self._closed:
                raise StoreError(f"{doing}: the ledger is closed", item=str(self._path))
            try:
                yield
            except sqlite3.Error as error:
                raise self._broken(doing, error) from error

    def _broken(self, doing: str, error: sqlite3.Error) -> StoreError:
        """After a failed write nothing more is accepted: records of the open group are gone and must be asked again."""
        lost = self._pending
        self._failure = f"{doing}: {error}; {lost} uncommitted records will be asked again on resume"
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error as second:
                self._failure += f" (rollback failed too: {second})"
        self._pending = 0
        return StoreError(self._failure, item=str(self._path))

    def _unpack(self, data: bytes, name: str) -> dict[str, Any]:
        try:
            return orjson.loads(self._inflate(data, name))
        except orjson.JSONDecodeError as error:
            raise StoreError(f"record {name} is damaged: {error}", item=str(self._path)) from error

    def _inflate(self, data: bytes, name: str) -> bytes:
        try:
            return self._unpacker.decompress(data)
        except zstandard.ZstdError as error:
            raise StoreError(f"record {name} is damaged: {error}", item=str(self._path)) from error
