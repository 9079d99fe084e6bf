"""A run whose every input is scripted by round: what each monitor's forcing and healthy runs are made of."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stepcredit.core.pack import Pack
from stepcredit.core.protocols import Completion, Sampling, Scale
from stepcredit.core.records import Credit, Group, Judgement, Outcome, Problem, Rollout, Steps, Update, Verdict
from stepcredit.store.run_folder import RunFolder
from stepcredit.testing import ScriptedJudge, ScriptedSplitter, ScriptedTokenizer
from stepcredit.training.history import RoundRow
from stepcredit.training.monitoring import MonitorSettings
from stepcredit.training.parts import Evidence, Measurement, PaidRound, Parts, Reference, RoundSettings, RoundSignals
from stepcredit.training.rounds import Watcher, run_rounds

WORDS = ("go", "work", ";", "wait", "right", "wrong", "<eos>")
RIGHT, LONG = "work work ; wait work ; right <eos>", " ".join(["work"] * 9)
PROBLEMS, GROUP = 32, 2
HEALTHY = Update(0, -0.1, 16, 200, 0.001, 0.002, 0.1, 0.99, 0.01, 0.01, 1.0, 0.5, 1e-3)

Text = Callable[[int, int], str]


@dataclass(frozen=True)
class Script:
    """What happens in each round; the defaults are a healthy run in which every monitor's inputs are there.

    Args:
        text: (round, place) -> completion; by default every group has one right and one wrong rollout.
        verdict: (round, rollout) -> verdict on each of its steps.
        second: (round, rollout) -> the same at the second reading.
        replies: replies of the judge that could not be read, after so many rounds.
        update: (round, update in the round) -> changed fields of the update record.
        logprob: (round, trainer) -> logprob of every token, by the trainer or by the sampler.
        reference: (round) -> the reference's logprob of every token, and its fingerprint.
        measured: (round, -1 first) -> held-out accuracy and figures.
        figures: (round) -> figures of the round's own rollouts.
        known: False leaves out everything that a run may come without.
    """

    text: Text = lambda _r, place: RIGHT if place % GROUP == 0 else RIGHT.replace("right", "wrong")
    verdict: Callable[[int, Rollout], Verdict] = lambda _r, rollout: Verdict(0.3 + 0.4 * (rollout.sample == 0))
    second: Callable[[int, Rollout], Verdict] = lambda _r, rollout: Verdict(0.3 + 0.4 * (rollout.sample == 0))
    replies: Callable[[int], list[str]] = lambda _r: []
    update: Callable[[int, int], dict[str, float | str]] = lambda _r, _k: {}
    logprob: Callable[[int, bool], float] = lambda _r, _trainer: -0.5
    reference: Callable[[int], tuple[float, str]] = lambda _r: (-0.6, "reference-1")
    measured: Callable[[int], tuple[float, dict[str, float]]] = lambda _r: (0.5, {"catch": 0.8, "catch_of": 500.0})
    figures: Callable[[int], dict[str, float]] = lambda _r: {"answer_consistency": 0.9}
    known: bool = True


@dataclass
class ScriptedRun:
    """Engines and parts that act out a script; the round is told by the rollouts and by the calls of `sync`."""

    script: Script
    round: int = -1
    written: int = 0
    updates: list[int] = field(default_factory=list[int])
    weights: list[float] = field(default_factory=list[float])
    done: int = 0
    fingerprint: str = "scripted"

    async def sample(self, prompt_ids: object, sampling: Sampling, *, seed: int) -> Completion:
        text = self.script.text(self.round, self.written)
        self.written += 1
        ids = ScriptedTokenizer(WORDS).encode(text)
        logprobs = np.full(len(ids), self.script.logprob(self.round, False), np.float32)
        return Completion(ids, logprobs, "stop" if text.endswith("<eos>") else "length", "scripted")

    async def check(self, rollout: Rollout) -> Outcome:
        return Outcome(rollout, "right" if "right" in rollout.text else "wrong", "scripted")

    def problems(self, count: int, *, seed: int) -> tuple[Problem, ...]:
        return tuple(Problem(f"{seed}/{i}", "go", "right", "scripted") for i in range(count))

    @property
    def name(self) -> str:
        return "scripted"

    def logprobs(self, pack: Pack) -> np.ndarray:
        value = self.script.logprob(self.round, True)
        return np.where(pack.trained, np.float32(value), np.float32(np.nan)).astype(np.float32)

    def update(self, pack: Pack) -> Update:
        changes = self.script.update(self.round, len(self.updates))
        self.updates.append(self.round)
        self.done += 1
        update = replace(HEALTHY, index=self.done - 1, rollouts=pack.sequences, tokens=pack.trained_tokens)
        return replace(update, **changes)

    def state(self) -> bytes:
        return json.dumps([self.done, self.round - 1]).encode()

    def load(self, state: bytes) -> None:
        self.done, self.round = json.loads(state)

    def sync(self) -> None:
        """Called when a round may begin: after loading, and after each round's training."""
        self.round += 1
        self.written, self.updates = 0, []

    async def measure(self) -> Measurement:
        return Measurement(*self.script.measured(self.round - 1))

    def credit(
        self,
        groups: Sequence[Group],
        judgements: Sequence[Judgement],
        /,
        *,
        process_weight: float,
        round_index: int,
        signals: RoundSignals,
    ) -> PaidRound:
        if len(groups) == PROBLEMS:
            self.weights.append(process_weight)
        digests = {group.id: group.digest for group in groups}
        return PaidRound([
            Credit(j.steps, j, np.full(len(j.steps.rollout.completion_ids), self._advantage(j, process_weight)),
                   "scripted", (), digests[j.steps.rollout.group])
            for j in judgements
        ])  # fmt: skip

    @staticmethod
    def _advantage(judgement: Judgement, weight: float) -> float:
        return (judgement.steps.outcome.reward or 0.0) + weight * sum(v.score or 0.0 for v in judgement.verdicts)

    def parts(self) -> Parts:
        script = self.script

        def judge(verdict: Callable[[int, Rollout], Verdict]) -> ScriptedJudge:
            def every(steps: Steps) -> list[Verdict]:
                return [verdict(round_of(steps.rollout), steps.rollout)] * len(steps)

            return ScriptedJudge(every, scale=Scale.PROBABILITY)

        def reflections(texts: Sequence[str]) -> int:
            return sum("wait" in text for text in texts)

        def reference(pack: Pack) -> np.ndarray:
            return np.where(pack.trained, script.reference(self.round)[0], np.nan).astype(np.float32)

        whole = Evidence(
            figures=lambda _outcomes: script.figures(self.round - 1),
            reflections=reflections,
            rejudge=lambda _index: judge(script.second),
            rejected=lambda: script.replies(self.round),
        )
        return Parts(
            tasks=self,
            tokenizer=ScriptedTokenizer(WORDS),
            sampler=self,
            checker=self,
            splitter=ScriptedSplitter([WORDS.index(";")]),
            judge=judge(script.verdict) if script.known else None,
            credit=self.credit,
            learner=self,
            sync=self.sync,
            measure=self.measure if script.known else None,
            reference=Reference(reference, lambda: script.reference(self.round - 1)[1], 0.1) if script.known else None,
            evidence=whole if script.known else Evidence(),
        )


def round_of(rollout: Rollout) -> int:
    return int(rollout.id[1 : rollout.id.index("-")])


def settings_of(monitors: MonitorSettings | None = None, *, rounds: int = 2) -> RoundSettings:
    return RoundSettings(
        Sampling(9), rounds=rounds, problems=PROBLEMS, group_size=GROUP, rollouts_per_update=16,
        monitors=monitors or MonitorSettings(rejudge_share=0.5),
    )  # fmt: skip


def walk(
    run: ScriptedRun, path: Path, settings: RoundSettings | None = None, *, watcher: Watcher | None = None
) -> list[RoundRow]:
    with RunFolder.create_or_open(path, {"test": "monitors"}) as folder:
        return asyncio.run(run_rounds(run.parts(), settings or settings_of(), folder, watcher=watcher))


def metrics(path: Path, kind: str) -> list[dict]:
    with RunFolder.create_or_open(path, {"test": "monitors"}) as folder:
        return [row for row in folder.metrics() if row["kind"] == kind]
