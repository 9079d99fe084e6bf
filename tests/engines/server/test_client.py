"""The client against the scripted server: good answers, ignored parameters, refusals, budgets, identity."""

import asyncio
import gc
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from stepcredit.core import protocols
from stepcredit.core.errors import BudgetError, ChangedModelError, EngineError, MachineError, UsageError
from stepcredit.core.protocols import Message, Sampling
from stepcredit.engines.server import Budget, Capabilities, Prices, ServerClient, ServerSettings
from stepcredit.store.attempts import AttemptRecord
from stepcredit.testing import Fault, Manners, ScriptedScorer, ScriptedServer, ScriptedTokenizer, TabularPolicy

WORDS = ("<eos>", "1", "+", "=", "a", "b", "c", "d", "e", "f")
HI = [Message("user", "one two three four")]


def token_server(**manners: object) -> ScriptedServer:
    policy = TabularPolicy(len(WORDS), seed=4, spread=1.0)
    return ScriptedServer(policy=policy, tokenizer=ScriptedTokenizer(WORDS), manners=Manners(**manners))


def settings(server: ScriptedServer, **changes: object) -> ServerSettings:
    return ServerSettings(server.url, **{"backoff_s": 0.01, "key_variable": "NO_SUCH_KEY", **changes})


async def test_a_chat_answer_and_its_attempt():
    seen: list[AttemptRecord] = []
    with ScriptedServer(reply=lambda messages: messages[-1].content + " five") as server:
        async with ServerClient(settings(server), on_attempt=seen.append) as client:
            model: protocols.ChatModel = client
            reply = await model.complete(HI, max_tokens=10, temperature=0.5, seed=2**40 + 7)
            cut = await model.complete(HI, max_tokens=2, temperature=0.5, seed=1)
    assert (reply.text, reply.finish, reply.model) == ("one two three four five", "stop", "scripted")
    assert (reply.input_tokens, reply.output_tokens) == (11, 5)
    assert (cut.text, cut.finish) == ("one two", "length")
    assert [(s.route, s.status, s.error) for s in seen] == [("models", 200, ""), *[("chat/completions", 200, "")] * 2]
    assert seen[1].call == reply.call
    assert server.asked[1].body["seed"] == 7 + 2**9 * 0  # the high bits are dropped: some servers read 32-bit seeds


async def test_the_same_question_has_the_same_call_id_in_every_run():
    calls: list[str] = []
    for _ in range(2):
        with ScriptedServer() as server:
            async with ServerClient(settings(server)) as client:
                calls.append((await client.complete(HI, max_tokens=9, temperature=0.0, seed=1)).call)
    assert calls[0] == calls[1]


async def test_all_capabilities_are_found():
    with token_server() as server:
        async with ServerClient(settings(server)) as client:
            found = await client.probe()
            asked = len(server.asked)
            assert await client.probe() is found
    assert found.missing("chat", "n", "chat_logprobs", "completions", "token_ids_in", "token_ids_out") == ()
    assert found.missing("logprobs", "prompt_logprobs", "echo", "named_logprobs", "tokenize") == ()
    assert found.continue_final_message
    assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("parameter", "lost"),
    [
        ("n", {"n"}),
        ("logprobs", {"logprobs", "chat_logprobs", "echo", "named_logprobs"}),
        ("return_token_ids", {"token_ids_out"}),
        ("prompt_logprobs", {"prompt_logprobs"}),
        ("echo", {"echo"}),
        ("logprob_token_ids", {"named_logprobs"}),
        ("continue_final_message", {"continue_final_message"}),
    ],
)
@pytest.mark.parametrize("how", ["ignores", "refuses"])
async def test_a_missing_capability_is_seen_whether_it_is_ignored_or_refused(parameter: str, lost: set[str], how: str):
    with token_server(**{how: frozenset({parameter})}) as server:
        async with ServerClient(settings(server)) as client:
            found = await client.probe()
    whole = Capabilities(*[True] * 12)
    names = [name for name in vars(whole) if name != "context"]
    missing = set(found.missing(*names))
    if how == "refuses" and parameter in ("logprobs", "return_token_ids"):
        lost = lost | {"logprobs", "token_ids_out"}  # they are tried in one request
    assert missing == lost


async def test_a_server_with_chat_only():
    with ScriptedServer(manners=Manners(refuses=frozenset({"models", "tokenize", "completions", "n"}))) as server:
        async with ServerClient(settings(server, model="scripted")) as client:
            found = await client.probe()
            assert found == Capabilities(chat=True, chat_logprobs=True, continue_final_message=True)
            with pytest.raises(EngineError, match="ignores `prompt_logprobs`"):
                await client.score(np.array([1, 2]), first=1)
            with pytest.raises(UsageError, match=r"no route /tokenize or no model 'scripted' there \(404"):
                await client.tokenize("a")
        async with ServerClient(settings(server)) as client:
            with pytest.raises(UsageError, match=r"has no list of models \(404 for models\); check that --server"):
                await client.complete(HI, max_tokens=1, temperature=0.0, seed=0)


async def test_sampling_and_scoring_agree_with_the_table():
    policy = TabularPolicy(len(WORDS), seed=4, spread=1.0)
    with ScriptedServer(policy=policy, tokenizer=ScriptedTokenizer(WORDS)) as server:
        async with ServerClient(settings(server)) as client:
            sampler: protocols.Sampler = client
            scorer: protocols.Scorer = client
            prompt = np.array([4, 5], np.int32)
            done = await sampler.sample(prompt, Sampling(20, temperature=0.7, stop_ids=(1,)), seed=3)
            again = await sampler.sample(prompt, Sampling(20, temperature=0.7, stop_ids=(1,)), seed=3)
            whole = np.concatenate([prompt, done.ids])
            want = await ScriptedScorer(policy).score(whole, first=2)
            np.testing.assert_allclose(await scorer.score(whole, first=2), want, rtol=1e-6)
            np.testing.assert_allclose(done.logprobs, want, rtol=1e-6)
            np.testing.assert_array_equal(done.ids, again.ids)
            assert done.finish == ("stop" if done.ids[-1] in (0, 1) else "length")
            assert done.policy == client.fingerprint
            client.set_policy("round-1")
            assert (await client.sample(prompt, Sampling(2), seed=3)).policy == "round-1"
            found = (await client.next_tokens(prompt, np.array([7, 2]))).logprobs
            np.testing.assert_allclose(found, policy.logprobs()[5, [7, 2]], rtol=1e-6)
            assert (await client.tokenize("a b")).tolist() == [4, 5]
            assert (await client.tokenize_chat([Message("user", "a b")])).tolist() == [4, 5]
            with pytest.raises(EngineError, match=r"first must be in 1\.\.2"):
                await client.score(np.array([1, 2]), first=0)


async def test_scoring_by_echo_gives_the_same_numbers():
    found: list[np.ndarray] = []
    for manners in ({}, {"ignores": frozenset({"prompt_logprobs"})}):
        with token_server(**manners) as server:
            async with ServerClient(settings(server)) as client:
                found.append(await client.score(np.array([4, 5, 6, 7]), first=2))
    np.testing.assert_array_equal(found[0], found[1])


async def test_a_candidate_outside_the_top_is_unknown_not_zero():
    with token_server(ignores=frozenset({"logprob_token_ids"})) as server:
        async with ServerClient(settings(server)) as client:
            greedy = (await client.sample(np.array([4]), Sampling(1, temperature=0.0), seed=0)).ids[0]
            found = await client.next_tokens(np.array([4]), np.array([greedy, (greedy + 1) % 10]))
    assert found.logprobs[0] < 0
    assert np.isnan(found.logprobs[1])
    assert found.bound == found.logprobs[0]


@pytest.mark.parametrize(
    ("parameter", "said"),
    [("n", "ignores `n`"), ("logprobs", "ignores `logprobs`"), ("return_token_ids", "ignores `return_token_ids`")],
)
async def test_an_ignored_parameter_is_an_error_with_its_name_and_is_not_asked_again(parameter: str, said: str):
    seen: list[AttemptRecord] = []
    with token_server(ignores=frozenset({parameter})) as server:
        async with ServerClient(settings(server), on_attempt=seen.append) as client:
            if parameter == "n":
                call = client.complete_many(HI, n=3, max_tokens=4, temperature=1.0, seed=0)
            else:
                call = client.sample(np.array([4]), Sampling(3), seed=0)
            with pytest.raises(EngineError, match=f"{said} .*use a server that supports it"):
                await call
    assert [s.error for s in seen] == ["", "ignored"]


async def test_n_answers():
    with ScriptedServer() as server:
        async with ServerClient(settings(server)) as client:
            found = await client.complete_many(HI, n=3, max_tokens=9, temperature=1.0, seed=0)
    assert len(found) == 3


async def test_no_server_is_one_line_with_the_mend():
    with ScriptedServer() as server:
        gone = settings(server)
    async with ServerClient(gone) as client:
        with pytest.raises(
            MachineError, match=r"no connection; is the server running\? start it, or give its address by --server$"
        ) as e:
            await client.complete(HI, max_tokens=1, temperature=0.0, seed=0)
    assert e.value.exit_code == 3
    assert "\n" not in str(e.value)
    assert (str(e.value).count("running"), str(e.value).count("http://")) == (1, 1)


@pytest.mark.parametrize(
    ("model", "says"), [("", r"has no list of models \(404 for models\)"), ("m", r"\(501: .*POST")]
)
async def test_a_web_server_that_is_no_chat_server(model: str, says: str):
    """Of a folder served over HTTP it said `several models: name one; it has none`, or asked ten times."""
    asked: list[str] = []

    class Folder(SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            asked.append(self.command)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            async with ServerClient(ServerSettings(url, model=model, backoff_s=0.005)) as client:
                with pytest.raises(UsageError, match=says) as e:
                    await client.complete(HI, max_tokens=1, temperature=0.0, seed=0)
        finally:
            server.shutdown()
            thread.join()
    assert asked == ["GET"] + ["POST"] * bool(model)
    assert "<" not in str(e.value)


async def test_a_server_without_a_model_says_so():
    with ScriptedServer(faults=[Fault("body", body=b'{"data": []}')]) as server:
        async with ServerClient(settings(server)) as client:
            with pytest.raises(UsageError, match="lists no model; check that --server"):
                await client.complete(HI, max_tokens=1, temperature=0.0, seed=0)


async def test_another_model_is_refused_with_the_list():
    with ScriptedServer() as server:
        async with ServerClient(settings(server, model="gpt-9")) as client:
            with pytest.raises(UsageError, match="no model 'gpt-9' there; it has scripted; set --model"):
                await client.complete(HI, max_tokens=1, temperature=0.0, seed=0)


async def test_a_wrong_key_is_refused_and_never_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_KEY", "sk-secret-1234")
    with ScriptedServer(manners=Manners(key="right")) as server:
        async with ServerClient(settings(server, key_variable="SOME_KEY")) as client:
            with pytest.raises(UsageError, match=r"refuses the key \(401\); set the environment variable") as caught:
                await client.complete(HI, max_tokens=1, temperature=0.0, seed=0)
            assert "secret" not in str(caught.value)
            assert "secret" not in repr(client._settings)
            assert len(server.asked) == 1  # not asked again
        monkeypatch.setenv("SOME_KEY", "right")
        async with ServerClient(settings(server, key_variable="SOME_KEY")) as client:
            assert (await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)).finish == "stop"
    assert server.asked[-1].key == "right"


async def test_a_key_with_a_blank_inside_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_KEY", "a b")
    with pytest.raises(UsageError, match="the key holds a blank"):
        ServerClient(ServerSettings("http://h", key_variable="SOME_KEY"))


async def test_a_prompt_that_is_too_long_names_the_mend():
    with ScriptedServer(manners=Manners(context=20)) as server:
        async with ServerClient(settings(server)) as client:
            with pytest.raises(UsageError, match=r"do not fit the model's context .*lower max_tokens") as caught:
                await client.complete(HI, max_tokens=100, temperature=0.0, seed=0)
    assert caught.value.exit_code == 2
    assert sum(a.route == "chat/completions" for a in server.asked) == 1


async def test_max_calls_is_exact_under_concurrency():
    with ScriptedServer() as server:
        async with ServerClient(settings(server), budget=Budget(max_calls=7)) as client:
            calls = [client.complete(HI, max_tokens=9, temperature=0.0, seed=i) for i in range(20)]
            found = await asyncio.gather(*calls, return_exceptions=True)
    stopped = [f for f in found if isinstance(f, BudgetError)]
    assert (len(found) - len(stopped), len(server.asked)) == (6, 7)  # one request was the list of models
    assert "--max-calls 7 is reached; raise it and run the same command to go on" in str(stopped[0])


async def test_max_cost_stops_and_costs_are_recorded():
    seen: list[AttemptRecord] = []
    budget = Budget(max_cost=40e-6, prices=Prices(1.0, 1.0))
    with ScriptedServer() as server:
        async with ServerClient(settings(server), budget=budget, on_attempt=seen.append) as client:
            for seed in range(3):  # 11 + 4 tokens each
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=seed)
            with pytest.raises(BudgetError, match=r"--max-cost 4e-05 is reached \(4.5e-05 spent\)"):
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=3)
    assert [s.cost for s in seen] == [None, *[pytest.approx(15e-6)] * 3]


def test_a_cost_limit_needs_prices():
    with pytest.raises(UsageError, match="--max-cost needs the prices of tokens"):
        Budget(max_cost=1.0)


async def test_a_cost_limit_needs_token_counts():
    body = b'{"model": "scripted", "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}'
    with ScriptedServer(faults=[None, Fault("body", body=body)]) as server:
        budget = Budget(max_cost=1.0, prices=Prices(1.0, 1.0))
        async with ServerClient(settings(server), budget=budget) as client:
            with pytest.raises(UsageError, match="does not tell token counts"):
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)


async def test_another_model_name_in_an_answer_stops_all_further_calls():
    with ScriptedServer(faults=[None, None, Fault("model", model="other")]) as server:
        async with ServerClient(settings(server)) as client:
            await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)
            for seed in (1, 2):
                with pytest.raises(ChangedModelError, match="come from model 'other', not 'scripted'; results of two"):
                    await client.complete(HI, max_tokens=9, temperature=0.0, seed=seed)
    assert len(server.asked) == 3


async def test_a_dated_alias_of_the_model_is_taken_once():
    faults = [None, Fault("model", model="scripted-2026-01"), Fault("model", model="scripted-2026-02")]
    with ScriptedServer(faults=faults) as server:
        async with ServerClient(settings(server)) as client:
            reply = await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)
            assert reply.model == "scripted-2026-01"
            with pytest.raises(ChangedModelError, match="'scripted-2026-02', not 'scripted-2026-01'"):
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=1)


@pytest.mark.parametrize("other", [False, True])
async def test_a_restarted_server_is_looked_at_again(other: bool):
    policy = TabularPolicy(len(WORDS), seed=4, spread=1.0)
    with ScriptedServer(policy=policy, tokenizer=ScriptedTokenizer(WORDS)) as server:
        async with ServerClient(settings(server)) as client:
            await client.probe()
            if other:
                policy.logits = TabularPolicy(len(WORDS), seed=5, spread=1.0).logits
            client._transport.lost_contact = True  # as after a refused connection
            call = client.complete(HI, max_tokens=9, temperature=0.0, seed=0)
            if other:
                with pytest.raises(ChangedModelError, match="other weights under the same name; start a new run"):
                    await call
            else:
                await call


async def test_cancelling_frees_the_place_and_is_recorded():
    seen: list[AttemptRecord] = []
    with ScriptedServer(faults=[None, Fault("hang", seconds=30.0)]) as server:
        async with ServerClient(settings(server, max_in_flight=1), on_attempt=seen.append) as client:
            await client._start()
            task = asyncio.create_task(client.complete(HI, max_tokens=9, temperature=0.0, seed=0))
            while len(server.asked) < 2:  # noqa: ASYNC110 -- the server is on another thread
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.complete(HI, max_tokens=9, temperature=0.0, seed=1)).finish == "stop"
    assert [s.error for s in seen] == ["", "cancelled", ""]
    gc.collect()  # an unclosed socket would warn here, and warnings are errors


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:8000", "must be a URL like"),
        ("ftp://h/v1", "must be a URL like"),
        ("http://h:99999/v1", "is not a URL"),
        ("http://h/v1?key=secret", "may not hold a \\? or #"),
    ],
)
def test_bad_addresses(url: str, said: str):
    with pytest.raises(UsageError, match=said) as caught:
        ServerSettings(url)
    assert "secret" not in str(caught.value)


def test_bad_limits():
    with pytest.raises(UsageError, match="max_tries must be positive, got 0"):
        ServerSettings("http://h", max_tries=0)


def test_the_fingerprint_tells_models_apart():
    prints = [
        ServerClient(ServerSettings("http://h", model="a")).fingerprint,
        ServerClient(ServerSettings("http://h/v1/", model="a")).fingerprint,
        ServerClient(ServerSettings("http://h", model="b")).fingerprint,
        ServerClient(ServerSettings("http://h", model="a", extra={"reasoning_effort": "low"})).fingerprint,
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    with pytest.raises(EngineError, match="not known yet; await probe"):
        _ = ServerClient(ServerSettings("http://h")).fingerprint
