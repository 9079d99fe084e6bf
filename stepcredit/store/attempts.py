"""Attempts: one row for each call that was tried, answered or not, so that a report can say what an answer cost."""

from dataclasses import dataclass, field
from typing import final


@final
@dataclass(frozen=True)
class AttemptRecord:
    """One try of one call.

    Args:
        call: id of the call; tries of one call share it.
        route: what was asked: `chat/completions`, `completions`, `tokenize` ...
        number: index of the try inside the call, from 0.
        status: HTTP status, `None` if no answer came.
        seconds: time from asking to the end of the answer or failure.
        input_tokens: tokens read, `None` if the server did not say.
        output_tokens: tokens written, `None` if the server did not say.
        cost: price of the try in the unit of the price settings, `None` if no prices were given.
        error: class of the failure (`timeout`, `http_429`, `garbage` ...), empty for a good answer.
        time_s: wall clock at the end, seconds since 1970; for people, nothing is ordered by it.
    """

    call: str
    route: str
    number: int
    status: int | None
    seconds: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    error: str = ""
    time_s: float = 0.0


@final
@dataclass(frozen=True)
class AttemptTotals:
    """Sums over the attempts of a run; `None` where no attempt knew the figure.

    Args:
        calls: distinct calls.
        attempts: tries of all calls.
        failed: tries that gave no usable answer.
        seconds: time of all tries together.
        input_tokens: tokens read, over the tries that told.
        output_tokens: tokens written, over the tries that told.
        cost: price, over the tries that had one.
        errors: number of failed tries by class.
    """

    calls: int
    attempts: int
    failed: int
    seconds: float
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    errors: dict[str, int] = field(default_factory=dict[str, int])
