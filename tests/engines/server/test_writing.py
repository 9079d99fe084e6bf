"""Text that goes on from token ids, with stop strings, against the scripted server."""

import numpy as np
import pytest

from stepcredit.core import protocols
from stepcredit.core.errors import EngineError
from stepcredit.core.protocols import Writing
from stepcredit.engines.server import ServerClient, ServerSettings
from stepcredit.testing import Manners, ScriptedServer, ScriptedTokenizer, TabularPolicy

WORDS = ("<eos>", "1", "+", "=", "a", "b", "c", "d", "e", "f")


def token_server(**manners: object) -> ScriptedServer:
    policy = TabularPolicy(len(WORDS), seed=4, spread=1.0)
    return ScriptedServer(policy=policy, tokenizer=ScriptedTokenizer(WORDS), manners=Manners(**manners))


def settings(server: ScriptedServer) -> ServerSettings:
    return ServerSettings(server.url, backoff_s=0.01, key_variable="NO_SUCH_KEY")


async def test_writing_ends_at_the_first_stop_string():
    with token_server() as server:
        async with ServerClient(settings(server)) as client:
            writer: protocols.Writer = client
            prompt = np.array([4, 5], np.int32)
            free = await writer.write(prompt, Writing(12, temperature=0.7), seed=3)
            first, second = free.text.split()[1], free.text.split()[2]
            cut = await writer.write(prompt, Writing(12, temperature=0.7, stop=(second, first)), seed=3)
            kept = await writer.write(
                prompt, Writing(12, temperature=0.7, stop=(second, first), keep_stop=True), seed=3
            )
    assert (cut.finish, cut.stop, cut.text) == ("stop", first, free.text[: free.text.index(first)])
    assert kept.text == cut.text + first
    assert free.stop == ""
    assert cut.call


async def test_a_server_that_ignores_stop_strings_is_refused():
    with token_server(ignores=frozenset({"stop"})) as server:
        async with ServerClient(settings(server)) as client:
            free = await client.write(np.array([4]), Writing(6, temperature=0.7), seed=3)
            with pytest.raises(EngineError, match="stop"):
                await client.write(np.array([4]), Writing(6, temperature=0.7, stop=(free.text.split()[1],)), seed=3)
