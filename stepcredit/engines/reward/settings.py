"""Settings of the reward model's trainer; no torch."""

from dataclasses import dataclass
from typing import Literal, final, get_args

from stepcredit.core.errors import UsageError
from stepcredit.engines.learner.settings import LearnerSettings, Optimiser, Precision

PairLoss = Literal["bradley_terry", "pcrm", "rebel"]
"""Which loss: plain; with a ceiling on the margin; with the return on the policy's own rollouts."""

Reading = Literal["last", "sum", "after_split"]
"""Where a pair is compared: at the last tokens, by the sums over all tokens, or at every token after they part."""

READINGS: dict[PairLoss, Reading] = {"bradley_terry": "last", "pcrm": "after_split", "rebel": "sum"}
"""How each loss reads pairs if nothing else is said."""


Ceiling = Literal["similarity", "random", "constant"]
"""What bounds PCRM's margins: how alike the answers are; or its controls, drawn from U[1, 2] for each pair, or 3."""

SHIFT_BY_ANGLE, SHIFT_BY_LENGTH = -15.0, -17.0
"""beta3 as published: -15 where likeness is an angle of embeddings; -13, -17 or -19 where it is a ratio of lengths."""


@final
@dataclass(frozen=True)
class RewardSettings:
    """Everything that decides what an update of the reward model does.

    Args:
        learning_rate: of AdamW (PCRM: 3e-6).
        loss: the loss.
        reading: where pairs are compared; `None` takes `after_split` for PCRM and `sum` for REBEL, as their papers do,
            else `last`.
        ceiling: see `Ceiling`.
        beta1, beta2, beta3: PCRM's ceiling, as `losses.pairs.margin_ceiling`; beta3 `None` takes `SHIFT_BY_ANGLE` for
            pairs with a similarity and `SHIFT_BY_LENGTH`, the middle of the published ones, for the others.
        ceiling_seed: of the random ceilings; a pair keeps its own from update to update.
        policy_weight: REBEL's lambda, needed by it alone; unverified, see `losses.pairs.policy_return`.
        optimiser: `adamw`, or `muon` with `matrix_learning_rate`, as the learner has it.
        matrix_learning_rate: rate of Muon.
        weight_decay: decoupled decay.
        max_grad_norm: the gradient is scaled down to this global norm; `None` for no limit.
        token_budget: most tokens of a micro-batch; a longer pair stands alone. No result depends on it but by rounding.
        precision: `fp32`, or `bf16` autocast over float32 weights.

    Raises:
        UsageError: for a value outside its range, and for settings that do nothing or contradict one another.
    """

    learning_rate: float
    loss: PairLoss = "bradley_terry"
    reading: Reading | None = None
    beta1: float = 20.0
    beta2: float = 1e-3
    beta3: float | None = None
    ceiling: Ceiling = "similarity"
    ceiling_seed: int = 0
    policy_weight: float = 0.0
    optimiser: Optimiser = "adamw"
    matrix_learning_rate: float | None = None
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    token_budget: int = 4096
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.loss not in READINGS:
            raise UsageError(f"loss must be one of {', '.join(READINGS)}, got {self.loss!r}")
        if self.reading not in (None, "last", "sum", "after_split"):
            raise UsageError(f"reading must be last, sum or after_split, got {self.reading!r}")
        if self.ceiling not in get_args(Ceiling):
            raise UsageError(f"ceiling must be one of {', '.join(get_args(Ceiling))}, got {self.ceiling!r}")
        if self.ceiling != "similarity" and (self.loss != "pcrm" or self.beta3 is not None):
            raise UsageError(f"ceiling {self.ceiling!r} is a control of pcrm without beta3; leave one of them out")
        if (self.loss == "rebel") != (self.policy_weight != 0.0):
            raise UsageError(
                f"loss {self.loss!r} with policy_weight {self.policy_weight}: rebel needs one, no other reads it"
            )
        if self.token_budget < 1:
            raise UsageError(f"token_budget must be at least 1, got {self.token_budget}")
        self.learner()

    @property
    def read_at(self) -> Reading:
        """Where pairs are compared."""
        return self.reading or READINGS[self.loss]

    def learner(self) -> LearnerSettings:
        """The optimiser's part, as the learner has it."""
        return LearnerSettings(
            self.learning_rate,
            optimiser=self.optimiser,
            matrix_learning_rate=self.matrix_learning_rate,
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm,
            token_budget=self.token_budget,
            precision=self.precision,
        )
