"""Records to JSON and back, exactly: what the ledger's payloads are made of.

A record becomes `{"$": "Rollout", field: value, ...}` with fields at their defaults left out; an array becomes its
dtype, shape and base64 bytes, large ones compressed. A record met twice in one document is written once.
"""

import math
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any, cast

import numpy as np
import orjson
import zstandard
from numpy.typing import NDArray

from stepcredit.core import protocols, rationales, records
from stepcredit.core.errors import StoreError

VERSION = 1

Resolve = Callable[[str, str], Any]
"""Finds the record that a reference names: `(kind, id) -> record`."""

_COMPRESS_FROM_BYTES = 256
_of_thread = threading.local()
_KINDS: dict[str, type[Any]] = {
    "Problem": records.Problem,
    "Prefix": records.Prefix,
    "Rollout": records.Rollout,
    "Outcome": records.Outcome,
    "Steps": records.Steps,
    "Verdict": records.Verdict,
    "Judgement": records.Judgement,
    "Credit": records.Credit,
    "Update": records.Update,
    "Failure": records.Failure,
    "Group": records.Group,
    "Message": protocols.Message,
    "Reply": protocols.Reply,
    "Completion": protocols.Completion,
    "Sampling": protocols.Sampling,
    "Rationale": rationales.Rationale,
    "Passage": rationales.Passage,
}
_REFERRED = (records.Problem, records.Rollout, records.Outcome, records.Steps, records.Judgement)


def encode(record: object, *, nested: bool = True) -> dict[str, Any]:
    """The record as a JSON-able mapping.

    Args:
        record: a record of `core.records`, or a Message, Reply, Completion, Sampling, Rationale or Passage.
        nested: False writes the records that this one was made from as references (kind and `record_id`), to be
            resolved by `decode`; True writes the whole chain.

    Raises:
        StoreError: for anything that is not such a record.

    >>> encode(records.Problem("p1", "1 + 1", "2"))
    {'codec': 1, '$': 'Problem', 'id': 'p1', 'text': '1 + 1', 'answer': '2'}
    """
    if type(record).__name__ not in _KINDS:
        raise StoreError(f"the codec has no record called {type(record).__name__}")
    return {"codec": VERSION, **_Encoder(nested=nested).record(record)}


def decode(data: Mapping[str, Any], *, resolve: Resolve | None = None) -> Any:
    """The record that `encode` made the mapping from, equal in every field and digest.

    Args:
        data: the mapping.
        resolve: finds referenced records, needed for mappings made with `nested=False`.

    Raises:
        StoreError: if the mapping is of another version, damaged, or holds a reference and `resolve` is absent.

    >>> decode(encode(records.Problem("p1", "1 + 1", "2")))
    Problem(id='p1', text='1 + 1', answer='2', source='')
    """
    version = data.get("codec")
    if version != VERSION:
        raise StoreError(f"the record is written in codec {version}, this stepcredit reads {VERSION}; upgrade it")
    body = {name: value for name, value in data.items() if name != "codec"}
    try:
        return _Decoder(resolve).value(body)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"the record is damaged: {type(error).__name__} {error}") from error


def dump(record: object, *, nested: bool = True) -> bytes:
    """`encode` as JSON bytes."""
    return orjson.dumps(encode(record, nested=nested))


def load(data: bytes, *, resolve: Resolve | None = None) -> Any:
    """`decode` of JSON bytes.

    Raises:
        StoreError: as `decode`, and for bytes that are not JSON.
    """
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise StoreError(f"the record is not JSON: {error}") from error
    return decode(body, resolve=resolve)


def record_id(record: object) -> str:
    """Name of a record inside a run, by which a reference finds it.

    Problems and rollouts have ids; an outcome goes by its rollout, steps by rollout and unit, a judgement by rollout,
    unit and judge.

    >>> record_id(records.Problem("p1", "1 + 1", "2"))
    'p1'
    """
    if isinstance(record, records.Problem | records.Rollout):
        return record.id
    if isinstance(record, records.Outcome):
        return record.rollout.id
    if isinstance(record, records.Steps):
        return f"{record.rollout.id}/{record.unit}"
    if isinstance(record, records.Judgement):
        return f"{record.steps.rollout.id}/{record.steps.unit}/{record.judge}"
    raise StoreError(f"a {type(record).__name__} has no id to refer to")


class _Encoder:
    """One document; `seen` maps a record to its number, in order of first mention.

    Records are told apart by identity, verdicts by what they say: whether a judge handed out one verdict for many
    steps or many equal ones (as it does when its answers come from the cache) must not show in the bytes.
    """

    def __init__(self, *, nested: bool) -> None:
        self._nested = nested
        self._seen: dict[int | bytes, int] = {}

    def record(self, record: Any) -> dict[str, Any]:
        self._seen[id(record)] = len(self._seen)
        return self._fields(record)

    def _fields(self, record: Any) -> dict[str, Any]:
        found: dict[str, Any] = {"$": type(record).__name__}
        for field in _fields_of(type(record)):
            value = getattr(record, field.name)
            if not _is_default(field, value):
                found[field.name] = self._value(value)
        return found

    def _verdict(self, verdict: records.Verdict) -> dict[str, Any]:
        found = self._fields(verdict)
        said = orjson.dumps(found)
        if said in self._seen:
            return {"$": "same", "as": self._seen[said]}
        self._seen[said] = len(self._seen)
        return found

    def _value(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, float):
            return value if math.isfinite(value) else {"$": "float", "is": repr(value)}
        if isinstance(value, np.ndarray):
            return encode_array(value)
        if isinstance(value, tuple | list):
            return [self._value(item) for item in cast("tuple[Any, ...]", value)]
        return self._part(value)

    def _part(self, value: Any) -> dict[str, Any]:
        """A record inside another."""
        if isinstance(value, records.Verdict):
            return self._verdict(value)
        if id(value) in self._seen:
            return {"$": "same", "as": self._seen[id(value)]}
        if not self._nested and isinstance(value, _REFERRED):
            self._seen[id(value)] = len(self._seen)
            return {"$": "ref", "kind": type(value).__name__, "id": _text(record_id(value))}
        if type(value).__name__ in _KINDS:
            return self.record(value)
        raise StoreError(f"the codec cannot write a {type(value).__name__}")


class _Decoder:
    def __init__(self, resolve: Resolve | None) -> None:
        self._resolve = resolve
        self._seen: list[Any] = []

    def value(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self.value(item) for item in cast("list[Any]", value))
        if not isinstance(value, dict):
            return value
        body = cast("dict[str, Any]", value)
        kind = body["$"]
        if kind == "array":
            return decode_array(body)
        if kind == "float":
            return float(body["is"])
        if kind == "text":
            return b64decode(body["utf8"]).decode("utf-8", "surrogatepass")
        if kind == "same":
            return self._seen[body["as"]]
        return self._referred(body) if kind == "ref" else self._record(kind, body)

    def _referred(self, body: dict[str, Any]) -> Any:
        name = self.value(body["id"])
        if self._resolve is None:
            raise StoreError(f"the record refers to {body['kind']} {name}, and decode() was given no resolve")
        record = self._resolve(body["kind"], name)
        self._seen.append(record)
        return record

    def _record(self, kind: str, body: dict[str, Any]) -> Any:
        place = len(self._seen)
        self._seen.append(None)
        given = {name: self.value(part) for name, part in body.items() if name != "$"}
        if kind == "Verdict" and "label" in given:
            given["label"] = records.Label(given["label"])
        self._seen[place] = _KINDS[kind](**given)
        return self._seen[place]


def encode_array(array: NDArray[Any]) -> dict[str, Any]:
    """An array of numbers or booleans as a JSON-able mapping, bit for bit (NaN payloads too)."""
    data = np.asarray(array, order="C").tobytes()
    packed = len(data) >= _COMPRESS_FROM_BYTES
    raw = _compressor().compress(data) if packed else data
    shape = list(array.shape)
    return {"$": "array", "dtype": array.dtype.str, "shape": shape, "zstd": packed, "data": b64encode(raw).decode()}


def _compressor() -> zstandard.ZstdCompressor:
    """This thread's own: making one costs several times what it takes to compress a column of a rollout."""
    found = getattr(_of_thread, "compressor", None)
    if found is None:
        found = _of_thread.compressor = zstandard.ZstdCompressor(level=3)
    return found


def decode_array(body: Mapping[str, Any]) -> NDArray[Any]:
    """The read-only array that `encode_array` made the mapping from.

    Raises:
        StoreError: if the bytes are damaged.
    """
    raw = b64decode(body["data"])
    try:
        data = zstandard.ZstdDecompressor().decompress(raw) if body["zstd"] else raw
    except zstandard.ZstdError as error:
        raise StoreError(f"an array is damaged: {error}") from error
    return np.frombuffer(data, np.dtype(body["dtype"])).reshape(body["shape"])


@cache
def _fields_of(kind: type) -> tuple[Field[Any], ...]:
    """`dataclasses.fields`, which looks them up anew for every record."""
    return fields(kind)


def _text(text: str) -> Any:
    """JSON has no lone surrogates; recorded text sometimes has."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return {"$": "text", "utf8": b64encode(text.encode("utf-8", "surrogatepass")).decode()}
    return str(text)


def _is_default(field: Field[Any], value: Any) -> bool:
    if field.default_factory is not MISSING:
        return value == field.default_factory()
    # Types are compared first: an array compares with a default element by element.
    return field.default is not MISSING and type(value) is type(field.default) and bool(value == field.default)
