"""Monte-Carlo values: against exact values of a tabular policy, each prefix once, what is unknown, what it costs."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch

from stepcredit.core.errors import EngineError, JudgeError, UsageError
from stepcredit.core.layout import Layout
from stepcredit.core.protocols import Completion, Sampling
from stepcredit.core.records import Outcome, Problem, Rollout, Steps
from stepcredit.credit.vineppo import VineppoSettings, vineppo
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.judges.montecarlo import MonteCarloSettings, MonteCarloValues
from stepcredit.steps import align
from stepcredit.testing import ScriptedChecker, ScriptedSampler, ScriptedTokenizer, TabularPolicy

WORDS = ("<eos>", ";", "a", "b")
EOS, A = 0, 2
TOKENIZER = ScriptedTokenizer(WORDS)
SAMPLING = Sampling(6, stop_ids=(EOS,))
POLICY = TabularPolicy(4, seed=5, spread=1.0)


def solution(text: str, *, name: str = "r", answer: str | None = "a", every: int = 1) -> Steps:
    """A solution cut into steps of so many tokens; right if its last word is the answer."""
    ids = TOKENIZER.encode(text)
    plain, starts = align(ids, TOKENIZER)
    rollout = Rollout(name, Problem("p", "go", answer), "g", 0, plain, np.array([3]), ids, starts, policy="x")
    outcome = asyncio.run(ScriptedChecker().check(rollout))
    cuts = np.arange(0, len(ids), every)
    return Steps(outcome, cuts, "token", np.zeros(len(cuts), np.bool_), closed=False)


def values_of(sampler: object, *, checker: object = None, **settings: object) -> MonteCarloValues:
    made = MonteCarloSettings(**({"sampling": SAMPLING, "completions": 4} | settings))
    return MonteCarloValues(sampler, TOKENIZER, checker or ScriptedChecker(), made, align=align)


def exact(last: int, left: int) -> float:
    """Expected reward of going on after the token `last` with at most `left` tokens."""
    chances = np.exp(POLICY.logprobs()[last])
    ends = 1.0 if last == A else -1.0
    cut = [1.0 if token == A else -1.0 for token in range(4)]
    return float(sum(
        chances[token] * (ends if token == EOS else cut[token] if left == 1 else exact(token, left - 1))
        for token in range(4)
    ))  # fmt: skip


class Counting:
    """A real sampler that keeps what it was asked."""

    def __init__(self, policy: TabularPolicy) -> None:
        self.sampler, self.asked = ScriptedSampler(policy), []

    @property
    def fingerprint(self) -> str:
        return self.sampler.fingerprint

    async def sample(self, prompt_ids: np.ndarray, sampling: Sampling, *, seed: int) -> Completion:
        self.asked.append((prompt_ids.tolist(), sampling, seed))
        await asyncio.sleep(0)
        return await self.sampler.sample(prompt_ids, sampling, seed=seed)


def test_values_are_those_of_the_policy() -> None:
    steps, count = solution("b a ; a <eos>"), 1500
    found = asyncio.run(values_of(ScriptedSampler(POLICY), completions=count).values(steps))
    ids = [3, *steps.rollout.completion_ids.tolist()]
    want = [exact(last, SAMPLING.max_tokens - length) for length, last in enumerate(ids[:-1])]
    assert np.abs(found[:-1] - want).max() < 5 / np.sqrt(count)
    assert np.ptp(want) > 0.5, "the values must differ for this to say anything"
    assert found[-1] == 1.0


def test_steps_are_asked_at_their_first_tokens_with_what_is_left_of_the_cap() -> None:
    counting = Counting(POLICY)
    asyncio.run(values_of(counting, completions=2).values(solution("b a ; a <eos>", every=2)))
    prompts = [(prompt, sampling.max_tokens) for prompt, sampling, _ in counting.asked]
    assert sorted(prompts) == [([3], 6)] * 2 + [([3, 3, 2], 4)] * 2 + [([3, 3, 2, 1, 2], 2)] * 2
    assert len({seed for _, _, seed in counting.asked}) == 6
    assert all(sampling.stop_ids == (EOS,) for _, sampling, _ in counting.asked)


def test_equal_prefixes_are_continued_once_however_they_are_asked_for() -> None:
    counting = Counting(POLICY)
    values = values_of(counting, completions=3)
    solutions = [
        solution("b a ; <eos>", name="r0"),
        solution("b a a <eos>", name="r1"),
        solution("b a ; <eos>", name="r2"),
    ]

    async def together() -> list[np.ndarray]:
        return list(await asyncio.gather(*(values.values(steps) for steps in solutions)))

    found = asyncio.run(together())
    assert values.spending.prefixes == 5, "prompt, b, b a, b a ; and b a a"
    assert values.spending.continuations == len(counting.asked) == 15
    assert values.spending.shared == 3 * 4 - 5
    np.testing.assert_array_equal(found[0][:3], found[1][:3])
    np.testing.assert_array_equal(found[0], found[2])
    again = asyncio.run(values.values(solutions[1]))
    np.testing.assert_array_equal(again, found[1])
    assert len(counting.asked) == 15
    alone = asyncio.run(values_of(Counting(POLICY), completions=3).values(solutions[1]))
    np.testing.assert_array_equal(alone, found[1], err_msg="draws depend on the prefix alone, not on who came first")


def test_the_same_tokens_of_another_problem_are_another_prefix() -> None:
    values = values_of(ScriptedSampler(POLICY))
    one = solution("b a <eos>")
    other = replace(one.outcome, rollout=replace(one.rollout, problem=replace(one.rollout.problem, id="q", answer="b")))
    first = asyncio.run(values.values(one))
    second = asyncio.run(values.values(replace(one, outcome=other)))
    assert values.spending.shared == 0
    assert (first[:-1] != second[:-1]).any()


def test_new_weights_forget_the_old_values() -> None:
    policy = TabularPolicy(4, seed=5, spread=1.0)
    values = values_of(ScriptedSampler(policy), completions=50)
    before = asyncio.run(values.values(solution("b a <eos>")))
    policy.logits = policy.logits * np.array([1.0, 1.0, -3.0, 1.0])
    after = asyncio.run(values.values(solution("b a <eos>")))
    assert values.spending.prefixes == 6
    assert (before[:-1] != after[:-1]).any()


def test_tokens_are_those_that_were_written() -> None:
    counting, steps = Counting(POLICY), solution("b a <eos>")
    values = values_of(counting, completions=5)
    asyncio.run(values.values(steps))

    async def again() -> int:
        replies = [await counting.sampler.sample(np.array(p), s, seed=seed) for p, s, seed in counting.asked]
        return sum(len(reply.ids) for reply in replies)

    assert values.spending.tokens == asyncio.run(again()) > 15


class FirstOnly:
    """Scores continuations with an even sample index only."""

    fingerprint = "half"

    async def check(self, rollout: Rollout) -> Outcome:
        if rollout.sample % 2:
            return Outcome(rollout, "unscorable", reason="odd")
        return Outcome(rollout, "right")


def test_a_node_with_too_few_scorable_continuations_is_unknown() -> None:
    steps = solution("b a <eos>")
    few = values_of(ScriptedSampler(POLICY), checker=FirstOnly(), completions=5, min_scorable=4)
    np.testing.assert_array_equal(asyncio.run(few.values(steps)), [np.nan, np.nan, np.nan, 1.0])
    assert few.spending.unscorable == 6
    enough = values_of(ScriptedSampler(POLICY), checker=FirstOnly(), completions=5, min_scorable=3)
    np.testing.assert_array_equal(asyncio.run(enough.values(steps)), [1.0, 1.0, 1.0, 1.0])


def test_no_reference_answer_leaves_every_node_unknown_with_the_end() -> None:
    steps = solution("b a <eos>", answer=None)
    assert np.isnan(asyncio.run(values_of(ScriptedSampler(POLICY)).values(steps))).all()


def test_a_free_root_is_not_continued() -> None:
    counting = Counting(POLICY)
    found = asyncio.run(values_of(counting, root=False).values(solution("b a <eos>")))
    assert np.isnan(found[0])
    assert not np.isnan(found[1:]).any()
    assert len(counting.asked) == 8


def test_a_solution_without_tokens_is_its_end() -> None:
    rollout = Rollout("r", Problem("p", "go", "a"), "g", 0, "", np.array([3]), np.zeros(0), np.zeros(0))
    steps = Steps(Outcome(rollout, "wrong"), np.zeros(0), "token", np.zeros(0, np.bool_), closed=False)
    np.testing.assert_array_equal(asyncio.run(values_of(ScriptedSampler(POLICY)).values(steps)), [-1.0])


class Failing:
    fingerprint = "gone"

    async def sample(self, prompt_ids: np.ndarray, sampling: Sampling, *, seed: int) -> Completion:
        raise EngineError("server gone")


class Changing:
    fingerprint = "one"

    async def sample(self, prompt_ids: np.ndarray, sampling: Sampling, *, seed: int) -> Completion:
        return Completion(np.array([EOS]), None, "stop", "two")


@pytest.mark.parametrize(
    ("sampler", "why"), [(Failing(), "r: the sampler failed: server gone"), (Changing(), "r: the sampler changed")]
)
def test_a_sampler_that_fails_is_an_error_with_the_rollouts_name(sampler: object, why: str) -> None:
    with pytest.raises(JudgeError, match=why):
        asyncio.run(values_of(sampler).values(solution("b a <eos>")))


def test_a_failure_is_not_kept() -> None:
    counting = Counting(POLICY)
    values = values_of(counting)
    values._sampler = Failing()
    with pytest.raises(JudgeError):
        asyncio.run(values.values(solution("b a <eos>")))
    values._sampler = counting
    assert not np.isnan(asyncio.run(values.values(solution("b a <eos>")))).any()


def test_bad_counts_and_caps_are_refused() -> None:
    with pytest.raises(UsageError, match="min_scorable must be at least 1"):
        MonteCarloSettings(SAMPLING, completions=2, min_scorable=3)
    short = values_of(ScriptedSampler(POLICY), sampling=Sampling(2, stop_ids=(EOS,)))
    with pytest.raises(UsageError, match="r: the completion has 3 tokens and max_tokens is 2"):
        asyncio.run(short.values(solution("b a <eos>")))


def test_the_batching_engine_gives_each_prefix_the_values_that_it_gives_alone() -> None:
    torch.manual_seed(0)
    model = CausalLM(ModelConfig(4, dim=16, layers=1, heads=2, hidden=24, max_positions=16), seed=1)
    solutions = [
        solution("b a ; <eos>", name="r0"),
        solution("a a b b <eos>", name="r1"),
        solution("b ; <eos>", name="r2"),
    ]

    async def all_of(together: bool) -> list[np.ndarray]:
        async with EmbeddedSampler(model, slots=32, deterministic=True) as sampler:
            values = values_of(sampler, completions=6)
            if together:
                return list(await asyncio.gather(*(values.values(steps) for steps in solutions)))
            return [await values.values(steps) for steps in solutions[::-1]][::-1]

    for one, other in zip(asyncio.run(all_of(True)), asyncio.run(all_of(False)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_values_make_the_credit_of_vineppo() -> None:
    """Exact values of every node: advantages telescope, and are the true ones of the policy within sampling error."""
    steps, count = solution("b a <eos>"), 1500
    found = asyncio.run(values_of(ScriptedSampler(POLICY), completions=count).values(steps))
    layout = Layout(np.arange(3), np.zeros(3), np.zeros(1))
    credit = vineppo(layout, np.array([1.0]), found, settings=VineppoSettings(whiten=False))
    want = np.diff([exact(3, 6), exact(3, 5), exact(A, 4), 1.0])
    assert np.abs(credit - want).max() < 8 / np.sqrt(count)
