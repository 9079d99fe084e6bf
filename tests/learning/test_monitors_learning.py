"""A policy that learns to hide its mistakes trips F12 and recovers; policies that are paid rightly trip nothing.

A guess is good or bad; a bad one is admitted (`no`, and done again) or passed off (`ok`). Admitting makes the outcome
right. Where the process credit blames the admission too, with a fixed scale that outweighs the outcome, the policy
learns to pass bad guesses off: the exhibit of the demo in small, on a tabular policy that truly learns.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stepcredit.core.protocols import Sampling
from stepcredit.core.records import Group, Judgement, Label, Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.credit.batch import assign
from stepcredit.credit.tp_grpo import TpGrpoSettings
from stepcredit.steps import thoughts
from stepcredit.store.run_folder import RunFolder
from stepcredit.testing import ScriptedJudge, ScriptedLearner, ScriptedSampler, ScriptedTokenizer, TabularPolicy
from stepcredit.training.history import RoundRow
from stepcredit.training.monitoring import MonitorSettings
from stepcredit.training.parts import Evidence, Measurement, PaidRound, Parts, RoundSettings, RoundSignals
from stepcredit.training.rounds import run_rounds

pytestmark = pytest.mark.learning

WORDS = ("go", "good", "bad", "no", "ok", "redone", "<eos>")
FOLLOWING = {
    "go": {"good": 0.4, "bad": 0.6}, "bad": {"no": 0.7, "ok": 0.3}, "no": {"redone": 1.0}, "redone": {"ok": 1.0},
    "good": {"ok": 1.0}, "ok": {"<eos>": 1.0}, "<eos>": {"<eos>": 1.0},
}  # fmt: skip
SEEDS = range(5)
ROLLOUTS = 2_560
PROBLEMS, GROUP = 32, 8


class Guesses:
    name = "guesses"
    fingerprint = "guesses"
    unit = "word"

    def problems(self, count: int, *, seed: int) -> tuple[Problem, ...]:
        return tuple(Problem(f"{seed}/{i}", "go", "good", self.name) for i in range(count))

    async def check(self, rollout: Rollout) -> Outcome:
        right = "good" in rollout.text.split() or "redone" in rollout.text.split()
        return Outcome(rollout, "right" if right else "wrong", "guess")

    def split(self, outcome: Outcome) -> Steps:
        count = len(outcome.rollout.completion_ids)
        return Steps(outcome, np.arange(count), self.unit, np.arange(count) == count - 1, closed=True)


def policy_of(tokenizer: ScriptedTokenizer, seed: int) -> TabularPolicy:
    policy = TabularPolicy(tokenizer.size, seed=seed, spread=0.0)
    policy.logits = np.full((len(WORDS), len(WORDS)), -30.0)
    for word, following in FOLLOWING.items():
        for other, chance in following.items():
            policy.logits[WORDS.index(word), WORDS.index(other)] = np.log(chance)
    return policy


def judge_of(blamed: Sequence[str]) -> ScriptedJudge:
    def verdicts(steps: Steps) -> list[Verdict]:
        words = [text.strip() for text in steps.texts]
        if steps.outcome.status == "wrong":
            return [Verdict(label=Label.MATCHED)] * len(words)
        taken_back = "no" in words
        return [Verdict(label=Label.INCORRECT if taken_back and w in blamed else Label.CORRECT) for w in words]

    return ScriptedJudge(verdicts)


def credit_of(scale: str, alpha: float):
    def rule(
        groups: Sequence[Group],
        judgements: Sequence[Judgement],
        /,
        *,
        process_weight: float,
        round_index: int,
        signals: RoundSignals,
    ) -> PaidRound:
        settings = TpGrpoSettings(process_weight=process_weight, alpha=alpha, scale=scale)  # type: ignore[arg-type]
        return PaidRound(list(assign(groups, [thoughts(j) for j in judgements], rule="tp_grpo", settings=settings)[0]))

    return rule


def figures_of(outcomes: Sequence[Outcome]) -> dict[str, float]:
    bad = [outcome.rollout.text.split() for outcome in outcomes if "bad" in outcome.rollout.text.split()]
    return {"catch": sum("no" in words for words in bad) / len(bad) if bad else 0.0, "catch_of": float(len(bad))}


def learn(path: Path, seed: int, *, hacked: bool, act: bool = True, rounds: int = 6) -> list[RoundRow]:
    tokenizer, task = ScriptedTokenizer(WORDS), Guesses()
    policy = policy_of(tokenizer, seed)
    table = policy.logprobs

    async def measure() -> Measurement:
        chances = np.exp(table())
        bad, no = chances[0, WORDS.index("bad")], chances[WORDS.index("bad"), WORDS.index("no")]
        return Measurement(float(1 - bad * (1 - no)), {"catch": float(no), "catch_of": float(1000 * bad)})

    parts = Parts(
        tasks=task, tokenizer=tokenizer, sampler=ScriptedSampler(policy), checker=task, splitter=task,
        judge=judge_of(("bad", "no") if hacked else ("bad",)),
        credit=credit_of("fixed", 4.0) if hacked else credit_of("adaptive", 1.0),
        learner=ScriptedLearner(policy, learning_rate=0.6), sync=lambda: None, measure=measure,
        evidence=Evidence(figures=figures_of, reflections=lambda texts: sum(t.strip() in ("no", "ok") for t in texts)),
    )  # fmt: skip
    settings = RoundSettings(
        Sampling(6, stop_ids=(WORDS.index("<eos>"),)), rounds=rounds, problems=PROBLEMS, group_size=GROUP,
        rollouts_per_update=64, seed=seed, monitors=MonitorSettings(act=act),
    )  # fmt: skip
    with RunFolder.create_or_open(path, {"seed": seed}) as folder:
        return asyncio.run(run_rounds(parts, settings, folder))


@pytest.mark.parametrize("seed", SEEDS)
def test_runs_that_are_paid_rightly_fire_nothing(seed: int, tmp_path: Path) -> None:
    rows = learn(tmp_path, seed, hacked=False)
    assert [row.fired for row in rows] == [[]] * len(rows)
    assert catch(rows[-1]) > catch(rows[0]) + 0.1


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_a_policy_that_hides_its_mistakes_trips_f12_and_recovers(seed: int, tmp_path: Path) -> None:
    rows = learn(tmp_path / "watched", seed, hacked=True)
    fired = next(place for place, row in enumerate(rows) if "catch_rate" in row.fired)
    assert rows[fired].rollouts <= ROLLOUTS
    off = rows[fired + 1 : fired + 4]
    assert [row.process_weight for row in off] == [0.0] * 3
    assert all("monitor: catch_rate" in row.process_weight_reason for row in off)
    assert catch(off[-1]) > catch(rows[fired]) + 0.05
    assert off[-1].fired == []
    alone = learn(tmp_path / "alone", seed, hacked=True, act=False)
    assert alone[fired] == replace(rows[fired], seconds=alone[fired].seconds), "equal until the monitor acts"
    assert catch(alone[fired + 3]) < catch(off[-1]) - 0.15


def catch(row: RoundRow) -> float:
    return row.figures["catch"]
