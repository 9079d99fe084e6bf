import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from embedded_cases import V, logprobs_of, small_model

from stepcredit.core.errors import EngineError
from stepcredit.core.protocols import Sampler, Sampling, Scorer
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.engines.embedded.sampler import Written
from stepcredit.engines.learner.weights import weights_fingerprint

PROMPT = np.array([1, 2, 3], np.int32)
SAMPLING = Sampling(20, stop_ids=(0,))
ENDLESS = Sampling(40)


@pytest.fixture
def engine() -> Iterator[EmbeddedSampler]:
    with EmbeddedSampler(small_model(), slots=8) as made:
        yield made


def test_it_is_a_sampler_and_a_scorer(engine: EmbeddedSampler) -> None:
    sampler: Sampler = engine
    scorer: Scorer = engine
    assert sampler.fingerprint == weights_fingerprint(small_model())
    assert scorer is sampler


async def test_more_requests_than_slots_are_all_answered(engine: EmbeddedSampler) -> None:
    found = await asyncio.gather(*(engine.sample(PROMPT, SAMPLING, seed=seed) for seed in range(50)))
    again = engine.sample_many([PROMPT] * 50, SAMPLING, range(50))
    for one, two in zip(found, again, strict=True):
        assert (one.ids == two.ids).all()
        assert one.policy == engine.fingerprint
        assert one.finish in ("stop", "length")
        assert one.logprobs is not None
        np.testing.assert_allclose(one.logprobs, logprobs_of(small_model(), PROMPT, one.ids), atol=1e-4)


def test_event_loops_come_and_go(engine: EmbeddedSampler) -> None:
    async def one() -> bytes:
        return (await engine.sample(PROMPT, SAMPLING, seed=1)).ids.tobytes()

    assert len({asyncio.run(one()) for _ in range(3)}) == 1


async def test_late_requests_join_the_running_batch(engine: EmbeddedSampler) -> None:
    early = asyncio.create_task(engine.sample(PROMPT, ENDLESS, seed=0))
    await asyncio.sleep(0)
    late = await engine.sample(PROMPT, Sampling(1), seed=1)
    assert len(late.ids) == 1
    assert len((await early).ids) == 40


async def test_scores_are_those_of_a_training_pass(engine: EmbeddedSampler) -> None:
    numbers = np.random.default_rng(0)
    texts = [numbers.integers(0, V, int(n)).astype(np.int32) for n in numbers.integers(2, 48, 30)]
    firsts = [int(numbers.integers(1, len(text))) for text in texts]
    pairs = zip(texts, firsts, strict=True)
    found = await asyncio.gather(*(engine.score(text, first=first) for text, first in pairs))
    for text, first, scores in zip(texts, firsts, found, strict=True):
        assert len(scores) == len(text) - first
        np.testing.assert_allclose(scores, logprobs_of(small_model(), text[:first], text[first:]), atol=1e-4)
    assert len(await engine.score(PROMPT, first=3)) == 0


async def test_sampler_and_scorer_agree(engine: EmbeddedSampler) -> None:
    written = await engine.sample(PROMPT, SAMPLING, seed=3)
    scores = await engine.score(np.concatenate([PROMPT, written.ids]), first=3)
    assert written.logprobs is not None
    np.testing.assert_allclose(scores, written.logprobs, atol=1e-4)


async def test_deterministic_mode_ignores_company() -> None:
    async with EmbeddedSampler(small_model(), slots=8, deterministic=True) as engine:
        alone = await engine.sample(PROMPT, SAMPLING, seed=5)
        text = np.arange(9, dtype=np.int32)
        score = await engine.score(text, first=1)
        crowd = await asyncio.gather(
            *(engine.sample(PROMPT + seed % 4, SAMPLING, seed=seed) for seed in (9, 8, 7, 6)),
            engine.sample(PROMPT, SAMPLING, seed=5),
        )
        scores = await asyncio.gather(*(engine.score(text[: 9 - i], first=1) for i in range(5)))
    assert alone.logprobs is not None
    assert crowd[-1].logprobs is not None
    assert alone.ids.tobytes() == crowd[-1].ids.tobytes()
    assert alone.logprobs.tobytes() == crowd[-1].logprobs.tobytes()
    assert score.tobytes() == scores[0].tobytes()


async def test_new_weights_wait_for_running_requests(engine: EmbeddedSampler) -> None:
    old, other = engine.fingerprint, small_model(seed=9)
    before = asyncio.create_task(engine.sample(PROMPT, ENDLESS, seed=0))
    await asyncio.sleep(0)
    loading = asyncio.create_task(asyncio.to_thread(engine.load_weights, other.state_dict()))
    first = await before
    new = await loading
    after = await engine.sample(PROMPT, SAMPLING, seed=0)
    assert first.policy == old != new == engine.fingerprint == after.policy == weights_fingerprint(other)
    assert first.logprobs is not None
    assert after.logprobs is not None
    np.testing.assert_allclose(first.logprobs, logprobs_of(small_model(), PROMPT, first.ids), atol=1e-4)
    np.testing.assert_allclose(after.logprobs, logprobs_of(other, PROMPT, after.ids), atol=1e-4)


def test_the_models_later_changes_are_not_seen() -> None:
    model = small_model()
    with EmbeddedSampler(model) as engine:
        before = engine.sample_many([PROMPT], SAMPLING, [0])[0]
        with torch.no_grad():
            model.lm_head.weight.zero_()
        after = engine.sample_many([PROMPT], SAMPLING, [0])[0]
    assert (before.ids == after.ids).all()


def test_weights_of_another_model_are_refused_and_the_old_ones_stay(engine: EmbeddedSampler) -> None:
    before = engine.fingerprint
    for state in (small_model(seed=9, layers=3).state_dict(), small_model(seed=9, hidden=8).state_dict(), {}):
        with pytest.raises(EngineError, match="no weights of this model"):
            engine.load_weights(state)
    assert engine.fingerprint == before == weights_fingerprint(engine._model)
    assert len(engine.sample_many([PROMPT], ENDLESS, [0])[0].ids) == 40


async def test_a_failure_reaches_every_waiter_and_the_engine_goes_on(
    engine: EmbeddedSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(engine._pool._decoder, "extend", broken)
        found = await asyncio.gather(
            *(engine.sample(PROMPT, ENDLESS, seed=seed) for seed in range(20)), return_exceptions=True
        )
    assert all(isinstance(one, EngineError) and "RuntimeError: out of memory" in str(one) for one in found)
    assert len((await engine.sample(PROMPT, ENDLESS, seed=0)).ids) == 40


async def test_damaged_weights_are_named(engine: EmbeddedSampler) -> None:
    state = {name: tensor * float("nan") for name, tensor in small_model().state_dict().items()}
    engine.load_weights(state)
    with pytest.raises(EngineError, match="logits are NaN"):
        await engine.sample(PROMPT, SAMPLING, seed=0)


async def test_a_cancelled_request_frees_its_place() -> None:
    async with EmbeddedSampler(small_model(max_positions=4096), slots=1) as engine:
        endless = asyncio.create_task(engine.sample(PROMPT, Sampling(4000), seed=0))
        waiting = asyncio.create_task(engine.sample(PROMPT, Sampling(4000), seed=1))
        await asyncio.sleep(0.02)
        endless.cancel()
        waiting.cancel()
        found = await engine.sample(PROMPT, Sampling(3), seed=2)
        assert len(found.ids) == 3
        with pytest.raises(asyncio.CancelledError):
            await endless


async def test_a_failure_while_giving_a_place_back_reaches_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Event()

    def broken(_: object) -> None:
        raise RuntimeError("device lost")

    async with EmbeddedSampler(small_model(max_positions=4096), slots=2) as engine:
        step = engine._pool.step

        def told() -> list[Written]:
            if engine._pool.active == 2:
                both.set()
            return step()

        with monkeypatch.context() as patched:
            patched.setattr(engine._pool, "cancel", broken)
            patched.setattr(engine._pool, "step", told)
            left, other = (asyncio.create_task(engine.sample(PROMPT, Sampling(4000), seed=seed)) for seed in (0, 1))
            assert await asyncio.to_thread(both.wait, 30)
            left.cancel()
            with pytest.raises(EngineError, match="device lost"):
                await asyncio.wait_for(other, 30)
        assert len((await asyncio.wait_for(engine.sample(PROMPT, Sampling(3), seed=2), 30)).ids) == 3


def test_no_prompts_need_no_worker() -> None:
    with EmbeddedSampler(small_model()) as engine:
        assert engine.sample_many([], SAMPLING, []) == []
        assert engine._thread is None


async def test_bad_requests_raise_where_they_are_made(engine: EmbeddedSampler) -> None:
    with pytest.raises(EngineError, match="no tokens"):
        await engine.sample(np.zeros(0, np.int32), SAMPLING, seed=0)
    with pytest.raises(EngineError, match="1 <= first <= ids"):
        await engine.score(PROMPT, first=0)
    with pytest.raises(EngineError, match="outside the vocabulary"):
        await engine.score(np.array([1, V], np.int32), first=1)


async def test_closing_ends_waiting_requests_and_refuses_new_ones() -> None:
    engine = EmbeddedSampler(small_model(max_positions=4096), slots=1)
    waiting = [asyncio.create_task(engine.sample(PROMPT, Sampling(4000), seed=seed)) for seed in range(3)]
    await asyncio.sleep(0)
    await engine.aclose()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, EngineError) and "closed" in str(one) for one in found)
    with pytest.raises(EngineError, match="is closed"):
        await engine.sample(PROMPT, SAMPLING, seed=0)
    engine.close()
    assert not [
        thread for thread in threading.enumerate() if thread.name == "stepcredit-embedded" and thread.is_alive()
    ]


async def test_the_worker_sleeps_when_nothing_waits(engine: EmbeddedSampler) -> None:
    await engine.sample(PROMPT, SAMPLING, seed=0)
    assert not engine._awake()


def test_an_engine_never_used_has_no_thread() -> None:
    engine = EmbeddedSampler(small_model())
    assert engine._thread is None
    engine.close()
