"""What an engine is asked and what it answers: the plain records of the engine protocols in `core.protocols`."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float32, Int32

from stepcredit.core.arrays import frozen
from stepcredit.core.records import Finish


@final
@dataclass(frozen=True)
class Sampling:
    """How a sampler draws tokens.

    Args:
        max_tokens: upper bound on completion tokens; reaching it means `finish == "length"`.
        temperature: 0 takes the most probable token; logprobs are always those of temperature 1.
        top_p: nucleus mass, 1.0 = all tokens.
        stop_ids: token ids that end the completion; the stop token is part of it.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop_ids: tuple[int, ...] = ()


@final
@dataclass(frozen=True)
class Completion:
    """What a sampler wrote for one request.

    Args:
        ids: [T] token ids.
        logprobs: [T] log probability of each id under the policy, in nats; `None` if the engine has none.
        finish: why it ended.
        policy: fingerprint of the weights that wrote it.
    """

    ids: Int32[np.ndarray, " T"]
    logprobs: Float32[np.ndarray, " T"] | None
    finish: Finish
    policy: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", frozen(self.ids, np.int32))
        if self.logprobs is not None:
            object.__setattr__(self, "logprobs", frozen(self.logprobs, np.float32))


@final
@dataclass(frozen=True)
class Writing:
    """How a writer goes on with a prompt; every value is sent, so that no server's defaults apply.

    Args:
        max_tokens: upper bound on written tokens; reaching it means `finish == "length"`.
        temperature: 0 takes the most probable token.
        top_p: nucleus mass, 1.0 = all tokens.
        top_k: tokens kept, -1 = all.
        stop: strings that end the text; the end-of-sequence token ends it too.
        keep_stop: True leaves the stop string at the end of the text.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = -1
    stop: tuple[str, ...] = ()
    keep_stop: bool = False


@final
@dataclass(frozen=True)
class Written:
    """What a writer wrote.

    Args:
        text: special tokens left out; with or without the stop string, as asked.
        finish: `stop`, or `length` if it was cut.
        stop: the stop string that ended it, empty if the end-of-sequence token or the length did.
        call: id of the call in the attempts table.
        input_tokens: tokens read, `None` if the server did not say.
        output_tokens: tokens written, `None` if the server did not say.
    """

    text: str
    finish: Finish
    stop: str = ""
    call: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None


@final
@dataclass(frozen=True)
class NextTokens:
    """Raw log probabilities of a few candidates as the next token.

    Args:
        logprobs: [C] in nats; NaN for a candidate that the engine did not name.
        bound: the smallest log probability that it named: that of a candidate with NaN is at most this.
        call: id of the call in the attempts table.
    """

    logprobs: Float32[np.ndarray, " C"]
    bound: float
    call: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "logprobs", frozen(self.logprobs, np.float32))


@final
@dataclass(frozen=True)
class Message:
    """One chat message; role is `system`, `user` or `assistant`."""

    role: str
    content: str


@final
@dataclass(frozen=True)
class Reply:
    """A chat model's answer, with what it cost.

    Args:
        text: the answer; never a partial stream.
        finish: `stop`, or `length` if it was cut.
        call: id of the call in the attempts table.
        model: the name that the server gave of itself.
        input_tokens: tokens read, `None` if the server did not say.
        output_tokens: tokens written, `None` if the server did not say.
    """

    text: str
    finish: Finish
    call: str
    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
