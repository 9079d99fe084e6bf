"""Scripted parts: splitter, checker, judges and tasks, each a plain function behind its protocol."""

from collections.abc import Callable, Mapping, Sequence
from typing import final

import numpy as np
from jaxtyping import Float32

from stepcredit.core.digests import digest
from stepcredit.core.errors import JudgeError
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Group, Judgement, Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.core.seeds import derive


@final
class ScriptedSplitter:
    """Implements `core.protocols.Splitter`: a new step after every token of `delimiters`, or every `every` tokens.

    Args:
        delimiters: ids that end a step.
        every: tokens of a step, 0 for no bound.
        unit: name of the unit.
    """

    def __init__(self, delimiters: Sequence[int] = (), *, every: int = 0, unit: str = "step") -> None:
        self._delimiters, self._every, self._unit = frozenset(delimiters), every, unit

    @property
    def unit(self) -> str:
        """Name of the unit it cuts into."""
        return self._unit

    def split(self, outcome: Outcome) -> Steps:
        """Partition the completion; the last step is the answer block."""
        ids = outcome.rollout.completion_ids.tolist()
        starts: list[int] = []
        for place in range(len(ids)):
            full = bool(starts) and self._every > 0 and place - starts[-1] >= self._every
            if not starts or full or ids[place - 1] in self._delimiters:
                starts.append(place)
        in_answer = [k == len(starts) - 1 for k in range(len(starts))]
        return Steps(outcome, np.array(starts, np.int32), self._unit, np.array(in_answer, np.bool_), closed=True)


@final
class ScriptedChecker:
    """Implements `core.protocols.Checker`: right if the completion's last word before `<...>` words is the answer.

    Args:
        outcomes: rollout id -> outcome status to give instead, for scripted cases.
    """

    def __init__(self, outcomes: Mapping[str, Outcome] | None = None) -> None:
        self._outcomes = dict(outcomes or {})

    @property
    def fingerprint(self) -> str:
        """Digest of the scripted cases."""
        return digest("ScriptedChecker", {name: outcome.status for name, outcome in self._outcomes.items()})

    async def check(self, rollout: Rollout) -> Outcome:
        """Right, wrong, or unscorable when there is no reference or no word."""
        if rollout.id in self._outcomes:
            return self._outcomes[rollout.id]
        words = [word for word in rollout.text.split() if not word.startswith("<")]
        if rollout.problem.answer is None:
            return Outcome(rollout, "unscorable", words[-1] if words else None, "no reference")
        if not words:
            return Outcome(rollout, "unscorable", None, "no answer")
        return Outcome(rollout, "right" if words[-1] == rollout.problem.answer else "wrong", words[-1])


@final
class ScriptedJudge:
    """Implements `core.protocols.Judge` from a function, and counts its calls by rollout id in `calls`.

    Args:
        script: gives the verdicts of one rollout's steps; may raise JudgeError.
        scale: what its scores mean.
        name: part of the fingerprint.
    """

    def __init__(
        self, script: Callable[[Steps], Sequence[Verdict]], *, scale: Scale = Scale.BINARY, name: str = "scripted"
    ) -> None:
        self._script, self._scale, self._name = script, scale, name
        self.calls: dict[str, int] = {}

    @property
    def fingerprint(self) -> str:
        """Digest of name and scale."""
        return digest("ScriptedJudge", self._name, str(self._scale))

    @property
    def scale(self) -> Scale:
        """What the scores mean."""
        return self._scale

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts.

        Raises:
            JudgeError: if the script gives another number of verdicts than there are steps, or raises it.
        """
        name = steps.rollout.id
        self.calls[name] = self.calls.get(name, 0) + 1
        verdicts = tuple(self._script(steps))
        if len(verdicts) != len(steps):
            raise JudgeError(f"the script gave {len(verdicts)} verdicts for {len(steps)} steps", item=name)
        return verdicts


@final
class ScriptedGroupJudge:
    """Implements `core.protocols.GroupJudge`: prefers right over wrong, undecided where an outcome is unscorable."""

    @property
    def fingerprint(self) -> str:
        """A constant."""
        return digest("ScriptedGroupJudge")

    async def compare(self, group: Group) -> Float32[np.ndarray, "N N"]:
        """[N, N] differences of outcome rewards, halved; NaN where undecided."""
        rewards = np.array([np.nan if o.reward is None else o.reward for o in group.outcomes], np.float32)
        return (rewards[:, None] - rewards[None, :]) / 2


@final
class ScriptedTrainedJudge:
    """Implements `core.protocols.TrainedJudge`: scores each step with the mean outcome reward it was fitted on.

    Args:
        rate: share of the way from the old mean to the new one at each fit.
    """

    def __init__(self, *, rate: float = 0.5) -> None:
        self._rate, self._mean = rate, 0.0

    @property
    def fingerprint(self) -> str:
        """Digest of what it learnt."""
        return digest("ScriptedTrainedJudge", self._rate, self._mean)

    @property
    def scale(self) -> Scale:
        """Signed: outcome rewards are -1 and +1."""
        return Scale.SIGNED

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts, all with the mean."""
        return tuple(Verdict(score=self._mean) for _ in range(len(steps)))

    def fit(self, judgements: Sequence[Judgement]) -> float:
        """Move towards the mean outcome reward; returns the squared error before."""
        known = [j.steps.outcome.reward for j in judgements]
        rewards = [reward for reward in known if reward is not None]
        if not rewards:
            raise JudgeError("no judgement has a scorable outcome to fit on")
        target = sum(rewards) / len(rewards)
        loss = sum((reward - self._mean) ** 2 for reward in rewards) / len(rewards)
        self._mean += self._rate * (target - self._mean)
        return loss


@final
class ScriptedTasks:
    """Implements `core.protocols.TaskSet`: `copy WORD` is answered by the word's partner.

    A bigram policy can learn it if no answer is asked for: the answer depends on the prompt's last word alone.

    Args:
        answers: word asked for -> its answer.
        name: name of the set.

    >>> ScriptedTasks({"a": "x"}).problems(1, seed=0)[0]
    Problem(id='scripted/0/0', text='copy a', answer='x', source='scripted')
    """

    def __init__(self, answers: Mapping[str, str], *, name: str = "scripted") -> None:
        self._answers, self._name = dict(answers), name

    @property
    def name(self) -> str:
        """Name of the set."""
        return self._name

    def problems(self, count: int, *, seed: int) -> tuple[Problem, ...]:
        """`count` problems; equal seeds give equal problems."""
        words = list(self._answers)
        asked = [words[derive(seed, self._name, index) % len(words)] for index in range(count)]
        return tuple(
            Problem(f"{self._name}/{seed}/{index}", f"copy {word}", self._answers[word], self._name)
            for index, word in enumerate(asked)
        )
