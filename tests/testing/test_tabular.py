"""The tabular policy: logprobs agree everywhere, the gradient is right, the loop learns."""

import numpy as np
import pytest

from stepcredit.core.errors import EngineError
from stepcredit.core.pack import Pack
from stepcredit.core.protocols import Sampling
from stepcredit.core.records import Rollout
from stepcredit.core.seeds import derive
from stepcredit.testing import (
    ScriptedChecker,
    ScriptedLearner,
    ScriptedSampler,
    ScriptedScorer,
    ScriptedTasks,
    ScriptedTokenizer,
    TabularPolicy,
)

WORDS = ("<eos>", "copy", "a", "b", "c", "x", "y", "z")


def pack(ids: list[int], *, prompt: int, advantage: float, old: np.ndarray | None = None) -> Pack:
    size = len(ids)
    trained = np.arange(size) >= prompt
    return Pack(
        ids=ids,
        positions=np.arange(size),
        starts=[0, size],
        trained=trained,
        advantages=np.where(trained, advantage, 0.0),
        old_logprobs=np.full(size, np.nan) if old is None else old,
    )


def test_rows_are_distributions_worked_by_hand():
    policy = TabularPolicy(2, spread=0.0)
    policy.logits[0] = [0.0, np.log(3.0)]
    np.testing.assert_allclose(np.exp(policy.logprobs()), [[0.25, 0.75], [0.5, 0.5]])


async def test_sampler_scorer_and_learner_agree():
    policy = TabularPolicy(6, seed=3, spread=1.0)
    prompt = np.array([1, 2], np.int32)
    done = await ScriptedSampler(policy).sample(prompt, Sampling(20, temperature=0.7, top_p=0.9), seed=5)
    whole = np.concatenate([prompt, done.ids])
    assert done.logprobs is not None
    np.testing.assert_array_equal(await ScriptedScorer(policy).score(whole, first=2), done.logprobs)
    learner = ScriptedLearner(policy)
    found = learner.logprobs(pack(whole.tolist(), prompt=2, advantage=1.0))
    np.testing.assert_array_equal(found[2:], done.logprobs)
    assert np.isnan(found[:2]).all()
    assert done.policy == learner.fingerprint


async def test_equal_seeds_equal_draws_and_stop_tokens():
    sampler = ScriptedSampler(TabularPolicy(6))
    one, two, other = [
        await sampler.sample(np.array([1]), Sampling(50, stop_ids=(0,)), seed=seed) for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(one.ids, two.ids)
    assert not np.array_equal(one.ids, other.ids)
    assert one.finish == "stop"
    assert one.ids[-1] == 0
    assert (one.ids[:-1] != 0).all()
    assert (await sampler.sample(np.array([1]), Sampling(1), seed=1)).finish == "length"


async def test_greedy_and_nucleus():
    policy = TabularPolicy(3, spread=0.0)
    policy.logits[:] = np.log([0.6, 0.3, 0.1])
    sampler = ScriptedSampler(policy)
    greedy = await sampler.sample(np.array([0]), Sampling(5, temperature=0.0), seed=0)
    assert greedy.ids.tolist() == [0] * 5
    nucleus = await sampler.sample(np.array([0]), Sampling(200, top_p=0.7), seed=0)
    assert set(nucleus.ids.tolist()) == {0, 1}


def test_the_update_is_the_gradient_of_its_loss():
    policy = TabularPolicy(4, seed=1, spread=1.0)
    learner = ScriptedLearner(policy, learning_rate=1.0, clip=0.2)
    plain = pack([1, 2, 3, 2], prompt=1, advantage=1.0)
    advantages = np.array([0.0, 1.0, -2.0, 0.5], np.float32)
    old = learner.logprobs(plain) - np.array([0, 0.1, 0.05, 5.0], np.float32)  # the last ratio is clipped
    batch = Pack(plain.ids, plain.positions, plain.starts, plain.trained, advantages, old)
    start = policy.logits.copy()

    def loss(logits: np.ndarray) -> float:
        policy.logits = logits
        ratio = np.exp(learner.logprobs(batch)[1:].astype(np.float64) - batch.old_logprobs[1:])
        pairs = ratio * advantages[1:], np.clip(ratio, 0.8, 1.2) * advantages[1:]
        return float(-np.minimum(*pairs).mean())

    numeric = np.zeros_like(start)
    for place in np.ndindex(start.shape):
        moved = np.zeros_like(start)
        moved[place] = 1e-3
        numeric[place] = (loss(start + moved) - loss(start - moved)) / 2e-3
    policy.logits = start
    update = learner.update(batch)
    np.testing.assert_allclose(start - policy.logits, numeric, atol=2e-4)
    assert update.clip_high == pytest.approx(1 / 3)
    assert (update.tokens, update.rollouts, update.index) == (3, 1, 0)


def test_on_policy_update_reports_no_drift():
    policy = TabularPolicy(4, seed=1)
    learner = ScriptedLearner(policy)
    batch = pack([1, 2, 3], prompt=1, advantage=1.0)
    update = learner.update(batch.with_old_logprobs(learner.logprobs(batch)))
    assert update.kl_k1 == pytest.approx(0.0, abs=1e-7)
    assert update.ess == pytest.approx(1.0)
    assert update.loss == pytest.approx(-1.0)


def test_state_goes_back_bit_for_bit():
    policy = TabularPolicy(4)
    learner = ScriptedLearner(policy)
    state, before = learner.state(), learner.fingerprint
    assert learner.state() == state
    batch = pack([1, 2, 3], prompt=1, advantage=1.0)
    learner.update(batch.with_old_logprobs(learner.logprobs(batch)))
    after = learner.fingerprint
    assert after != before
    learner.load(state)
    assert learner.fingerprint == before
    assert learner.update(batch.with_old_logprobs(learner.logprobs(batch))).index == 0
    assert learner.fingerprint == after


async def test_what_it_refuses():
    learner = ScriptedLearner(TabularPolicy(4))
    with pytest.raises(EngineError, match="not a state"):
        learner.load(b"nonsense")
    with pytest.raises(EngineError, match="vocabulary of 5 tokens, this learner has 4"):
        learner.load(ScriptedLearner(TabularPolicy(5)).state())
    with pytest.raises(EngineError, match="no old logprob"):
        learner.update(pack([1, 2], prompt=1, advantage=1.0))
    with pytest.raises(EngineError, match="id 9 is outside"):
        learner.logprobs(pack([1, 9], prompt=1, advantage=1.0))
    with pytest.raises(EngineError, match="stands first"):
        learner.logprobs(pack([1, 2], prompt=0, advantage=1.0))
    with pytest.raises(EngineError, match="the prompt is empty"):
        await ScriptedSampler(TabularPolicy(4)).sample(np.zeros(0, np.int32), Sampling(1), seed=0)
    with pytest.raises(EngineError, match=r"first must be in 1\.\.2"):
        await ScriptedScorer(TabularPolicy(4)).score(np.array([1, 2]), first=0)


async def test_the_whole_loop_learns():
    tokenizer, tasks = ScriptedTokenizer(WORDS), ScriptedTasks({"a": "x", "b": "y", "c": "z"})
    policy = TabularPolicy(tokenizer.size)
    sampler, learner, checker = ScriptedSampler(policy), ScriptedLearner(policy, learning_rate=20.0), ScriptedChecker()

    async def one_round(number: int) -> float:
        parts: list[Pack] = []
        rewards: list[float] = []
        for index, problem in enumerate(tasks.problems(64, seed=number)):
            prompt = tokenizer.encode(problem.text)
            seed = derive(0, "sample", number, index)
            done = await sampler.sample(prompt, Sampling(2, stop_ids=(0,)), seed=seed)
            text = tokenizer.decode(done.ids)
            starts = np.cumsum([0, *(len(p) for p in tokenizer.pieces(done.ids))])[:-1]
            rollout = Rollout(f"{number}/{index}", problem, "g", 0, text, prompt, done.ids, starts, done.logprobs)
            reward = (await checker.check(rollout)).reward
            reward = -1.0 if reward is None else reward
            rewards.append(reward)
            whole = np.concatenate([prompt, done.ids])
            parts.append(pack(whole.tolist(), prompt=len(prompt), advantage=reward))
        ids = np.concatenate([p.ids for p in parts])
        batch = Pack(
            ids,
            np.concatenate([p.positions for p in parts]),
            np.cumsum([0, *(len(p.ids) for p in parts)]),
            np.concatenate([p.trained for p in parts]),
            np.concatenate([p.advantages for p in parts]),
            np.full(len(ids), np.nan),
        )
        learner.update(batch.with_old_logprobs(learner.logprobs(batch)))
        return float(np.mean(np.array(rewards) > 0))

    rates = [await one_round(number) for number in range(30)]
    assert np.mean(rates[:2]) < 0.4
    assert np.mean(rates[-3:]) > 0.9
