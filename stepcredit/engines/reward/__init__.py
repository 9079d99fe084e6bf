"""A small reward model: one number a token, trained on preference pairs (losses: `losses.pairs`)."""

from stepcredit.engines.reward.model import RewardModel, embeddings, scores
from stepcredit.engines.reward.pairs import Pair, divergence
from stepcredit.engines.reward.settings import RewardSettings
from stepcredit.engines.reward.trainer import RewardTrainer, RewardUpdate

__all__ = [
    "Pair",
    "RewardModel",
    "RewardSettings",
    "RewardTrainer",
    "RewardUpdate",
    "divergence",
    "embeddings",
    "scores",
]
