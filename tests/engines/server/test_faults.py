"""The client against faults: what is asked again, what is not, and how long it waits."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from stepcredit.core.errors import BudgetError, EngineError, StepcreditError, UsageError
from stepcredit.core.protocols import Message, Sampling
from stepcredit.engines.server import ServerClient, ServerSettings
from stepcredit.engines.server.answers import GarbageError, chat_text, choices_of, finish_of
from stepcredit.engines.server.limiter import Limiter
from stepcredit.engines.server.refusals import server_text
from stepcredit.engines.server.waiting import retry_after_seconds
from stepcredit.store.attempts import AttemptRecord
from stepcredit.testing import Fault, Manners, ScriptedServer, ScriptedTokenizer, TabularPolicy, random_faults

HI = [Message("user", "one two three four")]
WORDS = ("<eos>", "a", "b", "c")


def settings(server: ScriptedServer, **changes: object) -> ServerSettings:
    quick = {"backoff_s": 0.005, "backoff_cap_s": 0.02, "key_variable": "NO_SUCH_KEY", "model": "scripted"}
    return ServerSettings(server.url, **{**quick, **changes})


async def errors_of(faults: list[Fault], **changes: object) -> list[str]:
    """Classes of the attempts of one call that meets the faults and then a good answer."""
    seen: list[AttemptRecord] = []
    with ScriptedServer(faults=[None, *faults]) as server:
        async with ServerClient(settings(server, **changes), on_attempt=seen.append) as client:
            reply = await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)
    assert reply.text == HI[0].content
    assert [s.number for s in seen[1:]] == list(range(len(seen) - 1))
    assert len({s.call for s in seen[1:]}) == 1
    return [s.error for s in seen[1:]]


async def test_statuses_that_are_asked_again():
    statuses = [500, 502, 503, 504, 408, 425, 429]
    found = await errors_of([Fault("status", status=status, body=b"busy") for status in statuses])
    assert found == [f"http_{status}" for status in statuses] + [""]


async def test_broken_connections_are_asked_again():
    # The first goes on the connection that the list of models came by, and looks like one that was closed meanwhile.
    assert await errors_of([Fault("reset"), Fault("cut"), Fault("reset")]) == ["stale", "cut", "cut", ""]


async def test_a_kept_connection_that_the_server_closed_costs_no_try():
    """As if the server closed each connection after its first answer, just when the next request was sent."""
    seen: list[AttemptRecord] = []
    closes = lambda asked: Fault("reset") if asked.before else None  # noqa: E731
    once = {"max_tries": 1, "max_in_flight": 4, "backoff_s": 60.0, "backoff_cap_s": 60.0}
    with ScriptedServer(faults=closes) as server:
        async with ServerClient(settings(server, **once), on_attempt=seen.append) as client:
            calls = [client.complete(HI, max_tokens=9, temperature=0.0, seed=seed) for seed in range(20)]
            found = await asyncio.wait_for(asyncio.gather(*calls), 30.0)
    assert [reply.text for reply in found] == [HI[0].content] * 20
    assert {one.error for one in seen} == {"", "stale"}
    assert sum(one.error == "" for one in seen) == 21
    assert Counter(one.call for one in seen if one.error == "stale").most_common(1)[0][1] == 1


async def test_a_server_that_closes_idle_connections_is_asked_as_any_other():
    """Closing meets the next request at all moments here: seen before it, while it is sent, after it."""
    seen: list[AttemptRecord] = []
    with ScriptedServer(manners=Manners(keeps_s=0.0)) as server:
        async with ServerClient(settings(server, max_tries=1, max_in_flight=4), on_attempt=seen.append) as client:
            for start in range(0, 120, 4):
                calls = [client.complete(HI, max_tokens=9, temperature=0.0, seed=start + k) for k in range(4)]
                assert len(await asyncio.gather(*calls)) == 4
    assert {one.error for one in seen} <= {"", "stale"}
    assert {one.before for one in server.asked} == {0}
    assert len(server.asked) == 121  # nothing was read twice


async def test_a_server_that_answers_no_request_of_a_connection_ends_the_call():
    """Each connection breaks, first or not: tries are counted."""
    always = lambda asked: None if asked.number == 0 else Fault("reset")  # noqa: E731
    with ScriptedServer(faults=always) as server:
        async with ServerClient(settings(server, max_tries=3)) as client:
            with pytest.raises(EngineError, match=r"in 4 tries .*the connection broke"):
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)


async def test_a_hang_ends_by_the_first_byte_limit():
    found = await errors_of([Fault("hang")], first_byte_s=0.5)
    assert (found[0], found[-1]) == ("first_byte", "")


async def test_a_stop_in_the_middle_ends_by_the_idle_limit():
    # The drip sends the head byte by byte too, so the stop may fall before or after it was read.
    found = await errors_of([Fault("drip", seconds=60.0)], idle_s=0.5, first_byte_s=1.0)
    assert found[0] in ("first_byte", "idle")
    assert found[-1] == ""


async def test_a_slow_drip_ends_by_the_deadline_and_part_of_it_is_no_answer():
    seen: list[AttemptRecord] = []
    with ScriptedServer(faults=[None, Fault("drip", seconds=0.02)]) as server:
        async with ServerClient(settings(server, deadline_s=0.4), on_attempt=seen.append) as client:
            with pytest.raises(EngineError, match=r"in 1 tries .*the answer was not whole in time"):
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)
    assert seen[-1].error == "deadline"


async def test_an_answer_that_is_too_large_is_refused():
    assert await errors_of([Fault("body", body=b"x" * 5000)], max_answer_bytes=2000) == ["too_large", ""]


@pytest.mark.parametrize("status", [400, 404, 405, 409, 413, 422, 301, 501])
async def test_statuses_that_are_not_asked_again(status: int):
    body = b'{"error": {"message": "nope\\u001b[31m"}}'
    with ScriptedServer(faults=[None, Fault("status", status=status, body=body)]) as server:
        async with ServerClient(settings(server)) as client:
            with pytest.raises(UsageError) as caught:
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)
    assert len(server.asked) == 2
    assert str(status) in str(caught.value)
    assert "\x1b" not in str(caught.value)


async def test_an_empty_account_is_not_waited_for():
    body = b'{"error": {"code": "insufficient_quota"}}'
    with ScriptedServer(faults=[None, Fault("status", status=429, body=body)]) as server:
        async with ServerClient(settings(server)) as client:
            with pytest.raises(BudgetError, match="out of quota"):
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)


async def test_it_gives_up_by_tries_and_says_what_was_last():
    faults = lambda asked: None if asked.number == 0 else Fault("status", status=503, body=b"loading model")  # noqa: E731
    with ScriptedServer(faults=faults) as server:
        async with ServerClient(settings(server, max_tries=4)) as client:
            with pytest.raises(EngineError, match=r"in 4 tries and .* s; the last: status 503 loading model"):
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)
    assert len(server.asked) == 5


GOOD = b'{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}'
GARBAGE = [
    b"",
    b"not json",
    b"[]",
    b"null",
    b"{}",
    b'{"choices": null}',
    b'{"choices": []}',
    b'{"choices": [3]}',
    b'{"choices": [{}]}',
    b'{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}',
    b'{"choices": [{"message": {"content": "partial"}, "finish_reason": null}]}',
    b'{"choices": [{"message": {"content": ["x"]}, "finish_reason": "stop"}]}',
    b'{"choices": [' + GOOD + b"]",
    b"\xff\xfe",
]


@pytest.mark.parametrize("body", GARBAGE)
async def test_garbage_is_asked_again_and_never_an_answer(body: bytes):
    assert await errors_of([Fault("body", body=body)] * 2) == ["garbage", "garbage", ""]


async def test_lasting_garbage_ends_in_an_engine_error():
    faults = lambda asked: None if asked.number == 0 else Fault("body", body=b"{}")  # noqa: E731
    with ScriptedServer(faults=faults) as server:
        async with ServerClient(settings(server)) as client:
            with pytest.raises(EngineError, match=r"in 3 tries .*no choices in the answer"):
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)


async def test_a_withheld_answer_is_an_error():
    body = b'{"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter"}]}'
    with ScriptedServer(faults=[None, Fault("body", body=body)]) as server:
        async with ServerClient(settings(server)) as client:
            with pytest.raises(EngineError, match="finish_reason 'content_filter', not stop or length"):
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)


@pytest.mark.parametrize(
    "logprobs",
    ["[NaN]", "[null]", '["-1"]', "[0.5]", "[-1, -2]", "[]", "[true]", "[1e999]", "{}"],
)
async def test_bad_logprobs_are_garbage(logprobs: str):
    choice = '"token_ids": [2], "prompt_token_ids": [1], "finish_reason": "stop", "text": ""'
    body = f'{{"choices": [{{{choice}, "logprobs": {{"token_logprobs": {logprobs}}}}}]}}'.encode()
    seen: list[AttemptRecord] = []
    tokens = {"policy": TabularPolicy(4), "tokenizer": ScriptedTokenizer(WORDS)}
    with ScriptedServer(faults=[None, Fault("body", body=body)], **tokens) as server:
        async with ServerClient(settings(server), on_attempt=seen.append) as client:
            done = await client.sample(np.array([1]), Sampling(3), seed=0)
    assert [s.error for s in seen] == ["", "garbage", ""]
    assert np.isfinite(done.logprobs).all()


@tries(deadline=None)
@given(st.binary(max_size=60) | st.sampled_from(GARBAGE))
def test_no_body_is_ever_more_than_an_engine_error(body: bytes):
    with suppress(orjson.JSONDecodeError, GarbageError, StepcreditError):
        found = orjson.loads(body)
        if isinstance(found, dict):
            for choice in choices_of(found, n=1):
                assert isinstance(chat_text(choice), str)
                assert finish_of(choice) in ("stop", "length")


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("0", 0.0),
        ("1e9", 60.0),
        ("-5", 0.0),
        ("inf", 60.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
        (format_datetime(NOW + timedelta(seconds=7), usegmt=True), 7.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        (format_datetime(NOW + timedelta(days=400), usegmt=True), 60.0),
        ("Thu, 01 Jan 2026 00:00:09", 9.0),
    ],
)
def test_retry_after(header: str | None, seconds: float | None):
    assert retry_after_seconds(header, now=NOW, cap_s=60.0) == seconds


async def test_the_servers_word_is_kept():
    fault = Fault("status", status=429, headers={"Retry-After": "0.4"})
    with ScriptedServer(faults=[None, fault]) as server:
        async with ServerClient(settings(server)) as client:
            await client._start()
            begun = time.monotonic()
            await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)
            took = time.monotonic() - begun
    assert took >= 0.4


async def test_a_wait_beyond_the_deadline_is_not_waited():
    fault = Fault("status", status=429, headers={"Retry-After": "60"})
    with ScriptedServer(faults=[None, fault]) as server:
        async with ServerClient(settings(server, deadline_s=5.0)) as client:
            with pytest.raises(EngineError, match=r"in 1 tries .*status 429"):
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=0)


async def test_concurrency_is_bounded_falls_and_recovers():
    refused = Fault("status", status=429, headers={"Retry-After": "0.01"})
    faults = lambda asked: refused if 9 <= asked.number < 12 else None  # noqa: E731
    limits: list[float] = []
    with ScriptedServer(faults=faults, manners=Manners(delay_s=0.005)) as server:
        async with ServerClient(settings(server, max_in_flight=8)) as client:

            async def call(seed: int) -> None:
                await client.complete(HI, max_tokens=9, temperature=0.0, seed=seed)
                limits.append(client.limit)

            await asyncio.gather(*(call(seed) for seed in range(80)))
    assert server.most_at_once <= 8
    assert min(limits) < 8.0
    assert limits[-1] == 8.0


async def test_the_limiter_halves_once_for_requests_of_one_time():
    limiter = Limiter(8)
    async with limiter.slot() as one, limiter.slot() as two:
        limiter.slow_down(one)
        limiter.slow_down(two)
    assert limiter.limit == 4.0
    for _ in range(30):
        limiter.speed_up()
    assert limiter.limit == 8.0


async def test_a_cancelled_wait_for_a_place_loses_no_place():
    limiter = Limiter(1)

    async def hold() -> None:
        async with limiter.slot():
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(hold()) for _ in range(6)]
    await asyncio.sleep(0)
    for task in tasks[1:4]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(5), limiter.slot():
        assert limiter._running == 1


async def test_thirty_percent_failures_give_the_same_answers_as_none():
    kinds = [Fault("status", status=s) for s in (500, 502, 503)] + [Fault("reset"), Fault("cut"), Fault("body")]
    found: list[list[str]] = []
    for rate in (0.0, 0.3):
        chosen = random_faults(rate, 7, faults=kinds)
        script = lambda asked, chosen=chosen: None if asked.route == "models" else chosen(asked)  # noqa: E731
        with ScriptedServer(faults=script, reply=lambda m: f"re {m[-1].content}") as server:
            async with ServerClient(settings(server, backoff_s=0.001, max_tries=20)) as client:
                calls = [
                    client.complete([Message("user", str(i))], max_tokens=9, temperature=0.0, seed=0)
                    for i in range(150)
                ]
                found.append([reply.text for reply in await asyncio.gather(*calls)])
                total = len(server.asked)
    assert found[0] == found[1] == [f"re {i}" for i in range(150)]
    assert total > 180


def test_server_text_hides_the_key_and_control_characters():
    said = server_text(b'{"detail": "key s3cret \\u0007 is wrong\\nreally"}', secret="s3cret")
    assert said == "key *** is wrong really"
    assert len(server_text(b"x" * 999, secret="")) == 200
    assert server_text(b'{"error": "plain"}', secret="") == "plain"
