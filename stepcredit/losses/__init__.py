"""Losses: the part of the path that turns credit into gradients (Credit -> Update). Importing this loads no torch."""

from stepcredit.losses.presets import Preset

PRESETS: dict[str, Preset] = {
    "grpo": Preset(0.2, 0.2, "grpo", "k3", 0.04, "Shao et al. 2024, arXiv:2402.03300; eps is PPO's"),
    "dr_grpo": Preset(0.2, 0.2, "dr_grpo", "none", 0.0, "Liu et al. 2025, arXiv:2503.20783; eps is PPO's"),
    "dapo": Preset(0.2, 0.28, "token", "none", 0.0, "Yu et al. 2025, arXiv:2503.14476"),
    "tp_grpo": Preset(0.2, 0.28, "token", "none", 0.0, "tp_grpo.md 1.7; eps and beta are not published, DAPO's pair"),
}
"""Published settings of the policy loss by name."""

__all__ = ["PRESETS", "Preset"]
