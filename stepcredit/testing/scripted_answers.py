"""Good answers of the scripted server, in the form that vLLM gives them (the widest of the OpenAI-style dialects)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError
from stepcredit.core.protocols import Message, Sampling, Tokenizer, Writer
from stepcredit.testing.faults import Asked
from stepcredit.testing.scripted_writing import written_choice
from stepcredit.testing.tabular import ScriptedSampler, TabularPolicy

ReplyScript = Callable[[Sequence[Message]], str]


def echo(messages: Sequence[Message]) -> str:
    """The last message again: the reply script of a server that was given none."""
    return messages[-1].content


@final
@dataclass(frozen=True)
class Manners:
    """How a scripted server behaves towards requests that are not faulted.

    Args:
        model: the name it gives of itself.
        ignores: parameters that it takes and silently ignores: `n`, `logprobs`, `return_token_ids`,
            `prompt_logprobs`, `echo`, `logprob_token_ids`, `continue_final_message`, `stop`, `use_activation`.
        refuses: parameters that it answers with 422, and routes that it answers with 404; `prompt_ids` stands for a
            prompt given as ids.
        context: longest prompt plus completion, in tokens or words; 0 has no limit.
        delay_s: time before each good answer.
        keeps_s: closes a connection that carries nothing for so long, as servers do, and says nothing of it.
        key: if set, requests without this bearer token get 401.
        pools: the pooling route answers a row a token (`all`), a row a `step_tag` (`step`), or one row (`whole`).
        step_tag: token id of `step`.
        classes: numbers of a row, the first of the table's.
    """

    model: str = "scripted"
    ignores: frozenset[str] = frozenset()
    refuses: frozenset[str] = frozenset()
    context: int = 0
    delay_s: float = 0.0
    keeps_s: float = math.inf
    key: str = ""
    pools: Literal["all", "step", "whole"] = "all"
    step_tag: int = 0
    classes: int = 2


@final
class UnanswerableError(Exception):
    """The request gets an error status.

    Args:
        status: HTTP status.
        message: text of the error body.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@final
@dataclass(frozen=True)
class Answers:
    """Makes the JSON body of a good answer.

    Args:
        reply: text of chat answers.
        policy: table of the token routes.
        tokenizer: for prompts that are text.
        manners: what is ignored, refused and named.
        writer: answers the completions route in place of the table.
    """

    reply: ReplyScript
    policy: TabularPolicy | None
    tokenizer: Tokenizer | None
    manners: Manners
    writer: Writer | None = None

    async def body(self, asked: Asked) -> dict[str, Any]:
        """Body of the answer.

        Raises:
            UnanswerableError: with the status that the request gets instead.
        """
        if self.manners.key and asked.key != self.manners.key:
            raise UnanswerableError(401, f"Incorrect API key provided: {asked.key}")
        routes = {"chat/completions": self._chat, "completions": self._completions, "tokenize": self._tokenize}
        routes["pooling"] = self._pooling
        if asked.route == "models" and "models" not in self.manners.refuses:
            length = {"max_model_len": self.manners.context} if self.manners.context else {}
            return {"object": "list", "data": [{"id": self.manners.model, "object": "model", **length}]}
        if asked.route not in routes or asked.route in self.manners.refuses:
            raise UnanswerableError(404, "Not Found")
        named = {*asked.body, *(["prompt_ids"] if isinstance(asked.body.get("prompt"), list) else [])}
        refused = sorted(named & self.manners.refuses)
        if refused:
            raise UnanswerableError(422, f"Extra inputs are not permitted: {refused[0]}")
        if asked.body.get("model", self.manners.model) != self.manners.model:
            raise UnanswerableError(404, f"The model `{asked.body['model']}` does not exist.")
        # An ignored parameter is one that the server behaves as if it had not read.
        return await routes[asked.route]({k: v for k, v in asked.body.items() if k not in self.manners.ignores})

    async def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        messages = [Message(m["role"], m["content"]) for m in body["messages"]]
        most = int(body.get("max_tokens") or 16)
        words = self.reply(messages).split(" ")
        read = sum(len(message.content.split()) + 4 for message in messages) + 3
        if body.get("continue_final_message"):
            read -= 5
        self._fits(read, most)
        text, finish = " ".join(words[:most]), "length" if len(words) > most else "stop"
        choices: list[dict[str, Any]] = []
        for index in range(int(body.get("n") or 1)):
            choice: dict[str, Any] = {"index": index, "message": {"role": "assistant", "content": text}}
            choice |= {"finish_reason": finish, "logprobs": None}
            if body.get("logprobs"):
                content = [{"token": word, "logprob": -0.5, "top_logprobs": []} for word in words[:most]]
                choice["logprobs"] = {"content": content}
            choices.append(choice)
        return self._whole("chat.completion", choices, read, len(words[:most]) * len(choices))

    async def _completions(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.writer is not None and self.tokenizer is not None:
            self._fits(len(self._prompt(body["prompt"])), int(body.get("max_tokens", 16)))
            return self._whole("text_completion", *await self._written(self.writer, self.tokenizer, body))
        prompt, policy = self._prompt(body["prompt"]), self._policy()
        most = int(body.get("max_tokens", 16))
        self._fits(len(prompt), most)
        stops = tuple(body.get("stop_token_ids") or ())
        if self.tokenizer is not None and self.tokenizer.eos_id is not None:
            stops = (*stops, self.tokenizer.eos_id)
        sampling = Sampling(most, float(body.get("temperature", 1.0)), float(body.get("top_p", 1.0)), stops)
        choices: list[dict[str, Any]] = []
        written = 0
        for index in range(int(body.get("n") or 1)):
            seed = int(body.get("seed") or 0) + 1_000_003 * index
            try:
                done = await ScriptedSampler(policy).sample(prompt, sampling, seed=seed)
            except EngineError as error:
                raise UnanswerableError(400, str(error)) from error
            ids, text = self._until(done.ids, list(body.get("stop") or ()))
            written += len(ids)
            finish = "stop" if len(ids) < len(done.ids) or text != self._text(ids) else done.finish
            choice: dict[str, Any] = {"index": index, "text": text, "finish_reason": finish}
            choices.append(choice | self._details(body, prompt, ids))
        return self._whole("text_completion", choices, len(prompt), written)

    @staticmethod
    async def _written(
        writer: Writer, tokenizer: Tokenizer, body: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], int, int]:
        try:
            choice, read, written = await written_choice(writer, tokenizer, body)
        except EngineError as error:
            raise UnanswerableError(400, str(error)) from error
        return [choice], read, written

    def _details(self, body: dict[str, Any], prompt: np.ndarray, ids: np.ndarray) -> dict[str, Any]:
        table = self._policy().logprobs()
        whole = np.concatenate([prompt, ids])
        known = [None, *table[whole[:-1], whole[1:]].tolist()]
        found: dict[str, Any] = {"logprobs": None}
        if body.get("logprobs") is not None:
            first = 0 if body.get("echo") else len(prompt)
            shown = range(first, len(whole))
            named = [int(i) for i in body.get("logprob_token_ids") or ()]
            tops = [self._top(table[whole[p - 1]], int(whole[p]), named) if p else None for p in shown]
            tokens = [f"token_id:{whole[p]}" for p in shown]
            found["logprobs"] = {"tokens": tokens, "token_logprobs": known[first:], "top_logprobs": tops}
        if body.get("return_token_ids"):
            found |= {"token_ids": ids.tolist(), "prompt_token_ids": prompt.tolist()}
        if body.get("prompt_logprobs") is not None:
            pairs = zip(prompt.tolist(), known[: len(prompt)], strict=True)
            found["prompt_logprobs"] = [None if p is None else {str(i): {"logprob": p, "rank": 1}} for i, p in pairs]
        return found

    @staticmethod
    def _top(row: np.ndarray, written: int, named: Sequence[int]) -> dict[str, float]:
        return {f"token_id:{i}": float(row[i]) for i in (written, *named)}

    async def _tokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        said = " ".join(message["content"] for message in body.get("messages", ()))
        ids = self._prompt(body.get("prompt", said)).tolist()
        return {"tokens": ids, "count": len(ids), "max_model_len": self.manners.context or 1_000_000}

    async def _pooling(self, body: dict[str, Any]) -> dict[str, Any]:
        """Class logits of a token are the first of its row in the table."""
        ids = self._prompt(body["input"])
        self._fits(len(ids), 0)
        rows = self._policy().logprobs()[ids, : self.manners.classes]
        if body.get("use_activation"):
            rows = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
        if self.manners.pools == "step":
            rows = rows[ids == self.manners.step_tag]
        data: list[Any] = rows[-1].tolist() if self.manners.pools == "whole" else rows.tolist()
        usage = {"prompt_tokens": len(ids), "total_tokens": len(ids)}
        found = [{"index": 0, "object": "pooling", "data": data}]
        return {"object": "list", "model": self.manners.model, "data": found, "usage": usage}

    def _prompt(self, prompt: str | list[int]) -> np.ndarray:
        if isinstance(prompt, list):
            return np.array(prompt, np.int32)
        if self.tokenizer is None:
            raise UnanswerableError(400, "this server has no tokenizer: give the prompt as ids")
        try:
            return self.tokenizer.encode(prompt)
        except EngineError as error:
            raise UnanswerableError(400, str(error)) from error

    def _policy(self) -> TabularPolicy:
        if self.policy is None:
            raise UnanswerableError(404, "this server has no token routes")
        return self.policy

    def _text(self, ids: np.ndarray) -> str:
        return " ".join(map(str, ids)) if self.tokenizer is None else self.tokenizer.decode(ids)

    def _until(self, ids: np.ndarray, stops: Sequence[str]) -> tuple[np.ndarray, str]:
        """The ids up to the first that completes a stop string, and their text up to its end."""
        for count in range(1, len(ids) + 1):
            text = self._text(ids[:count])
            ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
            if ends:
                return ids[:count], text[: min(ends)]
        return ids, self._text(ids)

    def _fits(self, read: int, most: int) -> None:
        if self.manners.context and read + most > self.manners.context:
            limit = f"This model's maximum context length is {self.manners.context} tokens"
            raise UnanswerableError(400, f"{limit}. However, you requested {read + most} tokens.")

    def _whole(self, kind: str, choices: list[dict[str, Any]], read: int, written: int) -> dict[str, Any]:
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        name = digest(kind, read, written)[:12]
        return {"id": name, "object": kind, "model": self.manners.model, "choices": choices, "usage": usage}


POLITE = Manners()
"""Takes all parameters, has no limits."""
