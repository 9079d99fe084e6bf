"""ChatTemplate: a model's own chat template, from messages to the text that its tokenizer reads."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, Self, final

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from stepcredit.core.digests import digest
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Message

_CONFIG, _FILE = "tokenizer_config.json", "chat_template.jinja"


@final
class _Generation(Extension):
    """`{% generation %}`, by which training templates mark the assistant's part: here it changes nothing."""

    tags: set[str] = {"generation"}  # noqa: RUF012 -- as the base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@final
class ChatTemplate:
    """A Jinja chat template as Hugging Face tokenizers carry it, rendered in a sandbox; implements `ChatRenderer`.

    Args:
        source: the template.
        bos: text of the begin-of-sequence token, the template's `bos_token`; empty if there is none.
        eos: text of the end-of-sequence token, its `eos_token`.
        variables: what else the template may ask for, such as `enable_thinking`.

    Raises:
        UsageError: if the source is no Jinja template.

    Source: own, after what the templates published on the Hugging Face hub ask for. Differs: tools and documents are
    not rendered.

    >>> template = ChatTemplate("{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}", "^")
    >>> template.render([Message("user", "1 + 1?")], add_generation_prompt=False)
    '^user:1 + 1?;'
    """

    def __init__(
        self, source: str, bos: str = "", eos: str = "", *, variables: Mapping[str, Any] | None = None
    ) -> None:
        self.source, self.bos, self.eos = source, bos, eos
        self._variables = dict(variables or {})
        _ = self._template

    @classmethod
    def load(cls, folder: str | Path, *, variables: Mapping[str, Any] | None = None) -> Self:
        """Read the template of a model's folder: `chat_template.jinja`, else that of `tokenizer_config.json`.

        Begin and end token are those of `tokenizer_config.json`. Of several named templates `default` is taken.

        Args:
            folder: holds `tokenizer_config.json`, and `chat_template.jinja` where the template has a file of its own.
            variables: as in the constructor.

        Raises:
            UsageError: if the folder has no template, or a file cannot be read.
        """
        place = Path(folder)
        config = _config(place / _CONFIG)
        file = place / _FILE
        try:
            source = file.read_text(encoding="utf-8") if file.is_file() else _source(config.get("chat_template"))
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot be read: {error}", item=str(file)) from error
        if source is None:
            raise UsageError(
                f"the folder has no chat template: neither {_FILE} nor chat_template in {_CONFIG}; "
                "copy them from the model's repository",
                item=str(place),
            )
        return cls(source, _token(config.get("bos_token")), _token(config.get("eos_token")), variables=variables)

    @property
    def fingerprint(self) -> str:
        """Digest of source, tokens and variables."""
        return digest("ChatTemplate", self.source, self.bos, self.eos, repr(sorted(self._variables.items())))

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """The text of the messages, special tokens as text.

        Args:
            messages: at least one.
            add_generation_prompt: True ends the text where the assistant's turn begins.

        Raises:
            UsageError: if the template refuses the messages or breaks on them.
        """
        written = [{"role": message.role, "content": message.content} for message in messages]
        given = {"bos_token": self.bos, "eos_token": self.eos, **self._variables}
        try:
            return self._template.render(messages=written, add_generation_prompt=add_generation_prompt, **given)
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            roles = ", ".join(message.role for message in messages)
            raise UsageError(f"the chat template cannot render messages of {roles}: {error}") from error

    @cached_property
    def _template(self) -> Template:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
        )
        environment.filters["tojson"] = _tojson
        try:
            return environment.from_string(self.source, {"raise_exception": _raise, "strftime_now": _now})
        except TemplateError as error:
            raise UsageError(f"the chat template is no Jinja template: {error}") from error


def _tojson(value: Any, indent: int | None = None) -> str:
    """JSON as it is, where Jinja's own filter would escape it for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _config(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot be read: {error}", item=str(file)) from error
    if not isinstance(config, dict):
        raise UsageError(f"is not a JSON object, but {type(config).__name__}", item=str(file))
    return config


def _source(entry: Any) -> str | None:
    """The template of a `chat_template` entry: a text, or a list of named ones."""
    if isinstance(entry, list):
        named = {each.get("name"): each.get("template") for each in entry if isinstance(each, dict)}
        entry = named.get("default")
    return entry if isinstance(entry, str) else None


def _token(entry: Any) -> str:
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else ""
