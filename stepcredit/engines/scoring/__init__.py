"""Reward models in this process: Hugging Face models whose classes are read at tokens.

`HuggingFaceClassifier` implements `core.judge_parts.TokenClassifier`.
"""

from stepcredit.engines.scoring.huggingface import HuggingFaceClassifier, ScoringSettings
from stepcredit.engines.scoring.loading import load_classifier

__all__ = ["HuggingFaceClassifier", "ScoringSettings", "load_classifier"]
