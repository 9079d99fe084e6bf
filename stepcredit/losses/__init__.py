"""Losses: the part of the path that turns credit into gradients (Credit -> Update). Importing this loads no torch."""

from stepcredit.losses.presets import Preset

PRESETS: dict[str, Preset] = {
    "grpo": Preset(0.2, 0.2, "grpo", "k3", 0.04, "Shao et al. 2024, arXiv:2402.03300; eps is PPO's"),
    "dr_grpo": Preset(0.2, 0.2, "dr_grpo", "none", 0.0, "Liu et al. 2025, arXiv:2503.20783; eps is PPO's"),
    "dapo": Preset(0.2, 0.28, "token", "none", 0.0, "Yu et al. 2025, arXiv:2503.14476"),
    "tp_grpo": Preset(0.2, 0.28, "token", "none", 0.0, "tp_grpo.md 1.7; eps and beta are not published, DAPO's pair"),
    "gspo": Preset(3e-4, 4e-4, "grpo", "none", 0.0, "Zheng et al. 2025, arXiv:2507.18071", "gspo"),
    "gspo_token": Preset(3e-4, 4e-4, "grpo", "none", 0.0, "Zheng et al. 2025, arXiv:2507.18071", "gspo_token"),
    "cispo": Preset(1.0, 4.0, "token", "none", 0.0, "MiniMax 2025, arXiv:2506.13585; eps_high is ours", "cispo"),
}
"""Published settings of the policy loss by name."""

__all__ = ["PRESETS", "Preset"]
