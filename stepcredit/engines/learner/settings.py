"""Settings of the learner, and the learning rate that they give each update; no torch."""

from dataclasses import asdict, dataclass, replace
from typing import Literal, final

from stepcredit.core.errors import UsageError
from stepcredit.losses import PRESETS
from stepcredit.losses.presets import Loss, Penalty, Reduction

Optimiser = Literal["adamw", "muon"]
Schedule = Literal["constant", "linear"]
Precision = Literal["fp32", "bf16"]


@final
@dataclass(frozen=True)
class LearnerSettings:
    """Everything that decides what an update does; the defaults are tp_grpo.md 1.7 and 1.10.

    Args:
        learning_rate: peak rate of AdamW.
        optimiser: `adamw`, or `muon`: Muon for the 2-D matrices inside the numbered layers, AdamW for the rest.
        matrix_learning_rate: peak rate of Muon; required with it.
        schedule: `constant`, or `linear` from the peak to `final_fraction` of it at `total_updates`.
        warmup_updates: updates over which the rate rises linearly; the first update has 1 / (warmup_updates + 1) of it.
        total_updates: where `linear` ends; later updates keep the last rate.
        final_fraction: share of the peak rate left at the end of `linear`.
        weight_decay: decoupled decay of every trained weight.
        betas: AdamW's decay rates of the two moments.
        adam_eps: AdamW's epsilon.
        momentum: Muon's momentum.
        max_grad_norm: the gradient is scaled down to this global norm; `None` for no limit.
        loss: which ratio weighs the advantages (`losses.ratios`): `clipped` the token's own; `gspo` the sequence's, for
            credit that is the same on all tokens of a rollout; `gspo_token` the same for per-token credit; `cispo` the
            token's own as a fixed weight. Their published caps stand in `losses.PRESETS`.
        eps_low: the ratio is capped at 1 - eps_low where the advantage is negative; `cispo` caps it whatever the sign,
            and not at all with 1.
        eps_high: the ratio is capped at 1 + eps_high where the advantage is positive; `cispo` whatever the sign.
        dual_clip: cap of the ratio where the advantage is negative; `None` for none.
        reduction: how tokens are averaged (`losses.policy.token_weights`).
        max_tokens: constant of `dr_grpo`: the sampler's limit.
        kl: estimator of the penalty against the reference (`losses.kl`).
        kl_weighted: True weights the estimate by the ratio to the old policy.
        beta: weight of the penalty.
        token_budget: most tokens of a micro-batch (prompts included); a longer sequence stands alone. None of the
            results depend on it, beyond rounding.
        head_rows: rows of logits held at once; their part of the forward pass runs again in the backward pass. `None`
            holds all rows of a micro-batch (fastest; rows x vocabulary numbers).
        precision: `fp32`, or `bf16` autocast over float32 weights.

    Raises:
        UsageError: for a value outside its range, and for settings that contradict one another.
    """

    learning_rate: float
    optimiser: Optimiser = "adamw"
    matrix_learning_rate: float | None = None
    schedule: Schedule = "constant"
    warmup_updates: int = 0
    total_updates: int | None = None
    final_fraction: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8
    momentum: float = 0.95
    max_grad_norm: float | None = 1.0
    loss: Loss = PRESETS["tp_grpo"].loss
    eps_low: float = PRESETS["tp_grpo"].eps_low
    eps_high: float = PRESETS["tp_grpo"].eps_high
    dual_clip: float | None = None
    reduction: Reduction = PRESETS["tp_grpo"].reduction
    max_tokens: int | None = None
    kl: Penalty = PRESETS["tp_grpo"].kl
    kl_weighted: bool = False
    beta: float = PRESETS["tp_grpo"].beta
    token_budget: int = 4096
    head_rows: int | None = None
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        for name, wanted, fits in self._ranges():
            if not fits:
                raise UsageError(f"{name} must be {wanted}, got {getattr(self, name)!r}")
        self._check_contradictions()

    def with_preset(self, name: str) -> "LearnerSettings":
        """These settings with a published loss: `grpo`, `dapo`, `gspo_token` ... (all of `losses.PRESETS`).

        Raises:
            UsageError: for an unknown name; for `dr_grpo` if `max_tokens` is not set.
        """
        if name not in PRESETS:
            raise UsageError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        values = {key: value for key, value in asdict(PRESETS[name]).items() if key != "source"}
        return replace(self, **values)

    def _ranges(self) -> list[tuple[str, str, bool]]:
        rows = self.head_rows
        return [
            ("learning_rate", "at least 0", self.learning_rate >= 0),
            ("optimiser", "adamw or muon", self.optimiser in ("adamw", "muon")),
            ("schedule", "constant or linear", self.schedule in ("constant", "linear")),
            ("precision", "fp32 or bf16", self.precision in ("fp32", "bf16")),
            ("warmup_updates", "at least 0", self.warmup_updates >= 0),
            ("total_updates", "at least 1", self.total_updates is None or self.total_updates >= 1),
            ("final_fraction", "in [0, 1]", 0 <= self.final_fraction <= 1),
            ("max_grad_norm", "above 0, or none", self.max_grad_norm is None or self.max_grad_norm > 0),
            ("loss", "clipped, gspo, gspo_token or cispo", self.loss in ("clipped", "gspo", "gspo_token", "cispo")),
            ("eps_low", "in [0, 1)", 0 <= self.eps_low < 1 or (self.loss == "cispo" and self.eps_low == 1)),
            ("eps_high", "at least 0", self.eps_high >= 0),
            ("dual_clip", "above 1, or none", self.dual_clip is None or self.dual_clip > 1),
            ("reduction", "token, grpo or dr_grpo", self.reduction in ("token", "grpo", "dr_grpo")),
            ("kl", "none, k1, k2 or k3", self.kl in ("none", "k1", "k2", "k3")),
            ("beta", "at least 0", self.beta >= 0),
            ("token_budget", "at least 1", self.token_budget >= 1),
            ("head_rows", "at least 1, or none", rows is None or rows >= 1),
        ]

    def _check_contradictions(self) -> None:
        if self.optimiser == "muon" and self.matrix_learning_rate is None:
            raise UsageError("optimiser 'muon' needs matrix_learning_rate (0.03 trains the embedded model)")
        if self.schedule == "linear" and self.total_updates is None:
            raise UsageError("schedule 'linear' needs total_updates")
        if self.reduction == "dr_grpo" and self.max_tokens is None:
            raise UsageError("reduction 'dr_grpo' divides by a constant: set max_tokens to the sampler's limit")
        if self.loss == "cispo" and self.dual_clip is not None:
            raise UsageError("loss 'cispo' has no dual_clip: eps_high caps its weight on both signs already")
        if self.kl == "k1" and not self.kl_weighted:
            raise UsageError("kl 'k1' as a loss has zero expected gradient: set kl_weighted, or use k2 or k3")
        if (self.kl == "none") != (self.beta == 0):
            raise UsageError(f"kl {self.kl!r} with beta {self.beta}: set both (an estimator and a weight) or neither")


def rate_factor(settings: LearnerSettings, update: int) -> float:
    """Share of the peak learning rate that update number `update` (from 0) runs at.

    >>> settings = LearnerSettings(1.0, schedule="linear", total_updates=5, final_fraction=0.1)
    >>> [round(rate_factor(settings, update), 3) for update in (0, 2, 4, 9)]
    [1.0, 0.55, 0.1, 0.1]
    """
    if update < settings.warmup_updates:
        return (update + 1) / (settings.warmup_updates + 1)
    if settings.schedule == "constant" or settings.total_updates is None:
        return 1.0
    span = max(settings.total_updates - 1 - settings.warmup_updates, 1)
    done = min((update - settings.warmup_updates) / span, 1.0)
    return 1.0 - (1.0 - settings.final_fraction) * done
