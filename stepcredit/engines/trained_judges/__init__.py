"""Judges that are trained inside the loop, on outcomes alone: a critic, an implicit PRM, a token reward model.

Each reads whole batches of cut rollouts into the columns that credit rules need, and implements
`core.protocols.TrainedJudge`. Any `PackedModel` serves: the embedded one, or a `transformers` causal LM.
"""

from stepcredit.engines.trained_judges.critic import Critic, ValueModel
from stepcredit.engines.trained_judges.fitting import FittingSettings
from stepcredit.engines.trained_judges.implicit import ImplicitPrm
from stepcredit.engines.trained_judges.q_rm import TokenRewardModel

__all__ = ["Critic", "FittingSettings", "ImplicitPrm", "TokenRewardModel", "ValueModel"]
