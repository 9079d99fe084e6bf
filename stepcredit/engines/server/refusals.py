"""What a server's refusal means for the user, in one line with the mend; never with a key in it."""

import re
from contextlib import suppress
from typing import Any, cast

import orjson

from stepcredit.core.errors import StepcreditError, UsageError

_AGAIN = frozenset({408, 425, 429})
_NO_ROUTE = frozenset({404, 405, 501})
_TOO_LONG = re.compile(
    r"context length|context window|too long|max_model_len|maximum.{0,20}tokens|exceed", re.IGNORECASE
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_MARKUP = re.compile(r"<(style|script|title)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def is_asked_again(status: int) -> bool:
    """True for a status that may pass: the server is busy or broken, not without the route.

    >>> is_asked_again(503), is_asked_again(429), is_asked_again(501), is_asked_again(404)
    (True, True, False, False)
    """
    return status in _AGAIN or (status >= 500 and status not in _NO_ROUTE)


def refusal(status: int, body: bytes, *, url: str, route: str, model: str, secret: str) -> StepcreditError:
    """The error that a status which is not asked again stands for.

    Args:
        status: HTTP status, not 200 and not retried.
        body: the answer's body.
        url: the server's address, without secrets.
        route: what was asked.
        model: the model that was asked for.
        secret: the key in use, empty if none; taken out of whatever the server says.

    >>> print(refusal(401, b"", url="http://h/v1", route="models", model="m", secret="s"))
    http://h/v1: the server refuses the key (401); set the environment variable named by server.key_variable
    """
    said = server_text(body, secret=secret)
    if status in (401, 403):
        mend = "set the environment variable named by server.key_variable"
        return UsageError(f"the server refuses the key ({status}); {mend}", item=url)
    reason = f"{status}: {said}" if said else str(status)
    if status in _NO_ROUTE:
        mend = "check --model and --server"
        return UsageError(f"no route {route} or no model {model!r} there ({reason}); {mend}", item=url)
    if status in (400, 413, 422) and _TOO_LONG.search(said):
        mend = "lower max_tokens or use a model with a longer context"
        return UsageError(f"prompt and completion do not fit the model's context ({said}); {mend}", item=url)
    if 300 <= status < 400:
        return UsageError(f"the server redirects ({status}); give the address it redirects to", item=url)
    return UsageError(f"the server refuses {route} ({reason}); check the server's version and settings", item=url)


def out_of_quota(body: bytes) -> bool:
    """True if a 429 says that the account is empty, which waiting does not mend."""
    return b"insufficient_quota" in body


def server_text(body: bytes, *, secret: str) -> str:
    r"""What a server said in an error body: one line, at most 200 characters, without the key or a page's markup.

    >>> server_text(b'{"error": {"message": "bad\\nkey s3"}}', secret="s3")
    'bad key ***'
    """
    text = body[:4000].decode("utf-8", "replace")
    with suppress(orjson.JSONDecodeError):  # where it is not JSON, the text itself is what it said
        text = _message(orjson.loads(body)) or text
    if text.lstrip()[:5].lower() in ("<!doc", "<html"):
        text = _MARKUP.sub(" ", text)
    line = " ".join(_CONTROL.sub(" ", text).split())
    if secret:
        line = line.replace(secret, "***")
    return line if len(line) <= 200 else line[:197] + "..."


def _message(found: Any) -> str:
    while isinstance(found, dict):
        body = cast("dict[str, Any]", found)
        found = body.get("message") or body.get("error") or body.get("detail") or ""
    return found if isinstance(found, str) else ""
