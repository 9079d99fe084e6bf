"""Programs that are killed: a walk of recorded solutions by the command line, and rounds of sample, evaluate, train."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from killing import Killed, Say, Session, answer, kill_again

from stepcredit import cli
from stepcredit.core.protocols import Completion, Learner, Sampler, Sampling
from stepcredit.core.records import Group, Judgement, Label, Outcome, Rollout, Steps, Verdict
from stepcredit.core.seeds import derive
from stepcredit.credit.batch import assign
from stepcredit.credit.tp_grpo import TpGrpoSettings
from stepcredit.steps import thoughts
from stepcredit.store.codec import decode
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
from stepcredit.training.parts import Measurement, PaidRound, Parts, RoundSettings, RoundSignals
from stepcredit.training.rounds import run_rounds

WORDS = ("copy", "a", "b", "x", "y", "<eos>")
TOKENS = 6
SETTINGS = RoundSettings(
    Sampling(TOKENS, stop_ids=(5,)), rounds=3, problems=8, group_size=6, rollouts_per_update=8, passes=2, seed=3
)
MANIFEST = {"test": "kills"}


def walk(words: Sequence[str]) -> Session:
    """The command line with `--out FOLDER`, all output thrown away; says when the first solution is walked."""
    import stepcredit.cli.screen
    import stepcredit.engines.server.client  # noqa: F401 -- imported once, for all sessions
    from stepcredit.recipes.recorded import run

    inner = run.walk_each

    def session(folder: Path, say: Say) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)

        async def walk_each(*args: Any, **more: Any) -> None:
            say("at walk")
            await inner(*args, **more)

        run.walk_each = walk_each
        try:
            cli.main([*words, "--out", str(folder)])
        except SystemExit as end:
            if end.code:
                raise

    return session


def rounds(engine: str, pause_s: float) -> Session:
    """Rounds over a policy that learns; says when a stage begins, which rollouts it samples and which it judges."""

    def session(folder: Path, say: Say) -> None:
        policy = ENGINES[engine]()
        asyncio.run(_walk_rounds(policy, folder, say, pause_s=pause_s))
        policy.close()

    return session


@dataclass
class Policy:
    """A policy with its sampler and learner."""

    sampler: Sampler
    learner: Learner
    sync: Callable[[], object]
    close: Callable[[], object] = lambda: None


def tabular() -> Policy:
    """A table that learns, in numpy."""
    table = TabularPolicy(len(WORDS), seed=1)
    return Policy(ScriptedSampler(table), ScriptedLearner(table, learning_rate=2.0), lambda: None)


def embedded() -> Policy:
    """A small transformer with dropout-free sampling in the deterministic mode, and the real learner."""
    import torch

    from stepcredit.engines.embedded.engine import EmbeddedSampler
    from stepcredit.engines.embedded.model import CausalLM, ModelConfig
    from stepcredit.engines.learner import LearnerSettings, TorchLearner

    torch.set_num_threads(1)
    torch.manual_seed(0)  # the state of torch's own draws is part of a checkpoint
    model = CausalLM(ModelConfig(len(WORDS), dim=16, heads=4, hidden=24, max_positions=16), seed=3)
    sampler = EmbeddedSampler(model, slots=16, deterministic=True)
    learner = TorchLearner(model, LearnerSettings(learning_rate=1e-2))
    return Policy(sampler, learner, lambda: sampler.load_weights(model.state_dict()), sampler.close)


ENGINES: dict[str, Callable[[], Policy]] = {"tabular": tabular, "embedded": embedded}


class SlowSampler:
    """Says which request it serves; a little pause lets kills fall between two."""

    def __init__(self, inner: Sampler, say: Say, *, pause_s: float, recorded: frozenset[int]) -> None:
        self._inner, self._say, self._pause_s, self._recorded = inner, say, pause_s, recorded
        self._lock = asyncio.Lock()

    @property
    def fingerprint(self) -> str:
        return self._inner.fingerprint

    async def sample(self, prompt_ids: np.ndarray, sampling: Sampling, *, seed: int) -> Completion:
        assert seed not in self._recorded, "a recorded rollout was sampled again"
        async with self._lock:
            self._say(f"sampled {seed}")
            await asyncio.sleep(self._pause_s)
        return await self._inner.sample(prompt_ids, sampling, seed=seed)


class SlowLearner:
    """Pauses before each update."""

    def __init__(self, inner: Learner, say: Say, pause_s: float) -> None:
        self._inner, self._say, self._pause_s = inner, say, pause_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def logprobs(self, pack: Any) -> Any:
        self._say("at train")
        return self._inner.logprobs(pack)

    def update(self, pack: Any) -> Any:
        import time

        time.sleep(self._pause_s)
        return self._inner.update(pack)


class SlowChecker:
    """Says when checking begins, which opens the second stage."""

    def __init__(self, say: Say) -> None:
        self._inner, self._say, self.first = ScriptedChecker(), say, True
        self.fingerprint = self._inner.fingerprint

    async def check(self, rollout: Rollout) -> Outcome:
        if self.first:
            self._say("at evaluate")
        self.first = False
        return await self._inner.check(rollout)


class SlowJudge:
    """Labels by the tokens themselves; says whom it judges."""

    def __init__(self, say: Say, *, pause_s: float, recorded: frozenset[str]) -> None:
        self._say, self._pause_s, self._recorded = say, pause_s, recorded
        self._inner = ScriptedJudge(_labels)
        self._lock = asyncio.Lock()
        self.fingerprint, self.scale = self._inner.fingerprint, self._inner.scale

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        assert steps.rollout.id not in self._recorded, "a recorded rollout was judged again"
        async with self._lock:
            self._say(f"judged {steps.rollout.id}")
            await asyncio.sleep(self._pause_s)
        return await self._inner.judge(steps)


def _labels(steps: Steps) -> list[Verdict]:
    good, bad = (
        (Label.CORRECT, Label.INCORRECT) if steps.outcome.status == "right" else (Label.MATCHED, Label.MISMATCHED)
    )
    ids = steps.rollout.completion_ids
    return [Verdict(label=good if ids[start] % 2 else bad, reason=f"token {ids[start]}") for start, _ in steps.spans]


def _credit(
    groups: Sequence[Group],
    judgements: Sequence[Judgement],
    /,
    *,
    process_weight: float,
    round_index: int,
    signals: RoundSignals,
) -> PaidRound:
    cuts = [thoughts(judgement) for judgement in judgements]
    return PaidRound(list(assign(groups, cuts, rule="tp_grpo", settings=TpGrpoSettings(unit="thought"))[0]))


def _recorded(folder: RunFolder) -> tuple[frozenset[int], frozenset[str]]:
    """Seeds of the rollouts, and ids of the judged ones, that earlier sessions recorded."""
    rollouts = [decode(payload) for _, payload in folder.ledger.items("rollout")]
    seeds = {derive(SETTINGS.seed, "sample", one.group, one.sample, one.problem.id) for one in rollouts}
    return frozenset(seeds), frozenset(key.partition("/")[0] for key, _ in folder.ledger.items("judgement"))


async def _walk_rounds(policy: Policy, path: Path, say: Say, *, pause_s: float) -> None:
    checker = SlowChecker(say)

    async def measure() -> Measurement:
        checker.first = True  # a round is over
        say("at sample")
        return Measurement(0.5)

    say("at sample")
    with RunFolder.create_or_open(path, MANIFEST) as folder:
        seeds, judged = _recorded(folder)
        parts = Parts(
            tasks=ScriptedTasks({"a": "x", "b": "y"}),
            tokenizer=ScriptedTokenizer(WORDS),
            sampler=SlowSampler(policy.sampler, say, pause_s=pause_s, recorded=seeds),
            checker=checker,
            splitter=ScriptedSplitter(every=1),
            judge=SlowJudge(say, pause_s=pause_s, recorded=judged),
            credit=_credit,
            learner=SlowLearner(policy.learner, say, 4 * pause_s),
            sync=policy.sync,
            measure=measure,
        )
        await run_rounds(parts, SETTINGS, folder)


def main(case: str, root: Path, settings: dict[str, Any]) -> dict[str, Killed]:
    """The zygote."""
    if case == "embedded":
        import torch

        import stepcredit.engines.embedded.engine
        import stepcredit.engines.learner  # noqa: F401 -- imported once, for all sessions

        torch.set_num_threads(1)
        embedded().close()  # what torch loads at first use is loaded here
    session = walk(settings["words"]) if case == "walk" else rounds(case, settings["pause_s"])
    kills = settings["kills"]
    return {
        stage: kill_again(session, root / stage, stage=stage, kills=kills, seed=kills, spread_s=tuple(spread_s))
        for stage, spread_s in settings["stages"].items()
    }


if __name__ == "__main__":
    answer(main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])))
