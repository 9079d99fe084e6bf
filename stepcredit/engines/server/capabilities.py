"""What a server can do, asked at the start: some servers answer 200 and ignore what they do not know."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from stepcredit.core.errors import EngineError
from stepcredit.engines.server import answers
from stepcredit.engines.server.answers import Body, GarbageError

Look = Callable[[str, dict[str, Any]], Awaitable[tuple[int, Body | None]]]
"""Asks a route once; gives status and body."""

_PROBE_TEXT = "1 + 1 ="


@final
@dataclass(frozen=True)
class Capabilities:
    """What was seen to work, by trying it.

    Args:
        chat: chat completions.
        n: several choices a request.
        chat_logprobs: log probabilities of a chat answer's tokens.
        completions: completions of a prompt.
        token_ids_in: prompts as token ids.
        token_ids_out: token ids of what was written.
        logprobs: log probabilities of a completion's tokens.
        prompt_logprobs: log probabilities of a prompt's tokens, by the parameter of that name.
        echo: the same, by an echo of the prompt.
        named_logprobs: log probabilities of named candidate tokens (`logprob_token_ids`).
        continue_final_message: going on with an assistant message that was begun.
        tokenize: a tokenize route.
        context: the longest prompt plus completion in tokens, `None` if the server does not say.
    """

    chat: bool = False
    n: bool = False
    chat_logprobs: bool = False
    completions: bool = False
    token_ids_in: bool = False
    token_ids_out: bool = False
    logprobs: bool = False
    prompt_logprobs: bool = False
    echo: bool = False
    named_logprobs: bool = False
    continue_final_message: bool = False
    tokenize: bool = False
    context: int | None = None

    def missing(self, *names: str) -> tuple[str, ...]:
        """Those of the named capabilities that the server lacks."""
        return tuple(name for name in names if not getattr(self, name))


async def probe(look: Look, *, model: str) -> Capabilities:
    """Try each capability with a request of one token.

    Args:
        look: asks a route once.
        model: the model to ask for.

    Source: engines.md 4.1. Differs: none.
    """
    tokenize, ids, context = await _tokenize(look, model)
    chat, chat_n, chat_logprobs = await _chat(look, model)
    found = await _completions(look, model, ids)
    return Capabilities(
        chat=chat,
        n=chat_n,
        chat_logprobs=chat_logprobs,
        continue_final_message=chat and await _continues(look, model),
        tokenize=tokenize,
        context=context,
        **found,
    )


async def _tokenize(look: Look, model: str) -> tuple[bool, list[int], int | None]:
    status, body = await look("/tokenize", {"model": model, "prompt": _PROBE_TEXT})
    tokens = body.get("tokens") if status == 200 and body is not None else None
    if not isinstance(tokens, list) or len(tokens) < 2:  # pyright: ignore[reportUnknownArgumentType]
        return isinstance(tokens, list), [1, 2, 3], None
    context = body.get("max_model_len") if body is not None else None
    return True, [int(token) for token in tokens], context if isinstance(context, int) else None


async def _chat(look: Look, model: str) -> tuple[bool, bool, bool]:
    """Whether chat works at all, honours n, and gives log probabilities; each parameter may be refused or ignored."""
    plain = {"model": model, "messages": [{"role": "user", "content": _PROBE_TEXT}], "max_tokens": 1}
    status, _ = await look("chat/completions", plain)
    if status != 200:
        return False, False, False
    status, body = await look("chat/completions", {**plain, "n": 2})
    n = status == 200 and _holds(body, lambda b: len(answers.choices_of(b, n=2)) == 2)
    status, body = await look("chat/completions", {**plain, "logprobs": True})
    logprobs = status == 200 and _holds(body, lambda b: bool(answers.choices_of(b, n=1)[0].get("logprobs")))
    return True, n, logprobs


async def _continues(look: Look, model: str) -> bool:
    """A server that goes on with the last message reads fewer tokens than one that opens a new one after it."""
    begun = [{"role": "user", "content": _PROBE_TEXT}, {"role": "assistant", "content": _PROBE_TEXT}]
    plain = {"model": model, "messages": begun, "max_tokens": 1}
    asked = {**plain, "continue_final_message": True, "add_generation_prompt": False}
    counts: list[int | None] = []
    for request in (plain, asked):
        status, body = await look("chat/completions", request)
        counts.append(answers.usage_of(body).input_tokens if status == 200 and body is not None else None)
    return counts[0] is not None and counts[1] is not None and counts[1] < counts[0]


async def _completions(look: Look, model: str, ids: list[int]) -> dict[str, bool]:
    plain = {"model": model, "max_tokens": 1, "temperature": 0.0}
    status, body = await look("completions", {**plain, "prompt": ids, "return_token_ids": True, "logprobs": 1})
    whole = status == 200
    if not whole:
        status, body = await look("completions", {**plain, "prompt": ids})
    if status != 200:
        status, _ = await look("completions", {**plain, "prompt": _PROBE_TEXT})
        return {"completions": status == 200}
    prompt = np.array(ids, np.int32)
    read = body is not None and answers.usage_of(body).input_tokens == len(ids)
    found = {"completions": True, "token_ids_in": read or _holds(body, lambda b: _reads(b, prompt))}
    found["token_ids_out"] = whole and _holds(body, lambda b: len(answers.written_ids(_only(b))) == 1)
    found["logprobs"] = whole and _holds(body, lambda b: len(answers.written_logprobs(_only(b), count=1)) == 1)

    async def works(extra: dict[str, Any], check: Callable[[Body], bool]) -> bool:
        status, body = await look("completions", {**plain, "prompt": ids, **extra})
        return status == 200 and _holds(body, check)

    first = prompt[:2]
    named = {"logprobs": 1, "logprob_token_ids": first.tolist(), "return_tokens_as_token_ids": True}
    found["prompt_logprobs"] = await works(
        {"prompt_logprobs": 0}, lambda b: len(answers.prompt_logprobs(_only(b), prompt, first=1)) > 0
    )
    found["echo"] = await works(
        {"echo": True, "logprobs": 1}, lambda b: len(answers.echoed_logprobs(_only(b), count=len(ids), first=1)) > 0
    )
    found["named_logprobs"] = await works(
        named, lambda b: not np.isnan(answers.candidate_logprobs(_only(b), first)[0]).any()
    )
    return found


def _only(body: Body) -> Body:
    return answers.choices_of(body, n=1)[0]


def _reads(body: Body, prompt: np.ndarray) -> bool:
    answers.check_prompt_ids(_only(body), prompt)
    return True


def _holds(body: Body | None, check: Callable[[Body], bool]) -> bool:
    """True if the check is met; a server that ignores what was asked fails it by an error."""
    try:
        return body is not None and check(body)
    except (EngineError, GarbageError):
        return False
