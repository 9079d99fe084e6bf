"""Typed answers to the reading tasks, the JSON text they are written as, and why a text is rejected."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, final

ReflectionKind = Literal["error", "confirm"]


class RejectReason(StrEnum):
    """Why a reply was not taken: first what may be wrong with it before it is read, then what the parser finds."""

    CUT = "cut by length"
    EMPTY = "empty"
    FENCED = "in a code fence"
    CHAT_TOKENS = "chat tokens"
    TEXT_AROUND = "text around the JSON"
    TOO_LONG = "longer than the model's context"
    NOT_JSON = "not JSON"
    NOT_AN_OBJECT = "not an object"
    WRONG_KEYS = "wrong keys"
    WRONG_TYPE = "wrong type"
    UNKNOWN_WORD = "unknown word"
    UNKNOWN_INDEX = "unknown index"
    REPEATED_INDEX = "repeated index"
    LATE_SOURCE = "source not before the reflection"
    ABSENT_EVIDENCE = "evidence not in the text"
    WRONG_ORDER = "wrong order"
    WRONG_COUNT = "wrong count"
    NOT_A_TILING = "not a tiling"


@final
@dataclass(frozen=True)
class Reject:
    """A reply that could not be taken.

    Args:
        reason: the named reason; statistics count it.
        detail: what was got and wanted; fed back to the reader.
    """

    reason: RejectReason
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@final
@dataclass(frozen=True)
class Tiling:
    """P0: inclusive index ranges that tile the paragraphs."""

    ranges: tuple[tuple[int, int], ...]

    def write(self) -> str:
        """The reply as JSON text.

        >>> Tiling(((0, 1), (2, 2))).write()
        '{"steps": [[0, 1], [2, 2]]}'
        """
        return json.dumps({"steps": self.ranges})


@final
@dataclass(frozen=True)
class Reflection:
    """One reflection: the step that holds it, and whether it admits an error or confirms."""

    step: int
    kind: ReflectionKind


@final
@dataclass(frozen=True)
class Reflections:
    """P1: reflections in the order of their steps."""

    items: tuple[Reflection, ...]

    @property
    def errors(self) -> tuple[int, ...]:
        """Steps of the reflections that admit an error."""
        return tuple(item.step for item in self.items if item.kind == "error")

    def write(self) -> str:
        """The reply as JSON text.

        >>> Reflections((Reflection(3, "error"),)).write()
        '{"reflections": [{"step": 3, "kind": "error"}]}'
        """
        return json.dumps({"reflections": [{"step": item.step, "kind": item.kind} for item in self.items]})


@final
@dataclass(frozen=True)
class Trace:
    """P2: the step the error came from (`None`: not traceable) and a quotation that shows it."""

    source: int | None
    evidence: str

    def write(self) -> str:
        """The reply as JSON text.

        >>> Trace(2, "so x = 4").write()
        '{"source": 2, "evidence": "so x = 4"}'
        """
        return json.dumps({"source": self.source, "evidence": self.evidence}, ensure_ascii=False)


@final
@dataclass(frozen=True)
class Verification:
    """P3: for each step of the interval True if it is wrong."""

    wrong: tuple[bool, ...]

    def write(self) -> str:
        """The reply as JSON text.

        >>> Verification((True, False)).write()
        '{"verdicts": ["wrong", "right"]}'
        """
        return json.dumps({"verdicts": ["wrong" if wrong else "right" for wrong in self.wrong]})


@final
@dataclass(frozen=True)
class TracedVerification:
    """P2 and P3 in one; `wrong` is empty where there is no source."""

    source: int | None
    evidence: str
    wrong: tuple[bool, ...]

    def write(self) -> str:
        """The reply as JSON text.

        >>> TracedVerification(None, "", ()).write()
        '{"source": null, "evidence": "", "verdicts": []}'
        """
        verdicts = ["wrong" if wrong else "right" for wrong in self.wrong]
        reply = {"source": self.source, "evidence": self.evidence, "verdicts": verdicts}
        return json.dumps(reply, ensure_ascii=False)


@final
@dataclass(frozen=True)
class Matches:
    """P4: for each think step True if the answer block uses it."""

    matched: tuple[bool, ...]

    def write(self) -> str:
        """The reply as JSON text, every step named: a list of bare words would have to be counted out.

        >>> Matches((True, False)).write()
        '{"matches": [{"step": 0, "verdict": "match"}, {"step": 1, "verdict": "no"}]}'
        """
        words = ("match" if matched else "no" for matched in self.matched)
        return json.dumps({"matches": [{"step": k, "verdict": word} for k, word in enumerate(words)]})
