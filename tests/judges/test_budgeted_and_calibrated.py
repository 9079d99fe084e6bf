"""Wrappers that correct scores and that hold a budget."""

import asyncio
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_solutions import solution

from stepcredit.core.errors import JudgeError, UsageError
from stepcredit.core.protocols import Reply, Scale
from stepcredit.core.records import Label, Verdict
from stepcredit.evaluation.calibration import fit_temperature
from stepcredit.evaluation.calibration import tempered as tempered_array
from stepcredit.judges import (
    BudgetedJudge,
    CachedJudge,
    CalibratedJudge,
    CriticJudge,
    MemoryCache,
    Meter,
    MeteredChat,
    Spending,
    VotingJudge,
)
from stepcredit.judges.verdicts import labelled
from stepcredit.judges.wrappers import OVER_BUDGET, recalibrated, tempered
from stepcredit.testing import ScriptedChat, ScriptedJudge

STEPS = ("a", "b", "c")


def saying(*scores: float | None) -> ScriptedJudge:
    verdicts = tuple(Verdict(score, reason="none" if score is None else "") for score in scores)
    return ScriptedJudge(lambda steps: verdicts[: len(steps)], scale=Scale.PROBABILITY)


@given(st.floats(0, 1), st.floats(0.05, 20))
def test_tempering_is_that_of_the_fit(score, temperature):
    assert tempered(score, temperature) == pytest.approx(float(tempered_array(np.array([score]), temperature)[0]))


async def test_an_over_confident_judge_is_corrected_by_the_fitted_temperature():
    """It says 0.9 and is right three times in four: the fit makes 0.75 of it."""
    fitted = fit_temperature(np.full(4, 0.9), np.array([True, True, True, False]))
    judge = CalibratedJudge(saying(0.9, None, 0.1), temperature=fitted.value)
    first, second, third = await judge.judge(solution(STEPS))
    assert first.score == pytest.approx(0.75)
    assert second == Verdict(reason="none")
    assert third.score == pytest.approx(0.25)
    assert judge.scale is Scale.PROBABILITY


async def test_labels_reasons_and_calls_stay():
    votes = VotingJudge([ScriptedJudge(lambda s: (labelled(Label.CORRECT, calls=("c",)),) * len(s)) for _ in range(2)])
    verdicts = await CalibratedJudge(votes, temperature=3.0).judge(solution(STEPS))
    assert all((v.label, v.calls) == (Label.CORRECT, ("c", "c")) and 0.98 < v.score < 1.0 for v in verdicts)


@given(st.floats(0, 1), st.floats(0, 1))
def test_rising_points_keep_the_order_of_scores(one, other):
    points = ((0.1, 0.0), (0.5, 0.5), (0.8, 0.5), (1.0, 0.9))
    low, high = sorted((one, other))
    assert 0.0 <= recalibrated(low, points) <= recalibrated(high, points) <= 0.9
    assert recalibrated(0.5, points) == 0.5
    assert recalibrated(one, [(0.3, 0.7)]) == 0.7


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "either a temperature or points"),
        ({"temperature": 1.0, "points": ((0.0, 0.0),)}, "either a temperature or points"),
        ({"temperature": 0.0}, "above 0, got 0.0"),
        ({"temperature": float("nan")}, "above 0, got nan"),
        ({"points": ((0.5, 0.1), (0.5, 0.2))}, "scores that rise"),
        ({"points": ((0.0, 0.1), (1.0, 1.2))}, r"must lie in \[0, 1\]"),
    ],
)
def test_what_is_no_calibration_is_refused(changes, told):
    with pytest.raises(UsageError, match=told):
        CalibratedJudge(saying(0.5), **changes)


def test_only_probabilities_can_be_calibrated():
    with pytest.raises(UsageError, match="scores are binary"):
        CalibratedJudge(ScriptedJudge(lambda _: [], scale=Scale.BINARY), temperature=2.0)


class Slow:
    """A critic's model that takes a while, in an order of its own, and tells what it cost."""

    fingerprint = "slow"

    def __init__(self, *, seed: int, most: int, told: bool = True) -> None:
        self.draws, self.most, self.told = random.Random(seed), most, told
        self.given = 0
        self.now = self.at_once = 0

    async def complete(self, messages, **more) -> Reply:
        del messages, more
        self.now += 1
        self.at_once = max(self.at_once, self.now)
        for _ in range(self.draws.randrange(6)):
            await asyncio.sleep(0)
        self.now -= 1
        spent = self.draws.randint(2, self.most)
        self.given += spent
        return Reply("\\boxed{-1}", "stop", f"call {self.given}", "slow", spent - 1, 1 if self.told else None)


async def judged(model, count=60, **limits):
    meter = Meter(input_price=1e6, output_price=1e6)
    judge = BudgetedJudge(CriticJudge(MeteredChat(model, meter)), meter, **limits)
    solutions = [solution(STEPS, name=f"r{k}") for k in range(count)]
    found = await asyncio.gather(*(judge.judge(steps) for steps in solutions))
    known = [all(v.known for v in verdicts) for verdicts in found]
    refused = [all(v.reason.startswith(OVER_BUDGET) for v in verdicts) for verdicts in found]
    assert all(one != other for one, other in zip(known, refused, strict=True))
    assert sum(refused) == judge.refused
    assert meter.spent.tokens == model.given
    assert meter.calls == sum(known)
    return judge, meter, sum(known)


@pytest.mark.parametrize("seed", range(20))
async def test_side_by_side_the_limit_is_never_passed_and_as_much_as_fits_is_judged(seed):
    model = Slow(seed=seed, most=10)
    _, meter, known = await judged(model, max_tokens=200, most=Spending(10))
    assert 190 < meter.spent.tokens <= 200
    assert known == meter.calls
    assert model.at_once > 1


async def test_a_limit_on_cost_is_held_in_the_same_way():
    _, meter, _ = await judged(Slow(seed=1, most=10), max_cost=100.0, most=Spending(cost=10.0))
    assert 90 < meter.spent.cost <= 100


async def test_without_a_bound_on_one_judgement_those_under_way_end_and_no_other_is_begun():
    model = Slow(seed=2, most=10)
    _, meter, known = await judged(model, count=5, max_tokens=1)
    assert known == 5  # all were begun before the first had spent anything
    judge = BudgetedJudge(CriticJudge(MeteredChat(model, meter)), meter, max_tokens=meter.spent.tokens)
    (verdict, *_) = await judge.judge(solution(STEPS))
    assert verdict.reason == f"{OVER_BUDGET}: {meter.spent.tokens} of {meter.spent.tokens} tokens are spent"
    assert not verdict.known


async def test_a_judgement_that_could_not_fit_alone_is_refused_at_once():
    _, meter, known = await judged(Slow(seed=3, most=10), count=3, max_tokens=9, most=Spending(10))
    assert (known, meter.calls) == (0, 0)


async def test_what_is_refused_is_asked_again_under_a_higher_budget_and_nothing_is_kept_of_it():
    cache, model = MemoryCache(), Slow(seed=4, most=10)
    for limit, wanted in ((25, False), (1000, True)):
        meter = Meter()
        inner = CriticJudge(MeteredChat(model, meter))
        judge = CachedJudge(BudgetedJudge(inner, meter, max_tokens=limit, most=Spending(10)), cache)
        found = [await judge.judge(solution(STEPS, problem=f"{k}?")) for k in range(10)]
        assert all(verdicts[0].known for verdicts in found) is wanted


async def test_a_failing_judge_gives_its_part_back():
    def fail(_):
        raise JudgeError("gone", item="r0")

    meter = Meter()
    judge = BudgetedJudge(ScriptedJudge(fail), meter, max_tokens=10, most=Spending(10))
    for _ in range(3):
        with pytest.raises(JudgeError, match="gone"):
            await judge.judge(solution(STEPS))
    assert judge.refused == 0


async def test_one_judge_serves_several_event_loops():
    meter = Meter()
    model = Slow(seed=5, most=10)
    judge = BudgetedJudge(CriticJudge(MeteredChat(model, meter)), meter, max_tokens=10_000, most=Spending(4000))

    async def four():
        return await asyncio.gather(*(judge.judge(solution(STEPS)) for _ in range(4)))

    for _ in range(2):
        found = await asyncio.to_thread(asyncio.run, four())
        assert all(verdicts[0].known for verdicts in found)


async def test_a_budget_that_cannot_be_held_is_an_error():
    untold = Slow(seed=6, most=10, told=False)
    meter = Meter()
    judge = BudgetedJudge(CriticJudge(MeteredChat(untold, meter)), meter, max_tokens=100)
    await judge.judge(solution(STEPS))
    with pytest.raises(UsageError, match="tells no token counts"):
        await judge.judge(solution(STEPS))
    unfed = BudgetedJudge(CriticJudge(ScriptedChat(["\\boxed{-1}"])), Meter(), max_tokens=100)
    with pytest.raises(UsageError, match="calls that its meter did not count"):
        await unfed.judge(solution(STEPS))


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({}, "got max_tokens None and max_cost None"),
        ({"max_tokens": 0}, "got max_tokens 0"),
        ({"max_cost": float("nan")}, "limits above 0"),
        ({"max_cost": 1.0}, "needs the prices of tokens"),
    ],
)
def test_limits_are_checked(limits, told):
    with pytest.raises(UsageError, match=told):
        BudgetedJudge(saying(0.5), Meter(), **limits)
    with pytest.raises(UsageError, match="prices must be at least 0"):
        Meter(input_price=-1.0)
