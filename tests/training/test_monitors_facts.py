"""Facts from records: what the monitors look at, on the real judge's words and by hand."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from stepcredit.core.pack import Pack
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Group, Judgement, Outcome, Problem, Rollout, Steps, Update, Verdict
from stepcredit.judges.intrinsic.judge import IntrinsicJudge, IntrinsicSettings
from stepcredit.judges.intrinsic.tasks import ReaderReply
from stepcredit.training.monitor_facts import (
    MIN_COUNT,
    behaviour_facts,
    judge_loops,
    outcome_facts,
    parse_rates,
    score_mass,
    updates_of,
)
from stepcredit.training.train import kl_ratio


def steps_of(status="right", *, name="r0-p0-s0", closed=True, words=6, reason="") -> Steps:
    ids = np.arange(words, dtype=np.int32)
    starts = np.arange(words, dtype=np.int32) * 2
    text = " ".join("a" * words)
    problem = Problem("p", "go", "a", "t")
    rollout = Rollout(name, problem, name[:5], 0, text, np.zeros(1, np.int32), ids, starts)
    outcome = Outcome(rollout, status, "a", reason)
    return Steps(outcome, np.array([0, 2, 4], np.int32), "step", np.array([False, False, closed]), closed=closed)


def judged(steps: Steps, *verdicts: Verdict) -> Judgement:
    return Judgement(steps, verdicts if len(verdicts) == len(steps) else verdicts * len(steps), "judge")


class Mute:
    """A reader whose replies to one task cannot be read."""

    fingerprint = "mute"

    async def answer(self, task, *, attempt, error) -> ReaderReply:
        return ReaderReply("I would say it is right.")


class TestParseRates:
    def test_the_words_of_the_intrinsic_judge_are_understood(self) -> None:
        """Its reasons name the task; what it could not be asked is no failure of it."""
        judge = IntrinsicJudge(Mute(), IntrinsicSettings(retries=0))
        cases = {
            "right": steps_of("right"),
            "wrong": steps_of("wrong"),
            "open": steps_of("wrong", closed=False),
            "unscorable": steps_of("unscorable", reason="no reference"),
        }
        said = {name: Judgement(s, asyncio.run(judge.judge(s)), "j") for name, s in cases.items()}
        fine = [judged(steps_of(status), Verdict(0.5)) for status in ("right", "wrong") for _ in range(MIN_COUNT - 1)]
        rates = parse_rates([*fine, *said.values()])
        assert rates == pytest.approx({"P1": 29 / 30, "P4": 29 / 30, "judge": 58 / 60})

    def test_other_judges_have_one_task(self) -> None:
        unread = judged(steps_of(), Verdict(0.5), Verdict(reason="no box"), Verdict(0.5))
        assert parse_rates([unread] * 10 + [judged(steps_of(), Verdict(0.5))] * 30) == {"judge": 0.75}

    def test_few_solutions_give_no_rate(self) -> None:
        assert parse_rates([judged(steps_of(), Verdict(reason="no box"))] * (MIN_COUNT - 1)) == {}


class TestOutcomes:
    def test_pass_at_k_over_groups_with_two_scorable_rollouts(self) -> None:
        right, wrong, none = (steps_of(s).outcome for s in ("right", "wrong", "unscorable"))
        groups = [Group("a", (right, wrong)), Group("b", (wrong, wrong))] * 15 + [Group("c", (right, none))]
        assert outcome_facts(groups) == {"pass_at_k": 0.5}
        assert outcome_facts(groups[:4]) == {"pass_at_k": None}


class TestBehaviour:
    def test_by_hand(self) -> None:
        """Six tokens in two think steps and an answer step of two tokens each; one reflection a solution."""
        cut = replace(steps_of().rollout, finish="length")
        rows = [judged(steps_of(), Verdict(0.5))] * 31
        rows.append(judged(replace(steps_of("wrong"), outcome=Outcome(cut, "wrong", "a")), Verdict(0.5)))
        found = behaviour_facts(rows, lambda texts: len(texts) // 2)
        assert found == {
            "tokens": 6.0, "truncated": 1 / 32, "step_tokens": 2.0, "reflections": pytest.approx(1000 / 6),
            "silent_right": 0.0,
        }  # fmt: skip

    def test_without_a_counter_reflections_are_unknown(self) -> None:
        found = behaviour_facts([judged(steps_of(), Verdict(0.5))] * 40, None)
        assert found["reflections"] is None
        assert found["silent_right"] is None


class TestScoresAndReplies:
    def test_mass_at_the_ends_is_for_probabilities_only(self) -> None:
        rows = [judged(steps_of(), Verdict(1.0), Verdict(0.5), Verdict(0.004))] * 10
        assert score_mass(rows, Scale.PROBABILITY) == pytest.approx(2 / 3)
        assert score_mass(rows, Scale.BINARY) is None
        assert score_mass(rows[:9], Scale.PROBABILITY) is None

    def test_loops_in_rationales_and_in_rejected_replies_count(self) -> None:
        looping = "so the step is right because " * 10
        rows = [judged(steps_of(), Verdict(0.5, reason=looping))] * 10 + [judged(steps_of(), Verdict(0.5))] * 30
        assert judge_loops(rows, ["fine", looping]) == pytest.approx(11 / 40)


class TestUpdates:
    def test_null_in_the_ledger_is_nan_again(self) -> None:
        payload = {**vars_of(Update(3, 1.0, 4, 50, 0.1, 0.2, 0.3, 0.4, 0.0, 0.0, 1.0, 2.0, 1e-3, "loss is nan"))}
        (update,) = updates_of([{**payload, "loss": None}])
        assert np.isnan(update.loss)
        assert (update.index, update.tokens, update.skipped) == (3, 50, "loss is nan")


class TestKlRatio:
    def test_by_hand(self) -> None:
        """k3 = e^d - 1 - d with d = ref - old: ln 2 and 0; mean (1 - ln 2) / 2; mean |A| 0.5; weight 0.1."""
        pack = Pack(
            ids=np.array([1, 2, 3]), positions=np.arange(3), starts=np.array([0, 3]),
            trained=np.array([False, True, True]), advantages=np.array([0.0, 0.75, -0.25]),
            old_logprobs=np.array([np.nan, -1.0, -1.0]), ref_logprobs=np.array([np.nan, -1.0 + np.log(2), -1.0]),
        )  # fmt: skip
        assert kl_ratio(pack, 0.1) == pytest.approx(0.1 * (1 - np.log(2)) / 2 / 0.5, rel=1e-6)
        assert kl_ratio(replace(pack, ref_logprobs=None), 0.1) is None
        assert kl_ratio(replace(pack, advantages=np.zeros(3)), 0.1) is None


def vars_of(update: Update) -> dict:
    return {name: getattr(update, name) for name in update.__dataclass_fields__}
