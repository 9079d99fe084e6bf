"""The pooling client against the scripted server: rows by token and by mark, what is ignored, what breaks."""

import numpy as np
import pytest

from stepcredit.core import judge_parts
from stepcredit.core.errors import BudgetError, ChangedModelError, EngineError, MachineError, UsageError
from stepcredit.engines.server import Budget, ServerSettings
from stepcredit.engines.server.pooling import PoolingClient
from stepcredit.store.attempts import AttemptRecord
from stepcredit.testing import Fault, Manners, ScriptedServer, TabularPolicy

POLICY = TabularPolicy(9, seed=4, spread=1.0)
IDS, PLACES = np.array([4, 5, 3, 6, 3]), np.array([2, 4])


def server(faults=(), **manners: object) -> ScriptedServer:
    return ScriptedServer(policy=POLICY, manners=Manners(**manners), faults=faults)


def client(of: ScriptedServer, *, classes: int = 2, **changes: object) -> PoolingClient:
    budget = changes.pop("budget", None)
    settings = ServerSettings(of.url, **{"backoff_s": 0.01, "key_variable": "NO_SUCH_KEY", **changes})
    return PoolingClient(settings, classes=classes, budget=budget)


def want(ids: np.ndarray = IDS[PLACES]) -> np.ndarray:
    powers = np.exp(POLICY.logprobs()[ids, :2])
    return np.log(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("pools", ["all", "step"])
async def test_rows_come_by_token_or_by_mark(pools: str):
    seen: list[AttemptRecord] = []
    with server(pools=pools, step_tag=3, context=77) as running:
        settings = ServerSettings(running.url, key_variable="NO_SUCH_KEY")
        async with PoolingClient(settings, on_attempt=seen.append) as made:
            classifier: judge_parts.TokenClassifier = made
            assert await classifier.context() == 77
            found = await classifier.classify(IDS, PLACES)
            again = await classifier.classify(IDS, PLACES)
            assert (await classifier.classify(IDS, PLACES[:0])).values.shape == (0, 2)
    np.testing.assert_allclose(found.values, want(), atol=1e-6)
    assert found.calls == again.calls == (seen[1].call,)
    assert [(s.route, s.status, s.error, s.input_tokens) for s in seen[1:]] == [("/pooling", 200, "", 5)] * 2
    assert running.asked[1].body["input"] == IDS.tolist()
    assert len(running.asked) == 3


async def test_any_places_are_read_where_every_token_has_a_row():
    with server() as running:
        async with client(running) as made:
            found = await made.classify(IDS, np.array([0, 1, 4]))
    np.testing.assert_allclose(found.values, want(IDS[[0, 1, 4]]), atol=1e-6)


@pytest.mark.parametrize(
    ("manners", "message"),
    [
        ({"pools": "whole"}, "pools the whole text into one row; serve the model with token-wise pooling"),
        ({"pools": "step", "step_tag": 4}, "pools 1 rows from 5 tokens with 2 steps; serve the model with token-wise"),
        ({"pools": "step", "step_tag": 3, "classes": 3}, "has 3 numbers a token, not 2 classes"),
        ({"ignores": frozenset({"use_activation"})}, "the server ignores `use_activation`"),
    ],
)
async def test_a_server_that_does_otherwise_is_an_error_with_a_name(manners, message: str):
    with server(**manners) as running:
        async with client(running) as made:
            with pytest.raises(EngineError, match=message):
                await made.classify(IDS, PLACES)


async def test_rows_by_a_mark_that_stands_elsewhere_too_are_refused():
    with server(pools="step", step_tag=3) as running:
        async with client(running) as made:
            with pytest.raises(EngineError, match="pools 2 rows from 5 tokens with 1 steps"):
                await made.classify(IDS, PLACES[:1])


async def test_busy_and_garbage_are_asked_again_and_then_given_up():
    bad = [Fault("body", body=text) for text in (b"{}", b'{"data": [{"data": [[0.5, null]]}]}', b"[]")]
    with server(faults=[None, Fault("status", status=503), *bad[:2]]) as running:
        async with client(running) as made:
            np.testing.assert_allclose((await made.classify(IDS, PLACES)).values, want(), atol=1e-6)
    with server(faults=[None, *bad]) as running:
        async with client(running) as made:
            with pytest.raises(EngineError, match="no good answer to /pooling in 3 tries"):
                await made.classify(IDS, PLACES)


async def test_another_model_is_refused():
    with server(faults=[None, Fault("model", model="other")]) as running:
        async with client(running) as made:
            with pytest.raises(ChangedModelError, match="answers come from model 'other', not 'scripted'"):
                await made.classify(IDS, PLACES)
        async with client(running, model="huge") as made:
            with pytest.raises(UsageError, match="no model 'huge' there; it has scripted"):
                await made.context()


async def test_refusals_and_limits_have_a_mend():
    with server(refuses=frozenset({"pooling"})) as running:
        async with client(running) as made:
            with pytest.raises(UsageError, match="no route /pooling or no model 'scripted' there"):
                await made.classify(IDS, PLACES)
    with server(context=4) as running:
        async with client(running) as made:
            with pytest.raises(UsageError, match="do not fit the model's context"):
                await made.classify(IDS, PLACES)
        async with client(running, budget=Budget(max_calls=1)) as made:
            with pytest.raises(BudgetError):
                await made.classify(IDS[:2], np.array([1]))
        url = running.url
    settings = ServerSettings(url, key_variable="NO_SUCH_KEY", backoff_s=0.01)
    async with PoolingClient(settings) as made:
        with pytest.raises(MachineError, match="is the server running"):
            await made.context()
        with pytest.raises(EngineError, match="the model's name is not known yet"):
            _ = made.fingerprint
    with pytest.raises(UsageError, match="at least 2 classes, got 1"):
        PoolingClient(settings, classes=1)


async def test_a_server_that_reads_other_tokens_is_refused():
    body = b'{"data": [{"index": 0, "data": [[0.5, 0.5], [0.5, 0.5]]}], "usage": {"prompt_tokens": 6}}'
    with server(faults=[None, Fault("body", body=body)]) as running:
        async with client(running) as made:
            with pytest.raises(EngineError, match=r"ignores `input as token ids` \(5 ids given, 6 tokens read"):
                await made.classify(IDS, PLACES)
