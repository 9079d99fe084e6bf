"""The token reward model of Q-RM: raw logits of the tokens that were written, taught by pairs of answers."""

import asyncio
from collections.abc import Iterator, Sequence
from random import Random
from typing import Literal, final

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from stepcredit.core.errors import JudgeError, UsageError
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Judgement, Steps, Verdict
from stepcredit.core.seeds import derive
from stepcredit.engines.learner.forward import PackedModel, module_of
from stepcredit.engines.trained_judges.fitting import Fitting, FittingSettings, read_column, scorable
from stepcredit.engines.trained_judges.reading import Reading, readings, token_rows
from stepcredit.losses.preference import mean_by_owner, q_rm_cost

EndLogit = Literal["mean", "own"]
"""Logit of a token that ends a solution: the mean of the solution's other tokens, or its own."""

Pair = tuple[Steps, Steps]
"""The better and the worse of two answers to one problem."""


@final
class TokenRewardModel:
    """Scores every token by the logit that the model gives it, and learns from pairs: a `TrainedJudge`.

    Args:
        model: the language model, trained in place.
        settings: how it learns; `batch` counts pairs.
        beta: weight of the difference of means, 0.2 in the paper.
        margin: the paper's gamma, 2.
        end: what the last token of a solution that stopped by itself gets; `mean` is the released code's way.

    Raises:
        UsageError: unless beta is above 0.

    Source: arXiv:2505.23363 (Q-RM); credit.md 2.5. Differs: `fit` makes its pairs from right and wrong rollouts of one
    group, each rollout in at most one; over what the mean of `end` runs is not known: here the other tokens of the
    solution.
    """

    scale = Scale.SIGNED

    def __init__(
        self,
        model: PackedModel,
        settings: FittingSettings,
        *,
        beta: float = 0.2,
        margin: float = 2.0,
        end: EndLogit = "mean",
    ) -> None:
        if not beta > 0.0:
            raise UsageError(f"beta must be above 0, got {beta}")
        if end not in ("mean", "own"):
            raise UsageError(f"end must be 'mean' or 'own', got {end!r}")
        self.model, self.beta, self.margin, self.end = model, beta, margin, end
        self._fitting = Fitting(module_of(model), settings)

    @property
    def fingerprint(self) -> str:
        """Digest of the current weights."""
        return f"q-rm:{self._fitting.fingerprint}"

    def token_scores(self, cuts: Sequence[Steps]) -> Float32[np.ndarray, " T"]:
        """[T] logit of each completion token, rollout by rollout.

        Raises:
            EngineError: if a rollout has no prompt.
        """
        sizes = [len(steps.rollout.completion_ids) for steps in cuts]
        found = read_column(self._fitting, cuts, token_rows, self._logits)
        if self.end == "mean":
            for steps, last in zip(cuts, np.cumsum(sizes).tolist(), strict=True):
                size = len(steps.rollout.completion_ids)
                if size > 1 and steps.rollout.finish == "stop":
                    found[last - 1] = found[last - size : last - 1].mean()
        return found

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] mean logit of each step's tokens."""
        if not len(steps):
            return ()
        sums = np.add.reduceat((await asyncio.to_thread(self.token_scores, [steps])).astype(np.float64), steps.starts)
        sizes = np.array([last - first for first, last in steps.spans])
        return tuple(Verdict(float(score)) for score in sums / sizes)

    def fit(self, judgements: Sequence[Judgement]) -> float:
        """One pass over pairs of a right and a wrong rollout of the same group; returns the mean cost before.

        Raises:
            JudgeError: if no group has both.
            EngineError: if the loss is not finite.
        """
        return self.fit_pairs(pairs_of(scorable(judgements), seed=self._fitting.settings.seed))

    def fit_pairs(self, pairs: Sequence[Pair]) -> float:
        """One pass over pairs from anywhere: the better answer first; raises as `fit`."""
        if not pairs:
            raise JudgeError("no group has a right and a wrong rollout: there is no pair to learn from")
        return self._fitting.one_pass(pairs, self._losses)

    def state(self) -> bytes:
        """Weights, optimiser and counter."""
        return self._fitting.state()

    def load(self, state: bytes) -> None:
        """Go back to a state; raises EngineError if it is of another model."""
        self._fitting.load(state)

    def _losses(self, batch: Sequence[Pair]) -> Iterator[Tensor]:
        """A forward pass holds whole pairs, as many as the token budget takes."""
        for part in _within_budget(batch, self._fitting.settings.token_budget):
            cuts = [steps for pair in part for steps in pair]
            [reading] = self._readings(cuts, together=True)
            means = mean_by_owner(self._logits(reading), reading.owner, count=len(cuts))
            yield q_rm_cost(means[0::2], means[1::2], beta=self.beta, margin=self.margin).sum() / len(batch)

    def _readings(self, cuts: Sequence[Steps], *, together: bool = False) -> list[Reading]:
        budget = sum(_size(steps) for steps in cuts) if together else self._fitting.settings.token_budget
        return readings(cuts, token_rows, token_budget=budget, device=self._fitting.device)

    def _logits(self, reading: Reading) -> Float[Tensor, " y"]:
        logits = self.model.head(self.model.hidden(reading.ids, reading.positions, reading.starts, reading.rows))
        return logits.gather(1, reading.following[:, None]).squeeze(1)


def pairs_of(cuts: Sequence[Steps], *, seed: int) -> list[Pair]:
    """Pairs of a right and a wrong rollout of one group, each rollout in at most one pair.

    Args:
        cuts: rollouts with outcomes.
        seed: of who is paired with whom.
    """
    groups: dict[str, tuple[list[Steps], list[Steps]]] = {}
    for steps in cuts:
        if steps.outcome.status != "unscorable" and len(steps):
            sides = groups.setdefault(steps.rollout.group, ([], []))
            sides[steps.outcome.status == "wrong"].append(steps)
    found: list[Pair] = []
    for name, (right, wrong) in groups.items():
        Random(derive(seed, "pairs", name)).shuffle(wrong)
        found += zip(right, wrong, strict=False)
    return found


def _size(steps: Steps) -> int:
    return len(steps.rollout.prompt_ids) + len(steps.rollout.completion_ids)


def _within_budget(pairs: Sequence[Pair], token_budget: int) -> Iterator[list[Pair]]:
    part: list[Pair] = []
    size = 0
    for pair in pairs:
        tokens = sum(map(_size, pair))
        if part and size + tokens > token_budget:
            yield part
            part, size = [], 0
        part.append(pair)
        size += tokens
    if part:
        yield part
