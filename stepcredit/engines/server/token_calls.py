"""Requests of the token routes: for each kind of call, the body and what reads its answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final

import numpy as np
from jaxtyping import Float32, Int32

from stepcredit.core.protocols import Completion, NextTokens, Sampling, Writing, Written
from stepcredit.engines.server import answers
from stepcredit.engines.server.answers import Body, usage_of
from stepcredit.engines.server.capabilities import Capabilities
from stepcredit.engines.server.transport import call_id

T = TypeVar("T")

ROUTE = "completions"
# Some servers read seeds as signed 32-bit numbers.
SEED_BITS = 2**31 - 1

_TOP = 20
# A server may apply the sampling defaults that it found beside the model; what a Sampler means is all of these off.
_NO_DEFAULTS = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


@final
@dataclass(frozen=True)
class TokenCall(Generic[T]):
    """One request of the completions route.

    Args:
        body: what is sent.
        read: the value of its answer; raises GarbageError for one that is no answer, EngineError for what was ignored.
    """

    body: dict[str, Any]
    read: Callable[[Body], T]


def token_body(
    model: str, prompt: Int32[np.ndarray, " P"], *, max_tokens: int, temperature: float = 0.0
) -> dict[str, Any]:
    """What every request of the completions route has."""
    return {"model": model, "prompt": prompt.tolist(), "max_tokens": max_tokens, "temperature": temperature}


def sampling_call(
    model: str, prompt: Int32[np.ndarray, " P"], sampling: Sampling, *, seed: int, policy: str
) -> TokenCall[Completion]:
    """Ids and log probabilities of one completion."""
    body = {
        **token_body(model, prompt, max_tokens=sampling.max_tokens, temperature=sampling.temperature),
        **_NO_DEFAULTS,
        "top_p": sampling.top_p,
        "seed": seed & SEED_BITS,
        "stop_token_ids": list(sampling.stop_ids),
        "logprobs": 1,
        "return_token_ids": True,
    }

    def read(answer: Body) -> Completion:
        choice = answers.choices_of(answer, n=1)[0]
        answers.check_prompt_ids(choice, prompt)
        ids = answers.written_ids(choice)
        logprobs = answers.written_logprobs(choice, count=len(ids))
        _check_length(len(ids), sampling.max_tokens)
        return Completion(ids, logprobs, answers.finish_of(choice), policy)

    return TokenCall(body, read)


def writing_call(model: str, prompt: Int32[np.ndarray, " P"], writing: Writing, *, seed: int) -> TokenCall[Written]:
    """Text that follows the prompt, up to a stop string."""
    body = {
        **token_body(model, prompt, max_tokens=writing.max_tokens, temperature=writing.temperature),
        **_NO_DEFAULTS,
        "top_p": writing.top_p,
        "top_k": writing.top_k,
        "seed": seed & SEED_BITS,
        "stop": list(writing.stop),
        "include_stop_str_in_output": True,
        "skip_special_tokens": True,
        "return_token_ids": True,
    }
    call = call_id(ROUTE, body)

    def read(answer: Body) -> Written:
        choice, usage = answers.choices_of(answer, n=1)[0], usage_of(answer)
        answers.check_prompt_ids(choice, prompt)
        finish = answers.finish_of(choice)
        text, stop = cut_stop(answers.completion_text(choice), writing.stop, finish=finish)
        _check_length(len(answers.written_ids(choice)), writing.max_tokens)
        whole = text + stop if writing.keep_stop else text
        return Written(whole, finish, stop, call, usage.input_tokens, usage.output_tokens)

    return TokenCall(body, read)


def next_tokens_call(
    model: str, prompt: Int32[np.ndarray, " P"], candidates: Int32[np.ndarray, " C"], *, named: bool
) -> TokenCall[NextTokens]:
    """Log probabilities of candidates: asked for by id if the server takes that (`named`), else from the top 20."""
    how = {"logprobs": 1, "logprob_token_ids": candidates.tolist()} if named else {"logprobs": _TOP}
    body = {**token_body(model, prompt, max_tokens=1), "return_tokens_as_token_ids": True, **how}
    call = call_id(ROUTE, body)

    def read(answer: Body) -> NextTokens:
        choice = answers.choices_of(answer, n=1)[0]
        found, bound = answers.candidate_logprobs(choice, candidates)
        if named and np.isnan(found).any():
            raise answers.ignored("logprob_token_ids", got="a candidate did not come")
        return NextTokens(found, bound, call)

    return TokenCall(body, read)


def scoring_call(
    model: str, given: Int32[np.ndarray, " X"], *, first: int, can: Capabilities
) -> TokenCall[Float32[np.ndarray, " Y"]]:
    """Log probabilities of `given[first:]`, by the field for prompts or by an echo."""
    how = {"prompt_logprobs": 0} if can.prompt_logprobs else {"echo": True, "logprobs": 1}

    def read(answer: Body) -> Float32[np.ndarray, " Y"]:
        choice = answers.choices_of(answer, n=1)[0]
        if can.prompt_logprobs:
            return answers.prompt_logprobs(choice, given, first=first)
        return answers.echoed_logprobs(choice, count=len(given), first=first)

    return TokenCall({**token_body(model, given, max_tokens=1), **how}, read)


def cut_stop(text: str, stops: Sequence[str], *, finish: str) -> tuple[str, str]:
    """The text without the stop string at its end, and that string.

    Raises:
        EngineError: if the text goes on behind a stop string: the server ignores `stop` or what is kept of it.

    >>> cut_stop("so 4</think>", ["</think>"], finish="stop")
    ('so 4', '</think>')
    """
    ended = next((stop for stop in sorted(stops, key=len, reverse=True) if text.endswith(stop)), "")
    stop = ended if finish == "stop" else ""
    text = text.removesuffix(stop) if stop else text
    if passed := next((one for one in stops if one in text), ""):
        raise answers.ignored("stop", got=f"the text goes on behind {passed[:40]!r}")
    return text, stop


def _check_length(written: int, most: int) -> None:
    if written > most:
        raise answers.ignored("max_tokens", got=f"{most} asked, {written} came")
