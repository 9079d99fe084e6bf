"""The scripted server speaks HTTP to any client and plays each fault."""

import http.client
import itertools
import json
import socket
from typing import Any

import pytest

from stepcredit.testing import Fault, Manners, ScriptedServer, ScriptedTokenizer, TabularPolicy, random_faults
from stepcredit.testing.faults import Asked


def ask(server: ScriptedServer, route: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """One request by the standard library's client: nothing of ours on this side."""
    port = int(server.url.split(":")[2].split("/")[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST" if body else "GET", f"/v1/{route}", json.dumps(body) if body else None)
        response = connection.getresponse()
        data = response.read()
        return response.status, json.loads(data) if data else None
    finally:
        connection.close()


CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "a b c"}], "max_tokens": 2, "n": 2}


def test_models_and_chat():
    with ScriptedServer(manners=Manners(model="m")) as server:
        assert ask(server, "models")[1]["data"][0]["id"] == "m"
        status, body = ask(server, "chat/completions", {**CHAT, "model": "m"})
        assert status == 200
        assert [c["message"]["content"] for c in body["choices"]] == ["a b", "a b"]
        assert body["choices"][0]["finish_reason"] == "length"
        assert ask(server, "chat/completions", CHAT)[0] == 404
        assert ask(server, "nothing", CHAT)[0] == 404
        server.rename("other")
        assert ask(server, "models")[1]["data"][0]["id"] == "other"
    assert [a.route for a in server.asked] == ["models", "chat/completions", "chat/completions", "nothing", "models"]
    assert sum(server.counts.values()) == 5


def test_completions_have_the_tables_logprobs():
    policy = TabularPolicy(4, seed=1, spread=1.0)
    body = {"prompt": [1, 2], "max_tokens": 3, "logprobs": 1, "prompt_logprobs": 0, "return_token_ids": True, "seed": 3}
    with ScriptedServer(policy=policy) as server:
        choice = ask(server, "completions", body)[1]["choices"][0]
        assert ask(server, "completions", {**body, "prompt": "text"})[0] == 400
        assert ask(server, "completions", {**body, "prompt": [9]})[0] == 400
    whole = [1, 2, *choice["token_ids"]]
    table = policy.logprobs()
    assert choice["logprobs"]["token_logprobs"] == [table[a, b] for a, b in itertools.pairwise(whole[1:])]
    assert choice["prompt_logprobs"] == [None, {"2": {"logprob": table[1, 2], "rank": 1}}]
    with ScriptedServer() as server:
        assert ask(server, "completions", body)[0] == 404


def test_text_prompts_and_limits():
    tokenizer = ScriptedTokenizer(("<eos>", "a", "b"))
    with ScriptedServer(policy=TabularPolicy(3), tokenizer=tokenizer, manners=Manners(context=5)) as server:
        assert ask(server, "tokenize", {"prompt": "a b"})[1] == {"tokens": [1, 2], "count": 2, "max_model_len": 5}
        assert ask(server, "completions", {"prompt": "a b", "max_tokens": 3})[0] == 200
        status, body = ask(server, "completions", {"prompt": "a b", "max_tokens": 4})
        assert status == 400
        assert "maximum context length is 5 tokens" in body["error"]["message"]
        assert ask(server, "completions", {"prompt": "zz"})[0] == 400


def test_parameters_ignored_and_refused():
    with ScriptedServer(manners=Manners(ignores=frozenset({"n"}), refuses=frozenset({"logprobs"}))) as server:
        assert len(ask(server, "chat/completions", CHAT)[1]["choices"]) == 1
        assert ask(server, "chat/completions", {**CHAT, "logprobs": True})[0] == 422


def test_keys():
    with ScriptedServer(manners=Manners(key="k")) as server:
        assert ask(server, "models")[0] == 401


def test_faults_in_order():
    faults = [
        Fault("status", status=503, headers={"Retry-After": "1"}, body=b'{"error": "busy"}'),
        Fault("body", body=b'"odd"'),
        Fault("model", model="x"),
        None,
        Fault("reset"),
        Fault("cut"),
        Fault("hang", seconds=0.01),
    ]
    with ScriptedServer(faults=faults) as server:
        assert ask(server, "chat/completions", CHAT) == (503, {"error": "busy"})
        assert ask(server, "chat/completions", CHAT) == (200, "odd")
        assert ask(server, "chat/completions", CHAT)[1]["model"] == "x"
        assert ask(server, "chat/completions", CHAT)[1]["model"] == "scripted"
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            ask(server, "chat/completions", CHAT)
        with pytest.raises(http.client.IncompleteRead):
            ask(server, "chat/completions", CHAT)
        with pytest.raises(http.client.RemoteDisconnected):
            ask(server, "chat/completions", CHAT)
        assert ask(server, "chat/completions", CHAT)[0] == 200
    assert [a.repeats for a in server.asked] == list(range(8))


def test_a_drip_is_whole_at_its_end():
    with ScriptedServer(faults=[Fault("drip", seconds=0.0)]) as server:
        assert ask(server, "chat/completions", CHAT)[1]["model"] == "scripted"


def test_random_faults_depend_on_the_question_not_on_the_order():
    choose = random_faults(0.5, 3, faults=[Fault("reset")])
    asked = [Asked("r", {"i": i}, number, 0) for number, i in enumerate(range(200))]
    found = [choose(a) is None for a in asked]
    again = [choose(Asked("r", {"i": i}, 999 - i, 0)) is None for i in range(200)]
    assert found == again
    assert 60 < sum(found) < 140


def test_stopping_closes_open_connections():
    with ScriptedServer() as server:
        port = int(server.url.split(":")[2].split("/")[0])
        line = socket.create_connection(("127.0.0.1", port), timeout=30)
        line.sendall(b"GET /v1/models HTTP/1.1\r\n\r\n")
        assert b"scripted" in line.recv(1000)
    assert line.recv(10) == b""
    line.close()
