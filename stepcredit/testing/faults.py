"""Faults that the scripted server plays: what real servers and networks do on bad days (reliability.md B3)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, cast, final

from stepcredit.core.seeds import derive

FaultKind = Literal["status", "hang", "drip", "cut", "reset", "body", "model", "nan", "truncated"]


@final
@dataclass(frozen=True)
class Asked:
    """One request that the server got.

    Args:
        route: path after `/v1/`, such as `chat/completions`.
        body: the JSON body, empty for requests without one.
        number: index of the request in the server's life, from 0.
        repeats: how many requests with the same route and body came before.
        key: the bearer token that came with it, empty if none.
        before: how many requests came before on the same connection.
    """

    route: str
    body: dict[str, Any]
    number: int
    repeats: int
    key: str = ""
    before: int = 0


@final
@dataclass(frozen=True)
class Fault:
    """One fault in place of an answer.

    Args:
        kind: `status` answers with `status`, `headers` and `body`; `hang` answers nothing for `seconds`, then closes;
            `drip` sends the good answer one byte each `seconds`; `cut` closes the connection in the middle of it;
            `reset` closes at once; `body` answers 200 with `body` as it is; `model` answers under the name `model`;
            `nan` answers with NaN for every number that is not whole; `truncated` with the first half of what the
            good answer holds, finished by length.
        status: HTTP status of `status`.
        headers: further headers of `status` and `body`.
        body: bytes of `status` and `body`.
        seconds: see `kind`.
        model: see `kind`.
    """

    kind: FaultKind
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    seconds: float = 60.0
    model: str = "another-model"


Faults = Sequence[Fault | None] | Callable[[Asked], Fault | None]
"""Faults in the order of requests (`None` answers well, and so does the server after the last), or a function."""


def random_faults(rate: float, seed: int, *, faults: Sequence[Fault]) -> Callable[[Asked], Fault | None]:
    """Faults at random but by content: a request meets the same faults in whatever order requests come.

    Args:
        rate: share of requests that fail, in [0, 1).
        seed: of the draws.
        faults: what a failing request meets, drawn evenly.
    """

    def choose(asked: Asked) -> Fault | None:
        body = repr(sorted(asked.body.items()))
        draws = Random(derive(seed, "fault", asked.route, body, asked.repeats))
        return draws.choice(list(faults)) if draws.random() < rate else None

    return choose


def spoilt(answer: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
    """A good answer as a fault of kind `model`, `nan` or `truncated` makes it; as it is for others."""
    kind = None if fault is None else fault.kind
    if fault is not None and kind == "model":
        return {**answer, "model": fault.model}
    if kind == "nan":
        return without_numbers(answer)
    return truncated(answer) if kind == "truncated" else answer


def without_numbers(answer: Any) -> Any:
    """A good answer with NaN in place of every float.

    >>> without_numbers({"logprob": -0.5, "count": 2, "text": "x"})
    {'logprob': nan, 'count': 2, 'text': 'x'}
    """
    if isinstance(answer, float):
        return math.nan
    if isinstance(answer, dict):
        named = cast("dict[str, Any]", answer)
        return {name: without_numbers(value) for name, value in named.items()}
    return [without_numbers(value) for value in cast("list[Any]", answer)] if isinstance(answer, list) else answer


def truncated(answer: dict[str, Any]) -> dict[str, Any]:
    """A good answer that ended at half: of its text, its token ids and its rows; says `length` where it says how.

    >>> truncated({"choices": [{"text": "so 4", "finish_reason": "stop"}]})
    {'choices': [{'text': 'so', 'finish_reason': 'length'}]}
    """
    found = dict(answer)
    if "choices" in answer:
        found["choices"] = [{**_half(choice), "finish_reason": "length"} for choice in answer["choices"]]
    if "data" in answer:
        found["data"] = [_half(row) for row in answer["data"]]
    return found


def _half(part: dict[str, Any]) -> dict[str, Any]:
    found = dict(part)
    for name in ("text", "token_ids", "data"):
        if name in part:
            found[name] = part[name][: len(part[name]) // 2]
    if "message" in part:
        text = part["message"]["content"]
        found["message"] = {**part["message"], "content": text[: len(text) // 2]}
    return found
