"""The run folder: where a run keeps all that it made, so that any verb can stop anywhere and go on (`DESIGN.md` 5)."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, final

import numpy as np
import orjson
from numpy.typing import NDArray

from stepcredit.core.digests import digest
from stepcredit.core.errors import MachineError, StoreError, UsageError
from stepcredit.store.cache import VerdictCache
from stepcredit.store.files import FileWriter, LineFile, named, sweep, whole_lines
from stepcredit.store.filesystem import examine_place
from stepcredit.store.ledger import Ledger
from stepcredit.store.lock import FolderLock, owner_of, this_process
from stepcredit.store.shards import Shard, read_shard, write_shard
from stepcredit.store.under_way import UnderWay, left_under_way

_DONE, _METRICS = "done", "metrics"
LEDGER, LOCK = "ledger.sqlite", "lock"
"""Files that those who look at a run may open too."""

_MANIFEST, _METRICS_FILE, _UNDER_WAY = "manifest.json", "metrics.jsonl", "under-way"
_MAGIC = b"stepcredit checkpoint 1\n"
_TOLD_NOT_REFUSED = ("versions", "machine")
_BEFORE_MANIFEST = (f"{LEDGER}*", f".{_MANIFEST}.*.part", ".trial-*", _UNDER_WAY)
_ELSEWHERE = "choose another folder with --out"
_PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY


@final
class RunFolder:
    """One run's folder, open for its only writer.

    Args:
        path: the folder.
        lock: the lock, held.
        ledger: the ledger, open.
        notes: what the reader of the run should know about how it was opened, one sentence each.
        died_with: names of the items that the last session had under way when it died; empty if it did not die, or
            the machine went down with it.

    Use `create_or_open`; `read_manifest`, `read_metrics` and `read_json` look at a folder without the lock.
    """

    def __init__(
        self, path: Path, lock: FolderLock, *, ledger: Ledger, notes: tuple[str, ...], died_with: tuple[str, ...] = ()
    ) -> None:
        self.path, self.ledger, self.notes, self.died_with = path, ledger, notes, died_with
        self._lock = lock
        self._under_way: UnderWay | None = None
        self._files = FileWriter(path)
        self._metrics = LineFile(path / _METRICS_FILE)
        self._metric_count = ledger.count(_METRICS)

    @staticmethod
    def create_or_open(
        path: Path, manifest: Mapping[str, Any], *, later: str = "", said: Mapping[str, str] | None = None
    ) -> "RunFolder":
        """Make the folder, or go on in it.

        Args:
            path: the folder.
            manifest: JSON-able: resolved recipe, seeds, versions, digests. When the run goes on it must be the same;
                keys under `versions` and `machine` may differ and are told in `notes`.
            later: dotted key whose value may be `None` for now; `settle` gives it. A run that never came so far holds
                nothing yet, and takes any manifest.
            said: what is said in place of the two values of a key, where they are digests; such keys are compared
                last.

        Raises:
            UsageError: if the folder holds a run with another manifest (names the first key that differs), or files
                that are none of ours, or has no name; nothing is touched then.
            StoreError: if another process writes to it, or the ledger is damaged.
            MachineError: if the folder cannot be made or written.
        """
        _refuse_foreign(path)
        files = FileWriter(path)
        place = examine_place(path)
        lock = FolderLock(path / LOCK, everywhere=place.locks)
        try:
            notes = (*_agree(files, manifest, later=later, said=said or {}), *place.notes)
            ledger = Ledger(path / LEDGER, journal=place.journal)
            try:
                if lock.died is not None:
                    notes = (*notes, "the last writer of this run died; the ledger was checked and the run goes on")
                    ledger.check()
                for folder in (path, path / "checkpoints", path / "shards"):
                    sweep(folder)
                _mend_metrics(files, ledger)
                return RunFolder(path, lock, ledger=ledger, notes=notes, died_with=_died_with(path, lock))
            except BaseException:
                ledger.close()
                raise
        except BaseException:
            lock.release()
            raise

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit, close and let the next writer in; closing twice is harmless."""
        try:
            self.ledger.close()
        finally:
            self._metrics.close()
            if self._under_way is not None:
                self._under_way.close()
            self._lock.release()

    @property
    def under_way(self) -> UnderWay:
        """Where items are named while they are worked on; if the process dies the next session finds `died_with`."""
        if self._under_way is None:
            self._under_way = UnderWay(self.path / _UNDER_WAY)
        return self._under_way

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest that the run was made with."""
        return read_manifest(self.path)

    @property
    def cache(self) -> VerdictCache:
        """Bytes under content keys, for judges and other callers of models."""
        return VerdictCache(self.ledger)

    def settle(self, key: str, value: str, *, said: str) -> None:
        """Give the manifest's key that was left for later, or compare it.

        Args:
            key: as `later` of `create_or_open`.
            value: its value.
            said: what is said where the run was made with another.

        Raises:
            UsageError: if the run was made with another value.
        """
        kept = self.manifest
        *sections, name = key.split(".")
        inner = kept
        for section in sections:
            inner = inner[section]
        if inner[name] is None:
            inner[name] = value
            self._files.write(_MANIFEST, orjson.dumps(kept, option=_PRETTY))
        elif inner[name] != value:
            raise UsageError(f"{said}; {_ELSEWHERE}", item=str(self.path))

    def stage_done(self, stage: str, key: str) -> bool:
        """True if `mark_done` was called for the stage's part `key`, in this process or an earlier one."""
        return self.ledger.has(_DONE, digest(stage, key))

    def mark_done(self, stage: str, key: str) -> None:
        """Say that a stage's part is complete; durable when this returns, and so is all that was put before."""
        self.ledger.put(_DONE, digest(stage, key), {"stage": stage, "key": key})
        self.ledger.flush()

    def append_metrics(self, row: Mapping[str, Any], *, key: str | None = None) -> bool:
        """Append one row to `metrics.jsonl`.

        Args:
            row: JSON-able mapping; floats that are not finite become null (unknown).
            key: name of the row, such as `update/17`: a row whose name is there already is not written again, so a
                stage that was killed and runs again doubles nothing. Without a name every row is new.

        Returns:
            True if the row is new.
        """
        name = key if key is not None else f"#{self._metric_count}"
        if not self.ledger.put(_METRICS, name, row):
            return False
        self._metric_count += 1
        self._metrics.append(orjson.dumps(dict(row), option=orjson.OPT_SERIALIZE_NUMPY))
        return True

    def metrics(self) -> list[dict[str, Any]]:
        """All rows of `metrics.jsonl`, in order."""
        return list(read_metrics(self.path))

    def write_json(self, name: str, value: object) -> Path:
        """Write one JSON file, such as `summary.json`."""
        try:
            return self._files.write(name, orjson.dumps(value, option=_PRETTY))
        except TypeError as error:
            raise StoreError(f"{name} cannot be written as JSON: {error}") from error

    def read_json(self, name: str) -> Any:
        """What a JSON file of the folder holds, `None` if it is not there."""
        return read_json(self.path, name)

    def write_text(self, name: str, text: str) -> Path:
        """Write one text file as UTF-8, such as `report.html`."""
        return self._files.write(name, text)

    def write_checkpoint(self, name: str, data: bytes) -> Path:
        """Write a learner's state to `checkpoints/NAME` with its digest; an older one of that name is replaced."""
        head = _MAGIC + sha256(data).hexdigest().encode() + b"\n"
        with self._files.stream(f"checkpoints/{name}") as stream:
            stream.write(head)
            stream.write(data)
        return self.path / "checkpoints" / name

    def read_checkpoint(self, name: str) -> bytes:
        """A learner's state; raises as the function of that name."""
        return read_checkpoint(self.path, name)

    def remove_checkpoint(self, name: str) -> None:
        """Remove a checkpoint that no row needs any more; one that is not there is fine."""
        (self.path / "checkpoints" / name).unlink(missing_ok=True)

    def has_checkpoint(self, name: str) -> bool:
        """True if there is a checkpoint of that name."""
        return (self.path / "checkpoints" / name).exists()

    def write_shard(self, stage: str, key: str, *, columns: Mapping[str, NDArray[Any]]) -> Shard:
        """Write columns to `shards/`, then the ledger row that names them; a key that is there already is kept."""
        kept = self.ledger.get(stage, key)
        if kept is not None:
            return Shard(**kept)
        stem = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in f"{stage}-{key}")
        shard = write_shard(self.path / "shards", stem, columns=columns)
        self.ledger.put(stage, key, shard.as_payload())
        return shard

    def read_shard(self, stage: str, key: str) -> dict[str, NDArray[np.generic]]:
        """Columns of the shard that the ledger row names, digest checked.

        Raises:
            StoreError: if there is no such row, or the file is gone or changed.
        """
        row = self.ledger.get(stage, key)
        if row is None:
            raise StoreError(f"no shard {stage}/{key} in this run", item=str(self.path))
        return read_shard(self.path / "shards", Shard(**row))


def read_checkpoint(folder: Path, name: str) -> bytes:
    """A learner's state in a run folder, without its lock.

    Raises:
        StoreError: if it is not there or not what was written.
    """
    path = folder / "checkpoints" / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"the checkpoint cannot be read: {error.strerror}", item=str(path)) from error
    size = len(_MAGIC) + 65
    head, body = data[:size], data[size:]
    if head != _MAGIC + sha256(body).hexdigest().encode() + b"\n":
        wrong = "the checkpoint is damaged, or not one of ours; remove it to go back to an older one"
        raise StoreError(wrong, item=str(path))
    return body


def read_manifest(path: Path) -> dict[str, Any]:
    """Manifest of a run folder, without its lock.

    Raises:
        UsageError: if the folder holds no run.
        StoreError: if the manifest is damaged.
    """
    found = read_json(path, _MANIFEST)
    if found is None:
        raise UsageError("this is not a run folder (no manifest.json)", item=str(path))
    if not isinstance(found, dict):
        raise StoreError(f"damaged: it holds no mapping, but a {type(found).__name__}", item=str(path / _MANIFEST))
    return found


def read_json(path: Path, name: str) -> Any:
    """What a JSON file of a run folder holds, `None` if it is not there.

    Raises:
        StoreError: if it is not JSON.
    """
    try:
        return orjson.loads((path / name).read_bytes())
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise MachineError("a file stands where a run folder is needed", item=str(path)) from error
    except orjson.JSONDecodeError as error:
        raise StoreError(f"the file is not JSON: {error}", item=str(path / name)) from error


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a run's `metrics.jsonl`, without its lock; a line that is being written is left out.

    Raises:
        StoreError: for a line that is not JSON; names line and byte offset.
    """
    file_path = path / _METRICS_FILE
    if not file_path.exists():
        return
    end, offset = whole_lines(file_path), 0
    with file_path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if offset >= end:
                return
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError as error:
                where = f"{file_path} line {number}, byte {offset}"
                raise StoreError(f"the line is not JSON: {error}", item=where) from error
            offset += len(line)


def _died_with(path: Path, lock: FolderLock) -> tuple[str, ...]:
    """What was under way when the last session died; a session that ended with its machine blames no item."""
    left = left_under_way(path / _UNDER_WAY)
    (path / _UNDER_WAY).unlink(missing_ok=True)
    here = this_process()
    same = lock.died is not None and (lock.died.host, lock.died.boot) == (here.host, here.boot)
    return left if same else ()


def _refuse_foreign(path: Path) -> None:
    """Refuse a folder without a name, and one without manifest that holds more than a killed run leaves before it."""
    try:
        if not path.is_dir() or (path / _MANIFEST).exists():
            return
        if path == Path():
            raise UsageError("the run folder needs a name of its own; give one with --out")
        names = sorted(entry.name for entry in path.iterdir() if not _is_ours(entry))
    except OSError as error:
        raise named(error, path) from error
    if names:
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        wrong = f"the folder is no run folder (no {_MANIFEST}) and holds {names[0]}{others}; nothing was touched"
        raise UsageError(f"{wrong}; {_ELSEWHERE}", item=str(path))


def _is_ours(entry: Path) -> bool:
    if entry.name == LOCK:
        return entry.is_file() and (entry.stat().st_size == 0 or owner_of(entry) is not None)
    return any(entry.match(pattern) for pattern in _BEFORE_MANIFEST)


def _agree(files: FileWriter, manifest: Mapping[str, Any], *, later: str, said: Mapping[str, str]) -> tuple[str, ...]:
    """Write the manifest of a new run, or compare it with the one that is there."""
    data = orjson.dumps(dict(manifest), option=_PRETTY)
    there = read_json(files.root, _MANIFEST)
    if there is None or _is_open(there, later):
        files.write(_MANIFEST, data)
        return ()
    asked = orjson.loads(data)
    notes: list[str] = []
    found = [one for one in _differences(there, asked, "") if one[0] != later or not _is_open(asked, later)]
    for key, old, new in sorted(found, key=lambda one: one[0] in said):
        if key.split(".")[0] not in _TOLD_NOT_REFUSED:
            wrong = f"this run was made with {key} = {old}, not {new}; run with the same settings, or {_ELSEWHERE}"
            raise UsageError(f"{said[key]}; {_ELSEWHERE}" if key in said else wrong, item=str(files.root))
        notes.append(f"{key} was {old} and is now {new}: results need not be bit-identical")
    return tuple(notes)


def _is_open(manifest: Mapping[str, Any], key: str) -> bool:
    """True if the manifest has the dotted key and its value is still to come."""
    found: Any = manifest
    for name in key.split("."):
        if not isinstance(found, dict) or name not in found:
            return False
        found = found[name]  # pyright: ignore[reportUnknownVariableType]
    return found is None


def _differences(there: Any, asked: Any, key: str) -> Iterator[tuple[str, str, str]]:
    """Keys that differ with both values, in the order of `asked`."""
    if isinstance(there, dict) and isinstance(asked, dict):
        for name in (*asked, *(name for name in there if name not in asked)):
            inner = f"{key}.{name}" if key else str(name)
            absent = "(absent)"
            if name not in there or name not in asked:
                yield inner, _short(there.get(name, absent)), _short(asked.get(name, absent))
            else:
                yield from _differences(there[name], asked[name], inner)
    elif there != asked:
        yield key, _short(there), _short(asked)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def _mend_metrics(files: FileWriter, ledger: Ledger) -> None:
    """Make `metrics.jsonl` what the ledger says, if a kill fell between the two."""
    path = files.root / _METRICS_FILE
    want = b"".join(orjson.dumps(row) + b"\n" for _, row in ledger.items(_METRICS))
    if not path.exists() or path.read_bytes() != want:
        files.write(_METRICS_FILE, want)
