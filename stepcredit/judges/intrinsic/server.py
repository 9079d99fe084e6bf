"""The reader over any chat model: a prompt a task, a JSON schema where the server can hold to one, faults named.

What a chat model adds around its JSON is told apart here, so that statistics can count it: a reply that was cut, one in
a code fence, tokens of its chat format that leaked, words around the JSON. Everything else is the parser's.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, final, get_args

from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import ChatModel, Message, Reply
from stepcredit.core.seeds import derive
from stepcredit.judges.intrinsic.forms import schema_of
from stepcredit.judges.intrinsic.prompts import PROMPT_VERSION, SplitPrompt, TracePrompt, user_message
from stepcredit.judges.intrinsic.replies import Reject, RejectReason
from stepcredit.judges.intrinsic.tasks import ReaderReply, Task, TraceTask, TraceVerifyTask, VerifyTask

Structured = Literal["auto", "on", "off"]
"""Whether replies are held to a JSON schema by the server: where it takes one, always (else an error), or never."""

Thinking = Literal["server", "off", "on", "trace"]
"""Whether the model thinks first: as the server has it (nothing is sent), never, always, or for P2 and P3 only."""

Fences = Literal["reject", "open"]
"""What becomes of a reply that stands whole in one code fence: it is rejected and asked again, or taken out of it."""

Fields = Callable[[Mapping[str, Any]], AbstractContextManager[None]]
"""Sets further fields of the requests that are made inside the block, such as `response_format`."""

_TRACING = (TraceTask, VerifyTask, TraceVerifyTask)
_CONTEXT = "do not fit the model's context"
_FENCE = re.compile(r"\A```[A-Za-z]*\s*(.*?)\s*```\Z", re.DOTALL)
_CHAT_TOKEN = re.compile(r"<[|｜][^<>\n]{0,60}[|｜]>|</?(?:s|bos|eos|pad|think|start_of_turn|end_of_turn)>|\[/?INST\]")
_SHOWN = 80


@final
@dataclass(frozen=True)
class ServerReaderSettings:
    """How a chat model is asked to read.

    Args:
        max_tokens: upper bound on the tokens of one reply.
        temperature: of first tries; above 0 where replies are voted on.
        retry_temperature: of tries after a rejected reply, if it is higher.
        seed: of all replies; each attempt at each task derives its own.
        split_prompt: variant of P0.
        trace_prompt: variant of P2.
        structured: see `Structured`.
        thinking: see `Thinking`.
        fences: see `Fences`.

    Raises:
        UsageError: for a value out of range or an unknown choice.

    Source: tp_grpo.md 1.9, 1.10 (temperature 0; thinking off for split and match, on for tracing: `trace`). Differs:
    thinking is left to the server, since not every server knows how to switch it; retries are drawn at 0.7.
    """

    max_tokens: int = 8192
    temperature: float = 0.0
    retry_temperature: float = 0.7
    seed: int = 42
    split_prompt: SplitPrompt = "purpose"
    trace_prompt: TracePrompt = "backward"
    structured: Structured = "auto"
    thinking: Thinking = "server"
    fences: Fences = "reject"

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not (self.temperature >= 0 and self.retry_temperature >= 0):  # NaN too
            raise UsageError(f"temperatures must be at least 0, got {self.temperature} and {self.retry_temperature}")
        choices = {"split_prompt": SplitPrompt, "trace_prompt": TracePrompt, "structured": Structured}
        for name, known in {**choices, "thinking": Thinking, "fences": Fences}.items():
            if getattr(self, name) not in get_args(known):
                raise UsageError(f"{name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}")


@final
class ServerReader:
    """Answers the reading tasks P0-P4 with a chat model, one call a try.

    A prompt that does not fit the model's context is a fault of that reply (`RejectReason.TOO_LONG`), no error: other
    solutions are shorter.

    Args:
        model: any chat model.
        settings: how it is asked.
        fields: sets further fields of a request; without it neither a JSON schema nor a thinking switch can be sent.

    Raises:
        UsageError: if a schema or a thinking switch is asked for, and there is no way to send it.

    Source: TP-GRPO, arXiv:2507.23317; tp_grpo.md 3. Differs: the prompts are ours.
    """

    def __init__(
        self, model: ChatModel, settings: ServerReaderSettings | None = None, *, fields: Fields | None = None
    ) -> None:
        self._model, self._settings, self._fields = model, settings or ServerReaderSettings(), fields
        if fields is None and (self._settings.structured == "on" or self._settings.thinking != "server"):
            raise UsageError("this chat model takes no further fields; set structured = auto or off, thinking = server")
        self._takes_schemas = fields is not None and self._settings.structured != "off"

    @property
    def fingerprint(self) -> str:
        """Prompt version, settings and the model's fingerprint."""
        return f"server:{digest(PROMPT_VERSION, self._settings, self._model.fingerprint)}"

    async def answer(self, task: Task, *, attempt: int, error: str) -> ReaderReply:
        """The model's reply; `fault` says what is wrong with one that is not worth reading.

        Raises:
            EngineError: if no whole answer came.
            UsageError: if the server refuses the request as such.
            BudgetError: if a limit on calls or cost is reached.
        """
        settings = self._settings
        said = user_message(task, split=settings.split_prompt, trace=settings.trace_prompt, error=error)
        hot = settings.retry_temperature if error else 0.0

        async def ask() -> Reply:
            return await self._model.complete(
                [Message("user", said)],
                max_tokens=settings.max_tokens,
                temperature=max(settings.temperature, hot),
                seed=derive(settings.seed, "reader", task.name, attempt),
            )

        try:
            reply = await self._asked(task, ask)
        except UsageError as refused:
            if _CONTEXT not in str(refused):
                raise
            return ReaderReply("", fault=Reject(RejectReason.TOO_LONG, f"the prompt has {len(said)} characters"))
        text, fault = clean(reply.text, cut=reply.finish != "stop", fences=settings.fences)
        if fault is not None and fault.reason is RejectReason.CUT:
            fault = Reject(fault.reason, f"the reply has more than {settings.max_tokens} tokens; {fault.detail}")
        return ReaderReply(text, reply.call, reply.input_tokens, reply.output_tokens, fault)

    async def _asked(self, task: Task, ask: Callable[[], Any]) -> Reply:
        """Ask with a schema if the server takes one; where that is not sure, a refusal is tried without."""
        plain = self._switches(task)
        if not self._takes_schemas:
            return await self._sent(plain, ask)
        form = {"type": "json_schema", "json_schema": {"name": task.name, "schema": self._schema(task)}}
        try:
            return await self._sent({**plain, "response_format": form}, ask)
        except UsageError as refused:
            if self._settings.structured == "on" or _CONTEXT in str(refused):
                raise
        reply = await self._sent(plain, ask)
        self._takes_schemas = False  # not before it has answered: else the refusal had another cause
        return reply

    async def _sent(self, fields: Mapping[str, Any], ask: Callable[[], Any]) -> Reply:
        with self._fields(fields) if self._fields is not None else nullcontext():
            return await ask()

    def _schema(self, task: Task) -> dict[str, Any]:
        return schema_of(task, trace=self._settings.trace_prompt)

    def _switches(self, task: Task) -> dict[str, Any]:
        thinking = self._settings.thinking
        if thinking == "server":
            return {}
        thinks = thinking == "on" or (thinking == "trace" and isinstance(task, _TRACING))
        return {"chat_template_kwargs": {"enable_thinking": thinks}}


def clean(text: str, *, cut: bool = False, fences: Fences = "reject") -> tuple[str, Reject | None]:
    r"""The part of a chat model's reply that is to be read, and what is wrong with it before it is.

    Thinking that the server left in the reply, up to `</think>`, is left out. What is JSON is never touched.

    Args:
        text: the reply as written.
        cut: it ended by length; such a reply is never read, whatever stands in it.
        fences: see `Fences`.

    Returns:
        Text for the parser and `None`; or the reply as written and its fault.

    >>> clean('<think>hm</think>\n{"steps": []}')
    ('{"steps": []}', None)
    >>> clean('```json\n{"steps": []}\n```')[1].reason
    <RejectReason.FENCED: 'in a code fence'>
    >>> clean('Sure: {"steps": []}')[1].reason
    <RejectReason.TEXT_AROUND: 'text around the JSON'>
    """
    if cut:
        return text, Reject(RejectReason.CUT, "write a shorter one")
    body = text.strip()
    if _is_json(body):
        return body, None
    body = body.rpartition("</think>")[2].strip()
    if not body:
        return text, Reject(RejectReason.EMPTY, "the reply holds nothing, one JSON object was wanted")
    fenced = _FENCE.match(body)
    if fenced is not None and fences == "open":
        body = fenced[1].strip()
    if _is_json(body):
        return body, None
    if fenced is not None:
        return text, Reject(RejectReason.FENCED, "write the JSON object bare")
    leaked = _CHAT_TOKEN.search(body)
    if leaked is not None:
        return text, Reject(RejectReason.CHAT_TOKENS, f"the reply holds {leaked[0][:_SHOWN]!r}")
    if "{" in body and not _is_lone_object(body):
        return text, Reject(RejectReason.TEXT_AROUND, f"the reply begins {body[:_SHOWN]!r}; write the object alone")
    return body, None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_lone_object(text: str) -> bool:
    """False if a whole JSON object stands in the text with something else beside it."""
    decoder, start = json.JSONDecoder(), text.find("{")
    try:
        _, end = decoder.raw_decode(text, start)
    except (ValueError, RecursionError):
        return True
    return start == 0 and end == len(text)
