"""Our client against a real vLLM: chat, sampling and scoring by token ids, numbers equal to a transformers forward."""

import asyncio

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Message, Sampling, Writing
from stepcredit.engines.server import ServerClient, ServerSettings
from stepcredit.engines.server.token_calls import scoring_call
from stepcredit.store.attempts import AttemptRecord
from tests.servers.conftest import RealServer

pytestmark = pytest.mark.servers

ASKED = [Message("user", "Is the step 1 + 1 = 2 right?")]


def client_of(server: RealServer, **changes: object) -> ServerClient:
    return ServerClient(ServerSettings(server.url, key_variable="NO_SUCH_KEY", **changes))


def forward(server: RealServer, ids: np.ndarray) -> np.ndarray:
    """[X - 1, V] log probabilities of each next token, by transformers in float32."""
    model = AutoModelForCausalLM.from_pretrained(server.model, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor(ids[None].astype(np.int64))).logits[0, :-1]
    return torch.log_softmax(logits.double(), dim=-1).numpy()


def test_everything_that_it_can_is_found(real_server: RealServer):
    async def go() -> None:
        async with client_of(real_server) as client:
            found = await client.probe()
            names = [name for name in vars(found) if name != "context"]
            assert found.missing(*names) == ()
            assert found.context == 512

    asyncio.run(go())


def test_chat(real_server: RealServer):
    seen: list[AttemptRecord] = []

    async def go() -> None:
        settings = ServerSettings(real_server.url, key_variable="NO_SUCH_KEY")
        async with ServerClient(settings, on_attempt=seen.append) as client:
            one = await client.complete(ASKED, max_tokens=8, temperature=1.0, seed=3)
            again = await client.complete(ASKED, max_tokens=8, temperature=1.0, seed=3)
            many = await client.complete_many(ASKED, n=4, max_tokens=8, temperature=1.0, seed=3)
        assert one.text == again.text
        assert one.model == "tiny"
        assert one.finish in ("stop", "length")
        assert one.input_tokens is not None
        assert one.output_tokens is not None
        assert 1 <= one.output_tokens <= 8
        assert len({reply.text for reply in many}) > 1

    asyncio.run(go())
    assert [s.error for s in seen] == [""] * 4


def test_sampled_logprobs_equal_a_forward_pass_whatever_the_temperature(real_server: RealServer):
    async def go() -> None:
        async with client_of(real_server) as client:
            prompt = await client.tokenize_chat(ASKED)
            for temperature, top_p in ((1.0, 1.0), (0.5, 0.8), (0.0, 1.0)):
                sampling = Sampling(24, temperature=temperature, top_p=top_p)
                done = await client.sample(prompt, sampling, seed=2**62 + 11)
                table = forward(real_server, np.concatenate([prompt, done.ids]))[len(prompt) - 1 :]
                want = table[np.arange(len(done.ids)), done.ids]
                np.testing.assert_allclose(done.logprobs, want, atol=1e-4)
                if temperature == 0.0:
                    np.testing.assert_array_equal(done.ids, table.argmax(axis=1))
                again = await client.sample(prompt, sampling, seed=2**62 + 11)
                np.testing.assert_array_equal(done.ids, again.ids)

    asyncio.run(go())


def test_the_stop_token_is_part_of_the_completion(real_server: RealServer):
    async def go() -> None:
        async with client_of(real_server) as client:
            prompt = await client.tokenize_chat(ASKED)
            free = await client.sample(prompt, Sampling(24), seed=5)
            stop = int(free.ids[3])
            place = int(np.flatnonzero(free.ids == stop)[0])
            cut = await client.sample(prompt, Sampling(24, stop_ids=(stop,)), seed=5)
        assert cut.finish == "stop"
        np.testing.assert_array_equal(cut.ids, free.ids[: place + 1])

    asyncio.run(go())


def test_scores_equal_a_forward_pass(real_server: RealServer):
    async def go() -> None:
        async with client_of(real_server) as client:
            ids = np.random.default_rng(0).integers(0, 256, 200).astype(np.int32)
            table = forward(real_server, ids)
            want = table[np.arange(199), ids[1:]]
            np.testing.assert_allclose(await client.score(ids, first=1), want, atol=1e-4)
            np.testing.assert_allclose(await client.score(ids, first=150), want[149:], atol=1e-4)
            can = await client.probe()
            call = scoring_call(client._model, ids, first=1, can=type(can)(echo=True))
            np.testing.assert_allclose(await client._call(call), want, atol=1e-4)

    asyncio.run(go())


def test_candidates_equal_a_forward_pass(real_server: RealServer):
    async def go() -> None:
        async with client_of(real_server) as client:
            prompt = await client.tokenize_chat(ASKED)
            candidates = np.array([7, 200, 41, 5], np.int32)
            found = (await client.next_tokens(prompt, candidates)).logprobs
            table = forward(real_server, np.append(prompt, 0))
            np.testing.assert_allclose(found, table[-1, candidates], atol=1e-4)

    asyncio.run(go())


def test_writing_ends_at_a_stop_string(real_server: RealServer):
    async def go() -> None:
        async with client_of(real_server) as client:
            prompt = await client.tokenize_chat(ASKED)
            free = await client.write(prompt, Writing(24, temperature=0.7), seed=5)
            stop = free.text[6:8]
            cut = await client.write(prompt, Writing(24, temperature=0.7, stop=(stop,)), seed=5)
            assert (cut.finish, cut.stop, cut.text) == ("stop", stop, free.text[: free.text.index(stop)])
            kept = await client.write(prompt, Writing(24, temperature=0.7, stop=(stop,), keep_stop=True), seed=5)
            assert kept.text == cut.text + stop

    asyncio.run(go())


def test_tokenizing_equals_transformers(real_server: RealServer):
    async def go() -> None:
        tokenizer = AutoTokenizer.from_pretrained(real_server.model)
        async with client_of(real_server) as client:
            text = "So the answer is 4é\U0001f600."
            assert (await client.tokenize(text)).tolist() == tokenizer.encode(text, add_special_tokens=False)
            begun = [*ASKED, Message("assistant", "Yes.")]
            said = [{"role": m.role, "content": m.content} for m in begun]
            want = tokenizer.apply_chat_template(said, continue_final_message=True, return_dict=False)
            assert (await client.tokenize_chat(begun, continue_final=True)).tolist() == want

    asyncio.run(go())


def test_many_at_once_give_the_same_as_one_by_one(real_server: RealServer):
    async def go() -> None:
        async with client_of(real_server, max_in_flight=16) as client:
            prompt = await client.tokenize_chat(ASKED)
            calls = [client.sample(prompt, Sampling(12), seed=seed) for seed in range(32)]
            together = await asyncio.gather(*calls)
            for seed in (0, 13, 31):
                alone = await client.sample(prompt, Sampling(12), seed=seed)
                np.testing.assert_array_equal(alone.ids, together[seed].ids)

    asyncio.run(go())


def test_refusals_are_one_line_with_the_mend(real_server: RealServer):
    async def go() -> None:
        async with client_of(real_server) as client:
            with pytest.raises(UsageError, match="do not fit the model's context"):
                await client.complete(ASKED, max_tokens=5000, temperature=0.0, seed=0)
            with pytest.raises(UsageError, match="refuses completions"):
                await client.sample(np.array([10**6]), Sampling(3), seed=0)
        async with client_of(real_server, model="huge") as client:
            with pytest.raises(UsageError, match="no model 'huge' there; it has tiny"):
                await client.complete(ASKED, max_tokens=5, temperature=0.0, seed=0)

    asyncio.run(go())
