"""Saved views: what a program showed, as bytes for the run folder, so that `stepcredit report` can render it again."""

import io
from typing import Any

import orjson
import zstandard

from stepcredit.core.errors import StoreError
from stepcredit.report.views import ReportData

_FORMAT = "stepcredit report 1"


def dump_report(data: ReportData) -> bytes:
    """The report's views as compressed JSON; `load_report` gives equal views back."""
    return zstandard.ZstdCompressor(level=6).compress(orjson.dumps({"format": _FORMAT, "report": data}))


def load_report(saved: bytes) -> ReportData:
    """The views that `dump_report` saved.

    Raises:
        StoreError: if the bytes are not such a save.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 -- the boundary only

    try:
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(saved)) as reader:
            content: Any = orjson.loads(reader.read())
        if content.get("format") != _FORMAT:
            raise StoreError(f"got a saved report of format {content.get('format')!r}, want {_FORMAT!r}")
        return TypeAdapter(ReportData).validate_python(content["report"])
    except (zstandard.ZstdError, orjson.JSONDecodeError, ValidationError, KeyError, AttributeError) as error:
        raise StoreError(f"the saved report cannot be read: {type(error).__name__}") from error
