"""Judges that are trained in an arm: each begins as the starting policy, and reads the column that its rule pays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
from jaxtyping import Float

from stepcredit.core.columns import rewards_of
from stepcredit.core.errors import UsageError
from stepcredit.core.layout import Layout
from stepcredit.core.records import Judgement, Steps
from stepcredit.core.seeds import derive
from stepcredit.credit.prime import PrimeSettings, accuracy_within
from stepcredit.credit.rule import Need
from stepcredit.engines.embedded.engine import EmbeddedSampler
from stepcredit.engines.embedded.model import CausalLM
from stepcredit.engines.trained_judges import Critic, FittingSettings, ImplicitPrm, TokenRewardModel, ValueModel
from stepcredit.engines.trained_judges.q_rm import pairs_of
from stepcredit.recipes.arm_rules.parts import CriticPart, ImplicitPart, TokenModelPart
from stepcredit.recipes.arm_rules.returns import returns_of
from stepcredit.recipes.held_out import held_out
from stepcredit.recipes.world import WorldTask
from stepcredit.store.run_folder import RunFolder
from stepcredit.training.signals import SignalSource

IMPLICIT_RATE, CRITIC_RATE = 2.0, 10.0
"""Learning rates over the policy's: PRIME's reward model (credit.md 2.3), RLSP's critic (2.6)."""

TOKEN_MODEL = "token_model.bin"  # noqa: S105 -- no password
"""Checkpoint of the token reward model in an arm's run folder."""


@final
@dataclass(frozen=True)
class Start:
    """What the judges of an arm begin from, and what their settings lean on.

    Args:
        policy: loads the starting policy, a new copy each time.
        learning_rate: of the policy.
        batch: rollouts of an update of the policy.
        token_budget: most tokens of a forward pass.
        seed: of the run.
    """

    policy: Callable[[], CausalLM]
    learning_rate: float
    batch: int
    token_budget: int
    seed: int

    def fitting(self, part: CriticPart | ImplicitPart | TokenModelPart, name: str, *, rate: float) -> FittingSettings:
        """How a judge learns: what its part sets, and the rest by the policy's own settings."""
        return FittingSettings(
            learning_rate=part.learning_rate or rate * self.learning_rate,
            batch=part.batch or self.batch,
            max_grad_norm=part.max_grad_norm,
            token_budget=self.token_budget,
            seed=derive(self.seed, name),
        )


class LearningSource(SignalSource, Protocol):
    """A source whose judge learns from every round, after the round was read."""

    @property
    def name(self) -> str:
        """Of the judge, and of its checkpoints."""
        ...

    def learn(self, judgements: Sequence[Judgement], settings: Any) -> float | None:
        """Teach the judge a round under its rule's settings; the mean loss before, `None` if there was nothing in it.

        Raises:
            EngineError: if the loss is not finite.
        """
        ...

    def state(self) -> bytes:
        """Everything that `load` needs to go on bit-identically."""
        ...

    def load(self, state: bytes) -> None:
        """Go back to a state."""
        ...


@final
class ImplicitScores:
    """Token scores of PRIME's implicit reward model, which then learns from the round's outcomes.

    Args:
        part: how it learns; each pass reads a rollout with the model and with its reference.
        start: what it begins from.

    Source: Cui et al. 2025, arXiv:2502.01456 (PRIME: scored before its own update; updated on what the accuracy filter
    keeps); credit.md 2.3. Differs: none.
    """

    need, name = Need.TOKEN_SCORES, "implicit_prm"

    def __init__(self, part: ImplicitPart, start: Start) -> None:
        settings = start.fitting(part, self.name, rate=IMPLICIT_RATE)
        self.judge = ImplicitPrm(start.policy(), start.policy(), settings, beta=part.beta)
        self._passes, self.tokens = part.passes, 0

    async def of(self, cut: Sequence[Steps]) -> list[Float[np.ndarray, " n"]]:
        """[T] of each rollout, in nats."""
        self.tokens += 2 * _read(cut)
        return _parts(self.judge.token_scores(cut), [len(steps.rollout.completion_ids) for steps in cut])

    def learn(self, judgements: Sequence[Judgement], settings: Any) -> float | None:
        """From the scorable rollouts of the groups that the rule's accuracy bounds let in."""
        inside = _within(judgements, settings)
        lessons = [j for j, kept in zip(judgements, inside, strict=True) if kept and _scorable(j)]
        if not lessons:
            return None
        self.tokens += 2 * self._passes * _read([j.steps for j in lessons])
        first, *_ = [self.judge.fit(lessons) for _ in range(self._passes)]
        return first

    def state(self) -> bytes:
        """Of the model; the reference is the starting policy."""
        return self.judge.state()

    def load(self, state: bytes) -> None:
        """Go back to a state."""
        self.judge.load(state)


@final
class CriticValues:
    """Values of nodes by a critic, which then learns from the round what came after them.

    Args:
        part: how it learns.
        start: what it begins from.
        exploration_scale: of the bonus in RLSP's mixed reward.

    Source: Schulman et al. 2015, arXiv:1506.02438; credit.md 2.6 and 2.14. Differs: read before it learns, and
    regressed on returns without bootstrapping (`returns_of`).
    """

    need, name = Need.VALUES, "critic"

    def __init__(self, part: CriticPart, start: Start, *, exploration_scale: float) -> None:
        policy = start.policy()
        settings = start.fitting(part, self.name, rate=CRITIC_RATE)
        self.judge = Critic(ValueModel(policy, dim=policy.config.dim), settings)
        self._passes, self._scale, self.tokens = part.passes, exploration_scale, 0

    async def of(self, cut: Sequence[Steps]) -> list[Float[np.ndarray, " n"]]:
        """[K + 1] of each rollout, 0 at the end."""
        self.tokens += _read(cut)
        return _parts(self.judge.values(cut), [len(steps) + 1 for steps in cut])

    def learn(self, judgements: Sequence[Judgement], settings: Any) -> float | None:
        """From the rollouts whose returns are known."""
        columns = returns_of(settings, judgements, exploration_scale=self._scale)
        known = [len(j.steps) > 0 and not np.isnan(c).any() for j, c in zip(judgements, columns, strict=True)]
        if not any(known):
            return None
        self.tokens += self._passes * _read([j.steps for j, use in zip(judgements, known, strict=True) if use])
        first, *_ = [self.judge.fit(judgements, returns=columns) for _ in range(self._passes)]
        return first

    def state(self) -> bytes:
        """Of trunk and head."""
        return self.judge.state()

    def load(self, state: bytes) -> None:
        """Go back to a state."""
        self.judge.load(state)


@final
class TokenLogits:
    """Token scores of Q-RM's token reward model, which learns once, before the first round.

    Args:
        part: how it learns.
        start: what it begins from.

    Source: arXiv:2505.23363 (Q-RM); credit.md 2.5. Differs: the paper's reward model is another, larger model and its
    pairs are a preference set; here it is a copy of the policy, and the pairs are the policy's own attempts.
    """

    need = Need.TOKEN_SCORES

    def __init__(self, part: TokenModelPart, start: Start) -> None:
        self._seed = derive(start.seed, "token_model")
        settings = start.fitting(part, "token_model", rate=0.0)
        self.judge = TokenRewardModel(start.policy(), settings, beta=part.beta, margin=part.margin, end=part.end)
        self._part, self.tokens = part, 0

    async def of(self, cut: Sequence[Steps]) -> list[Float[np.ndarray, " n"]]:
        """[T] of each rollout, logits."""
        self.tokens += _read(cut)
        return _parts(self.judge.token_scores(cut), [len(steps.rollout.completion_ids) for steps in cut])

    async def prepare(self, folder: RunFolder, task: WorldTask, sampler: EmbeddedSampler) -> None:
        """Teach the model, or take it from the arm's folder if an earlier session did.

        Args:
            folder: the arm's.
            task: asks the problems.
            sampler: holds the starting policy.

        Raises:
            UsageError: if no problem had a right and a wrong attempt.
        """
        if folder.has_checkpoint(TOKEN_MODEL):
            self.judge.load(folder.read_checkpoint(TOKEN_MODEL))
            return
        part = self._part
        problems = task.problems(part.problems, seed=derive(self._seed, "problems"))
        outcomes = await held_out(task, sampler, problems, attempts=part.attempts, seed=self._seed)
        cuts = [task.splitter.split(outcome) for outcome in outcomes]
        pairs = pairs_of(cuts, seed=self._seed)
        if not pairs:
            asked = f"none of {part.problems} problems had a right and a wrong one among {part.attempts} attempts"
            raise UsageError(f"{asked}: there is no pair to learn from; raise token_model.problems or attempts")
        losses = [self.judge.fit_pairs(pairs) for _ in range(part.passes)]
        self.tokens += _read(cuts) + part.passes * _read([steps for pair in pairs for steps in pair])
        folder.append_metrics(
            {"kind": "teaching", "judge": "token_model", "pairs": len(pairs), "losses": losses},
            key="teaching/token_model",
        )
        folder.write_checkpoint(TOKEN_MODEL, self.judge.state())


def _read(cut: Sequence[Steps]) -> int:
    """Tokens of prompts and completions."""
    return sum(len(steps.rollout.prompt_ids) + len(steps.rollout.completion_ids) for steps in cut)


def _parts(column: Float[np.ndarray, " n"], sizes: Sequence[int]) -> list[Float[np.ndarray, " n"]]:
    """The column of a batch, cut at its rollouts."""
    return np.split(column.astype(np.float64), np.cumsum(sizes)[:-1]) if sizes else []


def _scorable(judgement: Judgement) -> bool:
    return judgement.steps.outcome.reward is not None and len(judgement.steps) > 0


def _within(judgements: Sequence[Judgement], settings: Any) -> list[bool]:
    """[N] True for rollouts of groups that PRIME's accuracy bounds let in; all of them for another rule."""
    if not isinstance(settings, PrimeSettings) or not judgements:
        return [True] * len(judgements)
    order: dict[str, int] = {}
    groups = [order.setdefault(j.steps.rollout.group, len(order)) for j in judgements]
    places = np.arange(len(groups))
    layout = Layout(places, places, np.array(groups, np.int32))
    rewards = rewards_of([j.steps.outcome for j in judgements])
    return accuracy_within(layout, rewards, low=settings.accuracy_low, high=settings.accuracy_high).tolist()
