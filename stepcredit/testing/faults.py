"""Faults that the scripted server plays: what real servers and networks do on bad days (reliability.md B3)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, final

from stepcredit.core.seeds import derive

FaultKind = Literal["status", "hang", "drip", "cut", "reset", "body", "model"]


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
    """

    route: str
    body: dict[str, Any]
    number: int
    repeats: int
    key: str = ""


@final
@dataclass(frozen=True)
class Fault:
    """One fault in place of an answer.

    Args:
        kind: `status` answers with `status`, `headers` and `body`; `hang` answers nothing for `seconds`, then closes;
            `drip` sends the good answer one byte each `seconds`; `cut` closes the connection in the middle of it;
            `reset` closes at once; `body` answers 200 with `body` as it is; `model` answers under the name `model`.
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
