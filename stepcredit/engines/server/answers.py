"""Bodies of answers, checked: what was asked for must be there, or the server is named as one that ignores it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
from jaxtyping import Float32, Int32

from stepcredit.core.errors import EngineError
from stepcredit.core.records import Finish

Body = Mapping[str, Any]

_FINISH: dict[str, Finish] = {"stop": "stop", "eos": "stop", "end_turn": "stop", "length": "length"}
# Rounding in a server may leave a probability a hair over one.
_OVER_ONE = 1e-3


@final
class GarbageError(Exception):
    """An answer with status 200 that is no answer; it is asked again, a few times."""


@final
@dataclass(frozen=True)
class Usage:
    """Token counts of an answer, `None` where the server did not say."""

    input_tokens: int | None
    output_tokens: int | None


def ignored(parameter: str, *, got: str) -> EngineError:
    """The error of a server that answers 200 and does not do what was asked."""
    return EngineError(f"the server ignores `{parameter}` ({got}); use a server that supports it, such as vLLM")


def usage_of(body: Body) -> Usage:
    """Token counts of an answer.

    >>> usage_of({"usage": {"prompt_tokens": 3}})
    Usage(input_tokens=3, output_tokens=None)
    """
    usage = body.get("usage")
    found = cast("dict[str, Any]", usage) if isinstance(usage, dict) else {}
    counts = [found.get(name) for name in ("prompt_tokens", "completion_tokens")]
    read, written = (count if isinstance(count, int) and count >= 0 else None for count in counts)
    return Usage(read, written)


def choices_of(body: Body, *, n: int) -> list[Body]:
    """The answer's choices, in the order of their index.

    Raises:
        GarbageError: if there is no choice, or one is not an object.
        EngineError: if there are not `n`: the server ignores `n`.
    """
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise GarbageError("no choices in the answer")
    found = [cast("Body", choice) for choice in cast("list[Any]", choices) if isinstance(choice, dict)]
    if len(found) != len(cast("list[Any]", choices)):
        raise GarbageError("a choice is not an object")
    if len(found) != n:
        raise ignored("n", got=f"{n} choices asked, {len(found)} came")
    return sorted(found, key=lambda choice: int(choice.get("index") or 0))


def finish_of(choice: Body) -> Finish:
    """Why the choice ended.

    Raises:
        GarbageError: if it does not say, which a whole answer does.
        EngineError: if the server withheld or aborted it.
    """
    reason = choice.get("finish_reason")
    if reason in _FINISH:
        return _FINISH[str(reason)]
    if reason is None:
        raise GarbageError("no finish_reason: the answer may be partial")
    raise EngineError(f"the server ended the answer with finish_reason {str(reason)[:40]!r}, not stop or length")


def chat_text(choice: Body) -> str:
    """Text of a chat choice.

    Raises:
        GarbageError: if there is none.
    """
    message = choice.get("message")
    content = cast("dict[str, Any]", message).get("content") if isinstance(message, dict) else None
    if content is None and choice.get("finish_reason") == "length":
        return ""  # a reasoning model that was cut before its answer began
    if not isinstance(content, str):
        raise GarbageError("no text in the answer")
    return content


def completion_text(choice: Body) -> str:
    """Text of a completion choice.

    Raises:
        GarbageError: if there is none.
    """
    text = choice.get("text")
    if not isinstance(text, str):
        raise GarbageError("no text in the answer")
    return text


def written_ids(choice: Body) -> Int32[np.ndarray, " T"]:
    """[T] token ids of a completion choice.

    Raises:
        EngineError: if there are none: the server ignores `return_token_ids`.
        GarbageError: if they are not token ids.
    """
    return _ids(choice, "token_ids")


def check_prompt_ids(choice: Body, prompt_ids: Int32[np.ndarray, " P"]) -> None:
    """Check that the server read the ids it was given.

    Raises:
        EngineError: if it says that it read others, or does not say.
    """
    read = _ids(choice, "prompt_token_ids")
    if not np.array_equal(read, prompt_ids):
        raise ignored("prompt as token ids", got=f"{len(prompt_ids)} ids given, {len(read)} others read")


def written_logprobs(choice: Body, *, count: int) -> Float32[np.ndarray, " T"]:
    """[T] log probabilities in nats of a completion choice's tokens.

    Raises:
        EngineError: if there are none: the server ignores `logprobs`.
        GarbageError: if there is not one finite number a token.
    """
    block = choice.get("logprobs")
    values = cast("dict[str, Any]", block).get("token_logprobs") if isinstance(block, dict) else None
    if values is None:
        raise ignored("logprobs", got="no log probabilities came")
    return _checked(values, count=count)


def prompt_logprobs(choice: Body, ids: Int32[np.ndarray, " X"], *, first: int) -> Float32[np.ndarray, " Y"]:
    """[X - first] log probabilities in nats of a prompt's tokens, from the field `prompt_logprobs`.

    Raises:
        EngineError: if the field is absent.
        GarbageError: if an entry is not there or not finite.
    """
    entries = choice.get("prompt_logprobs")
    if not isinstance(entries, list):
        raise ignored("prompt_logprobs", got="no log probabilities of the prompt came")
    rows = cast("list[Any]", entries)
    if len(rows) != len(ids):
        raise GarbageError(f"{len(rows)} prompt log probabilities for {len(ids)} tokens")
    found: list[Any] = []
    for place in range(first, len(ids)):
        entry = cast("dict[str, Any]", rows[place] or {}).get(str(int(ids[place])))
        found.append(cast("dict[str, Any]", entry).get("logprob") if isinstance(entry, dict) else None)
    return _checked(found, count=len(ids) - first)


def echoed_logprobs(choice: Body, *, count: int, first: int) -> Float32[np.ndarray, " Y"]:
    """[count - first] log probabilities of a prompt's tokens, from an echo.

    Raises:
        EngineError: if the prompt was not echoed.
        GarbageError: if a number is not finite.
    """
    block = choice.get("logprobs")
    values = cast("dict[str, Any]", block).get("token_logprobs") if isinstance(block, dict) else None
    rows = cast("list[Any]", values) if isinstance(values, list) else []
    if len(rows) < count:
        raise ignored("echo", got=f"{len(rows)} log probabilities for {count} tokens came")
    return _checked(rows[first:count], count=count - first)


def candidate_logprobs(choice: Body, candidates: Int32[np.ndarray, " C"]) -> tuple[Float32[np.ndarray, " C"], float]:
    """[C] log probabilities of candidate first tokens, NaN for those not named; and the smallest that is named.

    Raises:
        EngineError: if the server names no top tokens, or not by id.
        GarbageError: if a number is not finite.
    """
    block = choice.get("logprobs")
    tops = cast("dict[str, Any]", block).get("top_logprobs") if isinstance(block, dict) else None
    first = cast("list[Any]", tops)[0] if isinstance(tops, list) and tops else None
    if not isinstance(first, dict) or not first:
        raise ignored("logprobs", got="no top log probabilities came")
    named = cast("dict[str, Any]", first)
    if not all(name.startswith("token_id:") for name in named):
        raise ignored("return_tokens_as_token_ids", got="tokens came as text, which is ambiguous")
    found = np.full(len(candidates), np.nan, np.float32)
    for place, candidate in enumerate(candidates.tolist()):
        value = named.get(f"token_id:{candidate}")
        if value is not None:
            found[place] = _checked([value], count=1)[0]
    return found, float(_checked(list(named.values()), count=len(named)).min())


def _ids(choice: Body, name: str) -> Int32[np.ndarray, " T"]:
    values = choice.get(name)
    if values is None:
        raise ignored("return_token_ids", got=f"no {name} came")
    if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in cast("list[Any]", values)):
        raise GarbageError(f"{name} are not token ids")
    return np.array(values, np.int32)


def _checked(values: Any, *, count: int) -> Float32[np.ndarray, " T"]:
    rows = cast("list[Any]", values) if isinstance(values, list) else []
    if len(rows) != count:
        raise GarbageError(f"{len(rows)} log probabilities for {count} tokens")
    for value in rows:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise GarbageError(f"a log probability is {str(value)[:20]}")
        if value > _OVER_ONE:
            raise GarbageError(f"a log probability is {value:g}, over 0")
    return np.minimum(np.array(rows, np.float64), 0.0).astype(np.float32)
