"""The client of one model on one server: chat, sampling and scoring, each answer checked."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, final

import numpy as np
from jaxtyping import Float32, Int32

from stepcredit.core.digests import digest
from stepcredit.core.errors import ChangedModelError, EngineError
from stepcredit.core.protocols import Completion, Message, NextTokens, Reply, Sampling, Writing, Written
from stepcredit.engines.server import answers
from stepcredit.engines.server.answers import Body, GarbageError, usage_of
from stepcredit.engines.server.budget import Budget
from stepcredit.engines.server.capabilities import Capabilities, probe
from stepcredit.engines.server.listing import served_model
from stepcredit.engines.server.settings import ServerSettings, base_url
from stepcredit.engines.server.token_calls import (
    ROUTE,
    SEED_BITS,
    TokenCall,
    next_tokens_call,
    sampling_call,
    scoring_call,
    writing_call,
)
from stepcredit.engines.server.transport import OnAttempt, Transport, call_id

T = TypeVar("T")

_CANARY_IDS = np.array((1, 2, 3, 1, 1, 2, 2, 3, 3), np.int32)
# Batches change log probabilities by rounding, a bf16 model's by some hundredths; another model's differ by far more.
_SAME_WITHIN_NATS = 0.5


@final
class ServerClient:
    """Implements `core.protocols.ChatModel`, `Sampler`, `Scorer` and `Writer` on one server; for one event loop.

    Args:
        settings: address, model, limits and waits.
        budget: limits on calls and cost; may be shared with other clients.
        on_attempt: gets a record of each request, such as `ledger.attempt`.

    Use it in an `async with` block, or call `close` at the end.

    Source: engines.md 4; reliability.md B3. Differs: work in flight is bounded by requests, not by tokens.
    """

    def __init__(
        self, settings: ServerSettings, *, budget: Budget | None = None, on_attempt: OnAttempt | None = None
    ) -> None:
        self._settings = settings
        self._transport = Transport(settings, budget=budget or Budget(), on_attempt=on_attempt)
        self._model = settings.model
        self._policy = ""
        self._served = False
        self._answering: str | None = None
        self._capabilities: Capabilities | None = None
        self._canary: Float32[np.ndarray, " C"] | None = None
        self._scored_by: Capabilities | None = None
        self._broken = ""
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> "ServerClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    @property
    def fingerprint(self) -> str:
        """Digest of address, model, extra fields, and the policy named by `set_policy`.

        Raises:
            EngineError: if the settings name no model and the server was not asked yet.
        """
        if not self._model:
            raise EngineError("the model's name is not known yet; await probe() first", item=self._transport.url)
        return digest("server", base_url(self._settings.url), self._model, dict(self._settings.extra), self._policy)

    @property
    def limit(self) -> float:
        """Requests allowed at once now."""
        return self._transport.limit

    @property
    def url(self) -> str:
        """Address of the server, for messages."""
        return self._transport.url

    def set_policy(self, name: str) -> None:
        """Say that the server's weights were changed on purpose: completions carry the new name from now on."""
        self._policy, self._canary = name, None

    async def probe(self) -> Capabilities:
        """What the server can do; asked once.

        Raises:
            MachineError: if there is no server.
            UsageError: if it refuses the key or does not have the model.
        """
        await self._start()
        async with self._starting:
            if self._capabilities is None:
                self._capabilities = await probe(self._transport.look, model=self._model)
                if _scores(self._capabilities):
                    self._scored_by = self._capabilities
                    self._canary = await self._identity()
        return self._capabilities

    async def identity(self) -> Float32[np.ndarray, " C"] | None:
        """[C] log probabilities of a few fixed tokens, by which the weights are known again; `None` if it cannot score.

        From then on the client compares them after each broken connection. Costs one or two requests of one token.

        Raises:
            MachineError: if there is no server.
            ChangedModelError: if other weights answer than before.
        """
        await self._start()
        async with self._starting:
            if self._scored_by is None and self._capabilities is None:
                self._scored_by = await self._way_to_score()
                self._canary = None if self._scored_by is None else await self._identity()
        return self._canary

    async def complete(self, messages: Sequence[Message], *, max_tokens: int, temperature: float, seed: int) -> Reply:
        """One chat answer; raises as `complete_many`."""
        found = await self.complete_many(messages, n=1, max_tokens=max_tokens, temperature=temperature, seed=seed)
        return found[0]

    async def complete_many(
        self, messages: Sequence[Message], *, n: int, max_tokens: int, temperature: float, seed: int
    ) -> tuple[Reply, ...]:
        """[n] chat answers to the same messages, from one request; the token counts are those of the whole request.

        Raises:
            EngineError: if no whole answer came within deadline and tries, or the server ignores `n`.
            UsageError: if the server refuses the request.
            BudgetError: if a limit on calls or cost is reached.
        """
        await self._start()
        said = [{"role": message.role, "content": message.content} for message in messages]
        body = {"model": self._model, "messages": said, "max_tokens": max_tokens, "temperature": temperature}
        body |= {"seed": seed & SEED_BITS, **({"n": n} if n > 1 else {}), **self._settings.extra}
        call = call_id("chat/completions", body)

        def read(answer: Body) -> tuple[Reply, ...]:
            usage, model = usage_of(answer), str(answer.get("model") or self._model)
            return tuple(
                Reply(answers.chat_text(choice), answers.finish_of(choice), call, model, *_counts(usage))
                for choice in answers.choices_of(answer, n=n)
            )

        return await self._ask("chat/completions", body, read)

    async def sample(self, prompt_ids: Int32[np.ndarray, " P"], sampling: Sampling, *, seed: int) -> Completion:
        """Write one completion; ids in, ids and logprobs of temperature 1 out.

        Raises:
            EngineError: if no whole answer came, or the server cannot take or give token ids or logprobs.
            UsageError: if the server refuses the request.
            BudgetError: if a limit on calls or cost is reached.
        """
        await self._start()
        prompt, policy = np.asarray(prompt_ids, np.int32), self._policy or self.fingerprint
        return await self._call(sampling_call(self._model, prompt, sampling, seed=seed, policy=policy))

    async def write(self, prompt_ids: Int32[np.ndarray, " P"], writing: Writing, *, seed: int) -> Written:
        """Text that follows the prompt, with stop strings; ids in, text out.

        Raises:
            EngineError: if no whole answer came, or the server cannot take token ids or ignores the stop strings.
            UsageError: if the server refuses the request.
            BudgetError: if a limit on calls or cost is reached.
        """
        await self._start()
        return await self._call(writing_call(self._model, np.asarray(prompt_ids, np.int32), writing, seed=seed))

    async def score(self, ids: Int32[np.ndarray, " X"], *, first: int) -> Float32[np.ndarray, " Y"]:
        """[X - first] log probability in nats of `ids[first:]`, each given all ids before it; `first >= 1`.

        Raises:
            EngineError: if no answer came, or the server gives no log probabilities of a prompt.
        """
        can = await self.probe()
        given = np.asarray(ids, np.int32)
        if not 1 <= first <= len(given):
            raise EngineError(f"first must be in 1..{len(given)}, got {first}", item=self._transport.url)
        if not _scores(can):
            raise answers.ignored("prompt_logprobs", got="tried at the start, and `echo` too")
        return await self._call(scoring_call(self._model, given, first=first, can=can))

    async def next_tokens(self, prompt_ids: Int32[np.ndarray, " P"], candidates: Int32[np.ndarray, " C"]) -> NextTokens:
        """Log probability in nats of each candidate as the next token after the prompt.

        NaN for a candidate that the server does not name: only where it cannot be asked for tokens by id, and the
        candidate is not among the 20 most probable.

        Raises:
            EngineError: if no answer came, or the server gives no log probabilities by token id.
        """
        named = (await self.probe()).named_logprobs
        wanted, prompt = np.asarray(candidates, np.int32), np.asarray(prompt_ids, np.int32)
        return await self._call(next_tokens_call(self._model, prompt, wanted, named=named))

    async def tokenize(self, text: str) -> Int32[np.ndarray, " T"]:
        """[T] token ids of a text, without special tokens added.

        Raises:
            UsageError: if the server has no tokenize route.
        """
        return await self._tokenize({"prompt": text, "add_special_tokens": False})

    async def tokenize_chat(
        self, messages: Sequence[Message], *, continue_final: bool = False
    ) -> Int32[np.ndarray, " T"]:
        """[T] token ids of messages in the model's chat format, ready for an answer (or for going on with the last)."""
        said = [{"role": message.role, "content": message.content} for message in messages]
        flags = {"add_generation_prompt": not continue_final, "continue_final_message": continue_final}
        return await self._tokenize({"messages": said, **flags})

    async def _tokenize(self, body: dict[str, Any]) -> Int32[np.ndarray, " T"]:
        await self._start()

        def read(answer: Body) -> Int32[np.ndarray, " T"]:
            tokens = answer.get("tokens")
            if not isinstance(tokens, list):
                raise GarbageError("no tokens in the answer")
            return np.array(tokens, np.int32)

        return await self._ask("/tokenize", {"model": self._model, **body}, read)

    async def _call(self, call: TokenCall[T]) -> T:
        return await self._ask(ROUTE, call.body, call.read)

    async def _ask(self, route: str, body: dict[str, Any], read: Callable[[Body], T]) -> T:
        def checked(answer: Body) -> T:
            self._check_model(answer)
            return read(answer)

        self._check_sound()
        value = await self._transport.ask(route, body, read=checked)
        if self._transport.lost_contact:
            await self._check_identity()
        self._check_sound()
        return value

    async def _start(self) -> None:
        """Learn the model's name, and that there is a server, before the first call."""
        self._check_sound()
        async with self._starting:
            if self._served:
                return
            self._model, _ = await served_model(self._transport, self._model)
            self._served = True
            self._transport.lost_contact = False

    def _check_model(self, answer: Body) -> None:
        """The name in each answer must be the one asked for (or an alias of it), and stay the same."""
        name = str(answer.get("model") or self._model)
        expected = self._answering or self._model
        if name == expected:
            return
        low, asked = name.lower(), self._model.lower()
        if self._answering is None and (low in asked or asked in low):
            self._answering = name
            return
        self._broken = f"answers come from model {name!r}, not {expected!r}; results of two models must not be mixed"
        self._check_sound()

    def _check_sound(self) -> None:
        if self._broken:
            raise ChangedModelError(self._broken, item=self._transport.url)

    async def _check_identity(self) -> None:
        """After a broken connection: is what answers now the model that answered before?"""
        async with self._starting:
            if not self._transport.lost_contact:
                return
            self._transport.lost_contact = False
            if self._canary is None:
                return
            try:
                now = await self._identity()
            except EngineError:
                self._transport.lost_contact = True
                raise
            if now is None or not same_weights(now, self._canary):
                self._broken = "the server came back with other weights under the same name; start a new run"

    async def _identity(self) -> Float32[np.ndarray, " C"] | None:
        """Log probabilities of a few fixed tokens; `None` where the server cannot score."""
        if self._scored_by is None:
            return None
        call = scoring_call(self._model, _CANARY_IDS, first=1, can=self._scored_by)
        return await self._transport.ask(ROUTE, call.body, read=call.read, first=True)

    async def _way_to_score(self) -> Capabilities | None:
        for way in ("prompt_logprobs", "echo"):
            can = Capabilities(token_ids_in=True, **{way: True})
            call = scoring_call(self._model, _CANARY_IDS, first=1, can=can)
            status, answer = await self._transport.look(ROUTE, call.body)
            if status != 200 or answer is None:
                return None
            with suppress(EngineError, GarbageError):
                call.read(answer)
                return can
        return None


def same_weights(one: Float32[np.ndarray, " C"], other: Float32[np.ndarray, " C"]) -> bool:
    """True if two identities can be of the same weights, rounding of batches allowed for.

    >>> same_weights(np.array([-1.0, -2.0]), np.array([-1.01, -2.02])), same_weights(np.zeros(1), -np.ones(1))
    (True, False)
    """
    return one.shape == other.shape and float(np.abs(one - other).max()) <= _SAME_WITHIN_NATS


def _scores(can: Capabilities) -> bool:
    return can.token_ids_in and (can.prompt_logprobs or can.echo)


def _counts(usage: answers.Usage) -> tuple[int | None, int | None]:
    return usage.input_tokens, usage.output_tokens
