"""A critic: a value head on a language model, regressed on outcomes inside the loop."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from stepcredit.core.errors import JudgeError
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Judgement, Steps, Verdict
from stepcredit.engines.learner.forward import PackedModel, module_of
from stepcredit.engines.trained_judges.fitting import Fitting, FittingSettings, read_column, scorable
from stepcredit.engines.trained_judges.reading import Reading, node_rows, readings
from stepcredit.losses.prm import value_error

Returns = Float[np.ndarray, " nodes"]
"""[K + 1] what is to come after each node of a rollout."""

Lesson = tuple[Steps, Returns]
"""A rollout and the returns of its nodes."""


@final
class ValueModel(nn.Module):
    """A language model whose last hidden states go through one linear map to a value; its own head is not used.

    Args:
        base: the language model, trained in place; begin with a copy of the policy, or of a reward model.
        dim: width of its hidden states. The head begins at 0: every value is 0.
    """

    def __init__(self, base: PackedModel, *, dim: int) -> None:
        super().__init__()
        self._base = [base]  # in a list, so that a model that is a module is registered once, under `trunk`
        self.trunk = module_of(base)
        self.value_head = nn.Linear(dim, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, reading: Reading) -> Float[Tensor, " y"]:
        """[y] value after each row that is read."""
        states = self._base[0].hidden(reading.ids, reading.positions, reading.starts, reading.rows)
        return self.value_head(states).squeeze(1)


@final
class Critic:
    """Says how a solution will end from each of its nodes: a `TrainedJudge`, and the values of `gae_critic`.

    V[j] is regressed on the outcome reward (+1 or -1) from every node of every rollout, all nodes counting alike: the
    Monte-Carlo return with gamma = 1; or on the returns of another rule, in its own unit (`fit`).

    Args:
        model: the value model, trained in place.
        settings: how it learns.

    Source: Schulman et al. 2015, arXiv:1506.02438 (value regression); credit.md 2.14. Differs: regressed on the
    outcome, not on lambda-returns; no value clipping.
    """

    scale = Scale.SIGNED

    def __init__(self, model: ValueModel, settings: FittingSettings) -> None:
        self.model = model
        self._fitting = Fitting(model, settings)

    @property
    def fingerprint(self) -> str:
        """Digest of the current weights."""
        return f"critic-head:{self._fitting.fingerprint}"

    def values(self, cuts: Sequence[Steps]) -> Float32[np.ndarray, " nodes"]:
        """[S + N] for each rollout a value before each step, in [-1, 1] or near it, then 0 for its end.

        After the end nothing is to come: the outcome is the last step's reward, not a value.

        Raises:
            EngineError: if a rollout has no prompt.
        """
        found = read_column(self._fitting, cuts, node_rows, self.model)
        found[np.cumsum([len(steps) + 1 for steps in cuts]) - 1] = 0.0
        return found

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] the value after each step, the last one's at the end of the solution."""
        if not len(steps):
            return ()
        found = await asyncio.to_thread(read_column, self._fitting, [steps], node_rows, self.model)
        return tuple(Verdict(float(value)) for value in found[1:])

    def fit(self, judgements: Sequence[Judgement], *, returns: Sequence[Returns] | None = None) -> float:
        """One pass over the scorable rollouts, whatever their verdicts; returns the mean squared error before.

        Args:
            judgements: of the rollouts.
            returns: for each of them [K + 1] what is to come after each node, in the unit that its rule pays; a rollout
                with an unknown (NaN) one is left out. `None` is the outcome reward, at every node.

        Raises:
            JudgeError: if no rollout has tokens and returns, or a column of returns does not fit its rollout.
            EngineError: if the loss is not finite.
        """
        return self._fitting.one_pass(_lessons(judgements, returns), self._losses)

    def state(self) -> bytes:
        """Weights, optimiser and counter."""
        return self._fitting.state()

    def load(self, state: bytes) -> None:
        """Go back to a state; raises EngineError if it is of another model."""
        self._fitting.load(state)

    def _losses(self, batch: Sequence[Lesson]) -> Iterator[Tensor]:
        fitting = self._fitting
        cuts = [steps for steps, _ in batch]
        column = np.concatenate([returns for _, returns in batch]).astype(np.float32)
        target = torch.from_numpy(column).to(fitting.device)
        for reading in readings(cuts, node_rows, token_budget=fitting.settings.token_budget, device=fitting.device):
            yield value_error(self.model(reading), target[reading.place]).sum() / len(target)


def _lessons(judgements: Sequence[Judgement], returns: Sequence[Returns] | None) -> list[Lesson]:
    """Each rollout with what is to come after its nodes."""
    if returns is None:
        return [(steps, np.full(len(steps) + 1, steps.outcome.reward)) for steps in scorable(judgements)]
    pairs = [(judgement.steps, column) for judgement, column in zip(judgements, returns, strict=True)]
    for steps, column in pairs:
        if len(column) != len(steps) + 1:
            want = f"{len(steps)} steps have {len(steps) + 1} nodes"
            raise JudgeError(f"returns: got {len(column)} entries, {want}", item=steps.rollout.id)
    found = [(steps, column) for steps, column in pairs if len(steps) and not np.isnan(column).any()]
    if not found:
        raise JudgeError("none of the rollouts has tokens and known returns: there is nothing to learn from")
    return found
