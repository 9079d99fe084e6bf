"""The learner: trains any causal LM that reads packed sequences (the arrow Credit -> Update)."""

from stepcredit.engines.learner.forward import PackedModel, packed_logprobs
from stepcredit.engines.learner.learner import TorchLearner
from stepcredit.engines.learner.packing import demonstration_pack
from stepcredit.engines.learner.settings import LearnerSettings
from stepcredit.engines.learner.weights import weights_fingerprint

__all__ = [
    "LearnerSettings",
    "PackedModel",
    "TorchLearner",
    "demonstration_pack",
    "packed_logprobs",
    "weights_fingerprint",
]
