"""The rounds driver on a tabular policy that truly learns: resuming, recording, schedules, what is refused."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepcredit.core.errors import EngineError, UsageError
from stepcredit.core.pack import Pack
from stepcredit.core.protocols import Completion, Sampling
from stepcredit.core.records import Credit, Group, Judgement, Steps, Verdict
from stepcredit.credit.batch import assign
from stepcredit.credit.grpo import GrpoSettings
from stepcredit.judges.verdicts import UNMATCHABLE
from stepcredit.store.run_folder import RunFolder
from stepcredit.testing import (
    ScriptedChecker,
    ScriptedJudge,
    ScriptedLearner,
    ScriptedSampler,
    ScriptedSplitter,
    ScriptedTasks,
    ScriptedTokenizer,
    TabularPolicy,
)
from stepcredit.training.parts import Learning, Measurement, PaidRound, Parts, RoundSettings, RoundSignals
from stepcredit.training.rounds import RoundRow, Watcher, run_rounds
from stepcredit.training.schedule import ProcessWeight
from stepcredit.training.train import join

WORDS = ("copy", "a", "b", "x", "y", "<eos>")
SETTINGS = RoundSettings(Sampling(3, stop_ids=(5,)), rounds=3, problems=8, group_size=8, rollouts_per_update=16, seed=3)


@dataclass
class World:
    """Parts over one tabular policy, and what they were asked."""

    parts: Parts
    policy: TabularPolicy
    weights: list[float]


def grpo(weights: list[float]):
    def rule(
        groups: Sequence[Group],
        judgements: Sequence[Judgement],
        /,
        *,
        process_weight: float,
        round_index: int,
        signals: RoundSignals,
    ) -> PaidRound:
        weights.append(process_weight)
        return PaidRound(list(assign(groups, [j.steps for j in judgements], rule="grpo", settings=GrpoSettings())[0]))

    return rule


def make_world(judge: ScriptedJudge | None = None) -> World:
    tokenizer = ScriptedTokenizer(WORDS)
    policy = TabularPolicy(tokenizer.size, seed=1)
    weights: list[float] = []

    async def measure() -> Measurement:
        return Measurement(0.5, {"tokens": 3.0})

    parts = Parts(
        tasks=ScriptedTasks({"a": "x", "b": "y"}),
        tokenizer=tokenizer,
        sampler=ScriptedSampler(policy),
        checker=ScriptedChecker(),
        splitter=ScriptedSplitter(every=1),
        judge=judge,
        credit=grpo(weights),
        learner=ScriptedLearner(policy, learning_rate=2.0),
        sync=lambda: None,
        measure=measure,
    )
    return World(parts, policy, weights)


def walk(
    world: World, path: Path, settings: RoundSettings = SETTINGS, watcher: Watcher | None = None
) -> list[RoundRow]:
    with RunFolder.create_or_open(path, {"test": "rounds"}) as folder:
        return asyncio.run(run_rounds(world.parts, settings, folder, watcher=watcher))


def test_the_policy_learns_and_every_rollout_is_accounted_for(tmp_path: Path) -> None:
    rows = walk(make_world(), tmp_path, replace(SETTINGS, rounds=12))
    assert [row.index for row in rows] == list(range(-1, 12))
    assert rows[0].accuracy == 0.5
    assert rows[-1].rollouts == 12 * 64
    rights = [row.right for row in rows[1:] if row.right is not None]
    assert sum(rights[-3:]) / 3 > sum(rights[:3]) / 3 + 0.15
    assert rows[1].sampler_gap == pytest.approx(0.0, abs=1e-6)


@dataclass
class CountingLearner:
    """The scripted learner, and how many sequences it was asked the logprobs of; those may be off by a constant."""

    inner: ScriptedLearner
    off: float = 0.0
    asked: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def logprobs(self, pack: Pack) -> np.ndarray:
        self.asked += len(pack.starts) - 1
        return self.inner.logprobs(pack) + np.float32(self.off)


def counting(*, off: float = 0.0) -> tuple[World, CountingLearner]:
    world = make_world()
    learner = CountingLearner(ScriptedLearner(world.policy, learning_rate=2.0), off)
    world.parts = replace(world.parts, learner=learner)
    return world, learner


def test_the_samplers_logprobs_serve_as_old_ones_where_that_is_asked_for(tmp_path: Path) -> None:
    own, sampled = counting(), counting()
    rows = walk(own[0], tmp_path / "own")
    same = walk(sampled[0], tmp_path / "sampled", replace(SETTINGS, old_logprobs="sampler"))
    assert [row.accuracy for row in same] == [row.accuracy for row in rows]
    assert [row.kl for row in same[1:]] == pytest.approx([row.kl for row in rows[1:]], abs=1e-6)
    assert sampled[1].asked == 3 * SETTINGS.rollouts_per_update < own[1].asked


def test_the_gap_to_the_sampler_is_seen_though_its_logprobs_are_taken(tmp_path: Path) -> None:
    world, _ = counting(off=-0.25)
    rows = walk(world, tmp_path, replace(SETTINGS, old_logprobs="sampler"))
    assert rows[1].sampler_gap == pytest.approx(0.25, abs=1e-6)


def test_a_sampler_without_logprobs_is_refused_where_they_are_to_be_taken(tmp_path: Path) -> None:
    world = make_world()
    inner = world.parts.sampler

    class Silent:
        fingerprint = inner.fingerprint

        async def sample(self, prompt_ids, sampling, *, seed) -> Completion:
            return replace(await inner.sample(prompt_ids, sampling, seed=seed), logprobs=None)

    world.parts = replace(world.parts, sampler=Silent())
    with pytest.raises(UsageError, match='set "learner"'):
        walk(world, tmp_path, replace(SETTINGS, old_logprobs="sampler"))


def test_a_run_cut_anywhere_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = make_world()
    walk(whole, tmp_path / "whole")

    class Cut(Exception):  # noqa: N818 -- stands for a kill
        pass

    for cut_at in (1, 3, 5):
        world, seen = make_world(), [0]

        def stop(_update: object, seen: list[int] = seen, cut_at: int = cut_at) -> None:
            seen[0] += 1
            if seen[0] == cut_at:
                raise Cut

        with pytest.raises(Cut):
            walk(world, tmp_path / f"cut{cut_at}", watcher=Watcher(on_update=stop))
        again = make_world()
        rows = walk(again, tmp_path / f"cut{cut_at}")
        assert again.policy.fingerprint == whole.policy.fingerprint
        assert [row.index for row in rows] == [-1, 0, 1, 2]
        with RunFolder.create_or_open(tmp_path / f"cut{cut_at}", {"test": "rounds"}) as folder:
            updates = [row["index"] for row in folder.metrics() if row["kind"] == "update"]
            assert updates == sorted(set(updates))


def test_recorded_rollouts_and_verdicts_are_reused(tmp_path: Path) -> None:
    def right(steps: Steps) -> list[Verdict]:
        return [Verdict(1.0)] * len(steps)

    judge = ScriptedJudge(right)
    world = make_world(judge)
    asked, inner = 0, world.parts.sampler

    class Counting:
        fingerprint = inner.fingerprint

        async def sample(self, prompt_ids, sampling, *, seed) -> Completion:
            nonlocal asked
            asked += 1
            if asked > 100:
                raise EngineError("server gone")
            return await inner.sample(prompt_ids, sampling, seed=seed)

    world.parts = replace(world.parts, sampler=Counting())
    with pytest.raises(EngineError, match="server gone"):
        walk(world, tmp_path)
    recorded = asked
    asked = -1000
    walk(world, tmp_path)
    assert recorded + (asked + 1000) - 1 <= 3 * 64 + 64
    assert max(judge.calls.values()) == 1


def test_process_weight_reaches_the_rule(tmp_path: Path) -> None:
    world = make_world()
    walk(world, tmp_path, replace(SETTINGS, process_weight=ProcessWeight("alternate")))
    assert world.weights == [1.0, 0.0, 1.0]


def test_a_judge_that_cannot_decide_is_counted_by_reason(tmp_path: Path) -> None:
    def silent(steps: Steps) -> list[Verdict]:
        return [Verdict(reason="too long")] * len(steps)

    rows = walk(make_world(ScriptedJudge(silent)), tmp_path)
    assert rows[1].parse_rate == 0.0
    assert rows[1].unknown_reasons == {"too long": 64 - rows[1].unscorable}


def test_join_is_the_opposite_of_slice(tmp_path: Path) -> None:
    kept: list[Credit] = []
    watcher = Watcher(on_credit=lambda _index, credited: kept.extend(c for c in credited if c.kept))
    walk(make_world(), tmp_path, replace(SETTINGS, rounds=1), watcher)
    from stepcredit.core.pack import pack_of

    pack = pack_of(kept)
    again = join([pack.slice(i, i + 1) for i in range(pack.sequences)])
    assert (again.ids == pack.ids).all()
    assert (again.starts == pack.starts).all()
    assert (again.advantages == pack.advantages).all()


def test_where_no_judge_is_asked_the_row_holds_no_rate_and_no_weight(tmp_path: Path) -> None:
    rows = walk(make_world(), tmp_path)
    assert {(row.parse_rate, row.process_weight, row.process_weight_reason) for row in rows[1:]} == {(None, None, "")}


def test_solutions_that_the_judge_cannot_be_asked_about_do_not_count_as_unread(tmp_path: Path) -> None:
    """Wrong and without an answer block, as truncated ones are: the adaptive schedule stays on."""

    def match(steps: Steps) -> list[Verdict]:
        cut = steps.outcome.status == "wrong"
        return [Verdict(reason=f"think block never closed: {UNMATCHABLE}") if cut else Verdict(1.0)] * len(steps)

    world = make_world(ScriptedJudge(match))
    rows = walk(world, tmp_path, replace(SETTINGS, process_weight=ProcessWeight("adaptive", max_kl=1000.0)))
    assert [row.parse_rate for row in rows[1:]] == [1.0] * 3
    assert world.weights == [1.0] * 3
    assert sum(rows[1].unknown_reasons.values()) > 0


def test_a_round_in_which_the_judge_could_be_asked_about_nothing_has_an_unknown_rate(tmp_path: Path) -> None:
    def cut(steps: Steps) -> list[Verdict]:
        return [Verdict(reason=UNMATCHABLE)] * len(steps)

    world = make_world(ScriptedJudge(cut))
    rows = walk(world, tmp_path, replace(SETTINGS, process_weight=ProcessWeight("adaptive", max_kl=1000.0)))
    assert [row.parse_rate for row in rows[1:]] == [None] * 3
    assert world.weights == [1.0, 0.0, 0.0]
    assert "parse rate unknown" in rows[2].process_weight_reason


@dataclass
class Tally:
    """A judge that learns: it counts the right outcomes that it was taught, and how often it was."""

    right: int = 0
    lessons: int = 0

    def learn(self, judgements: Sequence[Judgement], weight: float) -> dict[str, float]:
        assert weight == 1.0
        self.right += sum(judgement.steps.outcome.status == "right" for judgement in judgements)
        self.lessons += 1
        return {"tally": float(self.right)}

    def learning(self) -> Learning:
        def load(states: Mapping[str, bytes]) -> None:
            self.right = int(states["tally"])

        return Learning(("tally",), self.learn, lambda: {"tally": str(self.right).encode()}, load)


def learning_world() -> tuple[World, Tally]:
    world, tally = make_world(), Tally()
    world.parts = replace(world.parts, learning=tally.learning())
    return world, tally


def test_a_judge_that_learns_is_kept_with_each_round_and_taken_up_as_it_was(tmp_path: Path) -> None:
    whole, tally = learning_world()
    fine = replace(SETTINGS, rollouts_per_update=8)
    walk(whole, tmp_path / "whole", fine)
    (cut, first), (again, second), seen = learning_world(), learning_world(), list[str]()

    def stop() -> bool:
        """After the second round's first update: that round is undone, and was not learnt from."""
        return seen.count("row") == 2 and seen[-1] == "update"

    watcher = Watcher(on_row=lambda _: seen.append("row"), on_update=lambda _: seen.append("update"), stop=stop)
    rows = walk(cut, tmp_path / "cut", fine, watcher=watcher)
    assert [row.index for row in rows] == [-1, 0]
    walk(again, tmp_path / "cut", fine)
    assert (tally.lessons, first.lessons, second.lessons) == (3, 1, 2)
    assert first.right < tally.right == second.right
    for name in ("tally-0002.bin", "tally-0003.bin", "learner-0003.bin"):
        found = [(tmp_path / side / "checkpoints" / name).read_bytes() for side in ("whole", "cut")]
        assert found[0] == found[1]
    assert not (tmp_path / "cut" / "checkpoints" / "tally-0001.bin").exists()
    with RunFolder.create_or_open(tmp_path / "cut", {"test": "rounds"}) as folder:
        told = [row for row in folder.metrics() if row["kind"] == "learning"]
    assert [(row["round"], row["tally"]) for row in told][-1] == (2, float(tally.right))
