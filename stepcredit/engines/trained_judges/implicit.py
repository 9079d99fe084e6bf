"""The implicit process reward model of PRIME: an outcome model whose log-ratio to its reference pays every token."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Judgement, Steps, Verdict
from stepcredit.engines.learner.forward import PackedModel, module_of
from stepcredit.engines.trained_judges.fitting import Fitting, FittingSettings, read_column, scorable
from stepcredit.engines.trained_judges.reading import Reading, readings, token_rows
from stepcredit.losses.logprobs import token_logprobs
from stepcredit.losses.prm import outcome_cross_entropy


@final
class ImplicitPrm:
    """Rewards every token by log phi - log phi_ref, and learns phi from outcomes: a `TrainedJudge`.

    Read `token_scores` of a batch before `fit` on it, as the released code does: a model that has just seen the
    outcomes of these very rollouts repeats them. The released code updates on the rollouts of the groups that its
    accuracy filter keeps (`credit.prime.accuracy_within`); give `fit` those.

    Args:
        model: phi, trained in place; begin with a copy of the supervised policy.
        reference: phi_ref, frozen: another copy of the same weights. Never the same object.
        settings: how phi learns; the paper has rate 1e-6 and gradient norm 10.
        beta: weight of the log-ratio in the loss, and nowhere else; 0.05 in the paper.

    Raises:
        UsageError: if reference and model are one, or beta is not above 0.

    Source: Cui et al. 2025, arXiv:2502.01456 (PRIME); credit.md 2.3. Differs: the reference is always given; the form
    with the policy's old log-probs in its place is left out.
    """

    scale = Scale.LOG_RATIO

    def __init__(
        self, model: PackedModel, reference: PackedModel, settings: FittingSettings, *, beta: float = 0.05
    ) -> None:
        if module_of(model) is module_of(reference):
            raise UsageError("model and reference are the same object: give a copy (copy.deepcopy) as reference")
        if not beta > 0.0:
            raise UsageError(f"beta must be above 0, got {beta}")
        self.model, self.reference, self.beta = model, reference, beta
        self._fitting = Fitting(module_of(model), settings)
        module_of(reference).eval()

    @property
    def fingerprint(self) -> str:
        """Digest of the current weights."""
        return f"implicit-prm:{self._fitting.fingerprint}"

    def token_scores(self, cuts: Sequence[Steps]) -> Float32[np.ndarray, " T"]:
        """[T] q = log phi - log phi_ref of each completion token, in nats, rollout by rollout.

        Raises:
            EngineError: if a rollout has no prompt.
        """
        return read_column(self._fitting, cuts, token_rows, self._log_ratios)

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] sum of q over each step's tokens: log-ratios add up, whatever the cut."""
        if not len(steps):
            return ()
        sums = np.add.reduceat((await asyncio.to_thread(self.token_scores, [steps])).astype(np.float64), steps.starts)
        return tuple(Verdict(float(score)) for score in sums)

    def fit(self, judgements: Sequence[Judgement]) -> float:
        """One pass over the scorable rollouts, whatever their verdicts; returns the mean cross entropy before.

        Raises:
            JudgeError: if none is scorable.
            EngineError: if the loss is not finite.
        """
        return self._fitting.one_pass(scorable(judgements), self._losses)

    def state(self) -> bytes:
        """Weights, optimiser and counter; the reference is not in it."""
        return self._fitting.state()

    def load(self, state: bytes) -> None:
        """Go back to a state; raises EngineError if it is of another model."""
        self._fitting.load(state)

    def _losses(self, batch: Sequence[Steps]) -> Iterator[Tensor]:
        right = torch.tensor([float(steps.outcome.status == "right") for steps in batch], device=self._fitting.device)
        for reading in self._readings(batch):
            q = self._log_ratios(reading)
            sums = q.new_zeros(len(batch)).index_add(0, reading.owner, q)
            members = reading.owner.unique()
            cost = outcome_cross_entropy(sums[members], right[members], beta=self.beta)
            yield cost.sum() / len(batch)

    def _readings(self, cuts: Sequence[Steps]) -> list[Reading]:
        settings = self._fitting.settings
        return readings(cuts, token_rows, token_budget=settings.token_budget, device=self._fitting.device)

    def _log_ratios(self, reading: Reading) -> Float[Tensor, " y"]:
        with torch.no_grad():
            reference = _logprobs(self.reference, reading)
        return _logprobs(self.model, reading) - reference


def _logprobs(model: PackedModel, reading: Reading) -> Float[Tensor, " y"]:
    logits = model.head(model.hidden(reading.ids, reading.positions, reading.starts, reading.rows))
    return token_logprobs(logits, reading.following)[0]
