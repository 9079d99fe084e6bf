"""Models behind an OpenAI-style server: chat, sampling and scoring by token ids, over HTTP.

`ServerClient` implements `ChatModel`, `Sampler` and `Scorer` of `core.protocols`.
"""

from stepcredit.engines.server.budget import Budget, Prices
from stepcredit.engines.server.capabilities import Capabilities
from stepcredit.engines.server.client import ServerClient
from stepcredit.engines.server.settings import ServerSettings

__all__ = ["Budget", "Capabilities", "Prices", "ServerClient", "ServerSettings"]
