"""Sections inside `[arms.NAME]`: how the judges learn that are trained in an arm, and the consistency filter."""

from typing import Literal

from pydantic import Field, model_validator

from stepcredit.credit.prof import ProfSettings
from stepcredit.recipes.loading import Section

ValuesBy = Literal["continuations", "critic"]
"""Who gives the values of nodes: continuations by the policy itself, or a critic that is trained beside it."""

TokenScoresBy = Literal["implicit_prm", "token_model"]
"""Who gives token scores: PRIME's implicit reward model, or Q-RM's token reward model."""


class CriticPart(Section):
    """`[arms.NAME.critic]`: the critic, which begins as the starting policy with a value head of 0.

    It learns after each round from all its scorable rollouts, `passes` times, `batch` rollouts an optimiser step: as
    many as an update of the policy has, unless it is set. Its rate is ten times the policy's unless it is set, as RLSP
    has it (2e-6 beside 2e-7).
    """

    learning_rate: float | None = Field(gt=0, default=None)
    batch: int | None = Field(ge=1, default=None)
    max_grad_norm: float = Field(gt=0, default=1.0)
    passes: int = Field(ge=1, default=1)


class ImplicitPart(Section):
    """`[arms.NAME.implicit_prm]`: PRIME's implicit reward model; it and its frozen reference begin as the policy does.

    It learns as the critic does, from the groups that PRIME's accuracy bounds let in. Its rate is twice the policy's
    unless it is set, as PRIME has it (1e-6 beside 5e-7).
    """

    learning_rate: float | None = Field(gt=0, default=None)
    batch: int | None = Field(ge=1, default=None)
    max_grad_norm: float = Field(gt=0, default=10.0)
    passes: int = Field(ge=1, default=1)
    beta: float = Field(gt=0, default=0.05)


class TokenModelPart(Section):
    """`[arms.NAME.token_model]`: Q-RM's token reward model, a copy of the starting policy that learns before round 0.

    It learns from pairs of a right and a wrong attempt at one problem: `attempts` of the starting policy at each of
    `problems`, `batch` pairs an optimiser step, `passes` times through them; then it stays as it is. Those tokens count
    as spent for signals. The rate, and how many problems are asked, are ours.
    """

    learning_rate: float = Field(gt=0, default=1e-3)
    batch: int = Field(ge=1, default=32)
    max_grad_norm: float = Field(gt=0, default=1.0)
    passes: int = Field(ge=1, default=1)
    problems: int = Field(ge=1, default=256)
    attempts: int = Field(ge=2, default=8)
    beta: float = Field(gt=0, default=0.2)
    margin: float = Field(ge=0, default=2.0)
    end: Literal["mean", "own"] = "mean"


class ProfPart(Section):
    """`[arms.NAME.prof]`: the process consistency filter (`credit.prof`), over the rollouts that `keep` left.

    The judge's scores of the think steps say who is trained on, behind any rule, and pay nothing.
    """

    share: float = Field(gt=0, le=1, default=ProfSettings.share)
    penalty: float = Field(ge=0, default=ProfSettings.penalty)
    long_steps: int | None = Field(ge=2, default=None)

    @model_validator(mode="after")
    def _chooses(self) -> "ProfPart":
        if self.share == 1:
            raise ValueError("share 1 keeps every rollout; set it below 1, or leave prof out")
        return self

    def settings(self) -> ProfSettings:
        """The filter's settings."""
        return ProfSettings(self.share, self.penalty, self.long_steps)
