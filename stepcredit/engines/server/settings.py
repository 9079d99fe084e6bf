"""Settings of a server client: where it is, how long to wait, how often to ask again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final
from urllib.parse import urlsplit

from stepcredit.core.errors import UsageError


@final
@dataclass(frozen=True)
class ServerSettings:
    """Where a server is and how it is asked.

    Args:
        url: address of the server, with or without `/v1`.
        model: name of the model; empty takes the only one that the server has.
        key_variable: environment variable that holds the key, if the server wants one; the key itself is kept nowhere.
        max_in_flight: most requests at once; falls when the server says that it is too much, and recovers.
        max_tries: most tries of one call; a request sent on a kept connection that the server had closed is none.
        deadline_s: most time for one call, over all its tries and the waits between them.
        first_byte_s: most time until an answer begins.
        idle_s: most time between two pieces of an answer.
        connect_s: most time to connect.
        backoff_s: wait before the second try; doubles for each further one.
        backoff_cap_s: most wait between two tries where the server names none.
        retry_after_cap_s: most wait that a server's Retry-After is believed for.
        max_answer_bytes: most bytes of an answer.
        seed: of the jitter in waits.
        extra: further fields of every chat request, such as `chat_template_kwargs`.

    Raises:
        UsageError: if the address is not an http or https URL, or a limit is not positive.
    """

    url: str
    model: str = ""
    key_variable: str = "STEPCREDIT_API_KEY"
    max_in_flight: int = 32
    max_tries: int = 10
    deadline_s: float = 600.0
    first_byte_s: float = 300.0
    idle_s: float = 60.0
    connect_s: float = 10.0
    backoff_s: float = 0.5
    backoff_cap_s: float = 30.0
    retry_after_cap_s: float = 120.0
    max_answer_bytes: int = 64 * 2**20
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        base_url(self.url)
        for name in ("max_in_flight", "max_tries", "deadline_s", "first_byte_s", "idle_s", "connect_s"):
            if getattr(self, name) <= 0:
                raise UsageError(f"server setting {name} must be positive, got {getattr(self, name)}")


def base_url(url: str) -> str:
    """Address under which the routes stand.

    Raises:
        UsageError: if it is not an http or https URL with a host.

    >>> base_url("http://localhost:8000"), base_url("https://host/api/v1/")
    ('http://localhost:8000/v1', 'https://host/api/v1')
    """
    try:
        parts = urlsplit(url)
        ok = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise UsageError("the server's address is not a URL; write it as http://host:port/v1") from None
    if not ok:
        raise UsageError(f"the server's address must be a URL like http://host:port/v1, got {url.rpartition('@')[2]!r}")
    if parts.query or parts.fragment:
        raise UsageError("the server's address may not hold a ? or #; give keys by environment variable")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def shown_url(url: str) -> str:
    """The address without user name and password, for messages.

    >>> shown_url("http://me:secret@host:1/v1")
    'http://host:1/v1'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
